"""Ways to find the nearest signs: exact, in numpy; or approximate, in a graph, where the extra `index` is installed."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from lineage.errors import UsageError
from lineage.index.matrix import SignMatrix, Words
from lineage.index.vectors import FIELDS
from stats.arrays import IntVector

_CHUNK = 1 << 16
"""Rows counted at once: their totals stay in the cache."""


class Nearest(Protocol):
    """Rows whose signs differ least."""

    def __call__(self, field: str, query: Words, ranges: Sequence[slice], most: int) -> tuple[IntVector, IntVector]:
        """(rows, numbers of signs that differ) of at most `most` rows inside the ranges, by difference, then row."""


def exact(matrix: SignMatrix) -> Nearest:
    """Look at every row.

    Parameters
    ----------
    matrix : SignMatrix

    Returns
    -------
    Nearest

    Notes
    -----
    Cost: one pass over the words of the ranges, from memory at the speed of the memory.
    """

    def nearest(field: str, query: Words, ranges: Sequence[slice], most: int) -> tuple[IntVector, IntVector]:
        words = matrix.fields.get(field)
        rows, gaps = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for part in ranges:
            for start in range(part.start, part.stop, _CHUNK):
                stop = min(start + _CHUNK, part.stop)
                if words is None:
                    continue
                found = differences(words[:, start:stop], query)
                kept = _smallest(found, most)
                rows.append(kept + start)
                gaps.append(found[kept].astype(np.int64))
        return _first(np.concatenate(rows), np.concatenate(gaps), most)

    return nearest


def differences(words: Words, query: Words) -> "np.ndarray[Any, np.dtype[np.uint16]]":
    """Signs in which each column differs from the query."""
    total = np.zeros(words.shape[1], dtype=np.uint16)
    for row, word in zip(words, query, strict=True):
        total += np.bitwise_count(row ^ word)
    return total


def graph(matrix: SignMatrix) -> Nearest:
    """Walk graphs of neighbours, one for each group and field, made when first asked for.

    Raises
    ------
    UsageError
        The library is not installed.
    """
    try:
        from usearch.index import Index  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(
            "the approximate search needs the extra `index`", hint="pip install 'lineage-forensics[index]'"
        ) from error
    made: dict[tuple[str, int, int], Any] = {}

    def part_of(field: str, part: slice) -> Any:
        key = (field, part.start, part.stop)
        if key not in made:
            bits = np.ascontiguousarray(matrix.fields[field][:, part].T).view(np.uint8)
            index = Index(
                ndim=FIELDS[field],
                metric="hamming",
                dtype="b1",
                connectivity=32,
                expansion_add=256,
                expansion_search=512,
            )
            index.add(np.arange(part.start, part.stop, dtype=np.uint64), bits, threads=1)
            made[key] = index
        return made[key]

    def nearest(field: str, query: Words, ranges: Sequence[slice], most: int) -> tuple[IntVector, IntVector]:
        rows = [np.zeros(0, dtype=np.int64)]
        for part in ranges:
            hits = part_of(field, part).search(query.view(np.uint8), min(most, part.stop - part.start), threads=1)
            rows.append(np.asarray(hits.keys).astype(np.int64))
        found = np.unique(np.concatenate(rows))
        gaps = differences(matrix.fields[field][:, found], query) if found.size else np.zeros(0, dtype=np.uint16)
        return _first(found, gaps.astype(np.int64), most)

    return nearest


BACKENDS: dict[str, Callable[[SignMatrix], Nearest]] = {"exact": exact, "usearch": graph}
"""By the name `--backend` takes."""


def _smallest(values: "np.ndarray[Any, np.dtype[np.uint16]]", most: int) -> IntVector:
    """Positions of the smallest values, and of all that tie with the last of them."""
    if values.size <= most:
        return np.arange(values.size)
    edge = np.partition(values, most - 1)[most - 1]
    return np.flatnonzero(values <= edge)


def _first(rows: IntVector, gaps: IntVector, most: int) -> tuple[IntVector, IntVector]:
    order = np.lexsort((rows, gaps))[:most]
    return rows[order], gaps[order]
