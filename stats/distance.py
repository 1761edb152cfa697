"""How far apart two models' values are: scores, never p-values."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, as_vector

_CHUNK = 4096
"""Elements per partial sum; see the determinism decision in docs/adr."""


@dataclass(frozen=True, slots=True)
class PairSums:
    """Sums over paired elements; they add across slices and tensors.

    Attributes
    ----------
    aa, bb, ab : float
        Sums of squares and of products.
    dd : float
        Sum of squared differences, accumulated as such (no cancellation).
    equal : int
        Elements that agree exactly.
    n : int
        Elements.
    """

    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    dd: float = 0.0
    equal: int = 0
    n: int = 0

    def __add__(self, other: "PairSums") -> "PairSums":
        """Sums over the union of two disjoint sets of elements."""
        return PairSums(
            self.aa + other.aa,
            self.bb + other.bb,
            self.ab + other.ab,
            self.dd + other.dd,
            self.equal + other.equal,
            self.n + other.n,
        )

    @property
    def cosine(self) -> float:
        """Cosine between the two vectors, 0 when either is zero."""
        size = math.sqrt(self.aa) * math.sqrt(self.bb)
        return min(1.0, max(-1.0, self.ab / size)) if 0.0 < size < math.inf and math.isfinite(self.ab) else 0.0

    @property
    def relative_change(self) -> float:
        """Norm of the difference over the root of the two norms' product; symmetric in a and b."""
        size = math.sqrt(self.aa) * math.sqrt(self.bb)
        return math.sqrt(self.dd / size) if 0.0 < size < math.inf else math.inf

    @property
    def unchanged_share(self) -> float:
        """Share of elements with exactly equal values."""
        return self.equal / self.n if self.n else 0.0


def pair_sums(a: ArrayLike, b: ArrayLike) -> PairSums:
    """Sums over two arrays of one shape.

    Parameters
    ----------
    a, b : array_like, one shape
        Any real dtype; accumulated in float64, in chunks of 4,096 elements, in order.

    Returns
    -------
    PairSums

    Raises
    ------
    ValueError
        Shapes differ or a value is not finite.
    """
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape:
        raise ValueError(f"a and b must have one shape, got {first.shape} and {second.shape}")
    x, y = _chunks(as_vector(first.ravel(), "a")), _chunks(as_vector(second.ravel(), "b"))
    gap = x - y
    aa, bb, ab, dd = (float(np.sum(np.sum(u * v, axis=1))) for u, v in ((x, x), (y, y), (x, y), (gap, gap)))
    return PairSums(aa, bb, ab, dd, int(np.count_nonzero(x == y)) - (x.size - first.size), first.size)


def _chunks(vector: Float64Array) -> Float64Array:
    """A vector as rows of one chunk each, the last one filled up with zeros."""
    return np.pad(vector, (0, -vector.size % _CHUNK)).reshape(-1, _CHUNK)
