"""All tests of one pair: the literal table of rungs, in the order of the ladder, and what they add up to."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lineage.align import residual_obstacle
from lineage.blocks import hidden
from lineage.finding import Finding, LayerFinding
from lineage.likeness import likeness
from lineage.rungs import attention, gains, tables
from lineage.signature import Signature
from lineage.valuetests import experts, values
from stats.combine import combine_evalues, log_floor_of
from stats.result import Skipped, TestResult
from stats.tails import log_mean_exp


@dataclass(frozen=True, slots=True)
class PairTest:
    """One row of the ladder.

    Attributes
    ----------
    name : str
        As in docs/methods/.
    needs : str
        Which labels it uses: "residual", "hidden", "value" or "expert"; rows of the residual labels share one obstacle.
    run : callable
        Two signatures to a Finding.
    """

    name: str
    needs: str
    run: Callable[[Signature, Signature], Finding]


PAIR_TESTS: tuple[PairTest, ...] = (
    PairTest("norm-gains", "residual", gains),
    PairTest("hidden-units", "hidden", hidden),
    PairTest("embedding-columns", "residual", tables),
    PairTest("attention-columns", "residual", attention),
    PairTest("value-units", "value", values),
    PairTest("expert-units", "expert", experts),
)
"""Order of the ladder: gains, hidden rows, embedding and head columns, then attention and experts. All rows always run."""


LOG_DEEP = math.log(0.1)
_LOG_LADDER = math.log(0.9)
"""Shares of the combined e-value: one tenth is kept for a closer look, made or not."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the tests say of one pair.

    Attributes
    ----------
    a, b : str
        Ids.
    results : tuple of TestResult
        In the order of the ladder.
    layers : tuple of LayerFinding
        Per block of the model whose labels the combined evidence rests on.
    log_evalue : float
        Natural log of the combined e-value: groups averaged inside, multiplied across.
    log_floor : float
        What the labels read could reach at best.
    skipped : tuple of Skipped
        What was not tested, with reasons.
    """

    a: str
    b: str
    results: tuple[TestResult, ...]
    layers: tuple[LayerFinding, ...]
    log_evalue: float
    log_floor: float
    skipped: tuple[Skipped, ...]

    @property
    def log_pvalue(self) -> float:
        """Natural log of the combined p-value: min(1, 1 / e), never below the floor."""
        return min(0.0, max(-self.log_evalue, self.log_floor)) if math.isfinite(self.log_evalue) else 0.0

    @property
    def is_testable(self) -> bool:
        """Whether any valid test could be run."""
        return any(r.exactness != "heuristic" for r in self.results)


def deepened(evidence: Evidence, results: tuple[TestResult, ...]) -> Evidence:
    """Evidence with the tests of a closer look, which hold the share of the combined e-value set aside for them.

    Parameters
    ----------
    evidence : Evidence
        Of the ladder.
    results : tuple of TestResult
        Of the closer look; averaged, since they share the residual labels with the ladder.

    Returns
    -------
    Evidence

    Notes
    -----
    The combined e-value is 0.9 times that of the ladder plus 0.1 times that of a closer look, fixed in advance: a mean
    of e-values, valid under any dependence. Without a closer look its part counts as nothing, which is a lower bound.
    """
    deep = [r.log_evalue for r in results if r.log_evalue is not None]
    if not deep:
        return evidence
    pooled = LOG_DEEP + log_mean_exp(np.array(deep))
    return replace(
        evidence,
        results=(*evidence.results, *results),
        log_evalue=float(np.logaddexp(evidence.log_evalue, pooled)),
        log_floor=min(evidence.log_floor, *(r.log_floor for r in results)),
    )


@np.errstate(over="ignore", invalid="ignore")
def gather(a: Signature, b: Signature) -> Evidence:
    """Run every row of the ladder on one pair.

    Parameters
    ----------
    a, b : Signature
        Read with one signature version and one row key.

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError
        The signatures were read at different places.

    Notes
    -----
    Null: at least one of the two models was trained by a procedure that treats the units of each tested axis
    alike, and its initial weights are independent of the other model. Then the labels of each group are
    uniformly random given all else, and the combined e-value has mean at most 1 (docs/methods/combining.md).
    """
    if (a.version, a.key_name) != (b.version, b.key_name):
        raise ValueError("signatures of different versions or row keys were read at different rows")
    findings = []
    obstacle = residual_obstacle(a, b)
    skipped = list(dict.fromkeys((*a.skipped, *b.skipped)))
    if obstacle is not None:
        skipped.append(obstacle)
    for row in PAIR_TESTS:
        if row.needs == "residual" and obstacle is not None:
            continue
        findings.append(row.run(a, b))
    results = tuple(r for f in findings for r in f.results)
    if not (a.architecture and b.architecture):
        results += likeness(a.samples, b.samples)
    skipped.extend(s for f in findings for s in f.skipped)
    return Evidence(
        a=a.id,
        b=b.id,
        results=results,
        layers=tuple(layer for f in findings for layer in f.layers),
        log_evalue=_LOG_LADDER + combine_evalues(results),
        log_floor=log_floor_of(results),
        skipped=tuple(skipped),
    )
