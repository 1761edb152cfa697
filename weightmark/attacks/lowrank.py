"""Few directions kept: of each matrix, or of its change from a base, which then leaves as an adapter."""

from collections.abc import Mapping

import numpy as np

from stats.arrays import Float64Array
from weightmark.attacks.numbers import Array, Weights, is_float, on_matrices, rounded


def largest_directions(x: Float64Array, rank: int) -> Float64Array:
    """The nearest matrix of this rank (Eckart and Young), through the smaller Gram matrix."""
    tall = x if x.shape[0] >= x.shape[1] else x.T
    if rank >= tall.shape[1]:
        return x
    _, vectors = np.linalg.eigh(tall.T @ tall)
    kept = vectors[:, -rank:]
    made: Float64Array = (tall @ kept) @ kept.T
    return made if tall is x else made.T


def truncate(w: Mapping[str, Array], share: float) -> Weights:
    """Every matrix at `share` of its full rank, at least one."""
    return on_matrices(w, lambda x: largest_directions(x, max(1, int(share * min(x.shape)))))


def extract_adapter(w: Mapping[str, Array], base: Mapping[str, Array], rank: int) -> Weights:
    """The base plus the `rank` largest directions of each matrix's difference from it; vectors are the base's.

    Parameters
    ----------
    w : mapping of str to ndarray
        The model whose change is taken.
    base : mapping of str to ndarray
        What it came from; names and shapes alike.
    rank : int
        At least one.

    Returns
    -------
    dict of str to ndarray
        In the dtypes of `w`.
    """
    out = {}
    for name, values in w.items():
        start = base[name].astype(np.float64)
        if values.ndim == 2 and is_float(values):
            start = start + largest_directions(values.astype(np.float64) - start, rank)
        out[name] = rounded(start, values.dtype) if is_float(values) else values.copy()
    return out
