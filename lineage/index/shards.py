"""Rows of an index as Parquet files wherever fsspec reaches: what one worker has read, to be taken in by any index later."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lineage.errors import OutputError, UnusableIndexError, UsageError, words_of
from lineage.index.parquet import COLUMNS, library, row_of, write_rows
from lineage.index.records import DeclaredParent, Entry, FileFact, canonical, digest_of
from lineage.inputs import is_folder

ENDING = ".parquet"
Row = tuple[Entry, tuple[bytes, ...]]

_AT_ONCE = 64
"""Rows taken from a file at one time."""

_PIECE = 1 << 20

_MEMORY = "1GB"
"""What reading one file may take: anybody's file can name any size."""


def is_shards(place: str) -> bool:
    """Whether a place is a Parquet file, a folder of some, or an address that only fsspec reads; never reads anything far."""
    if "://" in place or place.endswith(ENDING):
        return True
    folder = Path(place)
    return is_folder(place) and any(_is_ours(p.name) for p in folder.glob(f"*{ENDING}"))


def write_shard(rows: Sequence[Row], folder: str) -> str:
    """Write rows to a file named after their content, so that writing them again changes nothing.

    Parameters
    ----------
    rows : sequence of (Entry, tuple of bytes)
        With the blobs that an entry names.
    folder : str
        Local, or an address of fsspec (``s3://bucket/shards``); made where it can be.

    Returns
    -------
    str
        Where the file is.

    Raises
    ------
    UsageError
        The extra `index`, or what fsspec needs for this address, is not installed.
    OutputError
        It cannot be written.
    """
    duckdb = library()
    name = f"rows-{digest_of(canonical(sorted(e.digest for e, _ in rows)).encode('ascii'))[:24]}{ENDING}"
    table = [row_of(entry, {digest_of(b): b for b in blobs}.get) for entry, blobs in rows]
    system, path = _reached(folder)
    target = f"{path.rstrip('/')}/{name}"
    try:
        with tempfile.TemporaryDirectory(prefix="lineage-") as here:
            write_rows(duckdb, table, Path(here) / name)
            system.makedirs(path, exist_ok=True)
            with system.transaction, system.open(target, "wb") as stream:
                stream.write((Path(here) / name).read_bytes())
    except Exception as error:  # every file system of fsspec has errors of its own
        raise OutputError(
            f"rows cannot be written ({_words(error)})", where=folder, hint="name another place"
        ) from error
    return str(system.unstrip_protocol(target)) if "://" in folder else target


def shards_in(place: str) -> list[str]:
    """The Parquet files of a folder or address, by name; the place itself where it is one.

    Raises
    ------
    UsageError
        fsspec lacks what this address needs.
    UnusableIndexError
        There is none, or it cannot be reached.
    """
    if place.endswith(ENDING):
        return [place]
    system, path = _reached(place)
    try:
        found = sorted(str(p) for p in system.glob(f"{path.rstrip('/')}/*{ENDING}") if _is_ours(str(p)))
    except Exception as error:  # every file system of fsspec has errors of its own
        raise UnusableIndexError(f"cannot be listed ({_words(error)})", where=place) from error
    if not found:
        raise UnusableIndexError("holds no Parquet file", where=place, hint="made by `lineage crawl --shards`")
    return [str(system.unstrip_protocol(p)) if "://" in place else p for p in found]


def read_shard(place: str) -> Iterator[Row]:
    """The rows of one file, each checked against its own digests.

    Parameters
    ----------
    place : str
        One file, anywhere fsspec reaches.

    Yields
    ------
    Entry, tuple of bytes
        Of signed models the signature, and the larger slices where there are some.

    Raises
    ------
    UsageError
        The extra `index`, or what fsspec needs for this address, is not installed.
    UnusableIndexError
        It cannot be read, is none of ours, was written without signatures, or a row is not what its digest says.
    """
    duckdb = library()
    with tempfile.TemporaryDirectory(prefix="lineage-") as here:
        local = Path(here) / "rows.parquet"
        _fetch(place, local)
        yield from _checked(duckdb, local, place)


def _fetch(place: str, local: Path) -> None:
    system, path = _reached(place)
    try:
        with system.open(path, "rb") as stream, local.open("wb") as copy:
            while piece := stream.read(_PIECE):
                copy.write(piece)
    except Exception as error:  # every file system of fsspec has errors of its own
        raise UnusableIndexError(f"cannot be read ({_words(error)})", where=place) from error


def _checked(duckdb: Any, local: Path, place: str) -> Iterator[Row]:
    names = [name for name, _ in COLUMNS]
    try:
        with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": _MEMORY}) as db:
            result = db.execute(f"SELECT {', '.join(names)} FROM read_parquet(?)", [str(local)])  # noqa: S608 - our names
            while values := result.fetchmany(_AT_ONCE):
                for row in values:
                    yield _row(dict(zip(names, row, strict=True)))
    except (duckdb.Error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnusableIndexError(
            f"not rows of an index, or damaged ({_words(error)})",
            where=place,
            hint="write it again with `lineage index export` or `lineage crawl --shards`",
        ) from error


def _row(row: dict[str, Any]) -> Row:
    """An entry and its blobs from a row of a file, which is anybody's."""
    entry = Entry(
        id=_text(row["id"]),
        ref=_text(row["ref"]),
        repo=_text(row["repo"]),
        revision=None if row["revision"] is None else _text(row["revision"]),
        state=_text(row["state"]),
        reason=_text(row["reason"]),
        files=tuple(FileFact(*f) for f in json.loads(_text(row["files"]))),
        parents=tuple(DeclaredParent(*p) for p in json.loads(_text(row["parents"]))),
        facts=json.loads(_text(row["facts"])),
        signature=row["signature_digest"],
        study=row["study_digest"],
        vector=None if row["vector"] is None else bytes(row["vector"]),
    )
    if entry.digest != row["digest"]:
        raise ValueError(f"{entry.id[:200]}: the row is not what its digest says")
    blobs = []
    for digest, name in ((entry.signature, "signature"), (entry.study, "study")):
        if digest is None:
            continue
        if row[name] is None:
            raise ValueError(f"{entry.id[:200]}: written without its {name}")
        blobs.append(bytes(row[name]))
        if digest_of(blobs[-1]) != digest:
            raise ValueError(f"{entry.id[:200]}: its {name} is not what its digest says")
    return entry, tuple(blobs)


def _is_ours(path: str) -> bool:
    """Names that `write_shard` and `lineage index export` give: a folder of a model may hold tables of its own."""
    return path.rpartition("/")[2].startswith(("rows-", "models-"))


def _words(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return words_of(error)
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _reached(place: str) -> tuple[Any, str]:
    """The file system of a place, and its path there."""
    from fsspec.core import url_to_fs  # noqa: PLC0415 - only here

    try:
        system, path = url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"fsspec cannot reach it ({_words(error)})",
            where=place,
            hint="install what it asks for, or name a local folder",
        ) from error
    return system, str(path)
