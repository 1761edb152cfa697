"""Which columns a target is made of: coefficients of zero or more, columns added one at a time, discoveries among them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array
from stats.mixing import (
    BlockGram,
    Mixture,
    checked_columns,
    explained_share,
    fit_each,
    least_squares,
    residual_of,
    solve,
)

_NEGLIGIBLE = 1e-10
"""A step of the search for non-negative coefficients smaller than this times the largest moment is rounding."""


def nonnegative_least_squares(gram: BlockGram, columns: Sequence[int]) -> Mixture:
    """Coefficients of zero or more that bring a combination of columns nearest to the target.

    Parameters
    ----------
    gram : BlockGram
    columns : sequence of int
        Columns that may take part, each once, 1 and up.

    Returns
    -------
    Mixture
        Errors of the columns with a positive coefficient are those of least squares on these; others are 0.

    Raises
    ------
    ValueError
        A column is named twice or does not exist, or none is named.

    Notes
    -----
    Null: none. Active sets (Lawson and Hanson 1974, chapter 23) on inner products. Cost: O(k^4) at worst.
    """
    chosen = checked_columns(gram, columns)
    total = gram.total[np.ix_([0, *chosen], [0, *chosen])]
    inner, moment = total[1:, 1:], total[1:, 0]
    coefficients = _active_set(inner, moment)
    kept = np.flatnonzero(coefficients > 0.0)
    errors = np.zeros(len(chosen))
    if kept.size:
        part = least_squares(gram, [chosen[i] for i in kept])
        errors[kept] = part.errors
    residual = residual_of(total, coefficients)
    return Mixture(chosen, coefficients, errors, residual, explained_share(residual, float(total[0, 0])))


def pursuit(
    gram: BlockGram, columns: Sequence[int], *, start: Sequence[int] = (), most: int, enough: float = 0.0
) -> tuple[int, ...]:
    """Columns that explain the target, added one at a time, each time the one that leaves the least.

    Parameters
    ----------
    gram : BlockGram
        Every block has coefficients of its own: one block a tensor, or one for everything.
    columns : sequence of int
        Candidates, each once, 1 and up.
    start : sequence of int
        Columns that take part from the outset and are not counted.
    most : int
        Columns to stop at.
    enough : float
        Sum of squares left at which to stop.

    Returns
    -------
    tuple of int
        In the order of adding, without those of `start`; ties go to the earlier candidate.

    Notes
    -----
    Null: none. All coefficients are fitted anew at every step (orthogonal matching pursuit). Cost: O(most k) solves a
    block, of at most `most` unknowns.
    """
    left = list(checked_columns(gram, columns))
    chosen: list[int] = []
    residual = _left_by(gram, list(start))
    while left and len(chosen) < most and residual > enough:
        best, index = min((_left_by(gram, [*start, *chosen, c]), i) for i, c in enumerate(left))
        if best >= residual:
            break
        residual = best
        chosen.append(left.pop(index))
    return tuple(chosen)


def benjamini_hochberg(pvalues: ArrayLike, alpha: float) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Reject by the step-up rule: false discovery rate at most alpha for independent p-values.

    Parameters
    ----------
    pvalues : (n,) array_like
        In [0, 1].
    alpha : float
        Level in (0, 1).

    Returns
    -------
    (n,) bool
        The k smallest, for the largest k with the k-th smallest p <= alpha k / n.

    References
    ----------
    Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57, procedure (1).
    """
    p = np.asarray(pvalues, dtype=np.float64)
    if not 0.0 < alpha < 1.0 or p.ndim != 1 or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("need p-values in [0, 1] and a level in (0, 1)")
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= alpha * np.arange(1, p.size + 1) / max(1, p.size))
    rejected = np.zeros(p.size, dtype=np.bool_)
    if passed.size:
        rejected[order[: int(passed[-1]) + 1]] = True
    return rejected


def two_sided(z: ArrayLike) -> Float64Array:
    """Probability of a standard normal value at least as far from zero, element by element."""
    values = np.abs(np.atleast_1d(np.asarray(z, dtype=np.float64)))
    return np.array([math.erfc(v / math.sqrt(2.0)) for v in values])


def _left_by(gram: BlockGram, chosen: list[int]) -> float:
    picked = BlockGram(gram.products[:, [0, *chosen]][:, :, [0, *chosen]], gram.sizes)
    return math.fsum(fit_each(picked)[1]) if chosen else math.fsum(gram.products[:, 0, 0])


def _active_set(inner: Float64Array, moment: Float64Array) -> Float64Array:
    k = moment.size
    free: list[int] = []
    x = np.zeros(k)
    floor = _NEGLIGIBLE * float(np.abs(moment).max(initial=0.0))
    for _ in range(10 * k + 10):
        slope = moment - np.einsum("ij,j->i", inner, x)
        slope[free] = -math.inf
        best = int(slope.argmax())
        if len(free) == k or slope[best] <= floor:
            break
        free.append(best)
        x = _retreat(inner, moment, free, x)
    return x


def _retreat(inner: Float64Array, moment: Float64Array, free: list[int], x: Float64Array) -> Float64Array:
    """Solve on the free columns; where one would turn negative, go as far as it allows and set it to zero."""
    while free:
        trial = np.zeros_like(x)
        trial[free] = solve(inner[np.ix_(free, free)], moment[free])
        bad = [i for i in free if trial[i] <= 0.0]
        if not bad:
            return trial
        step = min(x[i] / (x[i] - trial[i]) if x[i] > trial[i] else 0.0 for i in bad)
        x = x + step * (trial - x)
        gone = [i for i in bad if x[i] <= 1e-12 * max(1.0, float(np.abs(x).max()))]
        for i in gone or bad:
            x[i] = 0.0
            free.remove(i)
    return np.zeros_like(x)
