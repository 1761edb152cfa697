"""The file of the index as SQLite sees it: made, recognised, or refused with a sentence."""

import sqlite3
from contextlib import suppress
from pathlib import Path

from lineage.errors import UnusableIndexError

APPLICATION = 0x4C4E4758
"""`application_id` of an index: the letters LNGX."""

SCHEMA = 1
"""`user_version`: rises when an older program could not read what a newer one writes."""

PAGE = 16384
"""Bytes of a page: blobs of a few kilobytes and more waste little in it."""


def connect(place: Path, *, create: bool) -> sqlite3.Connection:
    """Open the file of an index; see `Store.open`."""
    fresh = _is_fresh(place, create=create)
    try:
        if fresh:
            place.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(place, isolation_level=None, timeout=60.0, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise UnusableIndexError(f"the index cannot be opened ({error})", where=str(place)) from error
    try:
        if fresh:
            with suppress(sqlite3.OperationalError):  # another process may have made it meanwhile: the check decides
                _create(connection)
        _check(connection, place)
        connection.executescript("PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_fresh(place: Path, *, create: bool) -> bool:
    """Whether a new index is to be made here."""
    try:
        if place.is_dir():
            raise UnusableIndexError("a folder, not an index", where=str(place), hint="name a file")
        there = place.exists() and place.stat().st_size > 0
    except (OSError, ValueError) as error:
        raise UnusableIndexError(f"the index cannot be opened ({error})", where=str(place)) from error
    if not there and not create:
        raise UnusableIndexError(
            "there is no index", where=str(place), hint="make one with `lineage crawl` or `lineage index add`"
        )
    return not there


def _create(connection: sqlite3.Connection) -> None:
    schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    connection.executescript(f"PRAGMA page_size = {PAGE}; PRAGMA journal_mode = WAL;")
    connection.executescript(
        f"BEGIN IMMEDIATE; {schema} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"
    )


def _check(connection: sqlite3.Connection, place: Path) -> None:
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise UnusableIndexError(
            f"not an index of lineage ({error})", where=str(place), hint="name the file `lineage index` made"
        ) from error
    if application != APPLICATION:
        raise UnusableIndexError(
            "a database of something else, not an index of lineage", where=str(place), hint="name another file"
        )
    if version != SCHEMA:
        older = "a newer" if version > SCHEMA else "an unknown"
        raise UnusableIndexError(
            f"an index of {older} schema ({version}; this program reads {SCHEMA})",
            where=str(place),
            hint="use the version of lineage that made it" if version > SCHEMA else "make it again",
        )


def damaged(path: Path, error: Exception) -> UnusableIndexError:
    """The error of a file that SQLite cannot make sense of."""
    hint = "run `lineage index verify`, and make the index again from what it was made of"
    return UnusableIndexError(f"the index is damaged ({error})", where=str(path), hint=hint)
