"""Whether an index is what was written: the file, its rows, its blobs, and what is derived from them."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lineage.errors import LineageError, UnusableIndexError
from lineage.index.matrix import is_search_file_sound
from lineage.index.records import digest_of
from lineage.index.sealing import BLOCK, digests_of, read_seal
from lineage.index.store import Store

MOST = 100
"""Problems that are named."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Attributes
    ----------
    problems : tuple of str
        What is damaged; empty where nothing is.
    sealed : bool
        Whether every byte of the file was checked; without a seal only what is stored in it was.
    models, blobs : int
        How many were looked at.
    """

    problems: tuple[str, ...]
    sealed: bool
    models: int
    blobs: int


def verify(path: Path, tell: Tell) -> Verified:
    """Check every byte of a sealed index, and everything stored in any other.

    Parameters
    ----------
    path : Path
    tell : callable
        Progress.

    Returns
    -------
    Verified

    Raises
    ------
    UnusableIndexError
        There is no such file.
    """
    if not path.is_file():
        raise UnusableIndexError("there is no index", where=str(path))
    problems: list[str] = []
    models = blobs = 0
    try:
        with Store.open(path) as store:
            sealed = _check_file(store, path, problems)
            problems += _of_database(store)
            models = _check_entries(store, problems, tell)
            blobs = _check_blobs(store, problems, tell)
            if not is_search_file_sound(store):
                problems.append(f"{path.name}.search: not what the vectors of the index make; delete it")
    except (LineageError, sqlite3.Error) as error:
        problems.append(str(error))
        sealed = False
    return Verified(tuple(problems[:MOST]), sealed, models, blobs)


def _check_file(store: Store, path: Path, problems: list[str]) -> bool:
    """Compare the file with its seal; False where there is none of this state."""
    try:
        found = read_seal(path)
    except ValueError as error:
        problems.append(f"{path.name}.seal: {error}")
        return False
    writes = store.meta("writes")
    if writes and not store.is_count(writes):
        problems.append("the count of writes is damaged")
    if found is None:
        return False
    blocks = digests_of(path)
    different = [i for i, pair in enumerate(zip(blocks, found.blocks, strict=False)) if pair[0] != pair[1]]
    if writes != found.writes:
        return False
    if not different and len(blocks) == len(found.blocks):
        return True
    where = ", ".join(f"{i * BLOCK:,}" for i in different[:8]) or "its end"
    problems.append(f"bytes of the file have changed since it was sealed (blocks of 1 MiB at {where})")
    return True


def _of_database(store: Store) -> Iterator[str]:
    try:
        for (line,) in store.connection.execute("PRAGMA integrity_check(20)"):
            if line != "ok":
                yield f"SQLite: {' '.join(str(line).split())[:300]}"
        for row in store.connection.execute("PRAGMA foreign_key_check").fetchmany(20):
            yield f"SQLite: a row of {row[0]} names what is not there"
    except sqlite3.DatabaseError as error:
        yield f"SQLite: {error}"


def _check_entries(store: Store, problems: list[str], tell: Tell) -> int:
    total = next(store.rows("SELECT count(*) FROM models"))[0]
    done = 0
    for entry, stored in store.entries_with_digests():
        if done % 256 == 0:
            tell("checking entries", done, total)
        done += 1
        if entry.digest != stored:
            problems.append(f"{entry.id}: not what its digest says")
    tell("checking entries", total, total)
    return done


def _check_blobs(store: Store, problems: list[str], tell: Tell) -> int:
    total = next(store.rows("SELECT count(*) FROM blobs"))[0]
    done = 0
    for digest, data in store.rows("SELECT digest, CAST(data AS BLOB) FROM blobs ORDER BY number"):
        if done % 64 == 0:
            tell("checking blobs", done, total)
        done += 1
        if digest_of(data) != digest:
            problems.append(f"stored bytes {digest[:16]}: not what their digest says")
    tell("checking blobs", total, total)
    return done
