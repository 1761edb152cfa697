"""The index as Parquet files, for other programs: the same bytes for the same content, whoever wrote it and in what order."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lineage.errors import OutputError, UsageError, words_of
from lineage.index.records import Entry, canonical
from lineage.index.store import Store

COLUMNS: tuple[tuple[str, str], ...] = (
    ("id", "VARCHAR"),
    ("ref", "VARCHAR"),
    ("repo", "VARCHAR"),
    ("revision", "VARCHAR"),
    ("state", "VARCHAR"),
    ("reason", "VARCHAR"),
    ("architecture", "VARCHAR"),
    ("width", "BIGINT"),
    ("layers", "BIGINT"),
    ("parameters", "BIGINT"),
    ("dtype", "VARCHAR"),
    ("files", "VARCHAR"),
    ("parents", "VARCHAR"),
    ("facts", "VARCHAR"),
    ("digest", "VARCHAR"),
    ("signature_digest", "VARCHAR"),
    ("study_digest", "VARCHAR"),
    ("vector", "BLOB"),
    ("signature", "BLOB"),
    ("study", "BLOB"),
)
"""Name and type of each column, in order; docs/formats/index.md says what they mean."""

PART_ROWS = 4096
PART_BYTES = 256_000_000
"""Rows and bytes of one file at most: what is held in memory at once."""

_BLOBS = ("signature", "study")
Tell = Callable[[str, int, int], None]


def export(store: Store, folder: Path, *, blobs: bool, tell: Tell) -> list[str]:
    """Write all entries to Parquet files.

    Parameters
    ----------
    store : Store
    folder : Path
        Made where it is missing; must be empty.
    blobs : bool
        With signatures and studies; else what a search and a table need.
    tell : callable
        Progress.

    Returns
    -------
    list of str
        Names of the files, `models-00000.parquet` and so on, entries in the order of their ids.

    Raises
    ------
    UsageError
        The library is not installed, or the folder holds something.
    OutputError
        It cannot be written.
    """
    duckdb = library()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError("the folder is not empty", where=str(folder), hint="name a new one")
    except OSError as error:
        raise OutputError(f"the folder cannot be made ({words_of(error)})", where=str(folder)) from error
    total = next(store.rows("SELECT count(*) FROM models"))[0]
    names: list[str] = []
    done = 0
    for rows in _parts(store, blobs=blobs):
        tell("exporting", done, total)
        names.append(f"models-{len(names):05d}.parquet")
        try:
            write_rows(duckdb, rows, folder / names[-1])
        except (OSError, duckdb.Error) as error:
            raise OutputError(f"cannot be written ({error})", where=str(folder / names[-1])) from error
        done += len(rows)
    tell("exporting", total, total)
    return names


def _parts(store: Store, *, blobs: bool) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    for entry in store.entries():
        row = row_of(entry, store.blob if blobs else None)
        weight = sum(len(row[name] or b"") for name in ("vector", *_BLOBS))
        if rows and (len(rows) == PART_ROWS or size + weight > PART_BYTES):
            yield rows
            rows, size = [], 0
        rows.append(row)
        size += weight
    yield rows


def library() -> Any:
    """DuckDB.

    Raises
    ------
    UsageError
        It is not installed.
    """
    try:
        return importlib.import_module("duckdb")
    except ImportError as error:
        raise UsageError("Parquet needs the extra `index`", hint="pip install 'lineage-forensics[index]'") from error


def row_of(entry: Entry, blob: Callable[[str], bytes | None] | None) -> dict[str, Any]:
    """One entry as values by column; `blob` gives stored bytes by digest, None leaves them out."""
    facts = entry.facts
    return {
        "id": entry.id,
        "ref": entry.ref,
        "repo": entry.repo,
        "revision": entry.revision,
        "state": entry.state,
        "reason": entry.reason,
        "architecture": _text(facts.get("architecture")),
        "width": _number(facts.get("width")),
        "layers": _number(facts.get("layers")),
        "parameters": _number(facts.get("parameters")),
        "dtype": _text(facts.get("dtype")),
        "files": canonical(entry.as_dict()["files"]),
        "parents": canonical(entry.as_dict()["parents"]),
        "facts": canonical(dict(facts)),
        "digest": entry.digest,
        "signature_digest": entry.signature,
        "study_digest": entry.study,
        "vector": entry.vector,
        "signature": blob(entry.signature) if blob and entry.signature else None,
        "study": blob(entry.study) if blob and entry.study else None,
    }


def write_rows(duckdb: Any, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows to one Parquet file: the same bytes for the same rows."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
    with duckdb.connect(":memory:", config={"threads": 1, "preserve_insertion_order": True}) as db:
        db.execute(f"CREATE TABLE models ({columns})")
        for start in range(0, len(rows), 256):
            piece = rows[start : start + 256]
            marks = ", ".join("?" for _ in COLUMNS)
            db.executemany(
                f"INSERT INTO models VALUES ({marks})",  # noqa: S608 - marks only
                [[row[name] for name, _ in COLUMNS] for row in piece],
            )
        target = str(path).replace("'", "''")
        db.execute(f"COPY models TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None
