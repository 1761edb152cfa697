"""Exact tests on the hidden units of one MLP block: the rows of its gate and up matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from stats.arrays import Float64Array, as_matrix
from stats.axes import Axis, require_exchangeable
from stats.eprocess import EProcess, cosine_grid, each_eprocess
from stats.features import balanced, products, unit_norm
from stats.matchcount import match_count
from stats.result import TestResult

_NULL = (
    "the labels of the hidden units of this block of either model are a uniformly random order, given everything else"
)


@dataclass(frozen=True, slots=True)
class UnitFeatures:
    """One matrix seen from the same hidden units in two models.

    Attributes
    ----------
    a, b : (k, s) float64
        Features first (input dimensions of an up row, say), units second. `stats.split` takes models of different
        numbers of units, `stats.anchored` of different numbers of features.
    signed : bool
        False where a unit's sign is free (the up side of a gated block): the absolute cosine is used.
    """

    a: Float64Array
    b: Float64Array
    signed: bool = True


def unit_scores(parts: Sequence[UnitFeatures], *, axis: Axis = Axis.HIDDEN) -> tuple[Float64Array, int]:
    """Sum over matrices of the cosines between all units of a and all units of b.

    Parameters
    ----------
    parts : sequence of UnitFeatures
        At least one; all with the same units.
    axis : Axis
        What the units are. Must be exchangeable.

    Returns
    -------
    (s, s) float64, int
        Scores, and the number of features behind one cosine.

    Raises
    ------
    ValueError
        The axis is not exchangeable, no parts, shapes differ or values are not finite.
    """
    return _Prepared(axis).scores(parts), parts[0].a.shape[0]


class _Prepared:
    """Unit features made ready for cosines; a matrix that meets several others is made ready once."""

    def __init__(self, axis: Axis) -> None:
        require_exchangeable(axis)
        self._ready: dict[int, tuple[Float64Array, Float64Array]] = {}

    def scores(self, parts: Sequence[UnitFeatures]) -> Float64Array:
        """Sum over matrices of the cosines between all units."""
        if not parts:
            raise ValueError("parts is empty: nothing was read of these units")
        total: Float64Array | None = None
        for part in parts:
            first, second = self._units(part.a, "a"), self._units(part.b, "b")
            if first.shape != second.shape:
                raise ValueError(f"a and b must have one shape, got {first.shape} and {second.shape}")
            cosines = products(first, second)
            cosines = cosines if part.signed else np.abs(cosines)
            total = cosines if total is None else total + cosines
        assert total is not None  # noqa: S101 - parts is not empty
        return total

    def _units(self, matrix: Float64Array, name: str) -> Float64Array:
        if id(matrix) not in self._ready:
            units = unit_norm(balanced(as_matrix(matrix, name, min_columns=2), centre_units=False))
            self._ready[id(matrix)] = matrix, units  # held, so that its id stays its own
        return self._ready[id(matrix)][1]


def unit_tests(
    parts: Sequence[UnitFeatures], *, axis: Axis = Axis.HIDDEN, label_group: str, scope: str = ""
) -> tuple[TestResult, TestResult]:
    """Test whether the hidden units of two blocks know each other's labels, in two ways.

    Parameters
    ----------
    parts : sequence of UnitFeatures
        The matrices read, each for the same s units of both models.
    axis : Axis
        What the units are. Must be exchangeable.
    label_group : str
        Name of this block's labels.
    scope : str
        Copied to the results.

    Returns
    -------
    (TestResult, TestResult)
        The permutation e-process ("hidden-units"; statistic: mean score of paired units) and the match count.
        Both carry the same label group, so they are averaged wherever they meet.

    Raises
    ------
    ValueError
        As `unit_scores`.

    Notes
    -----
    Null: `_NULL` above. Only the units read are relabelled: s! labellings. Features are centred and scaled over
    the units read; cosines of gate rows are signed, of up rows absolute (negating up and down together changes
    no output). Cost: O(k s^2).

    References
    ----------
    arXiv 2502.12292, Theorem 2, on the up projection alone with an assignment; differs as `match_count` says.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> up = rng.normal(size=(256, 16))
    >>> process, count = unit_tests([UnitFeatures(up, -up + rng.normal(size=(256, 16)), signed=False)], label_group="h")
    >>> print(f"{count.statistic:.0f} of 16 units recognised through a sign flip")
    16 of 16 units recognised through a sign flip
    """
    ((process, scores),) = unit_processes([parts], axis=axis, label_group=label_group, scope=scope)
    return process, match_count(scores, axis=axis, label_group=label_group, scope=scope)


def unit_processes(
    cells: Sequence[Sequence[UnitFeatures]], *, axis: Axis = Axis.HIDDEN, label_group: str, scope: str = ""
) -> list[tuple[TestResult, Float64Array]]:
    """The permutation e-process of `unit_tests` for each of many pairs of blocks, and the scores it stands on.

    Parameters
    ----------
    cells : sequence of sequences of UnitFeatures
        The matrices of each pair. One array may stand in many pairs.
    axis, label_group, scope
        As `unit_tests`.

    Returns
    -------
    list of (TestResult, (s, s) float64)

    Raises
    ------
    ValueError
        As `unit_scores`.

    Notes
    -----
    Null and cost: as `unit_tests`, in fewer steps; the same bits.
    """
    ready = _Prepared(axis)
    scores = [ready.scores(parts) for parts in cells]
    found: list[tuple[TestResult, Float64Array]] = []
    keys = [(table.shape, parts[0].a.shape[0]) for table, parts in zip(scores, cells, strict=True)]
    for (_, n_features), group in groupby(range(len(cells)), key=keys.__getitem__):
        index = list(group)
        made = each_eprocess(np.stack([scores[i] for i in index]), grid=cosine_grid(float(n_features)))
        found += [
            (_result(process, scores[i], len(cells[i]), label_group, scope), scores[i])
            for i, process in zip(index, made, strict=True)
        ]
    return found


def _result(process: EProcess, scores: Float64Array, n_parts: int, label_group: str, scope: str) -> TestResult:
    return TestResult(
        method="hidden-units",
        null=_NULL,
        statistic=float(np.mean(np.diagonal(scores))) / n_parts,
        n=process.n,
        log_pvalue=process.log_pvalue,
        log_floor=process.log_floor,
        log_evalue=process.log_evalue,
        exactness="exact",
        label_group=label_group,
        scope=scope,
    )
