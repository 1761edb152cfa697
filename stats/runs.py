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
from stats.result import TestResult
from stats.tails import log_factorial, log_mean_exp
from stats.units import UnitFeatures, unit_scores

_NULL = "inside each run, the labels of the {units} of either model are a uniformly random order, given everything else"

LOG_SHARE = math.log(0.1)
"""Prior weight of "these labels are shared": what was probably not shared then costs 0.05 decades, not 0.3 a run."""
_LOG_REST = math.log1p(-0.1)

SAME_RUN = 0.5
"""Prior weight of "the same run"; the rest is spread over the other runs, for heads in another order."""


def run_test(
    layers: Sequence[Sequence[Sequence[UnitFeatures]]],
    *,
    run: int,
    axis: Axis,
    label_group: str,
    method: str,
    scope: str = "",
) -> TestResult:
    """Test whether units know each other's labels inside runs, when it is unknown which run became which.

    Parameters
    ----------
    layers : sequence over pairs of layers, each a sequence over ways of looking, each a sequence of UnitFeatures
        Paired layers whose labels are drawn apart; within one, all features speak of the same units, in runs of `run`.
    run : int
        Labels a run.
    axis : Axis
        What the units are. Must be exchangeable inside a run.
    label_group, method, scope : str
        Copied to the result.

    Returns
    -------
    TestResult
        statistic: mean score of paired units. log_evalue: 0.9 + 0.1 prod over layers and runs of (0.9 + 0.1 e), with e
        the mean over ways and over the runs of the other model, half of the weight on the same run.

    Raises
    ------
    ValueError
        The axis is not exchangeable, nothing was handed in, or shapes do not fit.

    Notes
    -----
    Null: `_NULL` above. If the labels of b are random, each term of the mean of one of its runs has mean at most 1 given
    the labels of all other runs, so the product has; the same holds for a. The smaller of both products is used, so it
    is enough that one model is well-behaved. Mixing with the constant 1 keeps the mean.
    Cost: O(layers ways units^2 (features + temperatures)).

    References
    ----------
    Exchangeability of value dimensions: they are not touched by rotary positions (arXiv 2502.12292 lists hidden units
    and residual dimensions only).
    """
    require_exchangeable(axis)
    if not layers or any(not ways for ways in layers):
        raise ValueError("layers is empty: nothing was read of these units")
    products = np.zeros(2)
    paired: list[float] = []
    n = 0
    for ways in layers:
        cells = np.stack([_cells(parts, run, axis, paired) for parts in ways])
        n += cells.shape[1] * run
        products += [_product(cells), _product(np.swapaxes(cells, 1, 2))]
    log_e = float(np.logaddexp(_LOG_REST, LOG_SHARE + products.min()))
    floor = -n // run * log_factorial(run)
    return TestResult(
        method=method,
        null=_NULL.format(units=axis.value),
        statistic=float(np.mean(paired)),
        n=n,
        log_pvalue=min(0.0, max(-log_e, floor)),
        log_floor=floor,
        log_evalue=log_e,
        exactness="exact",
        label_group=label_group,
        scope=scope,
    )


def _cells(parts: Sequence[UnitFeatures], run: int, axis: Axis, paired: list[float]) -> Float64Array:
    """(runs of a, runs of b) log e-values of every run against every run."""
    scores, n_features = unit_scores(parts, axis=axis)
    if scores.shape[0] % run:
        raise ValueError(f"{scores.shape[0]} units are no whole number of runs of {run}")
    paired.extend((np.diagonal(scores) / len(parts)).tolist())
    count = scores.shape[0] // run
    windows = scores.reshape(count, run, count, run).swapaxes(1, 2).reshape(count * count, run, run)
    return square_evalues(windows, grid=cosine_grid(float(n_features))).reshape(count, count)


def _product(cells: Float64Array) -> float:
    """Log of the product over runs of b of the shrunken mean over ways and over runs of a."""
    _, count, _ = cells.shape
    weights = np.full((count, count), math.log((1.0 - SAME_RUN) / max(1, count - 1)))
    np.fill_diagonal(weights, math.log(SAME_RUN) if count > 1 else 0.0)
    total = 0.0
    for j in range(count):
        pooled = log_mean_exp(np.array([log_mean_exp(way[:, j], weights[:, j]) for way in cells]))
        total += float(np.logaddexp(_LOG_REST, LOG_SHARE + pooled))
    return total
