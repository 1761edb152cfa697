"""The split test: rows are matched on one half of the residual dimensions, the labels of the other half are tested.

Nothing done to hidden units (permutation, pruning, signs and scales of rows) hides a shared residual basis from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, IntVector, as_matrix
from stats.axes import Axis, require_exchangeable
from stats.features import WINDOW, balanced, unit_cosines
from stats.residual import column_test
from stats.result import TestResult
from stats.units import UnitFeatures

MIN_PAIRS = 4
"""Fewer matched rows give a column too few features to tell it from others."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Units of a matched with units of b.

    Attributes
    ----------
    a, b : (p,) int64
        Indices of the units; the strongest match first.
    signs : (parts, p) float64
        Per matrix, what the row of b is to be multiplied with: 1, or -1 where an unsigned row was flipped.
    """

    a: IntVector
    b: IntVector
    signs: Float64Array


def split_test(
    parts: Sequence[UnitFeatures],
    *,
    fit: ArrayLike,
    held: ArrayLike,
    axis: Axis = Axis.RESIDUAL,
    window: int = WINDOW,
    max_pairs: int = 128,
    scope: str = "",
) -> TestResult:
    """Test whether the rows of two blocks stand in one residual basis, with hidden units matched first.

    Parameters
    ----------
    parts : sequence of UnitFeatures
        One per kind of matrix: residual dimensions first, units second. The units of a and of b need not be aligned,
        nor be equally many.
    fit, held : (f,) and (h,) int
        Two disjoint sets of residual dimensions, fixed before any value was seen.
    axis : Axis
        What the residual dimensions are. Must be exchangeable.
    window : int
        Labels are permuted inside windows of this many held dimensions.
    max_pairs : int
        Matched pairs kept, by the largest margin over the second best.
    scope : str
        Copied to the result.

    Returns
    -------
    TestResult
        Method "split", label group "residual"; statistic: mean cosine between paired columns.

    Raises
    ------
    ValueError
        The axis is not exchangeable, shapes do not fit, the sets overlap, or fewer than 4 pairs match (untestable).

    Notes
    -----
    Null: the labels of the residual dimensions of either model are a uniformly random order, given everything else.
    Relabelling held dimensions leaves the fit part, and with it the matching, as it is; given the matching the held
    columns are those of a table (`stats.residual.column_test`).
    Cost: O(k f s_a s_b + k p h window) for k kinds, p pairs, f fit and h held dimensions.

    References
    ----------
    Exchangeability of residual dimensions: arXiv 2502.12292, Appendix D, Table 3. The statistic is ours.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> up = rng.normal(size=(128, 60))
    >>> pruned = -up[:, rng.permutation(60)[:40]]
    >>> parts = [UnitFeatures(up, pruned, signed=False)]
    >>> result = split_test(parts, fit=np.arange(0, 128, 2), held=np.arange(1, 128, 2))
    >>> print("found below permutation, pruning and signs" if result.log_pvalue < -100 else "missed")
    found below permutation, pruning and signs
    """
    require_exchangeable(axis)
    checked = _checked(parts)
    fitted, tested = _sets(fit, held, checked[0].a.shape[0])
    found = align([UnitFeatures(p.a[fitted], p.b[fitted], signed=p.signed) for p in checked], max_pairs=max_pairs)
    if found.a.size < MIN_PAIRS:
        raise ValueError(f"only {found.a.size} hidden units match: untestable")
    first = np.concatenate([p.a[np.ix_(tested, found.a)].T for p in checked])
    second = np.concatenate(
        [(p.b[np.ix_(tested, found.b)] * signs).T for p, signs in zip(checked, found.signs, strict=True)]
    )
    return column_test(first, second, axis=axis, window=window, centred=False, method="split", scope=scope)


def align(parts: Sequence[UnitFeatures], *, max_pairs: int) -> Alignment:
    """Match units that are each other's single best, by the sum over matrices of their cosines.

    Parameters
    ----------
    parts : sequence of UnitFeatures
        The dimensions to match on only. Finite.
    max_pairs : int
        Pairs kept, those with the largest margin over the second best of either unit.

    Returns
    -------
    Alignment

    Notes
    -----
    A unit whose best is shared by two abstains, and a unit without any non-zero value is never matched: nothing is
    decided by an index. Where a sign is free the absolute cosine counts, and the sign is kept.
    """
    cosines = [_cosines(part) for part in parts]
    total = np.zeros_like(cosines[0])
    for part, values in zip(parts, cosines, strict=True):
        total += values if part.signed else np.abs(values)
    alive_a = np.any([np.any(p.a != 0.0, axis=0) for p in parts], axis=0)
    alive_b = np.any([np.any(p.b != 0.0, axis=0) for p in parts], axis=0)
    total[~alive_a] = -np.inf
    total[:, ~alive_b] = -np.inf
    rivals = np.maximum(_second(total)[:, None], _second(total.T))
    rows, columns = np.nonzero((total > rivals) & np.isfinite(total))
    margins = total[rows, columns] - rivals[rows, columns]
    kept = np.argsort(-margins, kind="stable")[:max_pairs]
    rows, columns = rows[kept], columns[kept]
    signs = [np.where(p.signed | (c[rows, columns] >= 0.0), 1.0, -1.0) for p, c in zip(parts, cosines, strict=True)]
    return Alignment(a=rows, b=columns, signs=np.array(signs))


def _second(total: Float64Array) -> Float64Array:
    """Second largest entry of each row (the largest again when shared); minus infinity when there is only one."""
    if total.shape[1] == 1:
        return np.full(total.shape[0], -np.inf)
    return np.partition(total, total.shape[1] - 2, axis=1)[:, -2]


def _cosines(part: UnitFeatures) -> Float64Array:
    """Signed cosines between the units of a and of b, every dimension with the same say.

    Rows of free sign are not centred over the units: a flipped row would move the centre.
    """
    if part.signed:
        return unit_cosines(balanced(part.a, centre_units=False), balanced(part.b, centre_units=False))
    return unit_cosines(_levelled(part.a), _levelled(part.b))


def _levelled(features: Float64Array) -> Float64Array:
    scale = np.sqrt(np.mean(features * features, axis=1, keepdims=True))
    return np.ascontiguousarray(features / np.where(scale > 0.0, scale, 1.0))


def _checked(parts: Sequence[UnitFeatures]) -> list[UnitFeatures]:
    if not parts:
        raise ValueError("parts is empty: nothing was read of these units")
    held = [UnitFeatures(as_matrix(p.a, "a"), as_matrix(p.b, "b"), signed=p.signed) for p in parts]
    if len({p.a.shape for p in held}) != 1 or len({p.b.shape for p in held}) != 1:
        raise ValueError("all matrices of a model must have one shape")
    if held[0].a.shape[0] != held[0].b.shape[0]:
        raise ValueError(f"residual widths differ: {held[0].a.shape[0]} and {held[0].b.shape[0]}")
    return held


def _sets(fit: ArrayLike, held: ArrayLike, width: int) -> tuple[IntVector, IntVector]:
    sets = np.asarray(fit, dtype=np.int64), np.asarray(held, dtype=np.int64)
    if any(s.ndim != 1 or s.size < 2 for s in sets):
        raise ValueError("fit and held must each name at least two residual dimensions")
    joined = np.concatenate(sets)
    if np.unique(joined).size != joined.size or joined.min() < 0 or joined.max() >= width:
        raise ValueError(f"fit and held must be disjoint sets of dimensions below {width}")
    return sets
