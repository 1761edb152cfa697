"""One reading of a suspect under one key: as it is, or aligned; and the references that prove nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from crawl import WeightSource
from lineage.errors import UsageError
from lineage.marking import scheme_of
from stats.arrays import Float64Array
from stats.carriers import Carried
from weightmark.errors import MarkedReferenceError
from weightmark.files import (
    arrays_of,
    carriers_of,
    controls,
    model_digest,
    n_carriers,
    scan,
    scan_against,
    shapes_of,
    views_of,
    windows,
)
from weightmark.keys import Key
from weightmark.payload import codeword
from weightmark.reading import Reading
from weightmark.scheme import Scheme
from weightmark.schemes import dss

Tell = Callable[[str, int, int], None]
Realigned = tuple[dict[str, Float64Array], tuple[str, ...]]
"""A suspect's matrices in the places of the reference, and what was undone; the same for every key."""

_LONGEST = 1 << 31
"""Bound of one side of a matrix that a key file speaks of."""

_OWN_MARK = 6.0
"""A reference in which the key's own mark is found this strongly is a marked one."""

_FAR_MEAN, _FAR_SPREAD = 0.9, (0.5, 1.6)
"""Bounds for 32 keys that marked nothing: a sound law leaves them once in eighty thousand readings."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Which part of the weights is read.

    Attributes
    ----------
    max_bytes : int or None
        Of weights; None for all.
    seed : int
        Of the rows read when not all are.
    """

    max_bytes: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Unmarked:
    """A reference: the model as it was before it was marked.

    Attributes
    ----------
    source : WeightSource
    portion : Portion
    say : callable
        Called with (stage, done, total).
    """

    source: WeightSource
    portion: Portion
    say: Tell = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """Of names and contents, however it is split into files."""
        return model_digest(self.source, lambda done, n: self.say("reading the reference", done, n))

    def refuse_another_than(self, original: str | None) -> None:
        """Refuse a reference that is not the model a claim commits to.

        Raises
        ------
        UsageError
        """
        if original is not None and self.digest != original:
            raise UsageError(
                "not the unmarked model the claim commits to; one made afterwards could be made to show anything",
                where=self.source.ref.id,
                hint="give the original of the claim",
            )

    def refuse_if_marked(self, key: Key) -> None:
        """Refuse a reference that carries the mark itself.

        Raises
        ------
        MarkedReferenceError
        """
        scheme = scheme_of(key)
        same = key.host.get("marked_digest")
        marked = bool(same) and same == self.digest
        if not marked and scheme.caps.streams:
            views = carriers_of(self.source, scheme, key)
            places = windows(views, self.portion.max_bytes, seed=self.portion.seed)
            marked = _sum(scan(self.source, views, places, key)).statistic(codeword(key.payload)) > _OWN_MARK
        if marked:
            raise MarkedReferenceError(
                "the reference carries this very mark; a suspect held against it would look marked, whoever made it",
                where=self.source.ref.id,
                hint="give the model as it was before it was marked",
            )


def as_it_is(suspect: WeightSource, reference: WeightSource | None, key: Key, portion: Portion, say: Tell) -> Reading:
    """Read a suspect whose tensors are taken to be where they were marked, blind or against the unmarked model."""
    scheme = scheme_of(key)
    if not scheme.caps.streams:
        shapes = carrier_shapes(key, reference or suspect, scheme)
        roles = tuple(shapes)
        known = None if reference is None else arrays_of(reference, roles)
        return scheme.verify(arrays_of(suspect, roles), key, shapes=shapes, reference=known)
    views = carriers_of(suspect, scheme, key)
    places = windows(views, portion.max_bytes, seed=portion.seed)
    blind = _sum(scan(suspect, views, places, key, tell=lambda done, n: say("reading", done, n)))
    informed = None
    if reference is not None:
        against = scan_against(suspect, views, reference, places, key, tell=lambda done, n: say("comparing", done, n))
        informed = _sum(against)
    return dss.read(blind, key, planned=planned_carriers(key, n_carriers(views)), informed=informed)


def in_place(arrays: Mapping[str, Float64Array], reference: WeightSource, key: Key) -> Reading:
    """Read a suspect whose matrices were put in the places of the reference."""
    scheme = scheme_of(key)
    shapes = carrier_shapes(key, reference, scheme)
    known = arrays_of(reference, [r for r in shapes if r in arrays])
    return scheme.verify(arrays, key, shapes=shapes, reference=known)


def law(suspect: WeightSource, key: Key, portion: Portion) -> dict[str, Any] | None:
    """Mean and spread of the statistic under keys that marked nothing; None for schemes that do not stream."""
    scheme = scheme_of(key)
    if not scheme.caps.streams:
        return None
    views = carriers_of(suspect, scheme, key)
    places: Sequence[Any] = windows(views, portion.max_bytes, seed=portion.seed)
    values = controls(suspect, views, places, key, codeword(key.payload))
    mean, spread = float(np.mean(values)), float(np.std(values))
    odd = abs(mean) > _FAR_MEAN or not _FAR_SPREAD[0] <= spread <= _FAR_SPREAD[1]
    return {"keys": len(values), "mean": round(mean, 4), "spread": round(spread, 4), "as_expected": not odd}


def carrier_shapes(key: Key, source: WeightSource, scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Shapes of the marked model's carriers: as the key remembers, else those of the model at hand.

    What a key remembers is not bound to its name. It may add to the carriers of the model at hand, of which a part may be
    missing, and take none away: carriers left out could be those that speak against the mark.
    """
    shapes = shapes_of(views_of(source))
    here = {role: shapes[role] for role in scheme.carriers(shapes, key)}
    held = key.host.get("shapes")
    if not isinstance(held, dict) or not here.keys() <= held.keys() or not all(map(_is_shape, held.values())):
        return here
    return {role: tuple(shape) for role, shape in held.items()}


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 2 and all(type(n) is int and 0 < n < _LONGEST for n in value)


def planned_carriers(key: Key, at_hand: int) -> int:
    """Carriers of the whole marked model: as the key remembers, else those at hand."""
    planned = key.host.get("n_carriers")
    return planned if isinstance(planned, int) and planned > 0 else at_hand


def _sum(parts: Mapping[str, Carried]) -> Carried:
    return sum(parts.values(), Carried.none())
