"""The searched part of an index: the signs of all search vectors in one file that is mapped into memory.

It is made of the index and made again whenever the vectors have changed; nothing is in it that the index does not hold.
"""

import filecmp
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lineage.index.store import Store
from lineage.index.vectors import FIELDS, VECTOR_VERSION, Vector, spans
from stats.arrays import IntVector

Words = np.ndarray[Any, np.dtype[np.uint64]]

_MAGIC = b"LNGSIGNS"
_HEAD = 16
_PIECE = 8192
"""Models written at once."""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring rows of one layout and one set of tokens."""

    layout: bytes
    tokens: bytes
    rows: slice


@dataclass(frozen=True, slots=True)
class SignMatrix:
    """Signs of n models.

    Attributes
    ----------
    numbers : (n,) int64
        Numbers of the models in the index, those of one group in the order of their ids.
    groups : tuple of Group
        Sorted by tokens, then layout, so that models of one set of tokens are neighbours.
    fields : mapping of str to (bits / 64, n) uint64
        Words first: a search runs along them.
    """

    numbers: IntVector
    groups: tuple[Group, ...]
    fields: dict[str, Words]

    @property
    def n(self) -> int:
        """Models that can be searched."""
        return int(self.numbers.size)

    def ranges(self, *, layout: bytes | None = None, tokens: bytes | None = None) -> list[slice]:
        """Rows of one layout, or of one set of tokens; neighbouring groups are one range."""
        found: list[slice] = []
        for g in self.groups:
            if layout not in {None, g.layout} or tokens not in {None, g.tokens}:
                continue
            if found and found[-1].stop == g.rows.start:
                found[-1] = slice(found[-1].start, g.rows.stop)
            else:
                found.append(g.rows)
        return found


def words_of(vector: Vector, name: str) -> Words:
    """The signs of one field in words."""
    return np.frombuffer(np.ascontiguousarray(vector.signs[spans()[name]]).tobytes(), dtype="<u8")


def sign_matrix(store: Store) -> SignMatrix:
    """The searched part of an index, made first where it is missing or old.

    Parameters
    ----------
    store : Store

    Returns
    -------
    SignMatrix
        Mapped from `<index>.search`; held in memory where nothing can be written beside the index.
    """
    place = _place(store)
    state = store.meta("vectors")
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _mapped(place, state)
    with tempfile.TemporaryDirectory() as folder:
        try:
            handle, name = tempfile.mkstemp(dir=place.parent, prefix=place.name)
            os.close(handle)
            Path(name).chmod(0o644)  # as the index itself usually is
        except OSError:
            name = str(Path(folder) / "signs")
        try:
            _build(store, Path(name), state)
            with suppress(OSError):
                Path(name).replace(place)
            return _mapped(place if not Path(name).exists() else Path(name), state)
        finally:
            Path(name).unlink(missing_ok=True)


def is_search_file_sound(store: Store) -> bool:
    """Whether the searched part beside an index is what its vectors make; true where there is none, or an old one."""
    place = _place(store)
    with suppress(OSError, ValueError, KeyError, TypeError):
        _mapped(place, store.meta("vectors"))
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "signs"
            _build(store, fresh, store.meta("vectors"))
            return filecmp.cmp(fresh, place, shallow=False)
    return not place.exists() or _is_old(place)


def _is_old(place: Path) -> bool:
    """Whether the head of a search file can be read: then it is one of another state."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError), place.open("rb") as stream:
        start = stream.read(_HEAD)
        length = int.from_bytes(start[8:], "little")
        if start[:8] == _MAGIC and length <= place.stat().st_size:
            return isinstance(json.loads(stream.read(length))["state"], str)
    return False


def _place(store: Store) -> Path:
    return store.path.with_name(store.path.name + ".search")


def _build(store: Store, path: Path, state: str) -> None:
    rows = sorted(_heads(store))
    groups: list[list[Any]] = []
    for at, (tokens, layout, _, _) in enumerate(rows):
        if not groups or groups[-1][:2] != [tokens.hex(), layout.hex()]:
            groups.append([tokens.hex(), layout.hex(), at])
    head = {"version": VECTOR_VERSION, "state": state, "n": len(rows), "fields": FIELDS, "groups": groups}
    text = json.dumps(head).encode("ascii")
    text += b" " * (-len(text) % 8)
    numbers = np.array([number for *_, number in rows], dtype="<i8")
    at_row = {int(number): row for row, number in enumerate(numbers)}
    with path.open("wb") as stream:
        stream.write(_MAGIC + len(text).to_bytes(8, "little") + text + numbers.tobytes())
        stream.truncate(_HEAD + len(text) + 8 * len(rows) * (1 + sum(FIELDS.values()) // 64))
    if not rows:
        return
    words = _fields(path, _HEAD + len(text) + 8 * len(rows), len(rows), mode="r+")
    where = spans()
    for piece in _pieces(store):
        order = np.array([at_row[number] for number, _ in piece])
        signs = np.stack([Vector.from_bytes(data).signs for _, data in piece])
        for name, field in words.items():
            field[:, order] = np.ascontiguousarray(signs[:, where[name]]).view("<u8").T


def _heads(store: Store) -> Iterator[tuple[bytes, bytes, str, int]]:
    query = "SELECT id, number, substr(CAST(data AS BLOB), 1, 40) FROM vectors JOIN models ON model = number"
    for name, number, head in store.rows(query):
        if int.from_bytes(head[:2], "little") == VECTOR_VERSION:
            yield bytes(head[24:40]), bytes(head[8:24]), name, number


def _pieces(store: Store) -> Iterator[list[tuple[int, bytes]]]:
    piece: list[tuple[int, bytes]] = []
    for number, data in store.rows("SELECT model, CAST(data AS BLOB) FROM vectors ORDER BY model"):
        if int.from_bytes(data[:2], "little") == VECTOR_VERSION:
            piece.append((number, data))
        if len(piece) == _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _mapped(path: Path, state: str) -> SignMatrix:
    with path.open("rb") as stream:
        start = stream.read(_HEAD)
        length = int.from_bytes(start[8:], "little")
        if start[:8] != _MAGIC or length > path.stat().st_size:
            raise ValueError("not the searched part of an index")
        head = json.loads(stream.read(length))
        n = head["n"]
        if (head["version"], head["state"], head["fields"]) != (VECTOR_VERSION, state, FIELDS):
            raise ValueError("made of another state of the index")
        numbers = np.frombuffer(stream.read(8 * n), dtype="<i8")
    if path.stat().st_size != _HEAD + length + 8 * n * (1 + sum(FIELDS.values()) // 64) or numbers.size != n:
        raise ValueError("not as long as it should be")
    starts = [g[2] for g in head["groups"]]
    groups = tuple(
        Group(bytes.fromhex(layout), bytes.fromhex(tokens), slice(at, stop))
        for (tokens, layout, at), stop in zip(head["groups"], [*starts[1:], *([n] if starts else [])], strict=True)
    )
    return SignMatrix(numbers, groups, _fields(path, _HEAD + length + 8 * n, n, mode="r") if n else {})


def _fields(path: Path, start: int, n: int, *, mode: Any) -> dict[str, Words]:
    found: dict[str, Words] = {}
    for name, bits in FIELDS.items():
        found[name] = np.memmap(path, dtype="<u8", mode=mode, offset=start, shape=(bits // 64, n))
        start += 8 * n * (bits // 64)
    return found
