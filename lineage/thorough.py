"""`--thorough`: one streaming pass over everything two models have in common. Describes; never tests."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from crawl import OpenOptions, WeightSource, open_model
from crawl.casts import SIGNIFICANT_BITS
from lineage.digests import file_digests
from lineage.pairing import Shared, Side, pair_up
from lineage.plan import PUBLIC_KEY, RowKey, pick_columns, pick_run
from stats.arrays import Float64Array
from stats.passing import Moments, Pass, PassKernel, PassTotal, pivot_of
from stats.rank import DeltaRank, delta_rank
from stats.result import Skipped

BLOCK = 1 << 20
"""Elements read at once of each side, a multiple of 4,096: 2 MB of a 16-bit format, which stay in the cache until they
are summed, and no more than 8 MB of any."""

BLOCKS_A_JOB = 4
"""Blocks one thread takes at a time: handing over costs as much as summing a block."""

SHORT = 1 << 16
"""Vectors up to this length are summed around their own mean, because gains lie far from zero."""

SLICE = 96
"""Most rows and columns of the block whose singular values are counted: enough for ranks up to 72. At 256 the blocks
would cost more than the pass itself."""

Progress: TypeAlias = Callable[[str, int, int], None]
Pivots: TypeAlias = tuple[float, float]


class _Desk:
    """What one thread works with: room for a block of each side, and scratch."""

    def __init__(self, n: int) -> None:
        self.left, self.right = (np.empty(8 * n, np.uint8).data for _ in range(2))  # untouched until read into
        self.kernel = PassKernel()


@dataclass(frozen=True, slots=True)
class Compared:
    """One array read whole in both models.

    Attributes
    ----------
    name, kind : str
        Role and role kind; the tensor's name and `by-name` where there is no role.
    shape : tuple of int
    values : Pass
        Sums, moments and differences.
    rank : DeltaRank or None
        Of the change, on a slice; None for vectors.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    values: Pass
    rank: DeltaRank | None


@dataclass(frozen=True, slots=True)
class Thorough:
    """What one pass over two models says.

    Attributes
    ----------
    tensors : tuple of Compared
        Sorted by name.
    left_out : tuple of Skipped
        What was not compared, and why.
    """

    tensors: tuple[Compared, ...]
    left_out: tuple[Skipped, ...]

    @property
    def pooled(self) -> Pass:
        """Over all tensors, in order."""
        return sum((t.values for t in self.tensors), Pass())

    @property
    def by_kind(self) -> Mapping[str, tuple[Compared, ...]]:
        """Tensors of each role kind, sorted."""
        kinds = sorted({t.kind for t in self.tensors})
        return {k: tuple(t for t in self.tensors if t.kind == k) for k in kinds}


def thorough(
    a: WeightSource,
    b: WeightSource,
    progress: Progress | None = None,
    *,
    key: RowKey = PUBLIC_KEY,
    block: int = BLOCK,
    threads: int | None = None,
) -> Thorough:
    """Read everything two models share, once.

    Parameters
    ----------
    a, b : WeightSource
        Opened models.
    progress : callable, optional
        Called with (stage, done, total).
    key : RowKey
        Places the slices.
    block : int
        Elements read at once, a multiple of 4,096. Changes no bit of the result.
    threads : int, optional
        Reading and summing at once, by default one a processor up to four. Changes no bit of the sums.

    Returns
    -------
    Thorough

    Raises
    ------
    CrawlError
        Bytes are missing or cannot be fetched.

    Notes
    -----
    Cost: every shared byte of both models once, plus the slices; memory of a few blocks a thread, whatever the model.
    """
    shared, left_out = pair_up(a, b)
    n_threads = threads or min(4, len(os.sched_getaffinity(0)))
    tell = progress or (lambda _stage, _done, _total: None)
    found: list[Compared] = []
    with ThreadPoolExecutor(n_threads) as pool:
        for done, (item, values, rank) in enumerate(_streamed(shared, pool, n_threads, block, key)):
            tell("reading everything", done + 1, len(shared))
            if not values.is_finite:
                left_out.append(Skipped(tensor=item.name, reason="holds NaN or infinite values, or too large ones"))
                continue
            found.append(Compared(item.name, item.kind, item.a.shape, values, rank))
    return Thorough(tuple(found), tuple(left_out))


Job: TypeAlias = tuple[Shared, PassTotal, int, "Future[Any]"]
"""What is compared, where its sums go, how many elements the job covers (0: the rank, its last job), the job."""


def _streamed(
    shared: list[Shared], pool: ThreadPoolExecutor, n_threads: int, block: int, key: RowKey
) -> Iterator[tuple[Shared, Pass, DeltaRank | None]]:
    """Results in order, with at most a few jobs ahead: what is held is bounded however fast the reader is."""
    desks: SimpleQueue[_Desk] = SimpleQueue()
    for _ in range(n_threads):
        desks.put(_Desk(max(block, SHORT)))
    waiting: deque[Job] = deque()
    jobs = _jobs(shared, pool, block, key, desks)
    try:
        while True:
            waiting.extend(islice(jobs, 2 * n_threads + 1 - len(waiting)))
            if not waiting:
                return
            item, total, n, future = waiting.popleft()
            if n:
                total.add(future.result(), n)
            else:
                yield item, total.finish(), future.result()
    finally:
        for *_, future in waiting:
            future.cancel()


def _jobs(
    shared: list[Shared], pool: ThreadPoolExecutor, block: int, key: RowKey, desks: "SimpleQueue[_Desk]"
) -> Iterator[Job]:
    """Submit the jobs of all tensors, in the order in which their results are added."""
    for item in shared:
        pivots = _pivots(item)
        total = PassTotal(pivots)
        for start in range(0, item.n, block * BLOCKS_A_JOB):
            part = range(start, min(start + block * BLOCKS_A_JOB, item.n), block)
            yield item, total, part.stop - start, pool.submit(_rows, item, part, pivots, desks)
        yield item, total, 0, pool.submit(_rank, item, key, desks)


