"""Combining e-values: averages inside a label group, products across groups, levels over many tests."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from stats.arrays import Float64Array
from stats.result import TestResult
from stats.tails import log_mean_exp


def combine_evalues(results: Sequence[TestResult]) -> float:
    """Log of one e-value from many tests.

    Parameters
    ----------
    results : sequence of TestResult
        Tests without a log_evalue are left out.

    Returns
    -------
    float
        Natural log; 0 when there is nothing to combine.

    Notes
    -----
    Tests of one `label_group` share labels, so their e-values are averaged (valid under any dependence). The
    labels of different groups are drawn separately given the rest, and no group's labels serve as features
    in a cycle, so each group's mean has conditional mean at most 1 and the product is again an e-value.
    Never multiply running maxima: over 4-6 blocks that rejects 20 % at level 0.05.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for result in results:
        if result.log_evalue is not None:
            groups[result.label_group].append(result.log_evalue)
    return math.fsum(log_mean_exp(np.array(groups[name])) for name in sorted(groups))


def log_floor_of(results: Sequence[TestResult]) -> float:
    """Lowest log p-value the combination could reach: the sum over groups of the deepest floor in each.

    Parameters
    ----------
    results : sequence of TestResult
        Tests without a log_evalue are left out.

    Returns
    -------
    float
        Natural log, <= 0.
    """
    floors: dict[str, float] = {}
    for result in results:
        if result.log_evalue is not None:
            floors[result.label_group] = min(floors.get(result.label_group, 0.0), result.log_floor)
    return math.fsum(floors[name] for name in sorted(floors))


def ebh(log_evalues: Float64Array, alpha: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Reject by e-BH: false discovery rate at most alpha under any dependence.

    Parameters
    ----------
    log_evalues : (n,) float64
        Natural logs of e-values, -inf allowed.
    alpha : float
        Level in (0, 1).

    Returns
    -------
    (n,) bool
        The k largest, for the largest k with the k-th largest e >= n / (alpha k).

    References
    ----------
    arXiv 2009.02824 (Wang and Ramdas), Section 4.
    """
    n = log_evalues.size
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
    order = np.argsort(-log_evalues, kind="stable")
    passed = (
        log_evalues[order] >= math.log(n) - math.log(alpha) - np.log(np.arange(1, n + 1)) if n else np.zeros(0, bool)
    )
    rejected = np.zeros(n, dtype=np.bool_)
    if passed.any():
        rejected[order[: int(np.flatnonzero(passed)[-1]) + 1]] = True
    return rejected


def family_level(alpha: float, family_size: int) -> float:
    """Level of one test so that the family-wise error over a family is at most alpha (Bonferroni).

    Parameters
    ----------
    alpha : float
        Family-wise level in (0, 1).
    family_size : int
        Tests in the family; 0 and 1 both leave alpha as it is.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        alpha lies outside (0, 1) or the family is negative.
    """
    if not 0.0 < alpha < 1.0 or family_size < 0:
        raise ValueError(f"need 0 < alpha < 1 and a family of no negative size, got {alpha} and {family_size}")
    return alpha / max(1, family_size)
