"""Which pairs of many are worth a test: a glance at what both signatures hold, in two matrix products per kind of slice.

A pair left out is not tested and cannot be called related, so screening can only lose power, never validity: the level
counts every pair, screened or not.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lineage.plan import VALUE_RUN
from lineage.signature import Signature
from stats.arrays import Float64Array, IntVector

LEAST_Z = 4.5
LEAST_VECTOR_Z = 3.5
"""A pair is tested when some slice of both agrees by as many standard deviations of a random order of its units: of
vectors, which are short, sooner than of matrices."""

FEW = 64
"""Models up to which every pair is tested: what a rewrite of everything leaves, a glance does not see."""

_MOST_ROWS = 64
"""Features of a slice that are looked at, evenly spaced: the tables of widths in use would fill the memory."""

_AT_ONCE = 1 << 22
"""Values compared in one product: 32 MB."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What a glance at all pairs says.

    Attributes
    ----------
    worth : (n, n) bool
        Pairs to be tested: they look alike somewhere, or nothing of theirs could be looked at.
    comparable : (n, n) bool
        Pairs that hold some slice of one kind and shape.
    strength : (n, n) float64
        Largest agreement over what is asked for; 1 and more passes.
    """

    worth: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    comparable: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    strength: Float64Array


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
    stream changes), value dimensions without their signs, each run of them with each. With X and Y centred over the units,
    the sum of X * Y has variance tr(X X' Y Y') / (s - 1) over random orders of the s units; rows that all point one way,
    as embeddings of one corpus do, do not pass for kin. Cost: O(n^2 p) in matrix products for signatures of p values.
    """
    n = len(signatures)
    groups: dict[Any, list[tuple[int, Float64Array]]] = defaultdict(list)
    for i, signature in enumerate(signatures):
        for kind, key, values in _slices(signature):
            centred = _centred(values)
            if centred is not None:
                groups[kind, key, centred.shape].append((i, centred))
    comparable, strength = np.zeros((n, n), dtype=np.bool_), np.zeros((n, n))
    for (kind, _, _), held in groups.items():
        least = LEAST_VECTOR_Z if kind == "vector" else LEAST_Z
        index, slices = np.array([i for i, _ in held]), [values for _, values in held]
        for at, found in _agreements(slices, slices):
            np.maximum.at(strength, (index[at][:, None], index[None, :]), found / least)
        comparable[np.ix_(index, index)] = True
    strength = np.maximum(strength, strength.T)
    return Screen((strength >= 1.0) | ~comparable | (n <= most), comparable, strength)


def _agreements(
    left: Sequence[Float64Array], right: Sequence[Float64Array]
) -> Iterator[tuple[IntVector, Float64Array]]:
    """(positions on the left, |z| under a random order of the units of each with all on the right), some at a time."""
    (x, inside_x), (y, inside_y) = (
        (np.stack([v.ravel() for v in side]), np.stack([(v @ v.T).ravel() for v in side])) for side in (left, right)
    )
    n_units = left[0].shape[1]
    for at in np.array_split(np.arange(len(left)), max(1, len(left) * len(right) // _AT_ONCE)):
        spread = np.maximum(inside_x[at] @ inside_y.T, np.finfo(float).tiny) / (n_units - 1)
        found = np.abs(x[at] @ y.T) / np.sqrt(spread)
        yield at, np.where(np.isfinite(found), found, 0.0)


def _slices(s: Signature) -> Iterator[tuple[str, Any, Float64Array]]:
    """(kind, what is compared with each other, values with features first and units second)."""
    for (layer, kind), values in s.vectors.items():
        yield "vector", (layer, kind), values[None, :]
    for kind, table in s.tables.items():
        yield "table", kind, table.values
    for block in s.blocks:
        for group, parts in (("part", block.parts), ("probe", block.probes)):
            for kind, values in parts.items():
                yield group, (block.layer, kind), values
    for v in s.experts:
        yield "experts", v.layer, v.probes
    for v in s.values:
        size = np.abs(v.probes)
        yield "values", v.layer, size
        for start in range(0, size.shape[1] - VALUE_RUN + 1, VALUE_RUN):
            yield "run", v.layer, size[:, start : start + VALUE_RUN]


def _centred(values: Float64Array) -> Float64Array | None:
    """Some rows, centred over the units, at length 1; None where nothing is left or a value is not finite."""
    if values.ndim != 2 or values.shape[1] < 2:
        return None
    if len(values) > _MOST_ROWS:
        values = values[np.linspace(0, len(values) - 1, _MOST_ROWS).astype(np.intp)]
    gap = values - values.mean(axis=1, keepdims=True)
    size = float(np.sqrt(np.sum(gap * gap)))
    return gap / size if 0.0 < size < np.inf else None
