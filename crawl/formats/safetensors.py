"""Safetensors: a length, a JSON header, data. The header is treated as hostile until every check has passed.

Layout: the first eight bytes are the header's length as a little-endian integer, then the JSON header, then the data,
which the tensors must tile exactly: https://huggingface.co/docs/safetensors .
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from crawl.dtypes import DTYPES
from crawl.errors import MalformedHeaderError
from crawl.formats.strictjson import parse_object
from crawl.formats.table import FileTable
from crawl.refs import ByteRange, TensorRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawl.stores import ByteStore

LONGEST_HEADER = 100_000_000  # the reference library's own limit
MOST_TENSORS = 2_000_000  # four times the largest model known (about 500,000 tensors)
MOST_AXES = 64  # numpy's limit
_LARGEST_SIZE = 2**63 - 1


class SafetensorsFormat:
    """Reader of one safetensors file."""

    name = "safetensors"

    def is_like(self, head: bytes, size: int) -> bool:
        """Say whether the length fits the file and a JSON object follows."""
        return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8

    def table(self, store: ByteStore, file: str) -> FileTable:
        """Read and check the header of a file.

        Parameters
        ----------
        store : ByteStore
        file : str
            One of its files; only the header is read.

        Returns
        -------
        FileTable
            Tensors in the order of their data.

        Raises
        ------
        MalformedHeaderError
            The header contradicts itself or the file; the message names the file and the byte or tensor.
        """
        where = f"{store.name}: {file}"
        size = store.files().get(file, 0)
        length = _header_length(store, file, size, where)
        entries = parse_object(store.read(file, ByteRange(8, 8 + length)), where)
        metadata = _metadata(entries.pop("__metadata__", {}), where)
        return FileTable(tuple(_tensors(entries, file, 8 + length, size, where)), metadata)


def table_from(entries: Mapping[str, Any], file: str, size: int, where: str) -> FileTable:
    """Check a header that somebody else has read; the data are the last bytes of the file.

    Parameters
    ----------
    entries : mapping
        Of the header, without its metadata.
    file : str
    size : int
        Bytes of the file.
    where : str
        For messages.

    Raises
    ------
    MalformedHeaderError
        As `SafetensorsFormat.table`.
    """
    ends = [_integers(e.get("data_offsets"), 2) for e in entries.values() if isinstance(e, dict)]
    start = size - max((end[-1] for end in ends if end), default=0)
    if not 8 <= start <= LONGEST_HEADER + 8:
        raise _malformed(f"the data of the header do not fit a file of {size} bytes", where)
    return FileTable(tuple(_tensors(entries, file, start, size, where)), {})


def _tensors(entries: Mapping[str, Any], file: str, start: int, size: int, where: str) -> list[TensorRef]:
    if len(entries) > MOST_TENSORS:
        raise _malformed(f"{len(entries)} tensors, more than {MOST_TENSORS}", where)
    tensors = [_tensor(name, entry, file, start, where) for name, entry in entries.items()]
    tensors.sort(key=lambda t: (t.span, t.name))
    _check_tiling(tensors, start, size, where)
    return tensors


def _malformed(reason: str, where: str) -> MalformedHeaderError:
    return MalformedHeaderError(reason, where=where, hint="the file is damaged or not what its name says")


def _header_length(store: ByteStore, file: str, size: int, where: str) -> int:
    if size < 8:
        raise _malformed(f"{size} bytes, too short for the eight bytes of the header's length", where)
    length: int = struct.unpack("<Q", store.read(file, ByteRange(0, 8)))[0]
    if length > LONGEST_HEADER:
        raise _malformed(f"byte 0: header of {length} bytes, more than {LONGEST_HEADER}", where)
    if length > size - 8:
        raise _malformed(f"byte 0: header of {length} bytes in a file of {size}", where)
    if length < 2:
        raise _malformed(f"byte 0: header of {length} bytes cannot hold a JSON object", where)
    return length


def _metadata(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _malformed("__metadata__ is not a table of text", where)
    return value


def _tensor(name: str, entry: Any, file: str, base: int, where: str) -> TensorRef:
    place = f"{where}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _malformed("the entry is not exactly dtype, shape and data_offsets", place)
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise _malformed(f"unknown dtype {entry['dtype']!r}", place)
    shape = _integers(entry["shape"], MOST_AXES)
    if shape is None:
        raise _malformed(f"the shape is not a list of at most {MOST_AXES} sizes", place)
    offsets = _integers(entry["data_offsets"], 2)
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _malformed("data_offsets are not two ordered positions", place)
    tensor = TensorRef(name, dtype, shape, file, ByteRange(*offsets).shifted(base))
    expected = dtype.n_bytes(tensor.n_elements)
    if expected is None:
        raise _malformed(f"{tensor.n_elements} elements of {dtype.bits} bits do not end on a byte", place)
    if expected != offsets[1] - offsets[0]:
        reason = f"shape {list(shape)} of {dtype.name} needs {expected} bytes, the offsets span"
        raise _malformed(f"{reason} {offsets[1] - offsets[0]}", place)
    return tensor


def _integers(value: Any, longest: int) -> tuple[int, ...] | None:
    """Return a list of non-negative 63-bit integers as a tuple; None for anything else (true is not 1 here)."""
    if not isinstance(value, list) or len(value) > longest:
        return None
    if not all(type(v) is int and 0 <= v <= _LARGEST_SIZE for v in value):
        return None
    return tuple(value)


def _check_tiling(tensors: list[TensorRef], start: int, size: int, where: str) -> None:
    at = start
    for tensor in tensors:
        if tensor.span.stop > size:
            raise _malformed(f"ends at byte {tensor.span.stop} of {size}", f"{where}: tensor {tensor.name!r}")
        if tensor.span.start != at:
            kind = "a hole" if tensor.span.start > at else "an overlap"
            raise _malformed(f"{kind} before byte {max(at, tensor.span.start)}", f"{where}: tensor {tensor.name!r}")
        at = tensor.span.stop
    if at != size:
        raise _malformed(f"byte {at}: {size - at} bytes follow the last tensor", where)
