"""What a non-finding would have missed: the smallest similarity that would have been seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stats.arrays import Float64Array
from stats.eprocess import BetaGrid, either_eprocess
from stats.tails import log_mean_exp

SIMILARITIES = (
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.07,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.95,
    0.99,
)
"""Cosines tried, smallest first."""

_REPEATS = 40
_NEEDED = 38
"""38 of 40 planted pairs found stands for power 0.95."""


@dataclass(frozen=True, slots=True)
class PlantedPart:
    """Cosines of one matrix, from which pairs with a chosen similarity are planted.

    Attributes
    ----------
    ab : (s, s) float64
        Cosines between the units of the two models as read.
    bb : (s, s) float64
        Cosines among the units of b.
    signed : bool
        False where the absolute cosine is the score.
    """

    ab: Float64Array
    bb: Float64Array
    signed: bool = True


@dataclass(frozen=True, slots=True)
class PlantedGroup:
    """One label group: matrices whose scores add up, their grid, and how many tests share the group's mean."""

    parts: tuple[PlantedPart, ...]
    grid: BetaGrid
    share: int


def detectable_cosine(groups: Sequence[PlantedGroup], log_threshold: float, rng: np.random.Generator) -> float | None:
    """Smallest cosine between paired units that is found with power 0.95 in what was read.

    Parameters
    ----------
    groups : sequence of PlantedGroup
        The label groups that were tested, as read.
    log_threshold : float
        Natural log of the e-value needed.
    rng : numpy.random.Generator
        Draws the relabellings.

    Returns
    -------
    float or None
        One of `SIMILARITIES`; None when not even the largest is found.

    Notes
    -----
    A planted unit is c b_i + sqrt(1 - c^2) a_pi(i), with a random relabelling pi of the other model as noise: the
    noise then has the real geometry (outliers, common directions). Cosines of planted units follow from `ab` and
    `bb`, so no row is touched again. Each group counts 1 / share of its e-value, the others in its mean being
    taken as silent: a bound on the safe side. Heuristic: a simulation with 40 repeats, not a guarantee.
    Cost: O(repeats log(similarities) sum s^2).
    """
    if not groups:
        return None
    orders = [[rng.permutation(g.parts[0].ab.shape[0]) for g in groups] for _ in range(_REPEATS)]
    low, high = 0, len(SIMILARITIES)
    while low < high:
        middle = (low + high) // 2
        if _is_found(groups, orders, SIMILARITIES[middle], log_threshold):
            high = middle
        else:
            low = middle + 1
    return SIMILARITIES[low] if low < len(SIMILARITIES) else None


def _is_found(
    groups: Sequence[PlantedGroup],
    orders: Sequence[Sequence[np.ndarray[tuple[int, ...], np.dtype[np.int64]]]],
    cosine: float,
    log_threshold: float,
) -> bool:
    misses = 0
    for order in orders:
        total = math.fsum(_planted_log_e(g, o, cosine) for g, o in zip(groups, order, strict=True))
        misses += total < log_threshold
        if misses > _REPEATS - _NEEDED:
            return False
    return True


def _planted_log_e(group: PlantedGroup, order: np.ndarray[tuple[int, ...], np.dtype[np.int64]], cosine: float) -> float:
    rest = math.sqrt(1.0 - cosine * cosine)
    total: Float64Array | None = None
    for part in group.parts:
        noise = part.ab[order]
        norms = np.sqrt(np.maximum(1.0 + 2.0 * cosine * rest * np.diagonal(noise), 1e-12))
        planted = (cosine * part.bb + rest * noise) / norms[:, None]
        planted = planted if part.signed else np.abs(planted)
        total = planted if total is None else total + planted
    if total is None:
        return 0.0
    final = either_eprocess([total], grid=group.grid).log_evalue
    silent = np.full(group.share, -math.log(2.0))
    silent[0] = final
    return log_mean_exp(silent)
