"""Scales below stored values: the step of each group whose multiples, or whose table of levels, all its values are.

Every value is taken for a level times an unknown scale, rounded once to the stored format. Such a value bounds the scale
from both sides; the values of a group fit when their bounds have a common point. Describes, never tests.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array
from stats.kernels.grids import fit_scales

Bools: TypeAlias = NDArray[np.bool_]

_PASSES = (0.125, 0.5, 1.0)
"""Shares of the largest value: the bounds of small values are made use of before large ones are given a level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What scale each group has.

    Attributes
    ----------
    fits : (k,) bool
        Whether all values of a group are levels times one scale.
    step : (k,) float64
        That scale, the middle of its bounds; NaN where nothing fits, and in a group of zeros, which fits anything.
    low, high : (k,) float64
        Its bounds.
    offset : (k,) float64
        What was taken off first.
    levels : (k, g) float64
        The level of each value; 0 where nothing fits.
    surprise : (k,) float64
        Natural log of one over the chance that values spread evenly between levels fit by luck, for all scales tried;
        the value farthest out, which chose them, does not count. 0 where nothing fits.
    """

    fits: Bools
    step: Float64Array
    low: Float64Array
    high: Float64Array
    offset: Float64Array
    levels: Float64Array
    surprise: Float64Array


@dataclass(frozen=True, slots=True)
class _Levels:
    """Levels that may stand for the value farthest out, in the order they are tried, and where all others lie.

    Whole numbers, a table, or floating-point numbers of so many bits whose smallest are so far apart.
    """

    candidates: Float64Array
    table: Float64Array | None = None
    bits: int = 0
    smallest: float = 0.0

    @property
    def kind(self) -> int:
        """Number of the kind, as the kernel knows it."""
        return 1 if self.table is not None else 2 if self.bits else 0


def integer_grid(groups: Float64Array, half: Float64Array, most: int, *, offset: bool = False) -> Grid:
    """Fit whole multiples of one step to each group.

    Parameters
    ----------
    groups : (k, g) float64
        Finite.
    half : (k, g) float64
        Largest error of each value.
    most : int
        Largest multiple tried for the value that lies farthest out.
    offset : bool
        Take the smallest value of a group off first: for scales whose zero point is no whole number.

    Returns
    -------
    Grid
        With the largest step that fits.

    Notes
    -----
    Null: none. With an offset each value may be wrong by the largest two errors of its group: a product and a sum were
    rounded. Cost: O(k g) and O(k most).
    """
    levels = _Levels(np.arange(1.0, most + 1.0))
    if not offset:
        return _fit(groups, half, levels)
    at = groups.argmin(axis=1)[:, None]
    low = np.take_along_axis(groups, at, 1)
    loose = np.broadcast_to(2.0 * half.max(axis=1, keepdims=True), half.shape)
    return replace(_fit(groups - low, loose, levels), offset=low[:, 0])


def table_grid(groups: Float64Array, half: Float64Array, table: Float64Array) -> Grid:
    """Fit a table of levels times one positive scale to each group.

    Parameters
    ----------
    groups : (k, g) float64
        Finite.
    half : (k, g) float64
        Largest error of each value.
    table : (t,) float64
        Levels, ascending.

    Returns
    -------
    Grid
        With the smallest scale that fits.

    Notes
    -----
    Null: none. Cost: O(k g log t) and O(k t).
    """
    candidates = table[table != 0.0]
    return _fit(groups, half, _Levels(candidates[np.argsort(-np.abs(candidates), kind="stable")], table=table))


def float_grid(groups: Float64Array, half: Float64Array, bits: int, smallest: float) -> Grid:
    """Fit floating-point numbers of few bits times one scale to each group.

    Parameters
    ----------
    groups : (k, g) float64
        Finite.
    half : (k, g) float64
        Largest error of each value.
    bits : int
        Significant bits of the numbers, the hidden one included.
    smallest : float
        Distance between the smallest numbers, where the largest value of a group is between 1/2 and 1.

    Returns
    -------
    Grid
        The scale is known up to a power of two: levels of the value farthest out lie in [1/2, 1).

    Notes
    -----
    Null: none. Cost: O(k g) and O(k 2^bits).
    """
    candidates = np.arange(2.0 ** (bits - 1), 2.0**bits) / 2.0**bits
    return _fit(groups, half, _Levels(candidates, bits=bits, smallest=smallest))


def _fit(groups: Float64Array, half: Float64Array, levels: _Levels) -> Grid:
    """The first candidate, as the level of the value farthest out, that the whole group agrees with."""
    k = groups.shape[0]
    table = np.zeros(2) if levels.table is None else np.asarray(levels.table, dtype=np.float64)
    out, found = np.zeros((k, 4)), np.zeros(groups.shape)
    fit_scales(
        np.ascontiguousarray(groups, dtype=np.float64),
        np.ascontiguousarray(half, dtype=np.float64),
        np.ascontiguousarray(levels.candidates),
        np.array(_PASSES),
        levels.kind,
        table,
        0.5 * (table[1:] + table[:-1]),
        np.gradient(table),
        levels.bits,
        float(levels.smallest),
        out,
        found,
    )
    fits = out[:, 0] == 1.0
    low, high = (np.where(fits & (out[:, 2] > 0.0), out[:, i], np.nan) for i in (1, 2))
    return Grid(
        fits=fits,
        step=0.5 * (low + high),
        low=low,
        high=high,
        offset=np.zeros(k),
        levels=found,
        surprise=out[:, 3].copy(),
    )
