"""What a non-finding would have missed: the smallest similarity that would have been seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from stats.arrays import Float64Array
from stats.eprocess import BetaGrid, square_evalues

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

IntMatrix: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

_AT_ONCE = 1 << 18
"""Scores planted at once: two megabytes."""

_REPEATS = 40
_BATCH = 8
"""Repeats planted before it is asked whether too many were missed already."""

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
    orders = [np.stack([rng.permutation(g.parts[0].ab.shape[0]) for _ in range(_REPEATS)]) for g in groups]
    low, high = 0, len(SIMILARITIES)
    while low < high:
        middle = (low + high) // 2
        if _is_found(groups, orders, SIMILARITIES[middle], log_threshold):
            high = middle
        else:
            low = middle + 1
    return SIMILARITIES[low] if low < len(SIMILARITIES) else None


def _is_found(groups: Sequence[PlantedGroup], orders: Sequence[IntMatrix], cosine: float, log_threshold: float) -> bool:
    missed = 0
    for start in range(0, _REPEATS, _BATCH):
        total = np.zeros(min(_BATCH, _REPEATS - start))
        for group, order in zip(groups, orders, strict=True):
            total += _planted_log_evalues(group, order[start : start + _BATCH], cosine)
        missed += int(np.count_nonzero(~(total >= log_threshold)))
        if missed > _REPEATS - _NEEDED:
            return False
    return True


def _planted_log_evalues(group: PlantedGroup, orders: IntMatrix, cosine: float) -> Float64Array:
    """(repeats,) log of the group's mean e-value when units of the given cosine are planted under each relabelling."""
    units = orders.shape[1]
    step = max(1, _AT_ONCE // (units * units))
    found = [
        square_evalues(_planted_scores(group, orders[i : i + step], cosine), grid=group.grid)
        for i in range(0, orders.shape[0], step)
    ]
    silent = math.log(0.5) + math.log(group.share - 1) if group.share > 1 else -math.inf
    return np.asarray(np.logaddexp(np.concatenate(found), silent) - math.log(group.share))


def _planted_scores(group: PlantedGroup, orders: IntMatrix, cosine: float) -> Float64Array:
    rest = math.sqrt(1.0 - cosine * cosine)
    total = np.zeros((orders.shape[0], orders.shape[1], orders.shape[1]))
    for part in group.parts:
        noise = part.ab[orders]
        norms = np.sqrt(np.maximum(1.0 + 2.0 * cosine * rest * np.diagonal(noise, axis1=1, axis2=2), 1e-12))
        planted = (cosine * part.bb + rest * noise) / norms[:, :, None]
        total += planted if part.signed else np.abs(planted)
    return total
