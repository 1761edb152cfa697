"""Scales below stored values: the step of each group whose multiples, or whose table of levels, all its values are.

Every value is taken for a level times an unknown scale, rounded once to the stored format. Such a value bounds the scale
from both sides; the values of a group fit when their bounds have a common point. Describes, never tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array

Bools: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.intp]

_PROBES = 16
"""Values of a group that are asked first, from the smallest to the largest: the small ones tell most."""

_PASSES = (0.125, 0.5, 1.0)
"""Shares of the largest value: the bounds of small values are made use of before large ones are given a level."""

_EXACT = 1e-9
"""Relative error of arithmetic in float64 that bounds allow for."""

_AT_ONCE = 1 << 21
"""Values held at once while bounds are taken."""


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
    """Levels that may stand for the value farthest out, the level nearest to a ratio, and how far levels lie apart."""

    candidates: Float64Array
    nearest: Callable[[Float64Array], Float64Array]
    apart: Callable[[Float64Array], Float64Array]


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
    levels = _Levels(np.arange(1.0, most + 1.0), np.rint, np.ones_like)
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
    middle, gaps = 0.5 * (table[1:] + table[:-1]), np.gradient(table)
    candidates = table[table != 0.0]
    return _fit(
        groups,
        half,
        _Levels(
            candidates[np.argsort(-np.abs(candidates), kind="stable")],
            lambda ratio: np.asarray(table[np.searchsorted(middle, ratio)]),
            lambda level: np.asarray(gaps[np.searchsorted(table, level)]),
        ),
    )


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

    def apart(ratio: Float64Array) -> Float64Array:
        _, exponent = np.frexp(ratio)
        return np.asarray(np.maximum(np.ldexp(1.0, exponent - bits), smallest))

    def nearest(ratio: Float64Array) -> Float64Array:
        gap = apart(ratio)
        return np.asarray(np.rint(ratio / gap) * gap)

    candidates = np.arange(2.0 ** (bits - 1), 2.0**bits) / 2.0**bits
    return _fit(groups, half, _Levels(candidates, nearest, apart))


def _fit(groups: Float64Array, half: Float64Array, levels: _Levels) -> Grid:
    """The first candidate, as the level of the value farthest out, that the whole group agrees with."""
    k = groups.shape[0]
    far = np.abs(groups).argmax(axis=1)[:, None]
    top, slack = np.take_along_axis(groups, far, 1)[:, 0], np.take_along_axis(half, far, 1)[:, 0]
    fits, step, low, high = top == 0.0, *np.full((3, k), np.nan)
    found, surprise = np.zeros_like(groups), np.zeros(k)
    rows, columns = _promising(groups, half, levels, top, slack)
    lot = max(1, _AT_ONCE // max(1, groups.shape[1]))
    for start in range(0, rows.size, lot):
        tried, candidates = rows[start : start + lot], columns[start : start + lot]
        left = ~fits[tried]
        tried, size = tried[left], np.abs(levels.candidates[candidates[left]])
        ends = [(np.abs(top[tried]) + sign * slack[tried]) / size for sign in (-1.0, 1.0)]
        first, last = _bounds(groups[tried], half[tried], levels, ends[0], ends[1])
        good = first <= last * (1.0 + _EXACT)
        if not good.any():
            continue
        at, chosen = np.unique(tried[good], return_index=True)  # the first candidate of each group that fits
        first, last, size = first[good][chosen], last[good][chosen], size[good][chosen]
        fits[at], low[at], high[at], step[at] = True, first, last, 0.5 * (first + last)
        found[at] = levels.nearest(groups[at] / step[at, None])
        luck = np.minimum(1.0, 2.0 * half[at] / (step[at, None] * levels.apart(found[at])) + 1e-300)
        np.put_along_axis(luck, far[at], 1.0, axis=1)  # it fits whatever it is
        width = np.maximum(2.0 * slack[at] / size, 1e-300) / np.maximum(last - first, 1e-12 * last)
        luckier = np.log(levels.candidates.size) + np.log(np.maximum(1.0, width))
        surprise[at] = np.maximum(0.0, -np.sum(np.log(luck) * (found[at] != 0.0), axis=1) - luckier)
    return Grid(fits=fits, step=step, low=low, high=high, offset=np.zeros(k), levels=found, surprise=surprise)


def _promising(
    groups: Float64Array, half: Float64Array, levels: _Levels, top: Float64Array, slack: Float64Array
) -> tuple[Indices, Indices]:
    """(group, candidate) pairs, ascending, that a few values of the group do not rule out."""
    order = np.argsort(np.abs(groups), axis=1, kind="stable")
    nonzero = np.count_nonzero(groups, axis=1)
    spread = np.linspace(0.0, 1.0, _PROBES) ** 2
    places = (groups.shape[1] - nonzero)[:, None] + np.rint(spread * np.maximum(nonzero - 1, 0)[:, None])
    asked = np.take_along_axis(order, np.minimum(places.astype(np.intp), groups.shape[1] - 1), 1)
    values, errors = np.take_along_axis(groups, asked, 1), np.take_along_axis(half, asked, 1)
    lot = max(1, _AT_ONCE // levels.candidates.size)
    found = [
        _agreeing(levels, *(x[start : start + lot] for x in (values, errors, top, slack)))
        for start in range(0, groups.shape[0], lot)
    ]
    rows = [r + lot * i for i, (r, _) in enumerate(found)]
    return np.concatenate(rows), np.concatenate([c for _, c in found])


def _agreeing(
    levels: _Levels, values: Float64Array, errors: Float64Array, top: Float64Array, slack: Float64Array
) -> tuple[Indices, Indices]:
    """(group, candidate) pairs whose scale puts every value that is asked near a level; most fall at the first value."""
    size, height = np.abs(levels.candidates), np.maximum(np.abs(top), 1e-300)
    alike = (top != 0.0)[:, None] & np.ones(size.size, dtype=bool)
    if (levels.candidates < 0.0).any():
        alike &= np.sign(top)[:, None] == np.sign(levels.candidates)
    rows, columns = np.nonzero(alike)
    for value, error in zip(values.T, errors.T, strict=True):
        scale = height[rows] / size[columns]
        ratio = value[rows] / scale
        room = error[rows] / scale + slack[rows] / height[rows] * np.abs(ratio) * (1.0 + _EXACT) + _EXACT
        kept = np.abs(ratio - levels.nearest(ratio)) <= room
        rows, columns = rows[kept], columns[kept]
        if not rows.size:
            break
    return rows, columns


def _bounds(
    groups: Float64Array, half: Float64Array, levels: _Levels, low: Float64Array, high: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Bounds of the scale after all values of a group; low above high where they contradict one another."""
    size = np.abs(groups)
    top = size.max(axis=1, keepdims=True)
    lowest, highest, left = np.full(len(groups), np.inf), np.zeros(len(groups)), np.arange(len(groups))
    for share in _PASSES:
        level = levels.nearest(groups / (0.5 * (low + high))[:, None])
        asked = size <= share * top
        bad = asked & ((level == 0.0) & (size > half * (1.0 + _EXACT)) | (level * groups < 0.0))
        speak = asked & (level != 0.0)
        divisor = np.where(speak, np.abs(level), 1.0)
        low = np.maximum(low, np.where(speak, (size - half) / divisor, -np.inf).max(axis=1))
        high = np.minimum(high, np.where(speak, (size + half) / divisor, np.inf).min(axis=1))
        whole = (low <= high * (1.0 + _EXACT)) & ~bad.any(axis=1)
        if not whole.any():
            return lowest, highest
        if not whole.all():
            groups, half, size, top, low, high, left = (x[whole] for x in (groups, half, size, top, low, high, left))
    lowest[left], highest[left] = low, high
    return lowest, highest
