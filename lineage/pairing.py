"""Which tensors of two models answer each other: by role where both are recognised, by name elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from crawl import ByteRange, Role, TensorRef, View, WeightSource
from lineage.likeness import is_buffer
from stats.arrays import Float64Array
from stats.passing import KINDS, decoded
from stats.result import Skipped

BY_NAME = "by-name"
"""Kind of the tensors that have no role and are paired by their names."""

Bits = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Side:
    """One model's array of a pair.

    Attributes
    ----------
    source : WeightSource
    tensor : TensorRef
    view : View or None
        None for a tensor without a role.
    """

    source: WeightSource
    tensor: TensorRef
    view: View | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        return self.tensor.shape if self.view is None else self.view.shape

    @property
    def is_turned(self) -> bool:
        """Whether the store holds the transposed matrix."""
        return self.view is not None and self.view.transposed and len(self.view.shape) == 2

    @property
    def is_stored(self) -> bool:
        """Whether the stored bits can be summed as they are."""
        return self.tensor.dtype.name in KINDS and (self.view is None or not self.view.offset)

    @property
    def format(self) -> str:
        """Name of the format that `bits` gives."""
        if self.is_stored:
            return self.tensor.dtype.name
        return "F64" if self.tensor.dtype.decoded == "<f8" or (self.view and self.view.offset) else "F32"

    def bits(self, start: int, stop: int, buffer: memoryview, *, by_inputs: bool) -> Bits:
        """Stored bits of elements start to stop of the flattened array; of its transpose with `by_inputs`."""
        span = self._span(by_inputs=by_inputs) if self.is_stored else None
        if span is not None:
            item = self.tensor.dtype.bits // 8
            part = buffer[: (stop - start) * item]
            self.source.read_into(self.tensor.file, ByteRange(start * item, stop * item).shifted(span.start), part)
            return np.frombuffer(part, np.uint8)
        values = self._values(start, stop, by_inputs=by_inputs)
        wanted = values if self.is_stored else values.astype("<f8" if self.format == "F64" else "<f4")
        return np.ascontiguousarray(wanted).view(np.uint8)

    def block(self, rows: slice, columns: slice, buffer: memoryview) -> Float64Array:
        """Some neighbouring rows and columns of a matrix; whole rows come in one read where `buffer` can hold them."""
        width, item = self.shape[1], self.tensor.dtype.bits // 8
        index = np.arange(rows.start, rows.stop)
        if self.is_stored and self._span(by_inputs=False) is not None and len(index) * width * item <= len(buffer):
            lines = self.bits(rows.start * width, rows.stop * width, buffer, by_inputs=False)
            part = lines.reshape(len(index), width * item)[:, columns.start * item : columns.stop * item]
            return decoded(np.ascontiguousarray(part).reshape(-1), self.format).reshape(len(index), -1)
        if self.view is not None:
            return np.asarray(self.source.view_rows(self.view, index, columns=columns), dtype=np.float64)
        return np.asarray(self.source.rows(self.tensor, index, columns=columns), dtype=np.float64)

    def _span(self, *, by_inputs: bool) -> ByteRange | None:
        if self.view is None:
            return self.tensor.span
        return self.view.span if self.is_turned == by_inputs else None

    def _values(self, start: int, stop: int, *, by_inputs: bool) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        view, stored = self.view, self.is_stored
        if len(self.shape) < 2:
            if view is None:
                whole = self.source.read(self.tensor).reshape(-1) if not self.shape else None
                index = np.arange(start, stop)
                return whole if whole is not None else self.source.rows(self.tensor, index, stored=stored)
            found = self.source.view_vector(replace(view, offset=0.0), stored=stored)[start:stop]
            return found.astype(np.float64) + view.offset if view.offset else found
        width = self.shape[0] if by_inputs else int(np.prod(self.shape[1:]))
        lines = np.arange(start // width, -(-stop // width))
        if view is None:
            read = self.source.rows(self.tensor, lines, stored=stored)
        elif by_inputs:
            read = self.source.view_columns(view, lines, stored=stored).T
        else:
            read = self.source.view_rows(view, lines, stored=stored)
        return read.reshape(-1)[start - int(lines[0]) * width :][: stop - start]


@dataclass(frozen=True, slots=True)
class Shared:
    """One array that both models have, at one shape.

    Attributes
    ----------
    name : str
        Role, or name of the tensor.
    kind : str
        Role kind, or `BY_NAME`.
    a, b : Side
    """

    name: str
    kind: str
    a: Side
    b: Side

    @property
    def n(self) -> int:
        """Elements."""
        return int(np.prod(self.a.shape, dtype=np.int64))

    @property
    def by_inputs(self) -> bool:
        """Whether both files hold the transposed matrix, which is then read as it lies."""
        return self.a.is_turned and self.b.is_turned


def pair_up(a: WeightSource, b: WeightSource) -> tuple[list[Shared], list[Skipped]]:
    """Everything two models have in common, and what is left out with the reason.

    Parameters
    ----------
    a, b : WeightSource
        Opened models; no data is read.

    Returns
    -------
    list of Shared, list of Skipped
        Sorted by name. Layers pair by their index.
    """
    known = a.architecture is not None and b.architecture is not None
    left, right = (_sides(s, by_role=known) for s in (a, b))
    shared: list[Shared] = []
    left_out = _missing_layers(a, b) if known else []
    depth = min(_depth(a), _depth(b)) if known else None
    for key in sorted(left.keys() | right.keys(), key=lambda k: (k[1] is not None, str(k[1] or k[0]))):
        name, role = key
        if depth is not None and role is not None and role.layer is not None and role.layer >= depth:
            continue
        first, second = left.get(key), right.get(key)
        reason = _obstacle(first, second)
        if reason:
            left_out.append(Skipped(tensor=name, reason=reason))
        elif first is not None and second is not None:
            shared.append(Shared(name, role.kind if role else BY_NAME, first, second))
    return shared, left_out


def _sides(source: WeightSource, *, by_role: bool) -> Mapping[tuple[str, Role | None], Side]:
    if not by_role:
        return {(t.name, None): Side(source, t) for t in source.tensors.values()}
    found: dict[tuple[str, Role | None], Side] = {
        (str(role), role): Side(source, view.tensor, view) for role, view in source.views.items()
    }
    found |= {(name, None): Side(source, source.tensors[name]) for name in source.unmapped}
    return found


def _obstacle(a: Side | None, b: Side | None) -> str:
    """Why a pair is left out; empty when it is not."""
    if a is None or b is None:
        return f"only {'a' if b is None else 'b'} has it"
    if a.shape != b.shape:
        return f"shape {list(a.shape)} in a, {list(b.shape)} in b"
    if not a.tensor.n_elements:
        return "no elements"
    for side, name in ((a, "a"), (b, "b")):
        if not side.tensor.dtype.is_float or not side.tensor.dtype.decoded:
            return f"{side.tensor.dtype.name} in {name} is not a floating-point format"
    return "a buffer: not trained" if a.view is None and is_buffer(a.tensor.name) else ""


def _depth(source: WeightSource) -> int:
    return source.architecture.n_layers if source.architecture else 0


def _missing_layers(a: WeightSource, b: WeightSource) -> list[Skipped]:
    low, high = sorted((_depth(a), _depth(b)))
    if low == high:
        return []
    deep, shallow = ("a", "b") if _depth(a) > _depth(b) else ("b", "a")
    return [Skipped(tensor=f"layers {low} to {high - 1} of {deep}", reason=f"{shallow} has {low} layers")]
