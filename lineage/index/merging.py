"""Indexes made on several machines become one: in any order, any number of times, with the same result."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lineage.errors import UsageError
from lineage.index.records import Entry
from lineage.index.shards import is_shards, read_shard, shards_in
from lineage.index.store import Store
from lineage.inputs import is_here

_RANK = {state: rank for rank, state in enumerate(("listed", "skipped", "failed", "removed", "gated", "signed"))}
"""Which word on one commit is kept: whoever could read it knows most."""

Tell = Callable[[str, int, int], None]


def merge(store: Store, others: Sequence[str | Path], tell: Tell) -> dict[str, int]:
    """Take the entries of other indexes into one.

    Parameters
    ----------
    store : Store
    others : sequence of str or Path
        Indexes; Parquet files of entries with signatures, folders of them, or addresses of fsspec that hold some.
    tell : callable
        Progress.

    Returns
    -------
    dict
        Numbers of entries `seen`, `added`, `replaced` and `unchanged`.

    Raises
    ------
    UnusableIndexError
        One of them is not there, or damaged.
    UsageError
        One of them was read with another row key, or is the index itself.

    Notes
    -----
    Of two entries of one id the one that knows more is kept (`better`): a maximum, so neither order nor repetition matters.
    """
    counts = dict.fromkeys(("seen", "added", "replaced", "unchanged"), 0)
    for place in map(str, others):
        if is_shards(place):
            _take_shards(store, place, counts, tell)
            continue
        if is_here(place) and Path(place).resolve() == store.path.resolve():
            raise UsageError("an index is not merged with itself", where=place)
        with Store.open(place) as other:
            _take(store, other, counts, tell)
    return counts


def better(a: Entry, b: Entry) -> Entry:
    """Of two entries of one id the one that is kept: signed before not, with larger slices before without, then by digest."""
    return max((a, b), key=lambda e: (_RANK[e.state], e.study is not None, e.digest))


def _take(store: Store, other: Store, counts: dict[str, int], tell: Tell) -> None:
    names = other.ids()
    for start in range(0, len(names), 256):
        tell("merging", start, len(names))
        with store.transaction():
            for name in names[start : start + 256]:
                theirs = other.get(name)
                if theirs is not None and _is_news(store, theirs, counts):
                    store.put_model(theirs, *(other.blob(d) for d in (theirs.signature, theirs.study) if d is not None))
    tell("merging", len(names), len(names))


def _take_shards(store: Store, place: str, counts: dict[str, int], tell: Tell) -> None:
    """Rows of Parquet files, a file a transaction: one that is damaged half-way gives nothing."""
    shards = shards_in(place)
    for done, shard in enumerate(shards):
        tell("merging", done, len(shards))
        with store.transaction():
            for entry, blobs in read_shard(shard):
                if _is_news(store, entry, counts):
                    store.put_model(entry, *blobs)
    tell("merging", len(shards), len(shards))


def _is_news(store: Store, theirs: Entry, counts: dict[str, int]) -> bool:
    """Whether an entry is to be stored; counts it."""
    ours = store.get(theirs.id)
    counts["seen"] += 1
    if ours is not None and better(ours, theirs).digest == ours.digest:
        counts["unchanged"] += 1
        return False
    counts["added" if ours is None else "replaced"] += 1
    return True
