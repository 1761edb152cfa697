"""Marks looked for with a sketch of the unmarked model in place of the model: which sketches prove nothing, and readings."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crawl import WeightSource
from lineage.body import Body
from lineage.errors import UsageError
from lineage.inspecting import Portion, Tell, as_it_is, carrier_shapes, planned_carriers
from lineage.marking import scheme_of
from lineage.restoring import Restored, Turn, best_turn, known_layers, residual_columns, restored, seen_layer
from stats.carriers import Carried
from weightmark import sketchfile
from weightmark.errors import MarkedReferenceError, UnfitModelError
from weightmark.files import arrays_of
from weightmark.keys import Key
from weightmark.reading import Reading
from weightmark.schemes import dss, gram, perm

Take: TypeAlias = Callable[[Sequence[str]], dict[str, NDArray[Any]]]
"""Matrices of some roles, those that are there."""

_OWN_MARK = 6.0
"""A sketch in whose products of columns the key's own mark is found this strongly is one of a marked model."""

_BY_UNITS = "perm"
"""The scheme that reads nothing but where units stand."""

_BY_COLUMNS = "gram"
"""The scheme that is read against products of columns."""


@dataclass(frozen=True)
class Stand:
    """A sketch and a suspect.

    Attributes
    ----------
    suspect : WeightSource
    sketch : Sketch
    sha256 : str
        Of the file.
    where : str
        The file.
    """

    suspect: WeightSource
    sketch: sketchfile.Sketch
    sha256: str
    where: str

    @staticmethod
    def opened(suspect: WeightSource, path: str) -> "Stand":
        """Read a sketch for a suspect.

        Raises
        ------
        UnusableKeyError
            It is no sketch, damaged, or of another version.
        """
        return Stand(suspect, *sketchfile.read(path), path)

    def refuse_if_unfit(self, key: Key) -> None:
        """Refuse a sketch of the marked model, of another model, or made anew where the key knows the one it was made with.

        Raises
        ------
        MarkedReferenceError
        UsageError
        """
        marked, original = (key.host.get(f"{name}_digest") for name in ("marked", "unmarked"))
        if (marked and marked == self.sketch.digest) or self._carries(key):
            raise MarkedReferenceError(
                "the sketch is one of the marked model; a suspect held against it would look marked, whoever made it",
                where=self.where,
                hint="give the sketch of the model as it was before it was marked",
            )
        if original and original != self.sketch.digest:
            raise UsageError(
                "a sketch of another model than the one this key marked", where=self.where, hint="give the sketch of it"
            )
        if self.bound(key) is False:
            raise UsageError(
                "not the sketch that the key was given when it marked; one made afterwards could be made to show anything",
                where=self.where,
                hint="give the file that `mark embed --sketch` wrote",
            )

    def bound(self, key: Key) -> bool | None:
        """Whether it is the sketch that the key names; None where the key names none."""
        held = key.host.get("sketch")
        return held.get("sha256") == self.sha256 if isinstance(held, dict) else None

    def mode(self, key: Key) -> str:
        """Whether the reading uses more of the unmarked model than where things stand."""
        return "informed" if key.scheme == _BY_UNITS or self._columns(key) is not None else "blind"

    def aligns(self, key: Key) -> bool:
        """Whether rewrites are undone before a reading; `perm` is read from what is undone."""
        return key.scheme != _BY_UNITS and "perm" in self.sketch.kinds

    def plain(self, key: Key, portion: Portion, say: Tell) -> Reading:
        """Read a suspect whose tensors are taken to be where they were marked.

        Raises
        ------
        UsageError
            The scheme needs values of the unmarked model, or a kind that the sketch does not hold.
        """
        if key.scheme == _BY_UNITS:
            return self._units(key)
        if self._columns(key) is not None:
            shapes = carrier_shapes(key, self.suspect, scheme_of(key))
            return self._products(lambda roles: arrays_of(self.suspect, roles), shapes, key)
        if scheme_of(key).caps.needs_reference:
            raise UsageError(
                f"{key.scheme} is read against values of the unmarked model, and a sketch holds none",
                where="--sketch",
                hint="give the model itself with --reference",
            )
        return as_it_is(self.suspect, None, key, portion, say)

    def aligned(self, key: Key) -> tuple[Reading, tuple[str, ...]] | None:
        """Read a suspect after undoing what the sketch shows; None where nothing is alike."""
        there = self._restored
        if there is None:
            return None
        shapes = self._shapes(key, there)
        if self._columns(key) is not None:
            take: Take = lambda roles: {r: there[r] for r in roles if r in there}  # noqa: E731
            return self._products(take, shapes, key), there.transforms
        if not scheme_of(key).caps.streams:
            return scheme_of(key).verify(there, key, shapes=shapes), there.transforms
        blind = Carried.none()
        for role in (r for r in shapes if r in there):
            values = there[role]
            wide = values if values.dtype == np.float64 else values.astype(np.float32, copy=False)
            blind += sum((dss.scanned(wide[a:b], a, role, key) for a, b in dss.pieces(wide.shape)), Carried.none())
        planned = planned_carriers(key, sum(math.prod(shape) for shape in shapes.values()))
        return dss.read(blind, key, planned=planned), there.transforms

    def _shapes(self, key: Key, there: Restored) -> dict[str, tuple[int, ...]]:
        """Shapes of the carriers: of the suspect or the key, and of what was put in the places of the model."""
        scheme = scheme_of(key)
        placed = {role: there.shape_of(role) for role in there}
        return carrier_shapes(key, self.suspect, scheme) | {r: placed[r] for r in scheme.carriers(placed, key)}

    @cached_property
    def _restored(self) -> Restored | None:
        return restored(self.sketch, self.suspect)

    def _columns(self, key: Key) -> gram.Sums | None:
        """What the sketch holds of the products of columns, for the scheme that uses them."""
        if key.scheme != _BY_COLUMNS or "gram" not in self.sketch.kinds:
            return None
        found: gram.Sums = {}
        for name, values in self.sketch.of("gram.").items():
            found[name] = (1, gram.symmetric_signs(values) + np.eye(gram.BLOCK))
        return found

    def _carries(self, key: Key) -> bool:
        known = self._columns(key)
        if known is None:
            return False
        return gram.read(known, key.draws, planned=1).test.statistic > _OWN_MARK

    def _products(self, take: Take, shapes: Mapping[str, tuple[int, ...]], key: Key) -> Reading:
        """`gram` against the sketch, one group of matrices at a time."""
        found: gram.Sums = {}
        for roles in gram.groups(shapes).values():
            there = take(roles)
            if len(there) == len(roles):
                found |= gram.sums_of(there)
        return gram.read(found, key.draws, planned=gram.n_pairs(shapes), reference=self._columns(key))

    def _units(self, key: Key) -> Reading:
        shapes = carrier_shapes(key, self.suspect, scheme_of(key))
        pair = _stand_ins(self.sketch, self.suspect)
        if pair is None:
            raise UnfitModelError("the sketch is one of another kind of model", where=self.where)
        seen, model = pair
        held = {slot.name for slot in perm.slots_of({role: values.shape for role, values in model.items()})}
        if {slot.name for slot in perm.slots_of(shapes)} - held:
            raise UsageError(
                "the sketch does not hold all units that the mark orders",
                where="--sketch",
                hint="give the model itself with --reference",
            )
        return scheme_of(key).verify(seen, key, shapes=shapes, reference=model)


