"""The published statistics, for tables side by side with ours: approximations that never enter a combination.

Assignment on cosines, Spearman's rho of the matching, Student's t, Fisher over blocks (arXiv 2502.12292). Computed in
log space, since printed in double precision most of them are 0.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.arrays import Float64Array, as_pair
from stats.axes import Axis, require_exchangeable
from stats.features import products, unit_norm
from stats.result import TestResult
from stats.tails import log_factorial

Assignment: TypeAlias = Callable[..., tuple[NDArray[np.intp], NDArray[np.intp]]]

MIN_UNITS = 10
"""Fewer matched units leave Student's t no meaning; the published models have thousands."""

_NULL = (
    "the labels of the hidden units of this block are a uniformly random order; an approximation: the tail is Student's "
    "t, which at high rho lies below 1/n!, the least any test of n labels can give"
)
_FISHER_NULL = (
    "as published-u in every block read, and the blocks independent of each other; an approximation from "
    "approximations, by Fisher's method"
)
_CLAMPED = "clamped at 1/n!: Student's tail lay below"

_SLAB = 1 << 18
"""Cosines computed at once (2 MB): the sums keep their order and the running totals stay in the cache."""


def load_assignment() -> Assignment:
    """The solver of the assignment problem, loaded on use: scipy is an optional extra.

    Returns
    -------
    callable
        `scipy.optimize.linear_sum_assignment`.

    Raises
    ------
    ImportError
        scipy is not installed; the message says what to install.
    """
    try:
        from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - an optional extra, and heavy
    except ImportError as error:
        raise ImportError("the published statistics need scipy: install lineage-forensics[published]") from error
    return linear_sum_assignment


def assignment_spearman(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rng: np.random.Generator,
    axis: Axis = Axis.HIDDEN,
    label_group: str = "hidden",
    scope: str = "",
) -> TestResult:
    """Match all units of two blocks by cosine and correlate the matching with the identity, as published.

    Parameters
    ----------
    a, b : (n, d) float
        One row per hidden unit: the up projection.
    rng : numpy.random.Generator
        Shuffles the candidates before the assignment; must not depend on the weights.
    axis : Axis
        What the rows are. Must be exchangeable.
    label_group, scope : str
        Copied to the result; a clamped p-value is told in the scope.

    Returns
    -------
    TestResult
        statistic: Spearman's rho of the matching. n: units that took part. exactness: asymptotic. log_evalue: None,
        so that no combination can take it in.

    Raises
    ------
    ValueError
        The axis is not exchangeable, shapes differ, values are not finite, or fewer than `MIN_UNITS` units are alive.
    ImportError
        scipy is not installed.

    Notes
    -----
    Null: given everything else, every order of b's units is equally likely.
    Error: Student's tail is anti-conservative. Over the exact one it is 0.29, 0.16, 0.084 and 0.039 at the second
    largest rho for n = 6 .. 9 (by enumeration, in the tests), and without bound as n grows; it is clamped at 1/n!.
    A unit that is all zero in either model abstains in both: the rest keeps its labels, and theirs are still random
    given which units were dropped. The solver breaks ties in index order, so the candidates are shuffled first.
    Cost: O(n^2 d) for the cosines, O(n^3) at worst for the assignment, n^2 words.

    References
    ----------
    arXiv 2502.12292, Section 3 (phi_U). Differs: zero units abstain, shuffled candidates, one fixed order of
    summation, the tail in log space and clamped.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> up = rng.normal(size=(64, 32))
    >>> found = assignment_spearman(up, up + 0.1 * rng.normal(size=(64, 32)), rng=rng)
    >>> print(f"rho = {found.statistic:.0f}, {found.exactness}, {found.scope}")
    rho = 1, asymptotic, clamped at 1/n!: Student's tail lay below
    """
    require_exchangeable(axis)
    solve = load_assignment()
    first, second = as_pair(a, b)
    alive = np.flatnonzero(first.any(axis=1) & second.any(axis=1))
    n = alive.size
    if n < MIN_UNITS:
        raise ValueError(f"the published statistic needs at least {MIN_UNITS} units that are not all zero, got {n}")
    order = rng.permutation(n)
    matched = order[solve(_cosines(first[alive], second[alive[order]]), maximize=True)[1]]
    gaps = int(np.sum((matched - np.arange(n)) ** 2))
    rho = 1.0 - 6.0 * gaps / (n * (n * n - 1.0))
    log_p, floor = log_spearman_tail(rho, n), -log_factorial(n)
    words = [scope, _CLAMPED if log_p < floor else ""]
    return TestResult(
        method="published-u",
        null=_NULL,
        statistic=rho,
        n=n,
        log_pvalue=min(0.0, max(log_p, floor)),
        log_floor=floor,
        log_evalue=None,
        exactness="asymptotic",
        label_group=label_group,
        scope="; ".join(w for w in words if w),
    )


