"""Arrays and a few facts in one block of bytes: no code in it, nothing lost, and everything about it bounded.

Layout: 8 bytes of magic, the length of the head in 4, the head (canonical JSON), the arrays one after the other, and the
SHA-256 of all of that. Every array is kept in the narrowest of a few formats that gives back each of its bits.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crawl.errors import MalformedHeaderError
from crawl.formats.strictjson import parse_object
from lineage.errors import MalformedDocumentError
from lineage.index.records import canonical

MAGIC = b"LNGPACK1"
LARGEST = 256_000_000
"""Bytes of a block: sixty times what is read of a model of any size."""

_MOST_HEAD = 8_000_000
_MOST_ARRAYS = 20_000
_MOST_AXES = 8
_CHECK = 32

Array = np.ndarray[Any, np.dtype[Any]]

_WIDTHS = {"b2": "<u2", "f2": "<f2", "f4": "<f4", "f8": "<f8", "i4": "<i4", "i8": "<i8"}
"""Stored formats; b2 is the upper half of a float of 32 bits."""

_HELD: dict[str, np.dtype[Any]] = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8"), "i8": np.dtype("<i8")}
"""What an array is outside."""


def pack(kind: str, facts: dict[str, Any], arrays: Sequence[Array]) -> bytes:
    """Bytes of facts and arrays.

    Parameters
    ----------
    kind : str
        What they describe.
    facts : dict
        JSON values.
    arrays : sequence of ndarray
        float32, float64 or int64 of any shape.

    Returns
    -------
    bytes
        The same for equal input.
    """
    rows, parts = [], []
    for array in arrays:
        held = array.dtype.newbyteorder("<").str.removeprefix("<")
        if held not in _HELD:
            raise ValueError(f"arrays of {array.dtype} are not stored")
        stored, data = _narrowest(np.ascontiguousarray(array, dtype=_HELD[held]))
        rows.append([held, stored, list(array.shape)])
        parts.append(data)
    head = canonical({"kind": kind, "facts": facts, "arrays": rows}).encode("ascii")
    body = b"".join([MAGIC, len(head).to_bytes(4, "little"), head, *parts])
    return body + hashlib.sha256(body).digest()


def unpack(data: bytes, kind: str) -> tuple[dict[str, Any], list[Array]]:
    """Facts and arrays of a block.

    Parameters
    ----------
    data : bytes
    kind : str
        What the block must describe.

    Returns
    -------
    dict, list of ndarray
        The arrays are copies of their own, C-contiguous.

    Raises
    ------
    MalformedDocumentError
        It is damaged, of another kind, or made by somebody who meant no good.
    """
    where = f"a stored {kind}"
    if not len(MAGIC) + 4 + _CHECK <= len(data) <= LARGEST or data[: len(MAGIC)] != MAGIC:
        raise MalformedDocumentError(f"not a block of this program ({len(data):,} bytes)", where=where)
    if hashlib.sha256(memoryview(data)[:-_CHECK]).digest() != data[-_CHECK:]:
        raise MalformedDocumentError("its checksum does not fit: bytes have changed", where=where)
    start = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : start], "little")
    if length > min(_MOST_HEAD, len(data) - _CHECK - start):
        raise MalformedDocumentError("a head longer than the block", where=where)
    try:
        head = parse_object(data[start : start + length], where)
    except MalformedHeaderError as error:
        raise MalformedDocumentError(error.reason, where=where) from error
    facts, rows = head.get("facts"), head.get("arrays")
    if head.get("kind") != kind or not isinstance(facts, dict) or not isinstance(rows, list):
        raise MalformedDocumentError(f"its head does not describe a {kind}", where=where)
    return facts, _arrays(memoryview(data)[start + length : -_CHECK], rows, where)


def _arrays(body: memoryview, rows: list[Any], where: str) -> list[Array]:
    if len(rows) > _MOST_ARRAYS:
        raise MalformedDocumentError(f"{len(rows):,} arrays", where=where)
    found, at = [], 0
    for row in rows:
        held, stored, shape = _row(row, where)
        n = math.prod(shape)
        width = np.dtype(_WIDTHS[stored]).itemsize
        if n * width > len(body) - at:
            raise MalformedDocumentError("arrays beyond the end of the block", where=where)
        raw = np.frombuffer(body, dtype=_WIDTHS[stored], count=n, offset=at)
        found.append(_widened(raw, stored, held).reshape(shape))
        at += n * width
    if at != len(body):
        raise MalformedDocumentError("bytes that belong to no array", where=where)
    return found


def _row(row: Any, where: str) -> tuple[str, str, tuple[int, ...]]:
    if isinstance(row, list) and len(row) == 3:
        held, stored, shape = row
        named = isinstance(held, str) and held in _HELD and isinstance(stored, str) and stored in _WIDTHS
        if (
            named
            and (held == "i8") == (stored[0] == "i")
            and isinstance(shape, list)
            and len(shape) <= _MOST_AXES
            and all(type(n) is int and 0 <= n <= LARGEST for n in shape)
        ):
            return held, stored, tuple(shape)
    raise MalformedDocumentError("an array of no known format", where=where)


def _narrowest(array: Array) -> tuple[str, bytes]:
    """The narrowest format that gives back every bit, and the bytes."""
    if array.dtype.kind == "i":
        small = array.astype("<i4")
        return ("i4", small.tobytes()) if np.array_equal(small, array) else ("i8", array.tobytes())
    with np.errstate(over="ignore", invalid="ignore"):
        single = array.astype("<f4")
        if array.dtype.itemsize == 8 and not _is_same(single.astype("<f8"), array):
            return "f8", array.tobytes()
        bits = single.view("<u4")
        if not np.any(bits & 0xFFFF):
            return "b2", (bits >> 16).astype("<u2").tobytes()
        half = single.astype("<f2")
        return ("f2", half.tobytes()) if _is_same(half.astype("<f4"), single) else ("f4", single.tobytes())


def _widened(raw: Array, stored: str, held: str) -> Array:
    if stored == "b2":
        raw = (raw.astype("<u4") << 16).view("<f4")
    with np.errstate(invalid="ignore", over="ignore"):
        return raw.astype(_HELD[held])


def _is_same(a: Array, b: Array) -> bool:
    """Whether two float arrays have equal bits: signs of zeros and payloads of NaN count."""
    return a.tobytes() == b.tobytes()