def _stand_ins(
    sketch: sketchfile.Sketch, suspect: WeightSource
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]] | None:
    """Projections of suspect and model in place of their weights, for `perm`, which finds units by whatever they look like.

    Returns
    -------
    dict, dict, or None
        Of the suspect, of the model: `embed` has a column for each residual dimension, `mlp.up` a row for each hidden unit.
    """
    arch = suspect.architecture
    if arch is None or arch.width != sketch.counts["width"] or "perm" not in sketch.kinds:
        return None
    body, known = Body(suspect, arch), known_layers(sketch)
    turn = best_turn(sketch, body, known) if known else Turn("identity")
    columns = residual_columns(sketch, body)
    model: dict[str, NDArray[Any]] = {}
    seen: dict[str, NDArray[Any]] = {}
    if columns is not None:
        model["embed"], seen["embed"] = columns
    for index, base in known.items():
        name = "mlp.gate" if "mlp.gate" in base.reads else "mlp.up"
        role = f"L{index:04d}.mlp."
        model[f"{role}up"] = base.reads[name]
        model[f"{role}down"] = np.broadcast_to(0.0, (arch.width, base.n_hidden))
        layer = seen_layer(sketch, body, index, turn) if index < arch.n_layers else None
        if layer is not None and name in layer.reads:
            seen[f"{role}up"] = layer.reads[name]
    return seen, model
