"""The file of the index: opened, created or refused, and written in transactions that nothing can tear."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lineage.errors import LineageError, UnusableIndexError, UsageError
from lineage.index.opening import connect, damaged
from lineage.index.records import DeclaredParent, Entry, FileFact, canonical, digest_of
from lineage.index.sealing import seal

_COLUMNS = "number, id, ref, repo, revision, state, reason, parents, facts, signature, study, digest"


class Store:
    """An open index. A context manager; safe to share between threads, which then take turns.

    Attributes
    ----------
    path : Path
    connection : sqlite3.Connection
        For what keeps tables of its own in the same file. Written to only inside `transaction`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self._lock = threading.RLock()
        self._depth = 0
        self._wrote = False

    @staticmethod
    def open(path: str | Path, *, create: bool = False) -> "Store":
        """Open an index.

        Parameters
        ----------
        path : str or Path
        create : bool
            Make an empty one where there is nothing.

        Returns
        -------
        Store

        Raises
        ------
        UnusableIndexError
            There is none, it cannot be opened, or it is not an index this program can read.
        """
        place = Path(path)
        return Store(place, connect(place, create=create))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; what was committed stays, and is sealed when this connection wrote any of it."""
        with self._lock:
            if self._wrote:
                with suppress(LineageError, OSError, sqlite3.Error):
                    seal(self.connection, self.path, self.meta("writes"))
            self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; one inside another joins it. Raises a sentence when the disk or another writer refuses."""
        with self._lock:
            outer = self._depth == 0
            self._depth += 1
            try:
                if outer:
                    self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                if outer:
                    self._count_write()
                    self.connection.execute("COMMIT")
                    self._wrote = True
            except BaseException as error:
                if outer and self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise UnusableIndexError(f"the index cannot be written ({error})", where=str(self.path)) from error
                raise
            finally:
                self._depth -= 1

    def put_model(self, entry: Entry, *blobs: bytes) -> None:
        """Store an entry, in place of one of the same id, with the bytes its digests name.

        Parameters
        ----------
        entry : Entry
        *blobs : bytes
            Signature and study, unless they are stored already.

        Raises
        ------
        ValueError
            A digest of the entry names bytes that are neither given nor stored.
        """
        with self.transaction() as db:
            self._check_reading(entry)
            for data in blobs:
                db.execute("INSERT OR IGNORE INTO blobs (digest, data) VALUES (?, ?)", (digest_of(data), data))
            for digest in (entry.signature, entry.study):
                if digest is not None and not self._has_blob(digest):
                    raise ValueError(f"{entry.id}: no bytes for the digest {digest}")
            self._delete(entry.id, keep={entry.signature, entry.study})
            self._insert(entry)

    def count(self, *, state: str) -> int:
        """Number of entries of one state."""
        return int(next(self.rows("SELECT count(*) FROM models WHERE state = ?", (state,)))[0])

    def twins(self, signature: str) -> list[str]:
        """Ids of the entries with one signature, in order: what was read of them is equal in every value."""
        return [i for (i,) in self.rows("SELECT id FROM models WHERE signature = ? ORDER BY id", (signature,))]

    def get(self, model_id: str) -> Entry | None:
        """The entry of an id, or None."""
        rows = self._rows("WHERE id = ?", (model_id,))
        return next(rows, None)

    def remove(self, model_id: str) -> bool:
        """Take an entry out, with the bytes nothing else needs; False when there is none."""
        with self.transaction():
            return self._delete(model_id, keep=set())

    def entries(self, *, state: str | None = None) -> Iterator[Entry]:
        """All entries, or those of one state, in the order of their ids."""
        return self._rows("WHERE ?1 IS NULL OR state = ?1 ORDER BY id", (state,))

    def entries_with_digests(self) -> Iterator[tuple[Entry, str]]:
        """All entries with the digests stored beside them, in the order of their ids."""
        for row in self.rows(f"SELECT {_COLUMNS} FROM models ORDER BY id"):  # noqa: S608 - literals of this module
            yield self._entry(row), row[11]

    def ids(self, *, state: str | None = None) -> list[str]:
        """Ids of all entries, or of those of one state, in order."""
        query = "SELECT id FROM models WHERE ?1 IS NULL OR state = ?1 ORDER BY id"
        return [i for (i,) in self.rows(query, (state,))]

    def ids_of_repo(self, repo: str) -> list[str]:
        """Ids of the entries of one repository or place, in order."""
        return [i for (i,) in self.rows("SELECT id FROM models WHERE repo = ? ORDER BY id", (repo,))]

    def ids_with_file(self, sha256: str) -> list[str]:
        """Ids of the entries that hold a file of this content, in order."""
        query = "SELECT DISTINCT id FROM models JOIN files ON model = number WHERE sha256 = ? ORDER BY id"
        return [i for (i,) in self.rows(query, (sha256,))]

    def blob(self, digest: str) -> bytes:
        """Bytes by their digest, which is checked.

        Raises
        ------
        UnusableIndexError
            They are missing or not what was stored.
        """
        row = next(self.rows("SELECT CAST(data AS BLOB) FROM blobs WHERE digest = ?", (digest,)), None)
        if row is None or digest_of(row[0]) != digest:
            told = "are missing" if row is None else "are damaged"
            raise UnusableIndexError(
                f"stored bytes {told} ({digest[:16]})", where=str(self.path), hint="run `lineage index verify`"
            )
        return bytes(row[0])

    def meta(self, key: str, default: str = "") -> str:
        """A value that belongs to the whole index."""
        row = next(self.rows("SELECT value FROM meta WHERE key = ?", (key,)), None)
        return default if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Store such a value."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def rows(self, query: str, values: Iterable[Any] = ()) -> Iterator[Any]:
        """Rows of a query, fetched in pieces, so that others take their turns between.

        Raises
        ------
        UnusableIndexError
            The file is damaged.
        """
        with self._lock:
            try:
                cursor = self.connection.execute(query, tuple(values))
                piece = cursor.fetchmany(256)
            except sqlite3.DatabaseError as error:
                raise damaged(self.path, error) from error
        while piece:
            yield from piece
            with self._lock:
                try:
                    piece = cursor.fetchmany(256)
                except sqlite3.DatabaseError as error:
                    raise damaged(self.path, error) from error

    def _rows(self, rest: str, values: Iterable[Any]) -> Iterator[Entry]:
        for row in self.rows(f"SELECT {_COLUMNS} FROM models {rest}", values):  # noqa: S608 - literals of this module
            yield self._entry(row)

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        number = row[0]
        files = self.rows("SELECT path, size, sha256 FROM files WHERE model = ? ORDER BY path", (number,))
        vector = next(self.rows("SELECT CAST(data AS BLOB) FROM vectors WHERE model = ?", (number,)), None)
        try:
            return Entry(
                id=row[1],
                ref=row[2],
                repo=row[3],
                revision=row[4],
                state=row[5],
                reason=row[6],
                files=tuple(FileFact(*f) for f in files),
                parents=tuple(DeclaredParent(*p) for p in json.loads(row[7])),
                facts=json.loads(row[8]),
                signature=row[9],
                study=row[10],
                vector=None if vector is None else bytes(vector[0]),
            )
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise damaged(self.path, error) from error

    def _insert(self, entry: Entry) -> None:
        parents = canonical([[p.id, p.relation, p.source] for p in sorted(entry.parents)])
        head = (entry.id, entry.ref, entry.repo, entry.revision, entry.state, entry.reason)
        row = (*head, parents, canonical(dict(entry.facts)), entry.signature, entry.study, entry.digest)
        marks = ", ".join("?" * len(row))
        insert = f"INSERT INTO models ({_COLUMNS.removeprefix('number, ')}) VALUES ({marks})"  # noqa: S608 - literals of this module
        number = self.connection.execute(insert, row).lastrowid
        rows = [(number, f.path, f.size, f.sha256) for f in entry.files]
        self.connection.executemany("INSERT INTO files (model, path, size, sha256) VALUES (?, ?, ?, ?)", rows)
        if entry.vector is not None:
            self.connection.execute("INSERT INTO vectors (model, data) VALUES (?, ?)", (number, entry.vector))
            self._chain(entry.digest)

    def _delete(self, model_id: str, *, keep: set[str | None]) -> bool:
        db = self.connection
        row = db.execute("SELECT number, signature, study FROM models WHERE id = ?", (model_id,)).fetchone()
        if row is None:
            return False
        db.execute("DELETE FROM models WHERE number = ?", (row[0],))
        self._chain(f"less {model_id}")
        for digest in {row[1], row[2]} - keep - {None}:
            used = db.execute("SELECT 1 FROM models WHERE signature = ? OR study = ?", (digest, digest)).fetchone()
            if used is None:
                db.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
        return True

    def _check_reading(self, entry: Entry) -> None:
        """All signatures of one index were read at the same places; the first one says where."""
        if entry.signature is None or "row_key" not in entry.facts:
            return
        reading = f"{entry.facts.get('signature_version')} {entry.facts['row_key']}"
        held = self.meta("reading")
        if held not in {"", reading}:
            raise UsageError(
                f"read with signature version and row key {reading}, and the index holds {held}",
                where=entry.id,
                hint="use one row key for one index",
            )
        if not held:
            self.set_meta("reading", reading)

    def _has_blob(self, digest: str) -> bool:
        return self.connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone() is not None

    def _chain(self, change: str) -> None:
        """The state of the vectors: a digest of all their changes, by which an old search file is known."""
        self.set_meta("vectors", digest_of(f"{self.meta('vectors')} {change}".encode()))

    def _count_write(self) -> None:
        """The number of the write, with a check of its own, by which a seal of an earlier state is known to be old."""
        before = self.meta("writes").partition(" ")[0]
        number = (int(before) if before.isdecimal() and len(before) < 19 else 0) + 1
        value = f"{number} {digest_of(str(number).encode())[:16]}"
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('writes', ?)", (value,))

    @staticmethod
    def is_count(value: str) -> bool:
        """Whether a count of writes fits its own check."""
        number, _, check = value.partition(" ")
        return check == digest_of(number.encode())[:16]
