"""Hidden units that change nothing, added to break what reads by position (arXiv 2303.09732)."""

from collections.abc import Callable, Mapping

import numpy as np

from stats.arrays import Float64Array
from weightmark.attacks.numbers import Array, Weights, rounded
from weightmark.axes import HIDDEN, along, places

Grown = tuple[dict[str, Float64Array], Float64Array]
"""New rows of the readers by kind, and new columns of the down projection."""


def _grow(
    w: Mapping[str, Array],
    make: Callable[[dict[str, Float64Array], Float64Array, str], Grown],
    rng: np.random.Generator,
) -> Weights:
    """Append units to every MLP, then shuffle all of them."""
    out = dict(w)
    for place in places(w, "mlp.down"):
        axes = along(w, place, HIDDEN)
        down = f"{place}mlp.down"
        readers = {role: w[role].astype(np.float64) for role in axes if role != down}
        rows, columns = make(readers, w[down].astype(np.float64), down)
        order = rng.permutation(w[down].shape[1] + columns.shape[1])
        for role in readers:
            out[role] = rounded(np.concatenate([readers[role], rows[role]])[order], w[role].dtype)
        wide = out[down].astype(np.float64)
        out[down] = rounded(np.concatenate([wide, columns], axis=1)[:, order], w[down].dtype)
    return out


def add_zero_units(w: Mapping[str, Array], share: float, rng: np.random.Generator) -> Weights:
    """Units with incoming weights like the others' and nothing going out, `share` of the units there are."""

    def make(readers: dict[str, Float64Array], down: Float64Array, _: str) -> Grown:
        n = int(share * down.shape[1])
        picked = rng.choice(down.shape[1], n, replace=False)
        noise = {r: x[picked] + x.std() * rng.standard_normal(x[picked].shape) for r, x in readers.items()}
        return noise, np.zeros((down.shape[0], n))

    return _grow(w, make, rng)


def add_cliques(w: Mapping[str, Array], share: float, rng: np.random.Generator) -> Weights:
    """Pairs of units with one set of incoming weights, whose outgoing ones cancel."""

    def make(readers: dict[str, Float64Array], down: Float64Array, _: str) -> Grown:
        n = int(share * down.shape[1]) // 2
        picked = rng.choice(down.shape[1], n, replace=False)
        rows = {
            r: np.repeat(x[picked] + x.std() * rng.standard_normal(x[picked].shape), 2, 0) for r, x in readers.items()
        }
        out = down.std() * rng.standard_normal((down.shape[0], n))
        return rows, np.stack([out, -out], axis=2).reshape(down.shape[0], 2 * n)

    return _grow(w, make, rng)


def split_units(w: Mapping[str, Array], share: float, rng: np.random.Generator) -> Weights:
    """Some units doubled: the same incoming weights, the outgoing ones shared between both."""
    out = dict(w)
    for place in places(w, "mlp.down"):
        down = f"{place}mlp.down"
        n = w[down].shape[1]
        picked = rng.choice(n, int(share * n), replace=False)
        part = np.ones(n)
        part[picked] = rng.uniform(0.3, 0.7, picked.size)
        order = rng.permutation(n + picked.size)
        for role in along(w, place, HIDDEN):
            if role != down:
                out[role] = np.concatenate([w[role], w[role][picked]])[order]
        wide = w[down].astype(np.float64)
        halves = np.concatenate([wide * part, wide[:, picked] * (1.0 - part[picked])], axis=1)
        out[down] = rounded(halves[:, order], w[down].dtype)
    return out
