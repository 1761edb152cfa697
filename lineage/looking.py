"""The closer look: what was done to a model, which layer became which, and what a rewrite of everything still shows.

Made when the ladder found nothing, or found a relation that is not plain. Reads both models whole, layer by layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lineage.aligned import Agreement, agreement_after
from lineage.aligning import MIN_AGREEMENT, Alignment, align
from lineage.body import Body, Layer
from lineage.disguise import transforms
from lineage.finding import LayerFinding
from lineage.plan import N_UNITS, RowKey, pick_run
from lineage.retention import retention_ratio
from lineage.splitting import split_rows
from stats.arrays import Float64Array
from stats.axes import Axis
from stats.ordering import LOG_GATE_DISCOUNT, is_sorted_pair
from stats.result import TestResult
from stats.tails import log_mean_exp
from stats.units import UnitFeatures, unit_tests

MARGIN = 3.0
"""A resemblance must be this many times its largest control, and `_MIN_UNITS` units above it."""

_MIN_UNITS = 10
"""Units that agree: over 39,800 pairs of blocks of independently seeded transformers the largest count was 4 of 160."""

_MIN_CONTROLS = 6
"""Pairs of layers that the map does not name below which no resemblance is claimed: three layers have six."""

_NULL = (
    "none that is exact: the agreement of layers in their places is ranked among that of the same layers under shifted "
    "maps, as if depth did not matter to independent models"
)


@dataclass(frozen=True, slots=True)
class Look:
    """What a closer look saw.

    Attributes
    ----------
    alignment : Alignment
        The mapping from b to a.
    transforms : tuple of str
        Names of what was done.
    agreement : Agreement
        What is left of the difference once it is undone.
    layers : tuple of LayerFinding
        One per layer of b.
    resemblance : TestResult
        The calibrated agreement of the best layers.
    resembles : bool
        Whether that exceeds every control by the stated margin.
    retention : float or None
        Retention ratio of paired matrices; low where only a start is shared.
    same_vocabulary : bool
        Whether the embeddings have one number of rows.
    tests : tuple of TestResult
        Exact tests only a closer look can afford: the split test of every pair of layers, averaged.
    """

    alignment: Alignment
    transforms: tuple[str, ...]
    agreement: Agreement
    layers: tuple[LayerFinding, ...]
    resemblance: TestResult
    resembles: bool
    retention: float | None
    same_vocabulary: bool
    tests: tuple[TestResult, ...]


@np.errstate(over="ignore", invalid="ignore")
def look(a: Body, b: Body, *, dtype: str, key: RowKey, related: bool, labelled: bool) -> Look:
    """Look closely at two models of known architecture.

    Parameters
    ----------
    a, b : Body
    dtype : str
        Stored number format of the coarser of the two.
    key : RowKey
        Places the units of the exact test of each layer.
    related : bool
        Whether a valid test has rejected: only then, or when they resemble each other, is it asked what they share.
    labelled : bool
        Whether the residual dimensions of both carry labels that can be tested.

    Returns
    -------
    Look

    Notes
    -----
    Nothing here is an exact test but the p-values of layers. Cost: see `lineage.aligning.align`.
    """
    found = align(a, b)
    resemblance = _resemblance(found)
    resembles = _resembles(found, resemblance)
    return Look(
        alignment=found,
        transforms=transforms(a, b, found),
        agreement=agreement_after(a, b, found, dtype),
        layers=_layers(a, b, found, key),
        resemblance=resemblance,
        resembles=bool(resembles),
        retention=retention_ratio(a, b, found) if related or resembles else None,
        same_vocabulary=a.vocabulary == b.vocabulary,
        tests=split_rows(a, b, key) if labelled else (),
    )


def _controls(found: Alignment) -> Float64Array:
    """Agreement of every pair of layers but those the map names."""
    free = np.ones_like(found.table, dtype=np.bool_)
    for j, m in enumerate(found.layers):
        best = int(found.table[:, j].argmax()) if m.a is None else m.a
        free[best, j] = False
    return np.asarray(found.table[free])


def _resembles(found: Alignment, resemblance: TestResult) -> bool:
    """Whether the best layers agree far more than any others: in share, in units, and with controls enough to say so."""
    controls = _controls(found)
    best = found.table.max(axis=0)
    units = float(np.sum(best * found.sampled[found.table.argmax(axis=0), np.arange(best.size)]))
    largest = float(controls.max(initial=0.0))
    return bool(
        controls.size >= _MIN_CONTROLS
        and len(found.matched) * 2 >= len(found.layers)
        and resemblance.statistic >= max(MIN_AGREEMENT, MARGIN * largest)
        and units * (1.0 - largest / max(resemblance.statistic, 1e-300)) >= _MIN_UNITS
    )


def _resemblance(found: Alignment) -> TestResult:
    """The agreement of the best layers; its rank is that of "every layer in its place" among the same map shifted.

    The best entry of each column is chosen after looking and has no rank of its own. Where depths differ there is no
    place to name beforehand: the p-value is 1, and the controls speak by their size only.
    """
    controls = _controls(found)
    best = float(np.mean(found.table.max(axis=0))) if found.table.size else 0.0
    depth = found.table.shape[0]
    square = found.table.shape[0] == found.table.shape[1]
    shifts = [float(np.mean(np.diagonal(np.roll(found.table, k, axis=0)))) for k in range(1, depth)] if square else []
    in_place = float(np.mean(np.diagonal(found.table))) if square else 0.0
    rank = 1 + sum(s >= in_place for s in shifts)
    spread = float(np.std(controls)) if controls.size else 0.0
    return TestResult(
        method="unit-agreement",
        null=_NULL,
        statistic=best,
        n=int(found.sampled.max(axis=0).sum()) if found.sampled.size else 0,
        log_pvalue=math.log(rank / (len(shifts) + 1)),
        log_floor=-math.log(len(shifts) + 1),
        log_evalue=None,
        exactness="calibrated",
        label_group="none",
        scope=f"hidden units of {found.table.shape[1]} layers, residual stream read as {found.residual.kind}",
        controls=len(shifts),
        z=(best - float(np.mean(controls))) / spread if spread > 0.0 else None,
    )


def _layers(a: Body, b: Body, found: Alignment, key: RowKey) -> tuple[LayerFinding, ...]:
    layers_a = [a.layer(i) for i in range(a.architecture.n_layers)]
    entries = []
    for m in found.layers:
        similarity = m.units.similarity if m.units is not None else 0.0
        entries.append(LayerFinding(m.a, m.b, _log_evalue(layers_a, b.layer(m.b), key), similarity))
    return tuple(entries)


def _log_evalue(layers: Sequence[Layer], layer: Layer, key: RowKey) -> float:
    """Exact evidence of one layer of b: the mean over the layers of a of the e-value of their hidden units."""
    found = []
    for base in layers:
        parts = _unit_features(base, layer, key)
        if parts:
            found += [r.log_evalue for r in unit_tests(parts, axis=Axis.HIDDEN, label_group="")]
    values = np.array([e for e in found if e is not None])
    return log_mean_exp(values) - LOG_GATE_DISCOUNT if values.size else 0.0


def _unit_features(a: Layer, b: Layer, key: RowKey) -> list[UnitFeatures]:
    if a.n_hidden != b.n_hidden or a.n_hidden < 2:
        return []
    units = pick_run("units", a.n_hidden, N_UNITS, key)
    mine = dict(a.hidden_views)
    gated = "mlp.gate" in mine
    made = [
        UnitFeatures(
            np.ascontiguousarray(mine[kind][units].T),
            np.ascontiguousarray(values[units].T),
            signed=not (gated and kind != "mlp.gate"),
        )
        for kind, values in b.hidden_views
        if kind in mine and mine[kind].shape[1] == values.shape[1]
    ]
    return [] if any(is_sorted_pair(_sizes(p.a), _sizes(p.b)) for p in made) else made


def _sizes(rows: Float64Array) -> Float64Array:
    return np.asarray(np.sqrt(np.sum(rows * rows, axis=0)))
