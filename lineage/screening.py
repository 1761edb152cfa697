"""Which pairs of many are worth a test: a glance at what both signatures hold, in one matrix product per kind of slice.

A pair left out is not tested and cannot be called related, so screening can only lose power, never validity: the level
counts every pair, screened or not.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lineage.signature import Signature
from stats.arrays import Float64Array

LEAST_Z = 6.0
LEAST_VECTOR_Z = 3.5
"""A pair is tested when the cosine of some slice of both, times the root of its size, reaches this: of vectors, which are
short, sooner than of matrices, whose rows independent models may have in common. Of the 540 pairs of the zoo and the
nursery that the ladder finds, all pass; of 721 of models rewritten in every way, 667."""

FEW = 64
"""Models up to which every pair is tested: what a rewrite of everything leaves, a glance does not see."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What a glance at all pairs says.

    Attributes
    ----------
    worth : (n, n) bool
        Pairs to be tested: they look alike somewhere, or nothing of theirs could be looked at.
    comparable : (n, n) bool
        Pairs that hold some slice of one kind and shape.
    """

    worth: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    comparable: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def screen(signatures: Sequence[Signature], *, most: int = FEW) -> Screen:
    """Look at all pairs of many signatures.

    Parameters
    ----------
    signatures : sequence of Signature
        n of them, read with one key.
    most : int
        Number of models up to which every pair is worth a test.

    Returns
    -------
    Screen

    Notes
    -----
    Norm gains, rows of tables, hidden units as they are and by their answers to tokens (which no rotation of the residual
    stream changes), value dimensions. Cost: O(n^2 p) in matrix products for signatures of p values.
    """
    n = len(signatures)
    groups: dict[Any, list[tuple[int, Float64Array]]] = defaultdict(list)
    for i, signature in enumerate(signatures):
        for key, values in _slices(signature):
            flat = _standard(values)
            if flat is not None:
                groups[key, values.shape].append((i, flat))
    worth, comparable = np.zeros((n, n), dtype=np.bool_), np.zeros((n, n), dtype=np.bool_)
    for (_, shape), held in groups.items():
        index = np.array([i for i, _ in held])
        rows = np.stack([flat for _, flat in held])
        strength = np.abs(rows @ rows.T) * np.sqrt(rows.shape[1])
        at = np.ix_(index, index)
        worth[at] |= strength >= (LEAST_VECTOR_Z if len(shape) == 1 else LEAST_Z)
        comparable[at] = True
    return Screen(worth | ~comparable | (n <= most), comparable)


def _slices(s: Signature) -> Iterator[tuple[Any, Float64Array]]:
    for (layer, kind), values in s.vectors.items():
        yield ("vector", layer, kind), values
    for kind, table in s.tables.items():
        yield ("table", kind), table.values
    for block in s.blocks:
        for group, parts in (("part", block.parts), ("probe", block.probes)):
            for kind, values in parts.items():
                yield (group, block.layer, kind), values
    for name, units in (("values", s.values), ("experts", s.experts)):
        for v in units:
            yield (name, v.layer), v.probes


def _standard(values: Float64Array) -> Float64Array | None:
    """Centred over each axis and scaled to length 1; None where nothing is left or a value is not finite."""
    gap = values - values.mean(axis=-1, keepdims=True)
    gap = gap - gap.mean(axis=0, keepdims=True) if gap.ndim > 1 else gap
    size = float(np.sqrt(np.sum(gap * gap)))
    return (gap / size).ravel() if 0.0 < size < np.inf else None
