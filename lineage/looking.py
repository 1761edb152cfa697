"""The closer look: what was done to a model, which layer became which, and what a rewrite of everything still shows.

Made when the ladder found nothing, or found a relation that is not plain. Small models are read whole, of larger ones a
sample of bounded size.
"""

import math
from dataclasses import dataclass

import numpy as np

from lineage.aligned import Agreement, agreement_after
from lineage.aligning import MIN_AGREEMENT, Alignment, align
from lineage.body import Body
from lineage.budget import Plan
from lineage.disguise import transforms
from lineage.finding import LayerFinding
from lineage.layertests import log_evidence
from lineage.plan import RowKey
from lineage.retention import retention_ratio
from lineage.sampling import align_samples
from lineage.splitting import split_rows
from lineage.tokens import shared_rows, shared_tokens
from stats.arrays import Float64Array
from stats.result import Skipped, TestResult

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
    skipped : tuple of Skipped
        What could not be read, and why.
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
    skipped: tuple[Skipped, ...] = ()


@np.errstate(over="ignore", invalid="ignore")
def look(a: Body, b: Body, *, dtype: str, key: RowKey, related: bool, labelled: bool, plan: Plan | None = None) -> Look:
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
    plan : Plan, optional
        What is read of models too large to be read whole.

    Returns
    -------
    Look

    Notes
    -----
    Nothing here is an exact test but the p-values of layers and `tests`. Cost: see `lineage.aligning.align` and
    `lineage.sampling.align_samples`.
    """
    if plan is not None:
        return _look_at_samples(a, b, plan, dtype, key)
    shared = shared_rows(a, b)
    found = align(a, b, shared)
    resemblance = _resemblance(found)
    resembles = _resembles(found, resemblance)
    return Look(
        alignment=found,
        transforms=transforms(a, b, found),
        agreement=agreement_after(a, b, found, shared, dtype),
        layers=_layers(a, b, found, key),
        resemblance=resemblance,
        resembles=resembles,
        retention=retention_ratio(a, b, found) if related or resembles else None,
        same_vocabulary=a.vocabulary == b.vocabulary,
        tests=split_rows(a, b, key) if labelled else (),
        skipped=shared.skipped,
    )


def _look_at_samples(a: Body, b: Body, plan: Plan, dtype: str, key: RowKey) -> Look:
    shared = shared_rows(a, b)
    seen = align_samples(a, b, plan, shared_tokens(a, b, shared, key), dtype=dtype, key=key)
    resemblance = _resemblance(seen.alignment)
    return Look(
        alignment=seen.alignment,
        transforms=transforms(a, b, seen.alignment),
        agreement=seen.agreement,
        layers=seen.layers,
        resemblance=resemblance,
        resembles=_resembles(seen.alignment, resemblance),
        retention=None,
        same_vocabulary=a.vocabulary == b.vocabulary,
        tests=(),
        skipped=shared.skipped,
    )


def _controls(found: Alignment) -> Float64Array:
    """Agreement of every pair of layers but those the map names."""
    free = np.ones_like(found.table, dtype=np.bool_)
    for j, m in enumerate(found.layers):
        best = int(found.table[:, j].argmax()) if m.a is None else found.rows.index(m.a)
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


def _in_places(found: Alignment) -> list[float]:
    """Mean agreement of the layers of b with those in their places, then with those one, two, ... places further on.

    Empty where depths differ, or a place was not looked at: there is none to name beforehand.
    """
    rows = {layer: i for i, layer in enumerate(found.rows)}
    if not found.same_depth or not found.layers or any(m.b not in rows for m in found.layers):
        return []
    places, columns = np.array([rows[m.b] for m in found.layers]), np.arange(len(found.layers))
    return [float(np.mean(found.table[(places + k) % len(rows), columns])) for k in range(len(rows))]


def _resemblance(found: Alignment) -> TestResult:
    """The agreement of the best layers; its rank is that of "every layer in its place" among the same map shifted.

    The best entry of each column is chosen after looking and has no rank of its own. Where depths differ there is no
    place to name beforehand: the p-value is 1, and the controls speak by their size only.
    """
    controls = _controls(found)
    best = float(np.mean(found.table.max(axis=0))) if found.table.size else 0.0
    in_place, *shifts = _in_places(found) or [0.0]
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
        scope=_scope(found),
        controls=len(shifts),
        z=(best - float(np.mean(controls))) / spread if spread > 0.0 else None,
    )


def _scope(found: Alignment) -> str:
    rows, columns = found.table.shape if found.table.ndim == 2 else (0, 0)
    part = "" if found.whole else f", a sample of the units of {rows}"
    told = (
        "told by inner products inside each model" if found.inner else f"residual stream read as {found.residual.kind}"
    )
    return f"hidden units of {columns} layers{part}, {told}"


def _layers(a: Body, b: Body, found: Alignment, key: RowKey) -> tuple[LayerFinding, ...]:
    layers_a = [a.layer(i) for i in range(a.architecture.n_layers)]
    entries = []
    for m in found.layers:
        similarity = m.units.similarity if m.units is not None else 0.0
        entries.append(LayerFinding(m.a, m.b, log_evidence(layers_a, b.layer(m.b), key), similarity))
    return tuple(entries)
