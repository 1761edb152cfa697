"""The match-count test: how many units find the unit of the same index as their nearest neighbour."""

import math

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import as_matrix
from stats.axes import Axis, require_exchangeable
from stats.result import TestResult
from stats.tails import log_choose, log_factorial

_NULL = "the labels of the units of either model are a uniformly random order, given everything else"


def match_count(
    scores: ArrayLike,
    *,
    axis: Axis,
    candidates: int | None = None,
    k: int | None = None,
    label_group: str = "units",
    scope: str = "",
) -> TestResult:
    """Count units whose best-scoring candidate carries their own label, with a closed-form bound.

    Parameters
    ----------
    scores : (s, n) float
        Row i scores query i against every candidate; the true partner of query i is column i. Square (n = s)
        when slices of both models were read; wide (n > s) when all n units of the reference were.
    axis : Axis
        What the labels are. Must be exchangeable.
    candidates : int, optional
        Number of columns that are candidates, n by default.
    k : int, optional
        The subset size of the e-value, fixed before looking; s // 2 by default.
    label_group, scope : str
        Copied to the result.

    Returns
    -------
    TestResult
        statistic: the number of hits F. log_pvalue: the bound below. log_evalue: half of 1 plus half of
        C(F, k) over its largest possible mean, so that it never falls below one half. exactness: exact.

    Raises
    ------
    ValueError
        The axis is not exchangeable, the matrix is taller than wide, or a score is not finite.

    Notes
    -----
    Null: given both models up to the labels of one, every labelling is equally likely.
    A query whose best score is shared by two candidates abstains: an argmax that broke the tie by index would
    walk in step with the labels (30 % dead units then give p < 0.01 in most independent pairs).
    For K a set of k queries, P(all of K hit) <= (n - k)! / n!; hence E[C(F, k)] <= C(s, k) (n - k)! / n! and by
    Markov P(F >= f) <= C(s, f) (n - f)! / n!. For square scores Maclaurin's inequality on the column counts
    tightens this to 1 / f! for any, even non-injective, argmax.
    Cost: O(s n).

    References
    ----------
    Exchangeability: arXiv 2502.12292, Theorem 1. Differs: nearest neighbour and a finite-sample bound instead of
    an assignment, Spearman's rho and Student's t, whose tail lies below 1/n! there.

    Examples
    --------
    >>> import numpy as np
    >>> result = match_count(np.eye(8), axis=Axis.HIDDEN)
    >>> print(f"{result.statistic:.0f} of 8 units found themselves: p = 10^{result.log_pvalue / np.log(10):.1f}")
    8 of 8 units found themselves: p = 10^-4.6
    """
    require_exchangeable(axis)
    matrix = as_matrix(scores, "scores")
    queries, n = matrix.shape
    if candidates is not None and candidates != n:
        raise ValueError(f"scores has {n} columns but {candidates} candidates were announced")
    if queries > n:
        raise ValueError(f"scores must not be taller than wide, got {queries} x {n}")
    best = matrix.max(axis=1)
    decided = np.count_nonzero(matrix == best[:, None], axis=1) == 1
    hits = int(np.count_nonzero(decided & (matrix.argmax(axis=1) == np.arange(queries))))
    size = max(1, queries // 2) if k is None else k
    log_bound = log_match_bound(hits, queries, n)
    log_mean = _log_mean_bound(size, queries, n)
    return TestResult(
        method="match-count",
        null=_NULL,
        statistic=float(hits),
        n=n,
        log_pvalue=min(0.0, log_bound),
        log_floor=-(log_factorial(n) - log_factorial(n - queries)),
        log_evalue=float(np.logaddexp(math.log(0.5), math.log(0.5) + log_choose(hits, size) - log_mean)),
        exactness="exact",
        label_group=label_group,
        scope=scope,
    )


def log_match_bound(hits: int, queries: int, candidates: int) -> float:
    """Log of the bound on P(F >= hits): -log(hits!) for a square slice, else C(s, F) (n - F)! / n!."""
    return _log_mean_bound(hits, queries, candidates)


def _log_mean_bound(k: int, queries: int, candidates: int) -> float:
    """Log of the largest mean of C(F, k) under the null."""
    if k == 0:
        return 0.0
    if queries == candidates:
        return -log_factorial(k)
    return (
        min(0.0, log_choose(queries, k) + log_factorial(candidates - k) - log_factorial(candidates)) if k else -math.inf
    )