def fisher_over_blocks(results: Sequence[TestResult], *, label_group: str = "hidden", scope: str = "") -> TestResult:
    """Combine published block statistics by Fisher's method.

    Parameters
    ----------
    results : sequence of TestResult
        At least one, of different blocks.
    label_group, scope : str
        Copied to the result.

    Returns
    -------
    TestResult
        statistic: -2 times the sum of the natural logs. exactness: asymptotic. log_evalue: None.

    Raises
    ------
    ValueError
        No results.

    Notes
    -----
    Null: `_FISHER_NULL` above. Cost: O(L).

    References
    ----------
    arXiv 2502.12292, Section 3; in log space, where the tail of chi-squared with 2L degrees of freedom is a finite sum.

    Examples
    --------
    >>> round(log_fisher([-1.0, -1.0]), 4)
    -0.9014
    """
    if not results:
        raise ValueError("results is empty: there is no block to combine")
    clamped = any(_CLAMPED in r.scope for r in results)
    words = [scope, "of blocks clamped at 1/n!" if clamped else ""]
    return TestResult(
        method="published-u-fisher",
        null=_FISHER_NULL,
        statistic=-2.0 * math.fsum(r.log_pvalue for r in results),
        n=sum(r.n for r in results),
        log_pvalue=log_fisher([r.log_pvalue for r in results]),
        log_floor=math.fsum(r.log_floor for r in results),
        log_evalue=None,
        exactness="asymptotic",
        label_group=label_group,
        scope="; ".join(w for w in words if w),
    )


def log_fisher(log_pvalues: Sequence[float]) -> float:
    """Natural log of Fisher's combined p-value: with x = -sum ln p, ln p = -x + ln sum_{k<L} x^k / k!."""
    x = -math.fsum(log_pvalues)
    if x <= 0.0:
        return 0.0
    terms = [k * math.log(x) - math.lgamma(k + 1) for k in range(len(log_pvalues))]
    top = max(terms)
    return min(0.0, top - x + math.log(math.fsum(math.exp(t - top) for t in terms)))


def log_spearman_tail(rho: float, n: int) -> float:
    """Natural log of P(T > t) for Student's T with n - 2 degrees of freedom, t = rho sqrt((n - 2) / (1 - rho^2)).

    Parameters
    ----------
    rho : float
        Spearman's rho in [-1, 1].
    n : int
        Pairs, >= 3.

    Returns
    -------
    float
        One-sided towards large rho; -inf at rho = 1. Relative error below 1e-9 (the tests hold it).

    Notes
    -----
    The tail is half the regularised incomplete beta function at 1 - rho^2 with (n - 2)/2 and 1/2. Its leading factor
    is taken in logs, so nothing underflows; where the continued fraction would be slow the tail is large, and one
    minus its complement loses nothing.
    """
    if rho < 0.0:
        return math.log1p(-math.exp(log_spearman_tail(-rho, n)))
    half, x = (n - 2) / 2.0, (1.0 - rho) * (1.0 + rho)
    if x <= 0.0:
        return -math.inf
    if x * (half + 2.5) < half + 1.0:
        return _log_beta_tail(x, half, 0.5) - math.log(2.0)
    inside = math.exp(_log_beta_tail(rho * rho, 0.5, half)) if rho * rho > 0.0 else 0.0
    return math.log1p(-inside) - math.log(2.0)


def _log_beta_tail(x: float, a: float, b: float) -> float:
    """Log of the regularised incomplete beta function for x < (a + 1) / (a + b + 2), by its continued fraction."""
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_front -= math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    upper, lower = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    fraction = lower
    for m in range(1, 1000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0)),
        ):
            lower = 1.0 / (1.0 + step * lower)
            upper = 1.0 + step / upper
            fraction *= upper * lower
        if abs(upper * lower - 1.0) < 1e-15:
            break
    return log_front + math.log(fraction)


def _cosines(a: Float64Array, b: Float64Array) -> Float64Array:
    """Cosines of all rows of a with all rows of b, a slab of rows at a time; the same bits for any slab."""
    left, right = unit_norm(np.ascontiguousarray(a.T)), unit_norm(np.ascontiguousarray(b.T))
    rows = max(1, _SLAB // right.shape[1])
    out = np.empty((left.shape[1], right.shape[1]))
    for start in range(0, left.shape[1], rows):
        out[start : start + rows] = products(np.ascontiguousarray(left[:, start : start + rows]), right)
    return out
