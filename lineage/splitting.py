"""The rung a closer look adds: rows of any two layers matched on one half of the residual dimensions, tested on the other."""

import math
from itertools import product

import numpy as np

from lineage.body import Body, Layer
from lineage.finding import discounted
from lineage.plan import RowKey, pick_layers, pick_split
from stats.result import TestResult
from stats.split import split_test
from stats.tails import log_mean_exp
from stats.units import UnitFeatures

_MOST_UNITS = 256
"""Hidden units of a layer that take part: one in a few is enough to place a basis, and matching costs their square."""


def split_rows(a: Body, b: Body, key: RowKey) -> tuple[TestResult, ...]:
    """The split test over all pairs of the layers read, averaged: which layer became which is not known.

    Parameters
    ----------
    a, b : Body
    key : RowKey
        Places the halves.

    Returns
    -------
    tuple of TestResult
        One, or none where no rows match. To be asked only where the residual dimensions carry labels
        (`lineage.align.residual_obstacle`).

    Notes
    -----
    Null: as `stats.split.split_test`. A mean of e-values on shared labels; pairs without a match count as 1.
    """
    fit, held = pick_split(a.architecture.width, key)
    found: list[TestResult] = []
    silent = 0
    for i, j in product(pick_layers(a.architecture.n_layers), pick_layers(b.architecture.n_layers)):
        parts = _parts(a.layer(i), b.layer(j))
        try:
            found.append(split_test(parts, fit=fit, held=held))
        except ValueError:  # too few rows find a partner on the half that fits: known without the labels tested
            silent += 1
    if not found:
        return ()
    evidence = np.array([r.log_evalue for r in found if r.log_evalue is not None] + [0.0] * silent)
    pooled = log_mean_exp(evidence)
    best = max(found, key=lambda r: r.statistic)
    floor = min(r.log_floor for r in found)
    made = (
        TestResult(
            method="split",
            null=best.null,
            statistic=best.statistic,
            n=best.n,
            log_pvalue=min(0.0, max(-pooled, floor)) if math.isfinite(pooled) else 0.0,
            log_floor=floor,
            log_evalue=pooled,
            exactness="exact",
            label_group=best.label_group,
            scope=f"rows of {len(found)} pairs of layers",
        ),
    )
    return tuple(discounted(made))


def _parts(a: Layer, b: Layer) -> list[UnitFeatures]:
    parts = []
    for kind in ("mlp.gate", "mlp.up"):
        x, y = a.reads.get(kind), b.reads.get(kind)
        if x is not None and y is not None:
            signed = kind == "mlp.gate" or "mlp.gate" not in a.reads
            step = max(1, x.shape[0] // _MOST_UNITS), max(1, y.shape[0] // _MOST_UNITS)
            parts.append(
                UnitFeatures(np.ascontiguousarray(x[:: step[0]].T), np.ascontiguousarray(y[:: step[1]].T), signed)
            )
    return parts