def _pivots(item: Shared) -> Pivots:
    if len(item.a.shape) != 1 or item.n > SHORT:
        return 0.0, 0.0
    room = memoryview(bytearray(8 * item.n))
    left, right = (pivot_of(s.bits(0, min(item.n, 4096), room, by_inputs=False), s.format) for s in (item.a, item.b))
    return left, right


def _rows(item: Shared, part: range, pivots: Pivots, desks: "SimpleQueue[_Desk]") -> Float64Array:
    """Sums of the chunks of some neighbouring blocks, read and summed one after the other."""
    desk, formats = desks.get(), (item.a.format, item.b.format)
    try:
        rows = []
        for start in part:
            stop = min(start + part.step, part.stop)
            left = item.a.bits(start, stop, desk.left, by_inputs=item.by_inputs)
            right = item.b.bits(start, stop, desk.right, by_inputs=item.by_inputs)
            rows.append(desk.kernel.rows(left, right, formats, pivots))
        return rows[0] if len(rows) == 1 else np.concatenate(rows)
    finally:
        desks.put(desk)


def _rank(item: Shared, key: RowKey, desks: "SimpleQueue[_Desk]") -> DeltaRank | None:
    """Rank of the change on a block that depends on shape and key alone; the same in both models."""
    if len(item.a.shape) != 2:
        return None
    first = pick_run("thorough", item.a.shape[0], SLICE, key)
    rows, columns = slice(int(first[0]), int(first[-1]) + 1), pick_columns(item.a.shape[1], SLICE, key)
    desk = desks.get()
    try:
        left, right = item.a.block(rows, columns, desk.left), item.b.block(rows, columns, desk.right)
    finally:
        desks.put(desk)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return None
    return delta_rank(left, right, bits_a=_significant(item.a), bits_b=_significant(item.b))


def _significant(side: Side) -> int:
    return SIGNIFICANT_BITS.get(side.tensor.dtype.name, 53)


def add_thorough(
    document: dict[str, Any], a: WeightSource, b: WeightSource, key: RowKey, progress: Progress | None = None
) -> None:
    """Put the pass and the digests of all weight files into a document.

    Parameters
    ----------
    document : dict
        A compare document of this pair; its verdict and tests stay as they are.
    a, b : WeightSource
        Opened models.
    key : RowKey
        Places the slices.
    progress : callable, optional
    """
    document["thorough"] = thorough_entry(thorough(a, b, progress, key=key))
    with ThreadPoolExecutor(2) as pool:
        digests = pool.map(file_digests, (a, b))
    for entry, found in zip(document["record"]["inputs"], digests, strict=True):
        entry["files"] = found


def add_opened(document: dict[str, Any], refs: tuple[str, str], key: RowKey, options: OpenOptions | None) -> None:
    """Open both models again for `add_thorough`: with many pairs only signatures are kept."""
    with open_model(refs[0], options=options) as a, open_model(refs[1], options=options) as b:
        add_thorough(document, a, b, key)


def thorough_entry(found: Thorough) -> dict[str, Any]:
    """The pass in a document."""
    return {
        "pooled": {"tensors": len(found.tensors), **_numbers(found.pooled)},
        "by_kind": [
            {
                "kind": kind,
                "tensors": len(tensors),
                **_numbers(sum((t.values for t in tensors), Pass())),
                "delta_rank": _ranks(tensors),
            }
            for kind, tensors in found.by_kind.items()
        ],
        "tensors": [
            {"tensor": t.name, "shape": list(t.shape), **_numbers(t.values), "delta_rank": _rank_entry(t.rank)}
            for t in found.tensors
        ],
        "left_out": [{"tensor": s.tensor, "reason": s.reason} for s in found.left_out],
    }


def _numbers(values: Pass) -> dict[str, Any]:
    sums = values.sums
    change = sums.relative_change if sums.aa > 0.0 and sums.bb > 0.0 else None
    return {
        "n": sums.n,
        "cosine": _digits(sums.cosine),
        "relative_change": _digits(change),
        "unchanged_share": _digits(sums.unchanged_share),
        "norm_growth": _digits(values.norm_growth),
        "kurtosis_change": _digits(values.kurtosis_change),
        "largest_change": _digits(values.largest),
        "a": _moments(values.a),
        "b": _moments(values.b),
        "difference": _moments(values.difference),
    }


def _moments(m: Moments) -> dict[str, float | None]:
    found = {"mean": m.mean, "variance": m.variance, "skewness": m.skewness, "kurtosis": m.kurtosis}
    return {name: _digits(value) for name, value in found.items()}


def _digits(value: float | None) -> float | None:
    """Nine digits: more than the sums of 16-bit formats promise."""
    return None if value is None else float(f"{value:.9g}") + 0.0


def _rank_entry(rank: DeltaRank | None) -> dict[str, Any] | None:
    if rank is None:
        return None
    return {"rank": rank.rank, "effective": round(rank.effective, 3), "slice": list(rank.shape)}


def _ranks(tensors: tuple[Compared, ...]) -> dict[str, Any] | None:
    """Median and largest rank, and median effective rank, of the matrices of one kind."""
    ranks = [t.rank for t in tensors if t.rank is not None]
    if not ranks:
        return None
    return {
        "median": median(r.rank for r in ranks),
        "largest": max(r.rank for r in ranks),
        "effective": round(median(r.effective for r in ranks), 3),
    }
