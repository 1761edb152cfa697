"""Label-free preparation of unit features: every step treats the units alike, so no step can know a label."""

import numpy as np

from stats.arrays import Float64Array, as_matrix
from stats.kernels.gram import gram

WINDOW = 256
"""Labels per window. Cost grows with the window, the floor with its factorial: 256 labels alone reach 10^-507."""

_EINSUM_LIMIT = 1 << 26
"""Multiplications up to which plain numpy is used: about 60 ms, a tenth of what loading the compiler costs."""

MIN_DISTINCT = 4
"""A vector with fewer distinct values is a placeholder (unit gains, zero biases), not a trained parameter. Trained gains
near one hold a dozen values in 16 bits; ties cost power, never validity."""


def unit_cosines(a: Float64Array, b: Float64Array) -> Float64Array:
    """Cosines between all units of a and all units of b.

    Parameters
    ----------
    a, b : (k, n) and (k, m) float64
        Features first, units second. Dead (all-zero) units get the cosine 0 with every candidate.

    Returns
    -------
    (n, m) float64
        Accumulated in float64 in one fixed order.
    """
    return products(unit_norm(a), unit_norm(b))


def products(a: Float64Array, b: Float64Array) -> Float64Array:
    """Inner products of all units of a (k, n) with all units of b (k, m), summed over the features in order.

    Plain numpy where that is cheaper than loading compiled code; both give the same bits, and BLAS promises none.
    """
    if a.shape[0] * a.shape[1] * b.shape[1] <= _EINSUM_LIMIT:
        return np.asarray(np.einsum("ki,kj->ij", a, b))
    out = np.empty((a.shape[1], b.shape[1]))
    gram(a, b, out)
    return out


def squared_gaps(a: Float64Array, b: Float64Array, cap: float) -> Float64Array:
    """Minus half the squared gaps of all units of a (k, n) to all of b (k, m), each capped, summed over the features."""
    out = np.zeros((a.shape[1], b.shape[1]))
    for left, right in zip(a, b, strict=True):
        gap = left[:, None] - right[None, :]
        np.multiply(gap, gap, out=gap)
        out -= 0.5 * np.minimum(gap, cap, out=gap)
    return out


def unit_norm(features: Float64Array) -> Float64Array:
    """Scale each unit (column) to length one; all-zero units stay zero."""
    norms = np.sqrt(np.sum(features * features, axis=0))
    return np.ascontiguousarray(features / np.where(norms > 0.0, norms, 1.0))


def balanced(features: Float64Array, *, centre_units: bool) -> Float64Array:
    """Give every feature the same say: centre it over the units and scale it to unit mean square.

    Parameters
    ----------
    features : (k, n) float64
        Features first, units second.
    centre_units : bool
        Whether each unit is then centred over its features as well.

    Returns
    -------
    (k, n) float64
        One outlier feature (a frequent token, an outlier dimension) no longer decides every cosine. Both steps
        commute with any relabelling of the units.
    """
    values = as_matrix(features, "features")
    values = values - values.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.mean(values * values, axis=1, keepdims=True))
    values = values / np.where(scale > 0.0, scale, 1.0)
    if centre_units:
        values = values - values.mean(axis=0, keepdims=True)
    return np.ascontiguousarray(values)


def standardised(vector: Float64Array) -> Float64Array:
    """Centre by the median and scale by the median absolute deviation (standard deviation when that is 0)."""
    gap = vector - np.median(vector)
    spread = 1.4826 * float(np.median(np.abs(gap)))
    if spread == 0.0:
        spread = float(np.std(gap))
    return gap / spread if spread > 0.0 else gap


def is_placeholder(vector: Float64Array) -> bool:
    """Whether a vector has too few distinct values to carry labels (at most a quarter of the units, below 16)."""
    return bool(np.unique(vector).size < min(MIN_DISTINCT, max(2, vector.size // 4)))


def windows_of(n: int, size: int = WINDOW) -> list[slice]:
    """Consecutive windows of at most `size` labels that cover 0 .. n."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
