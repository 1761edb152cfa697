"""Plan and read byte ranges. `coalesce` decides and does no I/O; `read_many` carries the decision out."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from crawl.refs import ByteRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawl.stores import ByteStore


def coalesce(ranges: Sequence[ByteRange], *, max_gap: int, max_block: int) -> list[ByteRange]:
    """Merge ranges that are cheaper to fetch together. Pure: no I/O.

    Parameters
    ----------
    ranges : sequence of ByteRange
        In any order; overlaps allowed; empty ones are dropped.
    max_gap : int
        Bytes nobody asked for that may be fetched to save a request; 0 merges only what touches.
    max_block : int
        Ranges are merged only while the result is at most this long. A single longer range stays whole.

    Returns
    -------
    list of ByteRange
        Sorted and disjoint, covering every byte of `ranges`.
    """
    merged: list[ByteRange] = []
    for part in sorted(r for r in ranges if len(r)):
        last = merged[-1] if merged else None
        overlaps = last is not None and part.start < last.stop
        close = last is not None and part.start - last.stop <= max_gap and part.stop - last.start <= max_block
        if last is not None and (overlaps or close):
            merged[-1] = ByteRange(last.start, max(last.stop, part.stop))
        else:
            merged.append(part)
    return merged


def runs(sorted_index: Sequence[int], *, max_gap: int = 0) -> list[tuple[int, int]]:
    """Return the half-open runs of strictly increasing integers, bridging holes of at most `max_gap`."""
    if not len(sorted_index):
        return []
    starts = [sorted_index[0]]
    stops = []
    for before, after in pairwise(sorted_index):
        if after - before - 1 > max_gap:
            stops.append(before + 1)
            starts.append(after)
    stops.append(sorted_index[-1] + 1)
    return list(zip(starts, stops, strict=True))


def read_many(
    store: ByteStore, file: str, ranges: Sequence[ByteRange], *, max_gap: int, max_block: int
) -> list[memoryview]:
    """Read several ranges of one file in as few requests as the plan allows.

    Returns
    -------
    list of memoryview
        One per range, in the order given.
    """
    blocks = coalesce(ranges, max_gap=max_gap, max_block=max_block)
    data = [memoryview(store.read(file, block)) for block in blocks]
    order = sorted(range(len(ranges)), key=lambda i: ranges[i])
    pieces: list[memoryview] = [memoryview(b"")] * len(ranges)
    at = 0
    for i in order:
        if not len(ranges[i]):
            continue
        while blocks[at].stop < ranges[i].stop:
            at += 1
        base = blocks[at].start
        pieces[i] = data[at][ranges[i].start - base : ranges[i].stop - base]
    return pieces
