"""How many directions a change has: singular values of a difference above two edges of noise. Describes, never tests."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, as_pair
from stats.kernels.singular import bidiagonalise, bisect

_SLACK = 1.1
"""The largest singular value of noise fluctuates around its edge; at 64 x 64 by a few percent."""


_BISECTIONS = 53
"""Halvings of the interval that holds all singular values: as many as a float64 has bits."""

_NOISE = 2.0
"""Rounding errors of a change whose size is that of rounding go with it: up to so many times the edge of errors that do not."""

_QUARTILE = 0.25
"""Share of the spectrum, from below, that is taken for noise: up to three quarters of the directions may be signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRank:
    """What the singular values of a difference say.

    Attributes
    ----------
    rank : int
        Singular values above both edges.
    low : int
        Singular values before the widest gap that has only noise below it: nothing beyond twice the edge of rounding, which
        errors that go with the change reach. At most `rank`.
    gap : float
        The last of these over the next one: infinite where nothing is next or the next is 0; 0 without any. Below a change of
        low rank lies rounding alone, and the gap is wide; singular values of a change of full rank go on.
    effective : float
        Exponential of the entropy of the squared singular values' shares; 0 for no difference.
    rounding_edge, bulk_edge : float
        Largest singular value that rounding alone, and that the bulk of the spectrum, would explain.
    shape : (int, int)
        Of the slice.
    """

    rank: int
    low: int
    gap: float
    effective: float
    rounding_edge: float
    bulk_edge: float
    shape: tuple[int, int]


def delta_rank(a: ArrayLike, b: ArrayLike, *, bits_a: int = 53, bits_b: int = 53) -> DeltaRank:
    """Numerical rank of the difference of two matrices.

    Parameters
    ----------
    a, b : (m, n) float
        The same block of both models; keep it at most 256 x 256.
    bits_a, bits_b : int
        Significant bits of the stored formats, the hidden one included.

    Returns
    -------
    DeltaRank

    Raises
    ------
    ValueError
        Shapes differ or a value is not finite.

    Notes
    -----
    Null: none. The rounding edge is the largest row norm plus the largest column norm of the standard deviations that
    rounding to the coarser format gives each element (arXiv 1408.6185, Theorem 1.1, without its logarithmic term). The
    bulk edge is that of white noise with the observed lower quartile of singular values (as arXiv 1305.5870 does with
    the median), so a change of full rank shows only what stands out of it. Cost: O(m n min(m, n)).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> base = rng.normal(size=(64, 96))
    >>> update = rng.normal(size=(64, 3)) @ rng.normal(size=(3, 96))
    >>> print(f"an update of rank {delta_rank(base, base + update).rank}")
    an update of rank 3
    """
    first, second = as_pair(a, b, min_columns=1)
    gap = second - first
    shape = (int(gap.shape[0]), int(gap.shape[1]))
    if not gap.any():
        return DeltaRank(rank=0, low=0, gap=0.0, effective=0.0, rounding_edge=0.0, bulk_edge=0.0, shape=shape)
    values = singular_values(gap)
    noise = np.maximum(_rounding_variance(first, bits_a), _rounding_variance(second, bits_b))
    rounding = _SLACK * math.sqrt(float(noise.sum(axis=1).max())) + _SLACK * math.sqrt(float(noise.sum(axis=0).max()))
    bulk = _SLACK * _bulk_edge(values, *shape)
    computed = float(values[0]) * max(shape) * 2.0**-52  # what the decomposition itself leaves of a zero
    share = values**2 / np.sum(values**2)
    share = share[share > 0.0]
    rank = int(np.count_nonzero(values > max(rounding, bulk, computed)))
    low, ratio = _widest_gap(values, rank, max(bulk, computed, _NOISE * rounding))
    return DeltaRank(
        rank=rank,
        low=low,
        gap=ratio,
        effective=math.exp(-float(np.sum(share * np.log(share)))),
        rounding_edge=rounding,
        bulk_edge=bulk,
        shape=shape,
    )


def _widest_gap(values: Float64Array, rank: int, noise: float) -> tuple[int, float]:
    """How many of the first singular values stand before the widest gap that ends in noise, and that gap."""
    following = np.append(values, 0.0)[1 : rank + 1]
    with np.errstate(divide="ignore"):
        gaps = np.where(following <= noise, values[:rank] / following, 0.0)
    if not gaps.any():
        return rank, 0.0 if rank == 0 else 1.0
    best = int(gaps.argmax())
    return best + 1, float(gaps[best])


def singular_values(matrix: Float64Array) -> Float64Array:
    """Singular values of a matrix, largest first, to about 1e-15 of the largest; no library chooses the order of sums."""
    tall = np.array(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T, dtype=np.float64, order="C")
    diagonal, above, values = (np.zeros(tall.shape[1]) for _ in range(3))
    bidiagonalise(tall, diagonal, above)
    bisect(diagonal, above, _BISECTIONS, values)
    return np.ascontiguousarray(values[::-1])


def _rounding_variance(values: Float64Array, bits: int) -> Float64Array:
    """Variance of an error uniform over one unit in the last place."""
    power = (values.view(np.uint64) & np.uint64(0x7FF0000000000000)).view(np.float64)  # of two, at or below |value|
    return (power * 2.0 ** (1 - bits)) ** 2 / 12.0


def _bulk_edge(values: Float64Array, rows: int, columns: int) -> float:
    """Edge of the bulk of white noise whose lower quartile of singular values is the observed one."""
    ratio = min(rows, columns) / max(rows, columns)
    return (
        float(values[-1 - int(_QUARTILE * values.size)])
        * (1.0 + math.sqrt(ratio))
        / math.sqrt(_quartile_square(round(ratio, 6)))
    )


@cache
def _quartile_square(ratio: float) -> float:
    """Lower quartile of the Marchenko-Pastur law of this ratio of sides, by a sum over its support."""
    low, high = (1.0 - math.sqrt(ratio)) ** 2, (1.0 + math.sqrt(ratio)) ** 2
    angle = (np.arange(4000) + 0.5) * (math.pi / 4000)
    x = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(angle)
    mass = np.cumsum(np.sin(angle) ** 2 / np.maximum(x, 1e-300))
    return float(x[np.searchsorted(mass, _QUARTILE * mass[-1])])
