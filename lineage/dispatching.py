"""Sends the works of a crawl out, joins what comes back, and commits each work once, whatever the order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from functools import partial

from crawl.stores.traffic import Traffic
from lineage.engines import Engine
from lineage.index.ledger import Ledger, Outcome, Work, gone
from lineage.index.records import Entry
from lineage.index.store import Store
from lineage.visiting import Failure, Looked, Part, Read, Terms, Visit, copied, fetched, look, read, read_local, unread

Tell = Callable[[int, int, int], None]

_AHEAD = 4
"""Batches sent out for each worker: enough that none waits, few enough that a killed run loses little."""

MOST_FAILING = 50
"""Works in a row that fail for want of an answer, after which the hub is taken to be away."""

_FAR = 8
"""Works of one batch where workers are far away, or leave files; next door a batch is one work."""


@dataclass(slots=True)
class _Open:
    """A repository whose weight sets are being read."""

    work: Work
    looked: Looked
    left: int
    entries: list[tuple[Entry, tuple[bytes, ...]]] = field(default_factory=list)
    contents: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Dispatcher:
    """Runs what a ledger holds.

    Parameters
    ----------
    store : Store
    ledger : Ledger
    terms : Terms
    engine : Engine
    traffic : Traffic or None
        Shared by workers of this process; workers elsewhere have their own.
    jobs : int

    Attributes
    ----------
    stopped : str
        ``bytes`` or ``requests`` where that budget was used up, ``network`` where nothing answers any more, or empty.
    bytes_received, exchanges : int
        What workers with traffic of their own have told.
    copies : int
        Weight sets that were byte for byte read already.
    """

    def __init__(
        self, store: Store, ledger: Ledger, terms: Terms, engine: Engine, traffic: Traffic | None, jobs: int
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._terms = terms
        self._engine = engine
        self._traffic = traffic
        self._jobs = jobs
        self._size = 1 if traffic is not None and not terms.shards else _FAR
        self._sent: dict[Future[Visit], Callable[[Visit], None]] = {}
        self._parts: deque[tuple[_Open, Part]] = deque()
        self._reading: dict[str, list[tuple[_Open, Part]]] = {}
        self._failing = 0
        self.stopped = ""
        self.bytes_received = self.exchanges = self.copies = 0

    def run(self, tell: Tell) -> None:
        """Look at and read everything that is pending."""
        total, done = self._ledger.total()
        pending = self._ledger.pending()
        more = True
        while more or self._parts or self._sent:
            while not self.stopped and len(self._sent) < _AHEAD * self._jobs and (self._parts or more):
                more = self._send_next(pending, more=more)
            if self.stopped:
                more = False
                self._parts.clear()
            if not self._sent:
                continue
            for future in wait(self._sent, return_when=FIRST_COMPLETED).done:
                self._sent.pop(future)(self._counted(fetched(future.result())))
            done = self._ledger.total()[1]
            tell(done, total, self.bytes_received + (self._traffic.bytes_received if self._traffic else 0))

        self._settle()

    def _settle(self) -> None:
        """What may not be read and is byte for byte what was read elsewhere is known all the same."""
        for entry in list(self._store.entries(state="gated")):
            key = entry.facts.get("content")
            twin = self._ledger.twin(key) if isinstance(key, str) and key else None
            if twin is not None:
                self.copies += 1
                self._ledger.settle(copied(entry, twin), f"{entry.reason}, and read elsewhere")

    def _counted(self, visit: Visit) -> Visit:
        self.bytes_received += visit.bytes_received
        self.exchanges += visit.exchanges
        return visit

    def _send_next(self, pending: Iterator[Work], *, more: bool) -> bool:
        """Send one batch: of weight sets first, so that what is begun ends; False when nothing is pending any more."""
        if self._parts:
            batch = [self._parts.popleft() for _ in range(min(self._size, len(self._parts)))]
            self._send(partial(self._was_read, batch), read, [part for _, part in batch])
            return more
        works: list[Work] = []
        for work in pending:
            works.append(work)
            if len(works) == self._size or work.kind != works[0].kind:
                break
        for kind in ("hub", "local"):
            if batch_of := [w for w in works if w.kind == kind]:
                self._send_works(kind, batch_of)
        return bool(works)

    def _send_works(self, kind: str, works: list[Work]) -> None:
        if kind == "hub":
            self._send(partial(self._was_looked, works), look, works)
        else:
            self._send(partial(self._was_local, works), read_local, [(w, self._ledger.stamp(w.repo)) for w in works])

    def _send(self, then: Callable[[Visit], None], call: Callable[..., Visit], batch: Sequence[object]) -> None:
        terms = self._terms
        if self._traffic is None:
            terms = replace(
                terms,
                budget_bytes=_less(terms.budget_bytes, self.bytes_received),
                budget_requests=_less(terms.budget_requests, self.exchanges),
            )
            self._sent[self._engine.submit(call, tuple(batch), terms)] = then
        else:
            self._sent[self._engine.submit(call, tuple(batch), terms, self._traffic)] = then

    def _was_looked(self, works: list[Work], visit: Visit) -> None:
        for work, answer in zip(works, visit.answers, strict=True):
            if not isinstance(answer, Looked):
                raise TypeError("a look gives what was looked at")
            if answer.failure is not None:
                self._end(work, answer.failure)
            elif answer.listing is not None and not answer.parts:
                self._finish(work, self._without_weights(answer))
            else:
                self._take(_Open(work, answer, len(answer.parts)))

    def _take(self, one: _Open) -> None:
        """Decide for each weight set whether it is read, a copy of what is read, or a copy of what is being read."""
        if self._is_known(one):
            self._finish(one.work, self._named(one, "unchanged"))
            return
        for part in one.looked.parts:
            twin = self._ledger.twin(part.key) if part.key else None
            if twin is not None:
                self._copy(one, part, twin)
            elif part.key and part.key in self._reading:
                self._reading[part.key].append((one, part))
            else:
                if part.key:
                    self._reading[part.key] = []
                self._parts.append((one, part))

    def _copy(self, one: _Open, part: Part, twin: Entry) -> None:
        self.copies += 1
        one.entries.append((copied(unread(part), twin), ()))
        one.contents.append((part.key, part.id))
        self._one_less(one)

    def _was_read(self, batch: list[tuple[_Open, Part]], visit: Visit) -> None:
        for (one, part), answer in zip(batch, visit.answers, strict=True):
            if not isinstance(answer, Read):
                raise TypeError("a reading gives what was read")
            if answer.failure is not None and answer.failure.state == "planned":
                self._stop(answer.failure)
                self._reading.pop(part.key, None)
                continue
            waiting = self._reading.pop(part.key, []) if part.key else []
            if answer.failure is not None:
                one.failures.append(answer.failure)
            if answer.entry is not None and not (answer.failure is not None and answer.failure.retryable):
                one.entries.append((answer.entry, answer.blobs))
            if answer.failure is None and part.key:
                one.contents.append((part.key, part.id))
            self._one_less(one)
            self._release(waiting, answer, part)

    def _release(self, waiting: list[tuple[_Open, Part]], answer: Read, part: Part) -> None:
        """What waited for a reading becomes its copy; where the reading failed, the next one is read instead."""
        if not waiting:
            return
        if answer.failure is None and answer.entry is not None:
            for one, other in waiting:
                self.copies += 1
                one.entries.append((copied(unread(other), answer.entry), answer.blobs))
                one.contents.append((other.key, other.id))
                self._one_less(one)
        else:
            self._reading[part.key] = waiting[1:]
            self._parts.append(waiting[0])

    def _one_less(self, one: _Open) -> None:
        one.left -= 1
        if one.left:
            return
        retryable = [f for f in one.failures if f.retryable]
        if retryable:
            self._finish(one.work, Outcome("failed", retryable[0].reason, retryable=True))
            return
        word = one.failures[0].state if one.failures else self._arrival(one)
        reasons = [f.reason for f in one.failures] + ([one.looked.left_out] if one.looked.left_out else [])
        outcome = replace(
            self._named(one, word, "; ".join(dict.fromkeys(reasons))),
            contents=tuple(one.contents),
        )
        entries = [(self._with_former(one, entry), blobs) for entry, blobs in one.entries]
        dropped = (*outcome.dropped, *self._superseded(one, [entry for entry, _ in entries]))
        self._finish(one.work, replace(outcome, entries=tuple(entries), dropped=tuple(sorted(set(dropped)))))

    def _is_known(self, one: _Open) -> bool:
        """Whether the index holds every weight set of this commit already, and nothing has to be said anew."""
        for part in one.looked.parts:
            held = self._store.get(part.id)
            again = held is None or "gone" in held.facts or held.state not in {"signed", "failed"}
            if again and not (held is not None and held.state == "gated" and not self._terms.authorised):
                return False
        return one.work.repo == one.looked.parts[0].listing.repo

    def _arrival(self, one: _Open) -> str:
        """How a readable repository is new to the index."""
        listing = one.looked.parts[0].listing
        if one.work.repo != listing.repo:
            return "renamed"
        return "updated" if self._store.ids_of_repo(listing.repo) else "added"

    def _named(self, one: _Open, word: str, reason: str = "") -> Outcome:
        """An outcome; of a repository that has another name now, the old name is let go."""
        listing = one.looked.parts[0].listing
        if one.work.repo == listing.repo:
            return Outcome(word, reason)
        told = f"it is {listing.repo} now"
        return Outcome(
            word, f"{told}; {reason}" if reason else told, dropped=tuple(self._store.ids_of_repo(one.work.repo))
        )

    def _with_former(self, one: _Open, entry: Entry) -> Entry:
        """An entry with the names its repository had before, as far as they were met."""
        held = self._store.get(entry.id)
        former = set(held.facts.get("former", ())) if held is not None else set()
        if one.work.repo != entry.repo:
            former.add(one.work.repo)
        return replace(entry, facts={**entry.facts, "former": sorted(former)}) if former else entry

    def _superseded(self, one: _Open, entries: list[Entry]) -> list[str]:
        """Ids of older commits whose weights the new one holds as well: a card was edited, and nothing is lost."""
        fresh = {e.signature for e in entries if e.signature is not None}
        repo, now = one.looked.parts[0].listing.repo, {e.id for e in entries}
        return [
            held.id
            for name in self._store.ids_of_repo(repo)
            if name not in now and (held := self._store.get(name)) is not None and self._is_spent(held, fresh)
        ]

    @staticmethod
    def _is_spent(held: Entry, fresh: set[str]) -> bool:
        return held.signature is None or held.signature in fresh

    def _without_weights(self, looked: Looked) -> Outcome:
        listing = looked.listing
        if listing is None:
            raise ValueError("a look without a listing has a failure")
        name = f"{listing.repo}@{listing.commit}"
        if (held := self._store.get(name)) is not None and held.state == "skipped":
            return Outcome("unchanged")
        entry = Entry(name, f"hf://{name}", listing.repo, listing.commit, "skipped", looked.left_out)
        return Outcome("skipped", looked.left_out, entries=((entry, ()),))

    def _was_local(self, works: list[Work], visit: Visit) -> None:
        for work, answer in zip(works, visit.answers, strict=True):
            if not isinstance(answer, Read):
                raise TypeError("a reading gives what was read")
            if answer.failure is not None:
                self._finish(work, Outcome("failed", answer.failure.reason, retryable=answer.failure.retryable))
            elif answer.entry is None:
                self._finish(work, Outcome("unchanged"))
            else:
                held = self._store.get(work.repo)
                word = "added" if held is None else "unchanged" if held.digest == answer.entry.digest else "updated"
                stamp = (work.repo, work.revision, answer.stamp)
                entries = () if word == "unchanged" else ((answer.entry, answer.blobs),)
                self._finish(work, Outcome(word, entries=entries, stamp=stamp))

    def _end(self, work: Work, failure: Failure) -> None:
        """End a work whose repository cannot even be looked at."""
        if failure.state == "planned":
            self._stop(failure)
            return
        entries: list[tuple[Entry, tuple[bytes, ...]]] = []
        if failure.state in {"removed", "gated"}:
            held = [e for name in self._store.ids_of_repo(work.repo) if (e := self._store.get(name)) is not None]
            if held and failure.state == "removed":
                entries = [(gone(e, failure.reason), ()) for e in held]
            elif not held:
                name = f"{work.repo}@{work.revision}" if work.revision else work.repo
                entries = [
                    (Entry(name, f"hf://{name}", work.repo, work.revision or None, failure.state, failure.reason), ())
                ]
        self._finish(work, Outcome(failure.state, failure.reason, retryable=failure.retryable, entries=tuple(entries)))

    def _stop(self, failure: Failure) -> None:
        self.stopped = "bytes" if "bytes" in failure.reason else "requests"

    def _finish(self, work: Work, outcome: Outcome) -> None:
        self._failing = self._failing + 1 if outcome.retryable else 0
        if self._failing >= MOST_FAILING:
            self.stopped = "network"
        self._ledger.finish(work, outcome)


def _less(budget: int | None, spent: int) -> int | None:
    return None if budget is None else max(0, budget - spent)
