"""Which layer of one stack is which of another, by cosines of the same rows. Describes, never tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stats.arrays import Float64Array

SAME = 0.2
"""Cosine from which two layers are called the same: over 4,096 values strangers have a standard deviation of 0.016, and long
training leaves 0.5 and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMap:
    """Sources of the layers of one stack among those of another.

    Attributes
    ----------
    sources : tuple of int or None
        For each layer of b the layer of a.
    cosines : tuple of float
        Of each with the best of a.
    """

    sources: tuple[int | None, ...]
    cosines: tuple[float, ...]

    @property
    def whole(self) -> bool:
        """Whether every layer has a source."""
        return bool(self.sources) and None not in self.sources

    @property
    def distinct(self) -> bool:
        """Whether no source is used twice."""
        known = [s for s in self.sources if s is not None]
        return len(set(known)) == len(known)

    @property
    def rising(self) -> bool:
        """Whether sources keep their order."""
        known = [s for s in self.sources if s is not None]
        return known == sorted(known)


def layer_map(cosines: Float64Array) -> LayerMap:
    """Best sources from all cosines.

    Parameters
    ----------
    cosines : (n, m) float64
        Of the layers of a with those of b.

    Returns
    -------
    LayerMap
        Among equally good sources, as copies of a layer are, the one that follows the source of the layer before, then the
        one in the same place, then the first.

    Examples
    --------
    >>> print(layer_map(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.9]])).sources)
    (0, 2)
    """
    sources: list[int | None] = []
    before = -1
    for j in range(cosines.shape[1]):
        column = cosines[:, j]
        best = float(column.max(initial=-1.0))
        if best < SAME:
            sources.append(None)
            continue
        equal = np.flatnonzero(column >= best - 1e-9).tolist()
        before = next((i for i in (before + 1, j) if i in equal), equal[0])
        sources.append(before)
    top = tuple(round(float(c), 6) for c in cosines.max(axis=0, initial=-1.0)) if cosines.size else ()
    return LayerMap(sources=tuple(sources), cosines=top)


def stack_cosines(
    a: Sequence[Mapping[str, Float64Array]], b: Sequence[Mapping[str, Float64Array]], groups: Sequence[Sequence[str]]
) -> Float64Array:
    """Cosines of all layers of two stacks.

    Parameters
    ----------
    a, b : sequence of mapping of str to (m, n) float64
        Matrices of each layer by role. Of matrices with different numbers of rows the first ones are compared; those with
        other columns, or of which one is zero, take no part.
    groups : sequence of sequence of str
        Roles whose cosines are averaged; of the groups the best counts, since one of them may have changed its width.

    Returns
    -------
    (n, m) float64
        0 where nothing can be compared. Cost: O(layers_a layers_b values of a layer).
    """
    found = np.zeros((len(a), len(b)))
    for group in groups:
        total, count = np.zeros(found.shape), np.zeros(found.shape)
        for role in group:
            for i, x in enumerate(a):
                for j, y in enumerate(b):
                    cosine = _cosine(x.get(role), y.get(role))
                    if cosine is not None:
                        total[i, j], count[i, j] = total[i, j] + cosine, count[i, j] + 1.0
        found = np.maximum(found, total / np.maximum(count, 1.0))
    return found


def _cosine(x: Float64Array | None, y: Float64Array | None) -> float | None:
    if x is None or y is None or x.shape[1] != y.shape[1]:
        return None
    rows = min(len(x), len(y))
    first, second = x[:rows], y[:rows]
    size = float(np.sqrt(np.sum(first * first) * np.sum(second * second)))
    return float(np.sum(first * second)) / size if size > 0.0 and np.isfinite(size) else None
