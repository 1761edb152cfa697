"""Exact evidence of single layers: hidden units at their labels, one layer of b against the layers of a."""

from collections.abc import Iterable, Sequence

import numpy as np

from lineage.aligning import paired_views
from lineage.body import Layer
from lineage.plan import N_UNITS, RowKey, pick_run
from stats.arrays import Float64Array, IntVector
from stats.axes import Axis
from stats.ordering import LOG_GATE_DISCOUNT, is_sorted_pair
from stats.tails import log_mean_exp
from stats.units import UnitFeatures, unit_tests


def log_evidence(layers: Iterable[Layer], layer: Layer, key: RowKey) -> float:
    """Exact evidence of one layer of b: the mean over layers of a of the e-value of their hidden units.

    Parameters
    ----------
    layers : iterable of Layer
        Of a; those of another number of units say nothing.
    layer : Layer
        Of b, unit by unit what the layers of a are read at.
    key : RowKey
        Places the units tested.

    Returns
    -------
    float
        Natural log of the e-value; 0 where nothing can be tested.

    Notes
    -----
    Null: as `stats.units.unit_tests`. Rows may be weights or answers to fixed directions of their own model.
    """
    found: list[float | None] = []
    for base in layers:
        parts = _features(base, layer, key)
        if parts:
            found += [r.log_evalue for r in unit_tests(parts, axis=Axis.HIDDEN, label_group="")]
    values = np.array([e for e in found if e is not None])
    return log_mean_exp(values) - LOG_GATE_DISCOUNT if values.size else 0.0


def at_units(layer: Layer, kept: Sequence[int] | IntVector) -> Layer:
    """A layer of some of its hidden units."""
    return Layer(
        layer.index,
        {k: v[kept] for k, v in layer.reads.items()},
        {k: v[kept] for k, v in layer.writes.items()},
    )


def _features(a: Layer, b: Layer, key: RowKey) -> list[UnitFeatures]:
    if a.n_hidden != b.n_hidden or a.n_hidden < 2:
        return []
    units = pick_run("units", a.n_hidden, N_UNITS, key)
    made = [
        UnitFeatures(np.ascontiguousarray(x[units].T), np.ascontiguousarray(y[units].T), signed=signed)
        for x, y, signed in paired_views(a, b)
    ]
    return [] if any(is_sorted_pair(_sizes(p.a), _sizes(p.b)) for p in made) else made


def _sizes(rows: Float64Array) -> Float64Array:
    return np.asarray(np.sqrt(np.sum(rows * rows, axis=0)))
