"""An exact test on labels that are random only inside short runs, with an unknown map from run to run.

Value dimensions of an attention head are such labels: training treats the dimensions of one head alike, and tensors do
not show where one head ends. Runs of eight that begin at multiples of eight lie inside one head.
"""

import math
from collections.abc import Sequence

import numpy as np

from stats.arrays import Float64Array
from stats.axes import Axis, require_exchangeable
from stats.eprocess import cosine_grid, square_evalues
from stats.features import balanced, unit_cosines
from stats.result import TestResult
from stats.tails import log_factorial, log_mean_exp
from stats.units import UnitFeatures, unit_scores

_NULL = "inside each run, the labels of the {units} of either model are a uniformly random order, given everything else"

LOG_SHARE = math.log(0.1)
"""Prior weight of "these labels are shared": what was probably not shared then costs 0.05 decades, not 0.3 a run."""
_LOG_REST = math.log1p(-0.1)

LOG_JOIN = math.log(100.0)
"""Evidence at which two runs of one model are taken to share labels: heads repeated in a file, tied or grown layers."""

_LOG_SHORT = math.log(10.0)
"""Runs that could not even recognise themselves with more evidence than this beyond a pair's are joined as well."""

_LOG_ASKED = math.log(2.0)
"""Paid for asking. Runs joined wrongly are averaged, which keeps their mean at most 1 given how they were joined, so the
mean of all is at most 1 + P(any join), whatever the rule."""

SAME_RUN = 0.5
"""Prior weight of "the same run"; the rest is spread over the other runs, for heads in another order."""


Grid = Sequence[Sequence[Sequence[Sequence[UnitFeatures]]]]
"""[layer of a][layer of b][way of looking]: the matrices that show the units of both."""


def run_test(
    grid: Grid,
    *,
    run: int,
    axis: Axis,
    label_group: str,
    method: str,
    same_depth: bool = True,
    scope: str = "",
) -> TestResult:
    """Test whether units know each other's labels inside runs, when it is unknown which run and layer became which.

    Parameters
    ----------
    grid : nested sequences of UnitFeatures
        For every layer of a and every layer of b the ways of looking, each a sequence of matrices of the same units, in
        runs of `run`. As many ways in every cell.
    run : int
        Labels a run.
    axis : Axis
        What the units are. Must be exchangeable inside a run.
    label_group, method, scope : str
        Copied to the result.
    same_depth : bool
        Whether half of the weight lies on the layer at the same place.

    Returns
    -------
    TestResult
        statistic: largest mean score of paired units. log_evalue: 0.9 + 0.1 / 2 times the product over groups of runs
        of (0.9 + 0.1 e), with e the mean over the runs of a group, over ways, and over layers and runs of the other
        model, half of the weight on the same run.

    Raises
    ------
    ValueError
        The axis is not exchangeable, nothing was handed in, or shapes do not fit.

    Notes
    -----
    Null: `_NULL` above. If the labels of b are random, each term of the mean of one of its runs has mean at most 1 given
    the labels of all other runs, so the product has; the same holds for a. The smaller of both products is used, so it
    is enough that one model is well-behaved. Mixing with the constant 1 keeps the mean. Runs of one model that share
    labels (heads stored several times, tied layers) are joined and averaged (`run_groups`), which is paid for.
    Cost: O(layers^2 ways units^2 (features + temperatures)).

    References
    ----------
    Exchangeability of value dimensions: they are not touched by rotary positions (arXiv 2502.12292 lists hidden units
    and residual dimensions only).
    """
    require_exchangeable(axis)
    if not grid or not grid[0] or any(not ways for row in grid for ways in row):
        raise ValueError("grid is empty: nothing was read of these units")
    paired: list[float] = []
    cells = np.stack([[np.stack([_cells(p, run, axis, paired) for p in ways]) for ways in row] for row in grid])
    # (layers of a, layers of b, ways, runs of a, runs of b)
    groups = (
        run_groups([row[0][0][0].a for row in grid], run=run),
        run_groups([ways[0][0].b for ways in grid[0]], run=run),
    )
    log_e = float(np.logaddexp(_LOG_REST, LOG_SHARE - _LOG_ASKED + min(_sides(cells, groups, same_depth=same_depth))))
    n = cells.shape[1] * cells.shape[4] * run
    floor = -n // run * log_factorial(run)
    return TestResult(
        method=method,
        null=_NULL.format(units=axis.value),
        statistic=max(paired),
        n=n,
        log_pvalue=min(0.0, max(-log_e, floor)),
        log_floor=floor,
        log_evalue=log_e,
        exactness="exact",
        label_group=label_group,
        scope=scope,
    )


