"""`lineage crawl`: from places where models are to entries of an index, each read at most once."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crawl import CrawlError, ModelRef
from crawl.catalogue import Catalogue, Query
from lineage.dispatching import Dispatcher
from lineage.engines import ENGINES, SHARED
from lineage.errors import UsageError
from lineage.index.ledger import Ledger, Outcome, Work, gone
from lineage.index.merging import merge
from lineage.index.records import Entry, canonical
from lineage.index.shards import is_shards
from lineage.index.store import Store
from lineage.inputs import is_folder, is_here
from lineage.record import SCHEMA_VERSION, RunRecord, row_key_parameter
from lineage.searching import find_all, read_references
from lineage.visiting import Terms

Tell = Callable[[int, int, int], None]
"""Called with works done, works planned, bytes received."""

ROUNDS = 5
"""How often in one run what failed and may pass is tried again: the last time after everything else is done."""


@dataclass(frozen=True, slots=True)
class CrawlOptions:
    """Options of a crawl.

    Attributes
    ----------
    index : Path
    terms : Terms
    query : Query
        For the source ``hub``.
    jobs : int
    resume : bool
        Go on with the plan of the run before.
    engine : str
        One of `lineage.engines.ENGINES`.
    """

    index: Path
    terms: Terms = field(default_factory=Terms)
    query: Query = field(default_factory=Query)
    jobs: int = 4
    resume: bool = False
    engine: str = "threads"


def crawl(sources: Sequence[str], options: CrawlOptions, tell: Tell | None = None) -> dict[str, Any]:
    """Bring an index up to what its sources hold.

    Parameters
    ----------
    sources : sequence of str
        ``hub``, folders, other indexes, files of ids, or ``-``; none of them to resume the last plan.
    options : CrawlOptions
    tell : callable, optional
        Progress.

    Returns
    -------
    dict
        The summary document.

    Raises
    ------
    UsageError
        A source is none, or there is nothing to resume.
    UnusableIndexError
        The index cannot be opened or written.
    CrawlError
        The listing of the hub cannot be read.
    """
    start = time.perf_counter()
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(options.index, create=True))
        ledger = Ledger(store)
        plan = (
            canonical([sorted(sources), _query_text(options.query)]) if sources or not options.resume else ledger.plan
        )
        if not plan:
            raise UsageError("nothing to resume", where=str(options.index), hint="name a source")
        traffic = stack.enter_context(options.terms.traffic().installed())
        planner = Planner(store, ledger, options, Catalogue(replace(options.terms.options(), traffic=traffic)))
        merged = {"seen": 0, "added": 0, "replaced": 0, "unchanged": 0}
        if not ledger.begin(plan, resume=options.resume):
            for source in sources:
                for word, n in planner.plan(source).items():
                    merged[word] += n
            ledger.listed()
        engine = stack.enter_context(ENGINES[options.engine](options.jobs))
        dispatcher = Dispatcher(
            store, ledger, options.terms, engine, traffic if options.engine in SHARED else None, options.jobs
        )
        for left in reversed(range(ROUNDS)):
            dispatcher.run(tell or _silent)
            if dispatcher.stopped or not left or not ledger.again():
                break
        spent = (traffic.bytes_received + dispatcher.bytes_received, traffic.exchanges + dispatcher.exchanges)
        return _document(ledger, options, merged, dispatcher, spent, time.perf_counter() - start)


class Planner:
    """Lists what sources hold.

    Parameters
    ----------
    store : Store
    ledger : Ledger
    options : CrawlOptions
    catalogue : Catalogue
    """

    def __init__(self, store: Store, ledger: Ledger, options: CrawlOptions, catalogue: Catalogue) -> None:
        self._store = store
        self._ledger = ledger
        self._options = options
        self._catalogue = catalogue

    def plan(self, source: str) -> dict[str, int]:
        """Plan one source; an index is taken in at once, and how is returned."""
        if source == "hub":
            self._ledger.add(self._listed())
            return {}
        place = Path(source)
        if source != "-" and is_folder(source) and not is_shards(source):
            self._ledger.add(self._local(source))
            return {}
        if source != "-" and (is_shards(source) or _is_database(place)):
            return merge(self._store, [source], lambda *_: None)
        self._ledger.add(self._asked(source))
        return {}

    def _listed(self) -> Iterator[tuple[Work, Outcome | None]]:
        """Models of the query, and those of the index that it should list and does not."""
        query = self._options.query
        met: set[str] = set()
        for model in self._catalogue.models(query):
            met.add(model.repo)
            work = Work("hub", model.repo, model.commit or "", model.repo)
            if model.refused:
                yield work, self._refused(work, model.refused)
            else:
                yield work, Outcome("unchanged") if self._is_known(model.repo, model.commit) else None
        rows = self._store.rows("SELECT DISTINCT repo FROM models WHERE ref LIKE 'hf://%' ORDER BY repo")
        for (repo,) in rows:
            if repo not in met and query.is_about(repo) and not self._is_gone(repo):
                yield Work("hub", repo, "", repo), None

    def _is_known(self, repo: str, commit: str | None) -> bool:
        held = [e for e in self._entries(repo) if e.revision == commit]
        words = {"signed", "failed", "skipped"} | (set() if self._options.terms.authorised else {"gated"})
        return commit is not None and bool(held) and all(e.state in words and "gone" not in e.facts for e in held)

    def _is_gone(self, repo: str) -> bool:
        return all(e.state == "removed" or "gone" in e.facts for e in self._entries(repo))

    def _entries(self, repo: str) -> list[Entry]:
        return [e for name in self._store.ids_of_repo(repo) if (e := self._store.get(name)) is not None]

    def _refused(self, work: Work, reason: str) -> Outcome:
        held = self._entries(work.repo)
        name = f"{work.repo}@{work.revision}" if work.revision else work.repo
        fresh = Entry(name, f"hf://{name}", work.repo, work.revision or None, "gated", reason)
        for entry in () if held else (fresh,):
            self._store.put_model(entry)
        return Outcome("gated", reason)

    def _asked(self, source: str) -> Iterator[tuple[Work, Outcome | None]]:
        """Models named in a file: ids of the hub, folders and weight files."""
        names = read_references(source)
        local = [name for name in names if is_here(name)]
        for name in dict.fromkeys(names):
            if name in local:
                continue
            try:
                ref = ModelRef.parse(name)
            except CrawlError as error:
                yield Work("hub", name, "", name), Outcome("failed", error.reason)
                continue
            kind = "hub" if ref.scheme == "hub" else "local"
            yield Work(kind, ref.location, ref.revision or "", name), None
        for name, ref in find_all(local) if local else ():
            yield Work("local", name, "", str(ref)), None

    def _local(self, folder: str) -> Iterator[tuple[Work, Outcome | None]]:
        """Models of a folder, and those that were there and are not."""
        place = str(Path(folder).absolute())
        found = find_all([folder])
        for name, ref in found:
            yield Work("local", name, place, str(ref)), None
        here = {name for name, _ in found}
        for name in self._ledger.places(place):
            entry = self._store.get(name)
            if name not in here and entry is not None:
                self._store.put_model(gone(entry, "not in its folder any more"))
                self._ledger.forget_place(name)
                yield Work("local", name, place, entry.ref), Outcome("removed", "not in its folder any more")


def _is_database(place: Path) -> bool:
    try:
        with place.open("rb") as stream:
            return stream.read(16) == b"SQLite format 3\0"
    except (OSError, ValueError):
        return False


def _query_text(query: Query) -> list[Any]:
    since = None if query.since is None else query.since.isoformat()
    return [query.author, query.search, sorted(query.filters), since, query.limit]


def _silent(done: int, total: int, n_bytes: int) -> None:
    del done, total, n_bytes


def _document(
    ledger: Ledger,
    options: CrawlOptions,
    merged: dict[str, int],
    dispatcher: Dispatcher,
    spent: tuple[int, int],
    seconds: float,
) -> dict[str, Any]:
    counts = ledger.counts()
    words = {word: n for word, (n, _) in counts.items()}
    total, decided = ledger.total()
    parameters = {
        "engine": options.engine,
        "query": _query_text(options.query),
        "row_key": row_key_parameter(options.terms.row_key),
    }
    record = RunRecord(command="crawl", parameters=parameters, seed=0)
    record.run = {"seconds": round(seconds, 3), "jobs": options.jobs}
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "index": str(options.index),
        "seen": total + merged["seen"],
        "added": words.get("added", 0) + merged["added"],
        "updated": words.get("updated", 0) + merged["replaced"],
        "renamed": words.get("renamed", 0),
        "unchanged": words.get("unchanged", 0) + merged["unchanged"],
        "models": sum(models for word, (_, models) in counts.items() if word in {"added", "updated", "renamed"}),
        "copies": dispatcher.copies,
        "skipped": ledger.told("skipped", "gated", "removed"),
        "failed": ledger.told("failed"),
        "left": total - decided,
        "stopped": dispatcher.stopped or None,
        "bytes_read": spent[0],
        "requests": spent[1],
    }
