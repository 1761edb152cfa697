"""One visit of a crawler: a batch of (repository, commit) in, rows for the index out, and nothing else touched.

These functions take and return frozen values that can be sent to another process or machine, so any executor can run them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from crawl import CrawlError, ModelRef, OpenOptions, open_model
from crawl.catalogue import Catalogue, RemoteSet, declared_in, sets_of
from crawl.errors import (
    BudgetSpentError,
    DisabledModelError,
    GatedModelError,
    ModelNotFoundError,
    NetworkError,
    TruncatedError,
)
from crawl.stores.listing import Listing
from crawl.stores.traffic import Traffic
from lineage.errors import UnusableIndexError
from lineage.index.entries import Reading, entry_of, signed_entry
from lineage.index.ledger import Work
from lineage.index.records import DeclaredParent, Entry, FileFact, canonical, digest_of
from lineage.index.shards import read_shard, write_shard
from lineage.index.studies import encode_study, fitted
from lineage.plan import PUBLIC_KEY, SIGNATURE_VERSION, RowKey
from lineage.reading import sign
from lineage.study import study

WHOLE = 2_000_000
"""Bytes of a weight set up to which it is fetched at once and read in full; of larger ones a dozen ranges are."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything a visit depends on, beside what is visited.

    Attributes
    ----------
    endpoint : str or None
    authorised : bool
        Whether the user's token is used; where it is, every worker takes it from its own environment.
    row_key : RowKey
    connect_seconds, read_seconds, longest_wait_seconds, deadline_seconds : float
    attempts : int
    per_host : int
        Exchanges at one time with one host.
    budget_bytes, budget_requests : int or None
        What is left of them.
    shards : str
        Where workers leave what they read, as Parquet files: a folder or an address of fsspec; empty for nowhere.
    """

    endpoint: str | None = None
    authorised: bool = False
    row_key: RowKey = PUBLIC_KEY
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    longest_wait_seconds: float = 60.0
    deadline_seconds: float = 900.0
    attempts: int = 5
    per_host: int = 8
    budget_bytes: int | None = None
    budget_requests: int | None = None
    shards: str = ""

    def options(self) -> OpenOptions:
        """The options of the bytes."""
        return OpenOptions(
            endpoint=self.endpoint,
            token=None if self.authorised else False,
            connect_seconds=self.connect_seconds,
            read_seconds=self.read_seconds,
            attempts=self.attempts,
            longest_wait_seconds=self.longest_wait_seconds,
            deadline_seconds=self.deadline_seconds,
        )

    def traffic(self) -> Traffic:
        """The traffic of a run on these terms."""
        return Traffic(
            self.options(),
            budget_bytes=self.budget_bytes,
            budget_requests=self.budget_requests,
            per_host=self.per_host,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is nothing.

    Attributes
    ----------
    state : str
        ``gated``, ``removed``, ``failed``, or ``planned`` where a budget was used up first.
    reason : str
    retryable : bool
    """

    state: str
    reason: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One weight set of a described repository, with the key of its content."""

    listing: Listing
    found: RemoteSet
    key: str

    @property
    def id(self) -> str:
        """Id of its model."""
        return ModelRef("hub", self.listing.repo, self.listing.commit, self.found.variant).id


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at one repository gave: its weight sets, or why there are none."""

    listing: Listing | None = None
    parts: tuple[Part, ...] = ()
    left_out: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What a reading gave: rows for the index, or why there are none.

    The blobs of an entry are with it, or in the file that `shard` names.
    """

    entry: Entry | None = None
    blobs: tuple[bytes, ...] = ()
    stamp: str = ""
    failure: Failure | None = None
    shard: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """The answers of one batch, in its order, and what they cost where the traffic was its own."""

    answers: tuple[Looked | Read, ...]
    bytes_received: int = 0
    exchanges: int = 0


def look(batch: Sequence[Work], terms: Terms, traffic: Traffic | None = None) -> Visit:
    """Ask for commit, files and hashes of repositories: one exchange each, and no byte of weights."""
    with _visiting(terms, traffic) as (catalogue, used):
        answers = tuple(_look(catalogue, work, terms) for work in batch)
        return _visit(answers, used, own=traffic is None)


def read(batch: Sequence[Part], terms: Terms, traffic: Traffic | None = None) -> Visit:
    """Read weight sets of repositories: rows for the index."""
    with _visiting(terms, traffic) as (catalogue, used):
        answers = _kept([_read(catalogue, part, terms) for part in batch], terms)
        return _visit(answers, used, own=traffic is None)


def read_local(batch: Sequence[tuple[Work, str]], terms: Terms, traffic: Traffic | None = None) -> Visit:
    """Read local models, each unless its files are as they were when its stamp was made."""
    del traffic
    return Visit(_kept([_read_local(work, known, terms) for work, known in batch], terms))


def _kept(answers: Sequence[Read], terms: Terms) -> tuple[Read, ...]:
    """Answers whose blobs are left in a file, where there is a place for them: what was read outlives whoever asked."""
    rows = [(a.entry, a.blobs) for a in answers if a.entry is not None and a.blobs]
    if not terms.shards or not rows:
        return tuple(answers)
    shard = write_shard(rows, terms.shards)
    return tuple(replace(a, blobs=(), shard=shard) if a.blobs else a for a in answers)


def fetched(visit: Visit) -> Visit:
    """A visit with the blobs that its answers left in files, checked against the digests of their entries.

    Raises
    ------
    UnusableIndexError
        A file is not there any more, or is not what was written.
    """
    shards = {a.shard for a in visit.answers if isinstance(a, Read) and a.shard}
    if not shards:
        return visit
    held = {entry.digest: blobs for shard in sorted(shards) for entry, blobs in read_shard(shard)}
    return replace(visit, answers=tuple(_with_blobs(a, held) for a in visit.answers))


def _with_blobs(answer: Looked | Read, held: Mapping[str, tuple[bytes, ...]]) -> Looked | Read:
    if not isinstance(answer, Read) or not answer.shard or answer.entry is None:
        return answer
    if answer.entry.digest not in held:
        raise UnusableIndexError("another run has written over these rows", where=answer.shard, hint="crawl again")
    return replace(answer, blobs=held[answer.entry.digest], shard="")


@contextmanager
def _visiting(terms: Terms, traffic: Traffic | None) -> Iterator[tuple[Catalogue, Traffic]]:
    if traffic is not None:
        yield Catalogue(replace(terms.options(), traffic=traffic)), traffic
        return
    with terms.traffic().installed() as own:
        yield Catalogue(replace(terms.options(), traffic=own)), own


def _visit(answers: tuple[Looked | Read, ...], used: Traffic, *, own: bool) -> Visit:
    return Visit(answers, used.bytes_received, used.exchanges) if own else Visit(answers)


def _look(catalogue: Catalogue, work: Work, terms: Terms) -> Looked:
    try:
        listing = catalogue.describe(work.repo, work.revision or None)
    except ModelNotFoundError as error:
        return Looked(failure=Failure("removed", error.reason))
    except CrawlError as error:
        return Looked(failure=failure_of(error))
    sets, left_out = sets_of(listing)
    return Looked(listing, tuple(Part(listing, s, content_key(listing, s, terms.row_key)) for s in sets), left_out)


def content_key(listing: Listing, found: RemoteSet, key: RowKey) -> str:
    """Digest of the content of all files that decide what a reading gives; equal keys give equal signatures.

    Empty where the hub does not name the content of some file.
    """
    names = sorted((*found.files, *found.claims))
    contents = [listing.hashes.get(n) or listing.blobs.get(n, "") for n in names]
    if not all(contents) or not found.files:
        return ""
    return digest_of(canonical([SIGNATURE_VERSION, key.name, WHOLE, contents]).encode("ascii"))


def _read(catalogue: Catalogue, part: Part, terms: Terms) -> Read:
    listing, key = part.listing, terms.row_key
    slim = sum(listing.sizes[file] for file in part.found.files) > WHOLE
    try:
        with catalogue.open(listing, part.found, whole=WHOLE) as source:
            signature = sign(source, key=key, slim=slim)
            second = None if slim else study(source, key, name=part.id)
            names = part.found.files or source.files
    except CrawlError as error:
        failure = failure_of(error)
        return Read(entry=unread(part, failure), failure=failure)
    entry, blobs = signed_entry(
        signature,
        name=part.id,
        place=(listing.repo, listing.commit),
        files=tuple(FileFact(f, listing.sizes[f], listing.hashes.get(f)) for f in names),
        parents=parents_of(listing),
        facts={"content": part.key, "reading": "slim" if slim else "full"},
        second=encode_study(fitted(second)) if second is not None and second.matrices else None,
    )
    return Read(entry, blobs)


def unread(part: Part, failure: Failure | None = None) -> Entry:
    """Entry of a weight set that is not read, or could not be: its files and what it declares are known all the same."""
    listing = part.listing
    return Entry(
        id=part.id,
        ref=f"hf://{part.id}",
        repo=listing.repo,
        revision=listing.commit,
        state="listed" if failure is None else "gated" if failure.state == "gated" else "failed",
        reason="" if failure is None else failure.reason,
        files=tuple(FileFact(f, listing.sizes[f], listing.hashes.get(f)) for f in part.found.files),
        parents=parents_of(listing),
        facts={"content": part.key},
    )


def copied(bare: Entry, twin: Entry) -> Entry:
    """Entry of a weight set that is byte for byte one already read.

    Parameters
    ----------
    bare : Entry
        As `unread` makes it: its place, files and claims.
    twin : Entry
        What was read.
    """
    facts = {k: v for k, v in twin.facts.items() if k not in {"former", "gone"}}
    return replace(
        bare,
        state="signed",
        reason="",
        facts=facts,
        signature=twin.signature,
        study=twin.study,
        vector=twin.vector,
    )


def parents_of(listing: Listing) -> tuple[DeclaredParent, ...]:
    """Parents that the tags of a repository declare."""
    return tuple(DeclaredParent(name, relation, "tag") for name, relation in declared_in(listing.tags))


def _read_local(work: Work, known: str, terms: Terms) -> Read:
    try:
        ref = ModelRef.parse(work.ref)
        stamp = stamp_of(ref)
        if known and stamp == known:
            return Read(stamp=stamp)
        with open_model(ref, options=terms.options()) as source:
            entry, blobs = entry_of(source, work.repo, Reading(key=terms.row_key))
    except CrawlError as error:
        return Read(failure=failure_of(error))
    return Read(entry, blobs, stamp)


def stamp_of(ref: ModelRef) -> str:
    """Digest of names, sizes, times and inodes of the files of a local model: the same while nobody writes to them."""
    place = Path(ref.location)
    rows: list[tuple[str, int, int, int]] = []
    try:
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            found = path.stat()
            if path.is_file():
                rows.append((path.name, found.st_size, found.st_mtime_ns, found.st_ino))
    except OSError:
        return ""
    return digest_of(canonical([os.fspath(place.absolute()), ref.variant, rows]).encode("ascii"))


def failure_of(error: CrawlError) -> Failure:
    """What an error of the bytes means for a crawl."""
    if isinstance(error, BudgetSpentError):
        return Failure("planned", error.reason)
    if isinstance(error, DisabledModelError | GatedModelError):
        return Failure("gated", error.reason)
    if isinstance(error, ModelNotFoundError):
        return Failure("failed", f"{error.reason}: it went away while it was read", retryable=True)
    return Failure("failed", error.reason, retryable=isinstance(error, NetworkError | TruncatedError))
