"""Counts and tails in log space: factorials, the match-count bound, the law of Kendall's tau."""

import math
from functools import cache, lru_cache
from itertools import accumulate

import numpy as np

from stats.arrays import Float64Array, IntVector

_EXACT_TAU_LIMIT = 64
"""Beyond this many units the exact law (O(n^3)) gives way to Hoeffding's bound, which is valid at any n."""


def log_factorial(n: int) -> float:
    """Natural log of n!."""
    return math.lgamma(n + 1)


def log_choose(n: int, k: int) -> float:
    """Natural log of the binomial coefficient; -inf when k lies outside [0, n]."""
    if k < 0 or k > n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def log_mean_exp(values: Float64Array, log_weights: Float64Array | None = None) -> float:
    """Log of a weighted mean of exp(values), in a fixed order; -inf when every value is.

    Parameters
    ----------
    values : (n,) float64
        Logs, -inf allowed.
    log_weights : (n,) float64, optional
        Log weights that sum to one in the linear scale; equal weights when left out.

    Returns
    -------
    float
    """
    terms = values - math.log(values.size) if log_weights is None else values + log_weights
    top = float(terms.max())
    if top == -math.inf:
        return -math.inf
    return top + math.log(math.fsum(math.exp(t - top) for t in terms.tolist()))


def log_tau_tail(x: Float64Array, y: Float64Array) -> float:
    """Log of an upper bound on P(|tau| >= observed) when every order of y is equally likely.

    Parameters
    ----------
    x, y : (n,) float64
        Paired values. Ties count as half agreement, which only moves the statistic towards zero.

    Returns
    -------
    float
        Natural log, <= 0. Two-sided.

    Notes
    -----
    For n <= 64 without ties the inversion numbers (Mahonian numbers) give the exact law. Otherwise Hoeffding's
    inequality for U-statistics of order two, P(tau >= t) <= exp(-floor(n/2) t^2 / 2), which needs no n to be large.
    Cost: O(n^2), and O(n^3) once for the exact law.
    """
    n = x.size
    if n < 3:
        return 0.0
    first, second = _pairs(n)
    signs = np.sign(x[first] - x[second]), np.sign(y[first] - y[second])
    score = float(np.sum(signs[0] * signs[1]))
    tied = not all(s.all() for s in signs)
    if n > _EXACT_TAU_LIMIT or tied:
        tau = score / first.size
        return min(0.0, math.log(2.0) - (n // 2) * tau * tau / 2.0)
    return _log_two_sided(n, round((first.size - abs(score)) / 2.0))


@lru_cache(maxsize=16)
def _pairs(n: int) -> tuple[IntVector, IntVector]:
    """All pairs of places, the smaller one first."""
    return np.triu_indices(n, 1)


@lru_cache(maxsize=1 << 14)
def _log_two_sided(n: int, inversions: int) -> float:
    """Log of twice the probability of at most so many inversions of n without ties."""
    log_counts = _log_inversion_counts(n)
    return min(
        0.0, math.log(2.0) + log_mean_exp(log_counts[: inversions + 1]) + math.log(inversions + 1) - log_factorial(n)
    )


@cache
def _log_inversion_counts(n: int) -> Float64Array:
    """Log of the number of permutations of n with k inversions, k = 0 .. n(n-1)/2."""
    counts = [1]
    for m in range(2, n + 1):
        below = list(accumulate(counts)) + [sum(counts)] * (m - 1)  # of m - 1 elements: at most k inversions
        counts = below[:m] + [upper - lower for upper, lower in zip(below[m:], below, strict=False)]
    return np.array([math.log(c) for c in counts])
