"""Rows that training never touched: under decoupled weight decay they shrink together, and rounding can be replayed.

A row of a token or position table whose token never occurs gets no gradient. An optimiser with decoupled weight decay
(arXiv 1711.05101) multiplies it by one constant below 1, the same for all such rows, and leaves it alone otherwise. The
later of two models therefore holds rounded, shrunk copies of rows of the earlier one. Rows never grow this way.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, as_pair

MIN_ROWS = 16
"""Rows that must share one ratio before it is believed to be decay."""

_LIKE = 0.01
"""Relative distance of a row from its multiple up to which rounding to eight bits may explain it."""

_SAME = 0.004
"""Rows whose ratios agree to this are taken for one group: eight bits leave a row of 32 values no more uncertain."""

_COMPUTED = 2.0**-18
"""Relative error that thousands of float32 multiplications may leave, beside the rounding of storage."""

_REACH = 1e-3
"""The ratio is searched this far around its least-squares value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDecay:
    """What the untouched rows of two tables say.

    Attributes
    ----------
    rows : int
        Rows of b that are one multiple of those of a.
    touched : int
        Rows that are not.
    ratio : float
        The multiple: below 1 when b decayed from a.
    match_share : float
        Share of their values that are exactly the rounded multiple: 1 when b was made from a in one run.
    reverse_share : float
        The same with a made from b.
    n : int
        Values compared.
    """

    rows: int
    touched: int
    ratio: float
    match_share: float
    reverse_share: float
    n: int


def row_decay(a: ArrayLike, b: ArrayLike, *, bits_a: int, bits_b: int) -> RowDecay | None:
    """Find rows of one table that are a common multiple of the same rows of another, and replay their rounding.

    Parameters
    ----------
    a, b : (k, d) float
        The same rows of one table of two models.
    bits_a, bits_b : int
        Significant bits of the stored formats, the hidden one included.

    Returns
    -------
    RowDecay or None
        None when fewer than 16 rows share a ratio.

    Raises
    ------
    ValueError
        Shapes differ or a value is not finite.

    Notes
    -----
    Null: none; a description. Rows of a that are zero are left out. A value matches when the multiple lies within half
    a unit in the last place of the stored value, plus what float32 arithmetic may add. Swapping a and b inverts the
    ratio and exchanges the shares; scaling both by one power of two changes nothing. Cost: O(k d).
    """
    first, second = as_pair(a, b, min_columns=1)
    size, cross = np.sum(first * first, axis=1), np.sum(first * second, axis=1)
    other = np.sum(second * second, axis=1)
    alive = (size > 0.0) & (other > 0.0) & (cross > 0.0)
    ratio = np.ones_like(size)
    ratio[alive] = cross[alive] / size[alive]
    rest = np.sqrt(np.maximum(other - ratio * cross, 0.0) / np.where(alive, other, 1.0))
    likely = alive & (rest <= _LIKE)
    if int(likely.sum()) < MIN_ROWS:
        return None
    centre = _densest(ratio[likely])
    chosen = likely & (np.abs(ratio / centre - 1.0) <= _SAME)
    if int(chosen.sum()) < MIN_ROWS:
        return None
    x, y = first[chosen], second[chosen]
    least = float(np.sum(x * y) / np.sum(x * x))
    forward, best = _replayed(x, y, least, bits_b)
    backward, _ = _replayed(y, x, 1.0 / least, bits_a)
    return RowDecay(
        rows=int(chosen.sum()),
        touched=int(alive.sum() - chosen.sum()),
        ratio=best,
        match_share=forward,
        reverse_share=backward,
        n=x.size,
    )


def _densest(ratios: Float64Array) -> float:
    """Centre of the window of width `2 _SAME` that holds most ratios; the first of equals."""
    ordered = np.sort(ratios)
    counts = np.searchsorted(ordered, ordered * (1.0 + 2.0 * _SAME), side="right") - np.arange(ordered.size)
    start = int(counts.argmax())
    return float(np.median(ordered[start : start + int(counts[start])]))


def _replayed(x: Float64Array, y: Float64Array, ratio: float, bits: int) -> tuple[float, float]:
    """(largest share of y that is x times a ratio, rounded; that ratio), over a fine grid around a first value.

    Each pair of values admits an interval of ratios; the ratio that most intervals hold is found by sorting their ends.
    """
    power = (y.view(np.uint64) & np.uint64(0x7FF0000000000000)).view(np.float64)  # of two, at or below |y|
    slack = 0.5 * power * 2.0 ** (1 - bits) + np.abs(y) * _COMPUTED
    use = x != 0.0
    middle, reach = y[use] / x[use], slack[use] / np.abs(x[use])
    low = np.sort(middle - reach)
    high = np.sort(middle + reach)
    inside = (low >= ratio * (1.0 - _REACH)) & (low <= ratio * (1.0 + _REACH))
    grid = np.append(low[inside], ratio)
    held = np.searchsorted(low, grid, side="right") - np.searchsorted(high, grid, side="left")
    top = np.flatnonzero(held == held.max())
    best = int(top[np.abs(grid[top] - ratio).argmin()])
    zeros = int(np.count_nonzero((x == 0.0) & (y == 0.0)))
    return float((held[best] + zeros) / x.size), float(grid[best])
