"""Units that were sorted: an axis whose index and norm rise or fall together in both models carries no labels."""

import math

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import as_vector
from stats.tails import log_tau_tail

LOG_SORTED_LEVEL = math.log(1e-4)
"""Each model's association must be this unlikely by chance before the axis is called sorted."""

_BLOCKS = 64
"""Longer axes are averaged into this many equal runs of neighbours: their means keep the order of a ramp or a step, lose
the noise, and tau then has its exact law."""

LOG_GATE_DISCOUNT = math.log1p(5e-3)
"""Paid by every e-value behind a gate that looks at labels: E[e; gate open] + P(gate shut) <= 1 + 5e-3, when a label
group is asked at most fifty such questions, each answered by chance once in 10,000: norms of units, copies among the
blocks of one model, gains, columns of tables, ramps and waves in a position table."""


def is_sorted_pair(norms_a: ArrayLike, norms_b: ArrayLike) -> bool:
    """Whether index and norm are monotonically associated in both models.

    Parameters
    ----------
    norms_a, norms_b : (n,) float
        One norm (or gain) per unit, in index order.

    Returns
    -------
    bool
        True when in each model P(|tau| >= seen) < 1e-4 under random labels. Sorting one model alone breaks
        nothing: the labels of the other are still random.

    Notes
    -----
    Null: labels are random; then this returns True with probability at most 1e-4, whatever the other model is.
    Kendall's tau needs n >= 8 to reach the level; shorter axes are never called sorted. Up to 64 units it has its exact
    law; more are averaged in runs first, which random labels leave exchangeable.
    """
    a = as_vector(norms_a, "norms_a")
    b = as_vector(norms_b, "norms_b")
    return all(_log_sorted(v) < LOG_SORTED_LEVEL for v in (a, b))


def _log_sorted(norms: ArrayLike) -> float:
    vector = as_vector(norms, "norms")
    if vector.size > _BLOCKS:
        size = vector.size // _BLOCKS
        vector = vector[: size * _BLOCKS].reshape(_BLOCKS, size).mean(axis=1)
    return log_tau_tail(np.arange(vector.size, dtype=np.float64), vector)
