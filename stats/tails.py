"""Counts and tails in log space: factorials, the match-count bound, the law of Kendall's tau."""

import math
from functools import cache

import numpy as np

from stats.arrays import Float64Array

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
    upper = np.triu_indices(n, 1)
    score = float(np.sum(np.sign(x[upper[0]] - x[upper[1]]) * np.sign(y[upper[0]] - y[upper[1]])))
    tied = np.unique(x).size < n or np.unique(y).size < n
    if n > _EXACT_TAU_LIMIT or tied:
        tau = score / upper[0].size
        return min(0.0, math.log(2.0) - (n // 2) * tau * tau / 2.0)
    inversions = round((upper[0].size - abs(score)) / 2.0)
    log_counts = _log_inversion_counts(n)
    return min(
        0.0, math.log(2.0) + log_mean_exp(log_counts[: inversions + 1]) + math.log(inversions + 1) - log_factorial(n)
    )


@cache
def _log_inversion_counts(n: int) -> Float64Array:
    """Log of the number of permutations of n with k inversions, k = 0 .. n(n-1)/2."""
    counts = [1]
    for m in range(2, n + 1):
        total = len(counts) + m - 1
        running = 0
        grown: list[int] = []
        for k in range(total):
            running += counts[k] if k < len(counts) else 0
            running -= counts[k - m] if 0 <= k - m < len(counts) else 0
            grown.append(running)
        counts = grown
    return np.array([math.log(c) for c in counts])
