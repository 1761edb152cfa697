"""Read chosen rows and columns of a stored matrix with as few bytes as the store allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crawl.dtypes import decode, decode_raw, raw
from crawl.errors import UnsupportedDtypeError
from crawl.ranges import read_many, runs
from crawl.refs import ByteRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawl.dtypes import RawArray
    from crawl.refs import TensorRef
    from crawl.stores import ByteStore
    from crawl.views import IntVector

MAX_BLOCK = 64 * 2**20  # bytes of one merged read: bounds memory, and far above what hides the cost of a request
MOST_PIECES = 65_536  # reads of one call that fetch nothing unasked for: about half a second of system calls
COLUMN_GAP = 4096  # bytes bridged beyond that: a page comes from the disk whole anyway


def checked_index(index: Sequence[int] | IntVector, length: int, name: str) -> IntVector:
    """Return `index` as int64 after checking that it is a vector of integers in [0, length).

    Raises
    ------
    ValueError
        It is not; negative positions do not count from the end.
    """
    array = np.asarray(index)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: a vector of integers is needed, not {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= length):
        raise ValueError(f"{name}: positions {array.min()} to {array.max()} are not all in [0, {length})")
    return array.astype(np.int64)


def checked_slice(part: slice | None, length: int, name: str) -> tuple[int, int]:
    """Return a slice without step as half-open positions.

    Raises
    ------
    ValueError
        It has a step.
    """
    start, stop, step = (part or slice(None)).indices(length)
    if step != 1:
        raise ValueError(f"{name}: a slice with a step is not read; give an index")
    return start, max(start, stop)


def gather(
    store: ByteStore,
    tensor: TensorRef,
    n_columns: int,
    rows: IntVector,
    columns: IntVector | tuple[int, int],
    *,
    stored: bool,
) -> RawArray:
    """Read ``matrix[rows][:, columns]`` where `matrix` is the tensor with all leading axes flattened.

    Parameters
    ----------
    store : ByteStore
    tensor : TensorRef
    n_columns : int
        Length of a stored row in elements.
    rows : (m,) int64
        Any order, repeats allowed, checked by the caller.
    columns : (k,) int64, or half-open (start, stop)
    stored : bool
        Native bits instead of floats.

    Returns
    -------
    (m, k) ndarray
        C-contiguous, read-only. Rows that touch are one read; nothing is read twice.
    """
    if tensor.dtype.bits < 8:
        return _gather_packed(store, tensor, n_columns, rows, columns, stored=stored)
    kept, row_of = np.unique(rows, return_inverse=True)
    item = tensor.dtype.bits // 8
    gap: int = getattr(store, "gap", 0)
    segments, column_of = _segments(columns, gap // item)
    if len(kept) * len(segments) > MOST_PIECES and column_of is not None:
        gap = max(gap, COLUMN_GAP)
        segments, column_of = _segments(columns, gap // item)
    bits = _read_segments(store, tensor, n_columns, kept, segments, gap)
    if len(kept) != len(rows) or not np.array_equal(kept, rows):
        bits = bits[row_of]
    if column_of is not None:
        bits = bits[:, column_of]
    bits = _frozen(bits)
    return bits if stored else decode_raw(bits, tensor.dtype, bits.shape)


def _frozen(array: RawArray) -> RawArray:
    out = np.ascontiguousarray(array)
    out.flags.writeable = False
    return out


def _segments(columns: IntVector | tuple[int, int], bridged: int) -> tuple[list[tuple[int, int]], IntVector | None]:
    """Return the column runs to read, and where each asked column then is (None: exactly as read)."""
    if isinstance(columns, tuple):
        return [columns], None
    kept = np.unique(columns)
    segments = runs(kept.tolist(), max_gap=bridged)
    starts = np.array([start for start, _ in segments], dtype=np.int64)
    before = np.concatenate([[0], np.cumsum([stop - start for start, stop in segments])[:-1]]).astype(np.int64)
    segment = np.searchsorted(starts, columns, side="right") - 1
    return segments, columns - starts[segment] + before[segment]


def _read_segments(
    store: ByteStore,
    tensor: TensorRef,
    n_columns: int,
    rows: IntVector,
    segments: list[tuple[int, int]],
    gap: int,
) -> RawArray:
    item = tensor.dtype.bits // 8
    width = sum(stop - start for start, stop in segments)
    shape = (len(rows), width)
    if not len(rows) or not width:
        return np.zeros(shape, dtype=tensor.dtype.raw)
    if width == n_columns:
        lines = runs(rows.tolist())
        spans = [ByteRange(start * n_columns * item, stop * n_columns * item) for start, stop in lines]
    else:
        begins = (rows * (n_columns * item)).tolist()
        spans = [ByteRange(b + start * item, b + stop * item) for b in begins for start, stop in segments]
    spans = [span.shifted(tensor.span.start) for span in spans]
    pieces = read_many(store, tensor.file, spans, max_gap=gap, max_block=MAX_BLOCK)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return raw(data, tensor.dtype, shape)


def _gather_packed(
    store: ByteStore,
    tensor: TensorRef,
    n_columns: int,
    rows: IntVector,
    columns: IntVector | tuple[int, int],
    *,
    stored: bool,
) -> RawArray:
    """Read numbers of less than a byte: whole rows where they end on a byte, else the whole tensor."""
    picked = np.arange(*columns) if isinstance(columns, tuple) else columns
    row_bytes = tensor.dtype.n_bytes(n_columns)
    if stored:
        if row_bytes is None or len(picked) != n_columns or isinstance(columns, np.ndarray):
            raise UnsupportedDtypeError(
                f"packed {tensor.dtype.name} numbers are read as whole rows only",
                where=f"{store.name}: {tensor.file}: tensor {tensor.name!r}",
            )
    elif row_bytes is None:
        whole = decode(store.read(tensor.file, tensor.span), tensor.dtype, (tensor.n_elements,))
        return _frozen(whole.reshape(-1, n_columns)[rows][:, picked])
    kept, row_of = np.unique(rows, return_inverse=True)
    spans = [ByteRange(a * row_bytes, b * row_bytes).shifted(tensor.span.start) for a, b in runs(kept.tolist())]
    data = b"".join(read_many(store, tensor.file, spans, max_gap=getattr(store, "gap", 0), max_block=MAX_BLOCK))
    if stored:
        return _frozen(np.frombuffer(data, np.uint8).reshape(len(kept), row_bytes)[row_of])
    return _frozen(decode(data, tensor.dtype, (len(kept), n_columns))[row_of][:, picked])
