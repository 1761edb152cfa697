"""The seal: digests of every megabyte of the file, beside it, by which a flipped byte is found wherever it lies.

Digests of rows cannot see the unused space of a page, nor what SQLite keeps for itself. The seal is made when a writer
is done; what was written to afterwards and not sealed, by a process that was killed, is told apart by the count of writes.
"""

import hashlib
import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lineage.index.records import canonical, digest_of

BLOCK = 1 << 20
LARGEST = 64_000_000_000
"""Bytes of an index up to which it is sealed when it is closed: half a minute on a fast disk."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What the file was when its last writer was done.

    Attributes
    ----------
    writes : str
        Count of writes.
    size : int
    blocks : tuple of str
        SHA-256 (hex) of each megabyte.
    """

    writes: str
    size: int
    blocks: tuple[str, ...]


def seal_path(path: Path) -> Path:
    """Where the seal of an index lies."""
    return path.with_name(path.name + ".seal")


def seal(connection: sqlite3.Connection, path: Path, writes: str) -> bool:
    """Move everything into the file and write its seal; False where somebody else is using it, or it is too large."""
    try:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False
    if busy or path.stat().st_size > LARGEST:
        return False
    blocks = digests_of(path)
    body = {"blocks": blocks, "size": path.stat().st_size, "writes": writes}
    text = canonical({**body, "digest": digest_of(canonical(body).encode("ascii"))})
    place = seal_path(path)
    fresh = place.with_name(place.name + ".new")
    with suppress(OSError):
        fresh.write_text(text, encoding="ascii")
        fresh.replace(place)
        return True
    return False


def read_seal(path: Path) -> Seal | None:
    """The seal of an index; None where there is none. `ValueError` when it is damaged itself."""
    place = seal_path(path)
    if not place.exists():
        return None
    try:
        data = json.loads(place.read_bytes())
        digest = data.pop("digest")
        if digest_of(canonical(data).encode("ascii")) != digest:
            raise ValueError("the seal does not fit itself")
        return Seal(str(data["writes"]), int(data["size"]), tuple(map(str, data["blocks"])))
    except (OSError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("the seal cannot be read") from error


def digests_of(path: Path) -> list[str]:
    """SHA-256 (hex) of each megabyte of a file."""
    found = []
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            found.append(hashlib.sha256(block).hexdigest())
    return found
