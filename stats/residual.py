"""Exact tests on residual dimensions: norm gains, and the columns of embedding-like tables.

Nothing done to hidden units, heads or experts touches them; both break under a rotation or permutation of
the residual stream.
"""

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import as_pair
from stats.axes import Axis, require_exchangeable
from stats.eprocess import EProcess, cosine_grid, either_eprocess, gap_grid
from stats.features import WINDOW, balanced, is_placeholder, squared_gaps, standardised, unit_cosines, windows_of
from stats.result import TestResult

GROUP = "residual"
"""All residual dimensions of a model are relabelled together, so these tests share one label group."""

_NULL = "the labels of the residual dimensions of either model are a uniformly random order, given everything else"
_GAP_CAP = 25.0
"""Five standardised units: beyond that two gains are simply different, and one outlier must not decide."""


def gain_test(
    a: ArrayLike, b: ArrayLike, *, axis: Axis = Axis.RESIDUAL, window: int = WINDOW, scope: str = ""
) -> TestResult:
    """Test whether the norm gains of two models know each other's residual labels.

    Parameters
    ----------
    a, b : (k, d) float
        k gain vectors of each model, paired; one column per residual dimension. Rows where either model holds a
        placeholder (hardly any distinct values) are left out.
    axis : Axis
        What the columns are. Must be exchangeable.
    window : int
        Labels are permuted inside windows of this many dimensions.
    scope : str
        Copied to the result.

    Returns
    -------
    TestResult
        statistic: the share of variance left between paired standardised gains, 1 for strangers, 0 for equal ones.

    Raises
    ------
    ValueError
        The axis is not exchangeable, shapes differ, or every row is a placeholder (untestable).

    Notes
    -----
    Null: `_NULL` above. Each vector is standardised by its own median and absolute deviation, so an affine change
    (gain stored minus one, a global scale) is undone. Score: -sum_k min((z_a - z_b)^2, 25) / 2; the permutation
    e-process mixes over sigma from 2 to 2^-6.
    Cost: O(k d window).

    References
    ----------
    Exchangeability of residual dimensions: arXiv 2502.12292, Appendix D, Table 3. The statistic is ours.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> gains = rng.normal(1, 0.1, (3, 64))
    >>> result = gain_test(gains, gains + rng.normal(0, 0.01, (3, 64)))
    >>> print(f"same gains after a light change: p = 10^{result.log_pvalue / np.log(10):.0f}")
    same gains after a light change: p = 10^-87
    """
    require_exchangeable(axis)
    first, second = as_pair(a, b)
    keep = [i for i in range(first.shape[0]) if not (is_placeholder(first[i]) or is_placeholder(second[i]))]
    if not keep:
        raise ValueError("every gain vector is constant or nearly so: untestable")
    za = np.ascontiguousarray([standardised(first[i]) for i in keep])
    zb = np.ascontiguousarray([standardised(second[i]) for i in keep])

    def scores(part: slice) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        return squared_gaps(np.ascontiguousarray(za[:, part]), np.ascontiguousarray(zb[:, part]), _GAP_CAP)

    process = either_eprocess(map(scores, windows_of(za.shape[1], window)), grid=gap_grid())
    left = float(np.mean(np.minimum((za - zb) ** 2, _GAP_CAP)) / 2.0)
    return _result("norm-gains", process, statistic=left, scope=scope)


def column_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    axis: Axis = Axis.RESIDUAL,
    window: int = WINDOW,
    centred: bool = True,
    method: str = "embedding-columns",
    scope: str = "",
) -> TestResult:
    """Test whether the columns of two embedding-like tables know each other's residual labels.

    Parameters
    ----------
    a, b : (k, d) float
        Rows of the same k tokens (or positions, or patch inputs) in both models; one column per residual
        dimension. Rows are features and are never permuted.
    axis : Axis
        What the columns are. Must be exchangeable: a table of positions beside it must be learned, not fixed.
    window : int
        Labels are permuted inside windows of this many dimensions.
    centred : bool
        Whether columns are centred over the rows. Not where the sign of a row is free: it would move the centre.
    method, scope : str
        Copied to the result.

    Returns
    -------
    TestResult
        statistic: mean cosine between paired columns.

    Raises
    ------
    ValueError
        The axis is not exchangeable, shapes differ, fewer than 4 rows, or a value is not finite.

    Notes
    -----
    Null: `_NULL` above. Each row is centred and scaled over the dimensions, then each column over the rows; the
    score is the cosine between columns. Cost: O(k d window).

    References
    ----------
    Exchangeability: arXiv 2502.12292, Appendix D, Table 3. The statistic is ours.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(32, 64))
    >>> result = column_test(table, table + rng.normal(size=(32, 64)))
    >>> print("still recognised under noise of its own size" if result.log_pvalue < -50 else "missed")
    still recognised under noise of its own size
    """
    require_exchangeable(axis)
    first, second = as_pair(a, b, min_rows=4)
    fa, fb = balanced(first, centre_units=centred), balanced(second, centre_units=centred)
    grid = cosine_grid(float(fa.shape[0] - 1))
    paired: list[float] = []

    def scores(part: slice) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        cosines = unit_cosines(np.ascontiguousarray(fa[:, part]), np.ascontiguousarray(fb[:, part]))
        paired.extend(np.diagonal(cosines).tolist())
        return cosines

    process = either_eprocess(map(scores, windows_of(fa.shape[1], window)), grid=grid)
    return _result(method, process, statistic=float(np.mean(paired)), scope=scope)


def _result(method: str, process: EProcess, *, statistic: float, scope: str) -> TestResult:
    return TestResult(
        method=method,
        null=_NULL,
        statistic=statistic,
        n=process.n,
        log_pvalue=process.log_pvalue,
        log_floor=process.log_floor,
        log_evalue=process.log_evalue,
        exactness="exact",
        label_group=GROUP,
        scope=scope,
    )
