"""Exact tests on the hidden units of one MLP block: the rows of its gate and up matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stats.arrays import Float64Array, as_pair
from stats.axes import Axis, require_exchangeable
from stats.eprocess import cosine_grid, either_eprocess
from stats.features import balanced, unit_cosines
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
    require_exchangeable(axis)
    if not parts:
        raise ValueError("parts is empty: nothing was read of these units")
    total: Float64Array | None = None
    for part in parts:
        first, second = as_pair(part.a, part.b)
        cosines = unit_cosines(balanced(first, centre_units=False), balanced(second, centre_units=False))
        cosines = cosines if part.signed else np.abs(cosines)
        total = cosines if total is None else total + cosines
    assert total is not None  # noqa: S101 - parts is not empty
    return total, parts[0].a.shape[0]


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
    scores, n_features = unit_scores(parts, axis=axis)
    process = either_eprocess([scores], grid=cosine_grid(float(n_features)))
    result = TestResult(
        method="hidden-units",
        null=_NULL,
        statistic=float(np.mean(np.diagonal(scores))) / len(parts),
        n=process.n,
        log_pvalue=process.log_pvalue,
        log_floor=process.log_floor,
        log_evalue=process.log_evalue,
        exactness="exact",
        label_group=label_group,
        scope=scope,
    )
    return result, match_count(scores, axis=axis, label_group=label_group, scope=scope)
