"""What a rung returns, and how results that share labels become one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stats.arrays import Float64Array
from stats.ordering import LOG_GATE_DISCOUNT
from stats.result import Skipped, TestResult
from stats.tails import log_mean_exp


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """How one block answers: the block of the other model it agrees with best, and the evidence of its own labels.

    Attributes
    ----------
    a : int or None
        None where no layer fits.
    b : int
        Layers.
    log_evalue : float
        Natural log of the e-value of the block's own labels, averaged over the blocks of the other model.
    similarity : float
        Mean cosine between paired units.
    """

    a: int | None
    b: int
    log_evalue: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rung found: results, what it skipped, and layers where it speaks of layers."""

    results: tuple[TestResult, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    layers: tuple[LayerFinding, ...] = ()


def mixture(found: Sequence[TestResult], log_weights: Float64Array | None, method: str, scope: str) -> TestResult:
    """One result from tests that share labels: the weighted mean of their e-values, its p-value 1 / e."""
    pooled = log_mean_exp(np.array([r.log_evalue for r in found], dtype=np.float64), log_weights)
    floor = min(r.log_floor for r in found)
    statistic = max(r.statistic for r in found) if method != "norm-gains-map-free" else min(r.statistic for r in found)
    return replace(
        found[0],
        method=method,
        statistic=statistic,
        log_evalue=pooled,
        log_pvalue=min(0.0, max(-pooled, floor)) if math.isfinite(pooled) else 0.0,
        log_floor=floor,
        scope=scope,
    )


def discounted(results: Iterable[TestResult]) -> list[TestResult]:
    """Pay for the gate that skips sorted units, which looks at labels."""
    paid = []
    for r in results:
        log_e = None if r.log_evalue is None else r.log_evalue - LOG_GATE_DISCOUNT
        paid.append(replace(r, log_evalue=log_e, log_pvalue=min(0.0, r.log_pvalue + LOG_GATE_DISCOUNT)))
    return paid
