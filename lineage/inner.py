"""Hidden units told by inner products inside their own model: no token, no basis and no label is needed."""

from collections.abc import Sequence

import numpy as np

from lineage.body import Layer
from lineage.streams import Residual, mean_cosine
from stats.arrays import Float64Array
from stats.matching import agreement, cosines, fitted_rotation, inner_profiles, mutual_matches

_VALUES = 512
"""Inner products kept of a unit, spread over their ranks; all of them in layers of no more units."""


def inner_table(a: Sequence[Layer], b: Sequence[Layer], sample: int) -> Float64Array:
    """Agreement of all layers of two models by inner profiles.

    Parameters
    ----------
    a, b : sequence of Layer
    sample : int
        Units of a layer of a that look for a partner.

    Returns
    -------
    (n, m) float64
        Share of those units for which two views name one partner; 0 between layers of different numbers of units.

    Notes
    -----
    The two views are what reads first (the gate, else the up rows) and what writes. Cost: h^2 (d + log h) a layer and view,
    and s h `_VALUES` a pair of layers.
    """
    first = [_profiles(x, max(1, x.n_hidden // sample)) for x in a]
    table = np.zeros((len(a), len(b)))
    for j, layer in enumerate(b):
        second = _profiles(layer, 1)
        for i, found in enumerate(first):
            kinds = [k for k in found if k in second]
            if a[i].n_hidden == layer.n_hidden and len(kinds) > 1:
                scores = [cosines(found[k], second[k]) for k in kinds]
                table[i, j] = agreement(*scores) / scores[0].shape[0]
    return table


def inner_rotation(a: Sequence[Layer], b: Sequence[Layer], table: Float64Array, least: float) -> Residual:
    """The rotation between two streams, fitted to units that were told without it.

    Parameters
    ----------
    a, b : sequence of Layer
    table : (n, m) float64
        As `inner_table`.
    least : float
        Agreement from which layers take part.

    Returns
    -------
    Residual
        Unknown where widths differ. What is fitted to units says nothing of whether they agree: `table` alone does.
    """
    left: list[Float64Array] = []
    right: list[Float64Array] = []
    for j, other in enumerate(b):
        i = int(table[:, j].argmax())
        rows = a[i].hidden_views[0][1], other.hidden_views[0][1]
        if table[i, j] >= least and rows[0].shape[1] == rows[1].shape[1]:
            first, second = (_profiles(x, 1) for x in (a[i], other))
            units = mutual_matches(np.asarray(sum(cosines(first[k], second[k]) for k in first)))
            left.append(_levelled(rows[0][units.a]))
            right.append(_levelled(rows[1][units.b]))
    if not left:
        return Residual("unknown", None, 0.0)
    x, y = np.concatenate(left), np.concatenate(right)
    turn = fitted_rotation(x, y)
    return Residual("rotation", turn, mean_cosine(x, y @ turn))


def _levelled(rows: Float64Array) -> Float64Array:
    return np.asarray(rows / np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), 1e-300)[:, None])


def _profiles(layer: Layer, step: int) -> dict[str, Float64Array]:
    """Profiles of every `step`-th unit by the first and the last view."""
    views = layer.hidden_views
    gated = any(kind == "mlp.gate" for kind, _ in views)
    if len(views) < 2 or layer.n_hidden < 2:
        return {}
    picked = np.unique(np.linspace(0, layer.n_hidden - 2, min(_VALUES, layer.n_hidden - 1)).astype(np.int64))
    return {
        kind: inner_profiles(rows, signed=kind == "mlp.gate" or not gated)[::step, picked]
        for kind, rows in (views[0], views[-1])
    }
