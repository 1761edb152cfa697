"""Entries set to zero: the smallest of each matrix or of all, at random, or two of every four neighbours."""

from collections.abc import Mapping

import numpy as np

from stats.arrays import Float64Array
from weightmark.attacks.numbers import Array, Weights, is_float, on_matrices


def _check(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, got {share}")


def prune_magnitude(w: Mapping[str, Array], share: float) -> Weights:
    """Set the smallest entries of every matrix to zero, exactly the given share of each (rounded down)."""
    _check(share)

    def change(x: Float64Array) -> Float64Array:
        gone = np.argsort(np.abs(x), axis=None, kind="stable")[: int(share * x.size)]
        x.flat[gone] = 0
        return x

    return on_matrices(w, change)


def prune_global(w: Mapping[str, Array], share: float) -> Weights:
    """Set to zero what lies at or below one threshold for all matrices, chosen so that `share` of the entries do."""
    _check(share)
    sizes = [np.abs(v.astype(np.float32)).ravel() for v in w.values() if v.ndim == 2 and is_float(v)]
    every = np.concatenate(sizes) if sizes else np.zeros(1, dtype=np.float32)
    n = int(share * every.size)
    cut = float(np.partition(every, n - 1)[n - 1]) if n else -1.0
    return on_matrices(w, lambda x: np.where(np.abs(x.astype(np.float32)) <= cut, 0.0, x))


def prune_random(w: Mapping[str, Array], share: float, rng: np.random.Generator) -> Weights:
    """Set every entry of every matrix to zero with probability `share`."""
    _check(share)
    return on_matrices(w, lambda x: np.where(rng.random(x.shape) < share, 0.0, x))


def prune_2_4(w: Mapping[str, Array]) -> Weights:
    """Set the two smallest of every four neighbours in a row to zero, in every matrix."""

    def change(x: Float64Array) -> Float64Array:
        if x.shape[1] % 4:
            raise ValueError(f"rows of {x.shape[1]} do not split into fours")
        parts = x.reshape(-1, 4)
        np.put_along_axis(parts, np.argsort(np.abs(parts), axis=1, kind="stable")[:, :2], 0.0, axis=1)
        return parts.reshape(x.shape)

    return on_matrices(w, change)