def run_groups(layers: Sequence[Float64Array], *, run: int) -> tuple[int, ...]:
    """For every run of every layer of one model the first run of its group: runs joined by a chain of shared labels.

    Parameters
    ----------
    layers : sequence of (k, s) float64
        Features first, units second.
    run : int
        Labels a run.

    Returns
    -------
    tuple of int
        Layer by layer. Runs too poor to recognise a copy of themselves are joined with those they might be copies of.
    """
    runs = [np.ascontiguousarray(v[:, i : i + run]) for v in layers for i in range(0, v.shape[1], run)]
    parent = list(range(len(runs)))

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, j in zip(*np.nonzero(np.triu(_known_to_each_other(runs), 1)), strict=True):
        low, high = sorted((find(int(i)), find(int(j))))
        parent[high] = low
    return tuple(find(i) for i in range(len(runs)))


def _known_to_each_other(runs: Sequence[Float64Array]) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """(m, m) whether two runs of one model know each other's labels."""
    m, size = len(runs), runs[0].shape[1]
    if len({v.shape for v in runs}) > 1 or size < 2:
        return np.ones((m, m), dtype=np.bool_)
    units = balanced(np.concatenate(runs, axis=1), centre_units=False)
    scores = np.abs(unit_cosines(units, units)).reshape(m, size, m, size).swapaxes(1, 2).reshape(m * m, size, size)
    evidence = square_evalues(np.ascontiguousarray(scores), grid=cosine_grid(float(units.shape[0])))
    table = evidence.reshape(m, m)
    own = np.diagonal(table)
    return np.asarray(table > np.minimum(LOG_JOIN, np.minimum(own[:, None], own[None, :]) - _LOG_SHORT))


Groups = tuple[int, ...]


def _sides(cells: Float64Array, groups: tuple[Groups, Groups], *, same_depth: bool) -> tuple[float, float]:
    """Log products with the labels of b, and with those of a, in the role of the random ones."""
    turned = np.transpose(cells, (1, 0, 2, 4, 3))
    return _product(cells, groups[1], same_depth=same_depth), _product(turned, groups[0], same_depth=same_depth)


def _product(cells: Float64Array, groups: Groups, *, same_depth: bool) -> float:
    """Log of the product over groups of runs of b of the shrunken mean over runs, ways, layers and runs of a."""
    n_a, n_b, n_ways, runs_a, runs_b = cells.shape
    layers = _log_weights(n_a, n_b, same=same_depth)
    runs = _log_weights(runs_a, runs_b, same=True)
    members: dict[int, list[float]] = {}
    for j in range(n_b):
        for r in range(runs_b):
            weights = layers[:, j, None, None] - math.log(n_ways) + runs[None, None, :, r]
            pooled = log_mean_exp(
                cells[:, j, :, :, r].ravel(), np.broadcast_to(weights, cells[:, j, :, :, r].shape).ravel()
            )
            members.setdefault(groups[j * runs_b + r], []).append(pooled)
    means = [log_mean_exp(np.array(members[g])) for g in sorted(members)]
    return math.fsum(float(np.logaddexp(_LOG_REST, LOG_SHARE + m)) for m in means)


def _log_weights(n: int, m: int, *, same: bool) -> Float64Array:
    """(n, m) log weights of n candidates for each of m: half on the one at the same place where there is one."""
    weights = np.full((n, m), -math.log(n))
    if same and n == m and n > 1:
        weights[:] = math.log((1.0 - SAME_RUN) / (n - 1))
        np.fill_diagonal(weights, math.log(SAME_RUN))
    return weights


def _cells(parts: Sequence[UnitFeatures], run: int, axis: Axis, paired: list[float]) -> Float64Array:
    """(runs of a, runs of b) log e-values of every run against every run."""
    scores, n_features = unit_scores(parts, axis=axis)
    if scores.shape[0] % run:
        raise ValueError(f"{scores.shape[0]} units are no whole number of runs of {run}")
    paired.append(float(np.mean(np.diagonal(scores))) / len(parts))
    count = scores.shape[0] // run
    windows = scores.reshape(count, run, count, run).swapaxes(1, 2).reshape(count * count, run, run)
    return square_evalues(windows, grid=cosine_grid(float(n_features))).reshape(count, count)
