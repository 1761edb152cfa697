"""Many pairs from one file: every model is read once, every line is answered in order."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from crawl import CrawlError, ModelRef, open_model
from lineage.adapterunits import adapters_of
from lineage.comparing import CompareOptions, closer_of, compare_signed, identity_of
from lineage.discoveries import Discoveries
from lineage.documents import error_entry
from lineage.engines import ENGINES
from lineage.errors import UsageError
from lineage.published import add_published, require_solver
from lineage.reading import sign
from lineage.record import SCHEMA_VERSION, Counted, run_entry
from lineage.signature import Signature
from lineage.stepping import answered_when_asked
from lineage.thorough import add_opened

Pair = tuple[str, str]

_BATCH = 32
"""Pairs of one batch at most: enough to share what was read, few enough to wait for."""

_AHEAD = 4
"""Batches sent out for each worker."""


def parse_pairs(text: str, where: str) -> list[Pair]:
    """Pairs of references, two a line, apart by a tab or spaces; blank lines and those that start with # are skipped.

    Raises
    ------
    UsageError
        A line does not hold two references, or there is none.
    """
    pairs: list[Pair] = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        fields = [f.strip() for f in stripped.split("\t") if f.strip()] if "\t" in stripped else stripped.split()
        if len(fields) != 2:
            raise UsageError(
                f"line {number} holds {len(fields)} reference{'s' * (len(fields) != 1)} instead of two",
                where=where,
                hint="put a tab between references that contain spaces",
            )
        pairs.append((fields[0], fields[1]))
    if not pairs:
        raise UsageError("no pair in the file", where=where, hint="write two references a line")
    return pairs


def compare_pairs(
    pairs: Sequence[Pair],
    options: CompareOptions,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    jobs: int = 1,
    engine: str = "processes",
) -> Iterator[dict[str, Any]]:
    """Documents of all pairs, in order, at one family-wise level.

    Parameters
    ----------
    pairs : sequence of (str, str)
        All pairs, known to the end: their number sets the level.
    options : CompareOptions
        `family_size` is replaced by the number of pairs.
    progress : callable, optional
    jobs : int
        Workers. With several, each reads the models of its own pairs: pairs of one model belong side by side.
    engine : str
        One of `lineage.engines.ENGINES`, for several jobs.

    Yields
    ------
    dict
        A compare document with `a_ref` and `b_ref`, or {"a_ref", "b_ref", "error"} for a pair that failed.

    Notes
    -----
    A signature is dropped after its last use, so memory follows the overlap of the pairs, not their number. Every
    document carries `ebh`, the answer of e-BH over the combined e-values of the whole file. A document is given out as
    soon as that answer is certain whatever the pairs to come, which hardly ever takes longer than the pair itself.
    """
    options = replace(options, family_size=len(pairs))
    if options.published:
        require_solver()
    discoveries = Discoveries(len(pairs), options.alpha)
    answers = answered(pairs, options) if jobs == 1 else _sent_out(pairs, options, jobs, engine)
    if progress:
        progress("comparing", 0, len(pairs))
    for done, document in enumerate(answers, start=1):
        yield from discoveries.add(document)
        if progress:
            progress("comparing", done, len(pairs))


def answered(pairs: Sequence[Pair], options: CompareOptions) -> Iterator[dict[str, Any]]:
    """Documents of a batch of pairs, in order; every model of the batch is read once."""
    left = Counter(ref for pair in pairs for ref in pair)
    cache: dict[str, Signature | CrawlError] = {}
    for a, b in pairs:
        yield _one(a, b, options, cache)
        for ref in (a, b):
            left[ref] -= 1
            if not left[ref]:
                cache.pop(ref, None)


def rows_of(pairs: Sequence[Pair], options: CompareOptions) -> list[dict[str, Any]]:
    """`answered` as a call that any executor can send to another process: a batch of pairs in, documents out."""
    return list(answered(pairs, options))


def _sent_out(pairs: Sequence[Pair], options: CompareOptions, jobs: int, engine: str) -> Iterator[dict[str, Any]]:
    """Batches to workers, answers in the order of the pairs; a few batches ahead of what is asked for."""
    size = max(1, min(_BATCH, len(pairs) // (_AHEAD * jobs)))
    batches = (pairs[start : start + size] for start in range(0, len(pairs), size))
    with ENGINES[engine](jobs) as workers:
        sent: deque[Future[list[dict[str, Any]]]] = deque()
        for batch in batches:
            sent.append(workers.submit(rows_of, batch, options))
            if len(sent) > _AHEAD * jobs:
                yield from sent.popleft().result()
        while sent:
            yield from sent.popleft().result()


def _one(a: str, b: str, options: CompareOptions, cache: dict[str, Signature | CrawlError]) -> dict[str, Any]:
    head = {"a_ref": a, "b_ref": b}
    signatures = [_signature(ref, options, cache) for ref in (a, b)]
    for found in signatures:
        if isinstance(found, CrawlError):
            return {**head, "schema_version": SCHEMA_VERSION, "error": error_entry(found)}
    first, second = (s for s in signatures if isinstance(s, Signature))
    start = time.perf_counter()
    try:
        document = compare_signed(
            first,
            second,
            options,
            is_identical=identity_of(first.ref, second.ref, options),
            closer=closer_of(first.ref, second.ref, first, second, options),
            steps=answered_when_asked(first, second, options.row_key, options.max_bytes, options.open_options),
            adapters=adapters_of(first.ref, second.ref, options.open_options, options.max_bytes),
        )
        costs = (
            _published(document, first, second, options)
            if options.published
            else [_Cost.of(s) for s in (first, second)]
        )
        if options.thorough:
            add_opened(document, (first.ref, second.ref), options.row_key, options.open_options)
    except CrawlError as error:
        return {**head, "schema_version": SCHEMA_VERSION, "error": error_entry(error)}
    document["record"]["run"] = run_entry([first.ref, second.ref], costs, time.perf_counter() - start)
    return {**head, **document}


@dataclass(frozen=True, slots=True)
class _Cost:
    """What one model has cost this pair."""

    bytes_read: int
    requests: int

    @classmethod
    def of(cls, *counted: Counted) -> "_Cost":
        return cls(sum(c.bytes_read for c in counted), sum(c.requests for c in counted))


def _published(document: dict[str, Any], a: Signature, b: Signature, options: CompareOptions) -> list[_Cost]:
    """Open both models again for the published statistics, which need more of them than a signature."""
    with (
        open_model(ModelRef.parse(a.ref), options=options.open_options) as left,
        open_model(ModelRef.parse(b.ref), options=options.open_options) as right,
    ):
        spent = max(a.bytes_read, b.bytes_read)
        limit = None if options.max_bytes is None else options.max_bytes - spent
        add_published(document, left, right, key=options.row_key, max_bytes=limit)
        return [_Cost.of(a, left), _Cost.of(b, right)]


def _signature(ref: str, options: CompareOptions, cache: dict[str, Signature | CrawlError]) -> Signature | CrawlError:
    if ref not in cache:
        try:
            with open_model(ModelRef.parse(ref), options=options.open_options) as source:
                cache[ref] = sign(source, key=options.row_key, max_bytes=options.max_bytes)
        except CrawlError as error:
            cache[ref] = error
    return cache[ref]
