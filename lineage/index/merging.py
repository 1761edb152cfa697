"""Indexes made on several machines become one: in any order, any number of times, with the same result."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lineage.errors import UsageError
from lineage.index.records import Entry
from lineage.index.store import Store

_RANK = {state: rank for rank, state in enumerate(("listed", "skipped", "failed", "removed", "gated", "signed"))}
"""Which word on one commit is kept: whoever could read it knows most."""

Tell = Callable[[str, int, int], None]


def merge(store: Store, others: Sequence[Path], tell: Tell) -> dict[str, int]:
    """Take the entries of other indexes into one.

    Parameters
    ----------
    store : Store
    others : sequence of Path
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
    for path in others:
        if path.resolve() == store.path.resolve():
            raise UsageError("an index is not merged with itself", where=str(path))
        with Store.open(path) as other:
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
                theirs, ours = other.get(name), store.get(name)
                if theirs is None:
                    continue
                counts["seen"] += 1
                if ours is not None and better(ours, theirs).digest == ours.digest:
                    counts["unchanged"] += 1
                    continue
                counts["added" if ours is None else "replaced"] += 1
                store.put_model(theirs, *(other.blob(d) for d in (theirs.signature, theirs.study) if d is not None))
    tell("merging", len(names), len(names))
