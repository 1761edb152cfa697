"""Label-free preparation of unit features: every step treats the units alike, so no step can know a label."""

import numpy as np

from stats.arrays import Float64Array, as_matrix
from stats.kernels.gram import gram

WINDOW = 256
"""Labels per window. Cost grows with the window, the floor with its factorial: 256 labels alone reach 10^-507."""

_EINSUM_LIMIT = 1 << 26
"""Multiplications up to which plain numpy is used: about 60 ms, a tenth of what loading the compiler costs."""

_GAPS_AT_ONCE = 1 << 14
"""Gaps held at once (128 kB): small matrices are many calls otherwise, large ones leave the processor's cache."""

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


def products_of_each(a: Float64Array, b: Float64Array) -> Float64Array:
    """`products` of each of K pairs of matrices, (K, k, n) and (K, k, m) to (K, n, m): the same bits in fewer calls."""
    if a[0].size * b.shape[2] <= _EINSUM_LIMIT:
        return np.asarray(np.einsum("pki,pkj->pij", a, b))
    return np.stack([products(x, np.ascontiguousarray(y)) for x, y in zip(a, b, strict=True)])


def squared_gaps(a: Float64Array, b: Float64Array, cap: float) -> Float64Array:
    """Minus half the squared gaps of all units of a (k, n) to all of b (k, m), each capped, summed over the features."""
    out = np.zeros((a.shape[1], b.shape[1]))
    step = max(1, _GAPS_AT_ONCE // out.size)
    for start in range(0, a.shape[0], step):
        gaps = a[start : start + step, :, None] - b[start : start + step, None, :]
        np.multiply(gaps, gaps, out=gaps)
        np.minimum(gaps, cap, out=gaps)
        gaps *= 0.5
        for gap in gaps:
            out -= gap
    return out


def unit_norm(features: Float64Array) -> Float64Array:
    """Scale each unit (column) to length one; all-zero units stay zero."""
    norms = np.sqrt(np.add.reduce(features * features, axis=0))
    norms[~(norms > 0.0)] = 1.0
    return np.ascontiguousarray(features / norms)


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
    values = values - np.add.reduce(values, axis=1, keepdims=True) / values.shape[1]
    scale = np.sqrt(np.add.reduce(values * values, axis=1, keepdims=True) / values.shape[1])
    scale[~(scale > 0.0)] = 1.0
    values /= scale
    if centre_units:
        values = values - np.add.reduce(values, axis=0, keepdims=True) / values.shape[0]
    return np.ascontiguousarray(values)


def standardised(vector: Float64Array) -> Float64Array:
    """Centre by the median and scale by the median absolute deviation (standard deviation when that is 0)."""
    gap = vector - _median(vector)
    spread = 1.4826 * float(_median(np.abs(gap)))
    if spread == 0.0:
        spread = float(np.std(gap))
    return gap / spread if spread > 0.0 else gap


def _median(vector: Float64Array) -> np.float64:
    """What `numpy.median` gives for finite values, without its thirty calls."""
    ordered = np.sort(vector)
    return np.float64((ordered[(vector.size - 1) // 2] + ordered[vector.size // 2]) / 2.0)


def is_placeholder(vector: Float64Array) -> bool:
    """Whether a vector has too few distinct values to carry labels (at most a quarter of the units, below 16)."""
    return bool(np.unique(vector).size < min(MIN_DISTINCT, max(2, vector.size // 4)))


def windows_of(n: int, size: int = WINDOW) -> list[slice]:
    """Consecutive windows of at most `size` labels that cover 0 .. n."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
