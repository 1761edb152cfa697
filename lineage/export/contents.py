"""What every exporter writes: models and links of one tree document, checked, in one order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

DESCENT: Final = "descent"
"""Reason of a link that is an edge of the document."""

OPEN: Final = "direction-undetermined"
SIBLING: Final = "sibling"
SHARED_INIT: Final = "shared-init"


@dataclass(frozen=True, slots=True)
class Model:
    """One node of the document.

    Attributes
    ----------
    id, ref, dtype : str
    architecture : str or None
    parameters : int
    declared : tuple of str
        Parents its card names.
    duplicate_of : str or None
        Id of the model it is identical to; such a model has no links.
    virtual : bool
        An inferred ancestor.
    component : int
        Number of its family in the document.
    testable : bool or None
        None where the document does not say.
    """

    id: str
    ref: str
    component: int
    architecture: str | None
    parameters: int
    dtype: str
    declared: tuple[str, ...] = ()
    duplicate_of: str | None = None
    virtual: bool = False
    testable: bool | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """An edge of the document, or a link that stayed unresolved.

    Attributes
    ----------
    a, b : str
        Ids: parent and child, or the ends in order where there is no direction.
    kind : str
    reason : str
        `DESCENT`, or why the document left the link unresolved.
    log10_p : float
    numbers : mapping of str to float
        Whichever of probability, direction_probability, probability_with_metadata and coefficient are there.
    exactness : str or None
    """

    a: str
    b: str
    kind: str
    reason: str
    log10_p: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    exactness: str | None = None

    @property
    def is_directed(self) -> bool:
        """Whether a is the parent of b."""
        return self.reason == DESCENT


@dataclass(frozen=True, slots=True)
class Contents:
    """One document, ready to be written.

    Attributes
    ----------
    document : mapping
        As read.
    models : tuple of Model
        By id.
    links : tuple of Link
        Edges by parent and child, then open links by their ends and reason.
    roots : mapping of str to float or None
        Root of a tree to the probability that it is one; None where the document does not say.
    n_skipped : int
        Models that could not be read.
    """

    document: Mapping[str, Any]
    models: tuple[Model, ...]
    links: tuple[Link, ...]
    roots: Mapping[str, float | None]
    n_skipped: int
