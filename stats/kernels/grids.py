"""Scales of groups of values: candidates tried in order, each ruled out by the first value that contradicts it."""

import math
from typing import Any

import numpy as np

from stats.kernels import kernel

_EXACT = 1e-9
"""Relative error of arithmetic in float64 that bounds allow for."""

_PROBES = 16
"""Values of a group that are asked first, from the smallest to the largest: the small ones tell most."""


@kernel
def _gap(kind: int, x: float, table: Any, gaps: Any, bits: int, smallest: float) -> float:
    """How far levels lie apart at a level, or, of floating-point numbers, at any ratio."""
    if kind == 0:
        return 1.0
    if kind == 1:
        return float(gaps[np.searchsorted(table, x)])
    return max(math.ldexp(1.0, math.frexp(x)[1] - bits), smallest)


@kernel
def _nearest(kind: int, ratio: float, table: Any, middle: Any, gaps: Any, bits: int, smallest: float) -> float:
    """The level nearest to a ratio: 0 whole numbers, 1 a table, 2 floating-point numbers of few bits."""
    if kind == 1:
        return float(table[np.searchsorted(middle, ratio)])
    gap = _gap(kind, ratio, table, gaps, bits, smallest)
    return float(np.rint(ratio / gap) * gap)


@kernel
def _agrees(
    values: Any,
    half: Any,
    scale: float,
    loose: float,
    kind: int,
    table: Any,
    middle: Any,
    gaps: Any,
    bits: int,
    smallest: float,
) -> bool:
    """Whether no value that is asked lies too far from every level for a scale known up to a relative error."""
    for i in range(values.size):
        ratio = values[i] / scale
        room = half[i] / scale + loose * abs(ratio) * (1.0 + _EXACT) + _EXACT
        if abs(ratio - _nearest(kind, ratio, table, middle, gaps, bits, smallest)) > room:
            return False
    return True


@kernel
def _narrowed(
    values: Any,
    half: Any,
    top: float,
    bounds: Any,
    shares: Any,
    kind: int,
    table: Any,
    middle: Any,
    gaps: Any,
    bits: int,
    smallest: float,
) -> bool:
    """Narrow the bounds of a scale by all values of a group, small ones first; False where they contradict one another."""
    for p in range(shares.size):
        low, high = bounds[0], bounds[1]
        between = 0.5 * (low + high)
        for i in range(values.size):
            size = abs(values[i])
            if size > shares[p] * top:
                continue
            level = _nearest(kind, values[i] / between, table, middle, gaps, bits, smallest)
            if level * values[i] < 0.0 or (level == 0.0 and size > half[i] * (1.0 + _EXACT)):
                return False
            if level != 0.0:
                low = max(low, (size - half[i]) / abs(level))
                high = min(high, (size + half[i]) / abs(level))
        if not low <= high * (1.0 + _EXACT):
            return False
        bounds[0], bounds[1] = low, high
    return True


@kernel
def fit_scales(
    groups: Any,
    half: Any,
    candidates: Any,
    shares: Any,
    kind: int,
    table: Any,
    middle: Any,
    gaps: Any,
    bits: int,
    smallest: float,
    out: Any,
    levels: Any,
) -> None:
    """For each group the first candidate, as the level of the value farthest out, that all its values agree with.

    `out` (k, 4): fits (0 or 1), lower and upper bound of the scale, surprise; `levels` (k, g).
    """
    n = groups.shape[1]
    signed = False
    for c in range(candidates.size):
        signed = signed or candidates[c] < 0.0
    asked, errors, bounds = np.empty(_PROBES), np.empty(_PROBES), np.empty(2)
    for k in range(groups.shape[0]):
        size = np.abs(groups[k])
        far = int(np.argmax(size))
        top, slack = size[far], half[k, far]
        if top == 0.0:
            out[k, 0] = 1.0
            continue
        order = np.argsort(size, kind="mergesort")
        nonzero = int(np.count_nonzero(size))
        for p in range(_PROBES):
            share = (p / (_PROBES - 1.0)) ** 2
            place = min(n - nonzero + int(np.rint(share * float(max(nonzero - 1, 0)))), n - 1)
            asked[p], errors[p] = groups[k, order[place]], half[k, order[place]]
        loose = slack / max(top, 1e-300)
        for c in range(candidates.size):
            level = abs(candidates[c])
            if signed and (candidates[c] < 0.0) != (groups[k, far] < 0.0):
                continue
            scale = max(top, 1e-300) / level
            if not _agrees(asked, errors, scale, loose, kind, table, middle, gaps, bits, smallest):
                continue
            bounds[0], bounds[1] = (top - slack) / level, (top + slack) / level
            if not _narrowed(groups[k], half[k], top, bounds, shares, kind, table, middle, gaps, bits, smallest):
                continue
            step = 0.5 * (bounds[0] + bounds[1])
            luck = 0.0
            for i in range(n):
                levels[k, i] = _nearest(kind, groups[k, i] / step, table, middle, gaps, bits, smallest)
                if levels[k, i] != 0.0 and i != far:  # the value farthest out fits whatever it is
                    gap = _gap(kind, levels[k, i], table, gaps, bits, smallest)
                    luck += math.log(min(1.0, 2.0 * half[k, i] / (step * gap) + 1e-300))
            width = max(2.0 * slack / level, 1e-300) / max(bounds[1] - bounds[0], 1e-12 * bounds[1])
            scales = math.log(candidates.size) + math.log(max(1.0, width))
            out[k, 0], out[k, 1], out[k, 2] = 1.0, bounds[0], bounds[1]
            out[k, 3] = max(0.0, -luck - scales)
            break
