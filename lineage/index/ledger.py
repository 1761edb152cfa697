"""The ledger of a crawl: what is planned, what became of it, committed together with what was read, once each.

Its tables stand in the file of the index, so that a signature and the word that it is done are one transaction: a run that is
killed at any moment has stored both or neither.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lineage.index.records import Entry
from lineage.index.store import Store

_TABLES = (
    """CREATE TABLE IF NOT EXISTS crawl_work (
         kind TEXT NOT NULL, repo TEXT NOT NULL, revision TEXT NOT NULL, ref TEXT NOT NULL,
         outcome TEXT, reason TEXT NOT NULL DEFAULT '', retryable INTEGER NOT NULL DEFAULT 0, models INTEGER NOT NULL DEFAULT 0,
         PRIMARY KEY (kind, repo, revision)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS crawl_contents (key TEXT PRIMARY KEY, model TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS crawl_places (id TEXT PRIMARY KEY, source TEXT NOT NULL, stamp TEXT NOT NULL) WITHOUT ROWID",
)

_PIECE = 1000
"""Rows planned in one transaction, or fetched at once."""


@dataclass(frozen=True, slots=True, order=True)
class Work:
    """One repository or local model to be looked at.

    Attributes
    ----------
    kind : {"hub", "local"}
    repo : str
        `org/name`, or the id of a local model.
    revision : str
        What was listed or asked for; empty for the head of the main branch.
    ref : str
        How it was asked for.
    """

    kind: str
    repo: str
    revision: str
    ref: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one work.

    Attributes
    ----------
    word : str
        ``added``, ``updated``, ``unchanged``, ``renamed``, ``removed``, ``gated``, ``skipped`` or ``failed``.
    reason : str
    retryable : bool
        Whether another run may do better.
    entries : tuple of (Entry, tuple of bytes)
        To be stored.
    dropped : tuple of str
        Ids that others take the place of.
    contents : tuple of (str, str)
        Keys of what was read, and the ids that hold it.
    stamp : (str, str, str) or None
        Id, folder and state of a local model.
    """

    word: str
    reason: str = ""
    retryable: bool = False
    entries: tuple[tuple[Entry, tuple[bytes, ...]], ...] = ()
    dropped: tuple[str, ...] = ()
    contents: tuple[tuple[str, str], ...] = ()
    stamp: tuple[str, str, str] | None = field(default=None)


class Ledger:
    """What a crawl knows beside the models themselves.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.transaction() as db:
            for table in _TABLES:
                db.execute(table)

    def begin(self, plan: str, *, resume: bool) -> bool:
        """Start a plan, or go on with the one that is there; True when all of its sources have been listed.

        Parameters
        ----------
        plan : str
            Canonical text of the sources.
        resume : bool
            Go on with the same plan; without it, and with another one, what was planned is forgotten.
        """
        if resume and self._store.meta("crawl.plan") == plan:
            self.again()
            return self._store.meta("crawl.listed") == "yes"
        with self._store.transaction() as db:
            db.execute("DELETE FROM crawl_work")
            self._store.set_meta("crawl.plan", plan)
            self._store.set_meta("crawl.listed", "no")
        return False

    def again(self) -> int:
        """Plan once more what failed and may pass; their number."""
        with self._store.transaction() as db:
            query = "UPDATE crawl_work SET outcome = NULL, reason = '', retryable = 0 WHERE retryable = 1"
            return int(db.execute(query).rowcount)

    @property
    def plan(self) -> str:
        """The plan that was begun last; empty where there was none."""
        return self._store.meta("crawl.plan")

    def listed(self) -> None:
        """All sources of the plan have been listed."""
        self._store.set_meta("crawl.listed", "yes")

    def add(self, works: Iterable[tuple[Work, Outcome | None]]) -> None:
        """Plan works; those with an outcome are decided already, and one planned before stays as it is."""
        piece: list[tuple[Work, Outcome | None]] = []
        for pair in works:
            piece.append(pair)
            if len(piece) == _PIECE:
                self._insert(piece)
                piece = []
        self._insert(piece)

    def _insert(self, works: Sequence[tuple[Work, Outcome | None]]) -> None:
        with self._store.transaction() as db:
            rows = [(w.kind, w.repo, w.revision, w.ref) for w, _ in works]
            db.executemany("INSERT OR IGNORE INTO crawl_work (kind, repo, revision, ref) VALUES (?, ?, ?, ?)", rows)
            for work, outcome in works:
                if outcome is not None:
                    self._write(work, outcome)

    def pending(self) -> Iterator[Work]:
        """Works without an outcome, in order; what is decided meanwhile is left out."""
        last = ("", "", "")
        query = (
            "SELECT kind, repo, revision, ref FROM crawl_work WHERE outcome IS NULL AND (kind, repo, revision) > (?, ?, ?) "
            "ORDER BY kind, repo, revision LIMIT ?"
        )
        while piece := [Work(*row) for row in self._store.rows(query, (*last, _PIECE))]:
            yield from piece
            last = (piece[-1].kind, piece[-1].repo, piece[-1].revision)

    def finish(self, work: Work, outcome: Outcome) -> None:
        """Store what became of a work, and all that was read for it, in one transaction."""
        with self._store.transaction() as db:
            for entry, blobs in outcome.entries:
                self._store.put_model(entry, *blobs)
            for name in outcome.dropped:
                self._store.remove(name)
            for key, model in outcome.contents:
                db.execute("INSERT OR REPLACE INTO crawl_contents (key, model) VALUES (?, ?)", (key, model))
            if outcome.stamp is not None:
                db.execute("INSERT OR REPLACE INTO crawl_places (id, source, stamp) VALUES (?, ?, ?)", outcome.stamp)
            self._write(work, outcome)

    def _write(self, work: Work, outcome: Outcome) -> None:
        self._store.connection.execute(
            "UPDATE crawl_work SET outcome = ?, reason = ?, retryable = ?, models = ? "
            "WHERE kind = ? AND repo = ? AND revision = ?",
            (
                outcome.word,
                outcome.reason,
                int(outcome.retryable),
                len(outcome.entries),
                work.kind,
                work.repo,
                work.revision,
            ),
        )

    def twin(self, key: str) -> Entry | None:
        """A signed entry that was read from the same bytes."""
        row = next(self._store.rows("SELECT model FROM crawl_contents WHERE key = ?", (key,)), None)
        entry = None if row is None else self._store.get(row[0])
        return entry if entry is not None and entry.state == "signed" and entry.facts.get("content") == key else None

    def settle(self, entry: Entry, reason: str) -> None:
        """Store an entry in place of one that was refused, and say so where its repository is planned."""
        with self._store.transaction() as db:
            self._store.put_model(entry)
            db.execute(
                "UPDATE crawl_work SET outcome = 'added', reason = ? "
                "WHERE kind = 'hub' AND repo = ? AND outcome = 'gated'",
                (reason, entry.repo),
            )

    def stamp(self, name: str) -> str:
        """State of a local model when it was read; empty where it was not."""
        row = next(self._store.rows("SELECT stamp FROM crawl_places WHERE id = ?", (name,)), None)
        return "" if row is None else str(row[0])

    def places(self, source: str) -> list[str]:
        """Ids of the local models found in a folder by earlier crawls, in order."""
        return [i for (i,) in self._store.rows("SELECT id FROM crawl_places WHERE source = ? ORDER BY id", (source,))]

    def forget_place(self, name: str) -> None:
        """A local model is gone."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM crawl_places WHERE id = ?", (name,))

    def total(self) -> tuple[int, int]:
        """Numbers of works planned and decided."""
        row = next(self._store.rows("SELECT count(*), count(outcome) FROM crawl_work"))
        return int(row[0]), int(row[1])

    def counts(self) -> dict[str, tuple[int, int]]:
        """Word -> numbers of works and of entries stored for them."""
        query = "SELECT outcome, count(*), sum(models) FROM crawl_work WHERE outcome IS NOT NULL GROUP BY 1 ORDER BY 1"
        return {word: (int(n), int(models)) for word, n, models in self._store.rows(query)}

    def told(self, *words: str) -> list[dict[str, Any]]:
        """References with their reasons, of the works that ended with one of these words, in order."""
        marks = ", ".join("?" * len(words))
        query = f"SELECT ref, outcome, reason, retryable FROM crawl_work WHERE outcome IN ({marks}) ORDER BY ref"  # noqa: S608 - marks only
        return [
            {"ref": ref, "state": word, "reason": reason, "retryable": bool(retryable)}
            for ref, word, reason, retryable in self._store.rows(query, words)
        ]


def gone(entry: Entry, reason: str) -> Entry:
    """An entry of a model that is not where it was: what was read of it stays, with the word that it is gone."""
    if entry.state == "signed":
        return replace(entry, facts={**entry.facts, "gone": reason})
    return replace(entry, state="removed", reason=reason)
