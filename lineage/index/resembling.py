"""What resembles a model although no test relates them: both were rewritten, and their tokens still stand to each other alike.

Inner products between tokens have no labels and so no exact null: trained on one language, strangers agree in part. They
are ranked among all other models of the index with the same tokens.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from lineage.index.finding import Finder
from lineage.index.vectors import Vector

LEAST = 0.35
"""Correlation from which there is a resemblance at all. The largest of 15,134 pairs of strangers of the fixtures
is 0.274."""

MARGIN = 1.5
"""A resemblance is so many times that of the most similar stranger."""

FEWEST_CONTROLS = 6

_CLOSE = 0.02
"""Difference below which two resemblances are one: what left the embedding alone cannot be told apart by it."""


@dataclass(frozen=True, slots=True)
class Resemblance:
    """Models that resemble a query.

    Attributes
    ----------
    nearest : tuple of str
        The most alike, and those as much alike, in order of their ids.
    family : tuple of str
        Those and their relatives.
    correlation : float
    largest_control : float
        Of any other model.
    controls : int
        Number of other models whose inner products were looked at.
    """

    nearest: tuple[str, ...]
    family: tuple[str, ...]
    correlation: float
    largest_control: float
    controls: int

    @property
    def log_pvalue(self) -> float:
        """Natural log of the rank among the controls."""
        return -math.log(self.controls + 1)


def resembling(
    vector: Vector | None, name: str, finder: Finder, kin_of: Callable[[str], Collection[str]]
) -> Resemblance | None:
    """The family that a model resembles, or None.

    Parameters
    ----------
    vector : Vector or None
        Of the model asked about.
    name : str
        Its id.
    finder : Finder
    kin_of : callable
        Family of a model of the index, itself included.

    Returns
    -------
    Resemblance or None
        None where nothing stands out from at least `FEWEST_CONTROLS` models that are not of the same family.
    """
    if vector is None:
        return None
    ranked = finder.products(vector, without=(name,))
    if not ranked or ranked[0][1] < LEAST:
        return None
    best = ranked[0][1]
    family = set(kin_of(ranked[0][0]))
    controls = [c for other, c in ranked if other not in family]
    largest = max(controls, default=0.0)
    if len(controls) < FEWEST_CONTROLS or best < MARGIN * largest:
        return None
    nearest = sorted(other for other, c in ranked if other in family and c >= best - _CLOSE)
    return Resemblance(tuple(nearest), tuple(sorted(family)), best, largest, len(controls))
