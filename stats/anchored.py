"""The anchored test: hidden units told by their inner products inside their own model.

Nothing done to the residual stream as a whole (rotation, permutation, signs) touches an inner product of two rows.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import TypeAlias

import numpy as np

from stats.arrays import Float64Array, as_matrix
from stats.axes import Axis, require_exchangeable
from stats.eprocess import BetaGrid, each_eprocess
from stats.features import products_of_each, squared_gaps, unit_norm
from stats.kernels.anchor import anchored
from stats.result import TestResult
from stats.units import UnitFeatures

MIN_UNITS = 4
"""Fewer units have too few inner products to tell anything apart."""

_NULL = (
    "the labels of the hidden units of this block of either model are a uniformly random order, given everything else"
)
_CLIP = 5.0
"""Inner products beyond five standard units count as five: one pair of duplicated units must not decide."""
_GAP_CAP = _CLIP * _CLIP
_ROUNDS = 8
"""Rounds of refinement. Unchanged and lightly changed units need one, strongly changed ones up to this many."""
_PLAIN_UNITS = 64
"""Units up to which plain numpy is faster than loading the compiled loop."""
_GRID = BetaGrid(smallest=1.0 / 16.0, squarings=1)
"""A likelihood of inner products correlated by r wants beta near r / (1 - r^2): 1/16 to 8, a factor two apart."""


def anchored_test(
    parts: Sequence[UnitFeatures], *, axis: Axis = Axis.HIDDEN, label_group: str, scope: str = ""
) -> TestResult:
    """Test whether the hidden units of two blocks know each other's labels, whatever the basis of their rows.

    Parameters
    ----------
    parts : sequence of UnitFeatures
        The matrices read, each for the same n units of both models, with norm gains folded in. Whole rows: a window
        of a rotated row holds other directions. Within a model all matrices have one number of features; the two
        models may differ in it.
    axis : Axis
        What the units are. Must be exchangeable.
    label_group : str
        Name of this block's labels.
    scope : str
        Copied to the result.

    Returns
    -------
    TestResult
        statistic: correlation between the inner products of paired units.

    Raises
    ------
    ValueError
        As `anchored_scores`.

    Notes
    -----
    Null: `_NULL` above. Units are revealed in index order; those revealed are anchors for the rest. The weights of a
    step use past labels and label-free quantities only, so each factor has conditional mean exactly 1, in both roles;
    the smaller of the two e-values is kept (`stats.eprocess.either_eprocess`).
    Error: rounding only; the mean over all n! labellings of either model is at most 1 (by enumeration, n <= 6).
    Cost: O(K n^2 (d + n)) for K = parts^2 kernels and d features.

    References
    ----------
    Exchangeability: arXiv 2502.12292, Theorem 1. The statistic is ours.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> gate, up = rng.normal(size=(2, 64, 16))
    >>> turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    >>> parts = [UnitFeatures(gate, turn @ gate), UnitFeatures(up, -turn @ up, signed=False)]
    >>> result = anchored_test(parts, label_group="h")
    >>> print(f"rotated, and recognised: p = 10^{result.log_pvalue / np.log(10):.0f}")
    rotated, and recognised: p = 10^-13
    """
    return _tested([_Kinships(axis).pair(parts)], label_group, scope)[0]


def anchored_tests(
    cells: Sequence[Sequence[UnitFeatures]], *, axis: Axis = Axis.HIDDEN, label_group: str, scope: str = ""
) -> list[TestResult | None]:
    """What `anchored_test` gives for each of many pairs of blocks; None for a pair it would refuse.

    Parameters
    ----------
    cells : sequence of sequences of UnitFeatures
        The matrices of each pair. One array may stand in many pairs.
    axis, label_group, scope
        As `anchored_test`.

    Returns
    -------
    list of TestResult or None

    Raises
    ------
    ValueError
        The axis is not exchangeable.

    Notes
    -----
    Null and cost: as `anchored_test`, in fewer steps; the same bits. Memory: a dozen times K n^2 words a pair.
    """
    kin = _Kinships(axis)
    pairs: dict[int, _Pair] = {}
    for i, parts in enumerate(cells):
        with suppress(ValueError):  # known without any label: too few units, or all alike
            pairs[i] = kin.pair(parts)
    found: list[TestResult | None] = [None] * len(cells)
    for _, group in groupby(pairs, key=lambda i: pairs[i][0].shape):
        index = list(group)
        for i, result in zip(index, _tested([pairs[i] for i in index], label_group, scope), strict=True):
            found[i] = result
    return found


_Pair: TypeAlias = tuple[Float64Array, Float64Array]
"""Inner products inside either model, (K, n, n) each."""


class _Kinships:
    """Inner products inside blocks; a block that meets several others is made ready once."""

    def __init__(self, axis: Axis) -> None:
        require_exchangeable(axis)
        self._ready: dict[tuple[tuple[int, ...], tuple[bool, ...]], tuple[list[Float64Array], Float64Array]] = {}

    def pair(self, parts: Sequence[UnitFeatures]) -> _Pair:
        """Of the blocks of both models."""
        if not parts:
            raise ValueError("parts is empty: nothing was read of these units")
        signed = tuple(part.signed for part in parts)
        first, second = self._of([p.a for p in parts], signed, "a"), self._of([p.b for p in parts], signed, "b")
        if first.shape != second.shape:
            raise ValueError(f"a and b must have the same units, got {first.shape[1]} and {second.shape[1]}")
        return first, second

    def _of(self, matrices: list[Float64Array], signed: tuple[bool, ...], name: str) -> Float64Array:
        key = tuple(id(m) for m in matrices), signed
        if key not in self._ready:
            self._ready[key] = matrices, _kinship(matrices, signed, name)  # held, so that ids stay their own
        return self._ready[key][1]


def _tested(pairs: Sequence[_Pair], label_group: str, scope: str) -> list[TestResult]:
    """Results of pairs of one shape."""
    first, second = (np.stack(side) for side in zip(*pairs, strict=True))
    processes = each_eprocess(_scores(first, second), grid=_GRID)
    return [
        TestResult(
            method="hidden-units-anchored",
            null=_NULL,
            statistic=_likeness(*pair),
            n=process.n,
            log_pvalue=process.log_pvalue,
            log_floor=process.log_floor,
            log_evalue=process.log_evalue,
            exactness="exact",
            label_group=label_group,
            scope=scope,
        )
        for pair, process in zip(pairs, processes, strict=True)
    ]


def anchored_scores(parts: Sequence[UnitFeatures], *, axis: Axis = Axis.HIDDEN) -> tuple[Float64Array, float]:
    """Scores of all pairs of units, of which a reveal in index order may use entry (t, j) or (j, t) for j >= t only.

    Parameters
    ----------
    parts : sequence of UnitFeatures
        As `anchored_test`.
    axis : Axis
        What the units are. Must be exchangeable.

    Returns
    -------
    (n, n) float64, float
        Scores, and the correlation between the inner products of paired units.

    Raises
    ------
    ValueError
        The axis is not exchangeable, no parts, shapes do not fit, values are not finite, fewer than 4 units, or all
        inner products of a model are equal (untestable).
    """
    first, second = _Kinships(axis).pair(parts)
    return _scores(first[None], second[None])[0], _likeness(first, second)


def _likeness(first: Float64Array, second: Float64Array) -> float:
    size = np.sqrt(np.sum(first * first) * np.sum(second * second))
    return float(np.sum(first * second) / size)


def _scores(a: Float64Array, b: Float64Array) -> Float64Array:
    """(w, n, n) scores of w pairs from (w, K, n, n) inner products."""
    scores = _refined(a, b, np.stack([_profile_scores(x, y) for x, y in zip(a, b, strict=True)]))
    _add_anchors(a, b, scores)
    return scores


def _add_anchors(a: Float64Array, b: Float64Array, scores: Float64Array) -> None:
    """Add what `stats.kernels.anchor` adds; few units never need the compiler, and both sum in one order."""
    n = scores.shape[1]
    if n > _PLAIN_UNITS:
        for x, y, table in zip(a, b, scores, strict=True):
            anchored(x, y, table)
        return
    total = np.zeros_like(scores)
    for s in range(n - 1):
        rest = total[:, s + 1 :, s + 1 :]
        added = a[:, :, s + 1 :, s, None] * b[:, :, None, s + 1 :, s]
        for k in range(a.shape[1]):
            rest += added[:, k]
    scores += total


def _kinship(matrices: Sequence[Float64Array], signed: Sequence[bool], name: str) -> Float64Array:
    """Cosines between units of one model for every pair of matrices, (K, n, n), centred, on one scale, diagonal 0.

    One scale for all kernels leaves each its own spread: where a sign is free the absolute cosine spreads less, and
    tells less.
    """
    held = [unit_norm(as_matrix(m, name, min_columns=MIN_UNITS)) for m in matrices]
    if len({m.shape for m in held}) != 1:
        raise ValueError(f"all matrices of {name} must have one shape: their rows are multiplied with each other")
    n = held[0].shape[1]
    others = ~np.eye(n, dtype=np.bool_)
    out = products_of_each(np.repeat(held, len(held), axis=0), np.tile(held, (len(held), 1, 1)))
    free = [k for k in range(len(out)) if not all(signed[i] for i in divmod(k, len(held)))]
    out[free] = np.abs(out[free])
    out -= np.mean(np.ascontiguousarray(out[:, others]), axis=1)[:, None, None]
    out[:, ~others] = 0.0
    scale = np.sqrt(np.sum(out * out) / (out.shape[0] * n * (n - 1)))
    if scale <= 1e-9:
        raise ValueError(f"all inner products of {name} are equal: untestable")
    clipped: Float64Array = np.clip(out / scale, -_CLIP, _CLIP)
    return clipped


def _profile_scores(a: Float64Array, b: Float64Array) -> Float64Array:
    """Scores without any label: how alike the sorted inner products of two units are."""
    n = a.shape[1]
    others = ~np.eye(n, dtype=np.bool_)
    profiles = [
        np.ascontiguousarray(np.sort(m[:, others].reshape(-1, n, n - 1), axis=2).transpose(0, 2, 1)).reshape(-1, n)
        for m in (a, b)
    ]
    return squared_gaps(profiles[0], profiles[1], _GAP_CAP)


def _refined(a: Float64Array, b: Float64Array, scores: Float64Array) -> Float64Array:
    """Sharpen label-free scores: units are alike when their inner products with units that look alike are alike.

    Each round turns the scores into weights of a soft matching and takes the expected squared gaps under it. Every
    step commutes with any relabelling of either model's units. Shapes as in `_scores`.
    """
    _, n_kernels, n, _ = a.shape
    rows, columns = (np.ascontiguousarray(m.swapaxes(2, 3)).reshape(-1, n, n) for m in (a, b))
    squares = a * a, b * b
    for _ in range(_ROUNDS):
        weights = _mutual_weights(scores)
        left = products_of_each(rows, np.repeat(weights, n_kernels, axis=0))
        crossed = products_of_each(np.ascontiguousarray(left.swapaxes(1, 2)), columns).reshape(a.shape)
        of_a, of_b = (
            0.5 * np.sum(m * np.sum(weights, axis=axis)[:, None, None, :], axis=3)
            for m, axis in zip(squares, (2, 1), strict=True)
        )
        scores = np.zeros_like(scores)
        for k in range(n_kernels):
            scores += crossed[:, k]
            scores -= of_a[:, k, :, None]
            scores -= of_b[:, k, None, :]
    return scores


def _mutual_weights(scores: Float64Array) -> Float64Array:
    """Geometric mean of the softmax over rows and the one over columns: large only where both sides agree."""
    rows = np.exp(scores - scores.max(axis=-1, keepdims=True))
    columns = np.exp(scores - scores.max(axis=-2, keepdims=True))
    rows /= rows.sum(axis=-1, keepdims=True)
    columns /= columns.sum(axis=-2, keepdims=True)
    weights: Float64Array = np.sqrt(rows * columns)
    return weights
