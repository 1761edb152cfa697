"""Logical arrays inside stored tensors: a role's ``[out, in]`` matrix, wherever and however it is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crawl.refs import ByteRange

if TYPE_CHECKING:
    from crawl.refs import Role, TensorRef

IntVector = np.ndarray[tuple[int], np.dtype[np.integer[Any]]]


@dataclass(frozen=True, slots=True)
class Pick:
    """Which stored positions the logical ones are: groups of `group`, `stride` apart, the first at `start`.

    A contiguous block has one group. Heads that interleave query, key and value have one group a head.
    """

    start: int
    group: int
    stride: int

    def stored(self, index: IntVector) -> IntVector:
        """Return the stored position of each logical one."""
        return self.start + (index // self.group) * self.stride + index % self.group


@dataclass(frozen=True, slots=True)
class View:
    """One role's array inside a stored tensor.

    Attributes
    ----------
    role : Role
    tensor : TensorRef
    shape : tuple of int
        Logical: ``[out, in]``, or ``[n]`` for gains and biases.
    transposed : bool
        The store holds ``[in, out]``.
    pick : Pick
        Where the logical outputs (or the elements of a vector) are along the stored output axis.
    base : int
        First stored row of this expert, when the experts are stacked in one tensor.
    offset : float
        Added to the stored numbers: 1.0 where a gain g is stored as g - 1.
    offset_source : str
        ``names`` or ``claim`` where `offset` is not zero: how it is known.
    """

    role: Role
    tensor: TensorRef
    shape: tuple[int, ...]
    transposed: bool
    pick: Pick
    base: int = 0
    offset: float = 0.0
    offset_source: str = ""

    @property
    def stored_columns(self) -> int:
        """Length of a stored row once all leading axes are flattened."""
        if len(self.shape) == 1:
            return self.tensor.n_elements
        return self.tensor.shape[-1] if self.transposed else self.shape[1]

    @property
    def span(self) -> ByteRange | None:
        """The bytes of the file that hold exactly this array, row by row as it is stored; None when none do."""
        dtype, count = self.tensor.dtype, math.prod(self.shape)
        if dtype.bits < 8 or (self.pick.group < self.shape[0] and self.pick.stride != self.pick.group):
            return None
        if self.transposed and len(self.shape) == 2:
            return self.tensor.span if count == self.tensor.n_elements else None
        columns = self.shape[1] if len(self.shape) == 2 else 1
        start = (self.base + self.pick.start) * columns * dtype.bits // 8
        return ByteRange(start, start + count * dtype.bits // 8).shifted(self.tensor.span.start)
