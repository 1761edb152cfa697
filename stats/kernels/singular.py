"""Singular values in one fixed order of operations: a library of linear algebra picks its own order and its own threads."""

import numpy as np

from stats.arrays import Float64Array
from stats.kernels import kernel


@kernel
def _dot(x: Float64Array, y: Float64Array) -> float:
    """Inner product in four lanes, which do not wait for one another."""
    s0 = s1 = s2 = s3 = 0.0
    whole = x.size - x.size % 4
    for j in range(0, whole, 4):
        s0 += x[j] * y[j]
        s1 += x[j + 1] * y[j + 1]
        s2 += x[j + 2] * y[j + 2]
        s3 += x[j + 3] * y[j + 3]
    for j in range(whole, x.size):
        s0 += x[j] * y[j]
    return (s0 + s1) + (s2 + s3)


@kernel
def _add(x: Float64Array, factor: float, y: Float64Array) -> None:
    """Add factor * y to x."""
    for j in range(x.size):
        x[j] += factor * y[j]


@kernel
def bidiagonalise(a: Float64Array, diagonal: Float64Array, above: Float64Array) -> None:
    """Reduce a (m, n), m >= n, by reflections to the diagonal (n,) and the entries above it (n,), the last of them 0.

    `a` is overwritten. Sums over rows run in the outer loop, so that the inner one vectorises without reordering.
    """
    m, n = a.shape
    along = np.zeros(n)
    for k in range(n):
        size = 0.0
        for i in range(k, m):
            size += a[i, k] * a[i, k]
        diagonal[k] = -np.copysign(np.sqrt(size), a[k, k])
        scale = diagonal[k] * (a[k, k] - diagonal[k])
        if scale != 0.0:
            a[k, k] -= diagonal[k]
            along[k + 1 :] = 0.0
            for i in range(k, m):
                _add(along[k + 1 :], a[i, k], a[i, k + 1 :])
            for i in range(k, m):
                _add(a[i, k + 1 :], a[i, k] / scale, along[k + 1 :])
        above[k] = 0.0
        if k + 1 < n:
            size = 0.0
            for j in range(k + 1, n):
                size += a[k, j] * a[k, j]
            above[k] = -np.copysign(np.sqrt(size), a[k, k + 1])
            scale = above[k] * (a[k, k + 1] - above[k])
            if scale != 0.0:
                a[k, k + 1] -= above[k]
                for i in range(k + 1, m):
                    _add(a[i, k + 1 :], _dot(a[i, k + 1 :], a[k, k + 1 :]) / scale, a[k, k + 1 :])


@kernel
def bisect(diagonal: Float64Array, above: Float64Array, steps: int, values: Float64Array) -> None:
    """Fill values (n,) with the singular values of a bidiagonal matrix, smallest first, all halved towards together.

    The eigenvalues of the tridiagonal matrix with zeros on its diagonal and d1, e1, d2, e2, ... beside it are plus and
    minus the singular values; counting negative pivots of it, shifted, says how many lie below.
    """
    n = diagonal.size
    top = 0.0
    for k in range(n):
        top = max(top, abs(diagonal[k]) + abs(above[k]) + (abs(above[k - 1]) if k else 0.0))
    tiny = max(top * 1e-150, 1e-290)
    low, high, pivot, below = np.zeros(n), np.full(n, top), np.empty(n), np.empty(n)
    for _ in range(steps):
        pivot[:] = 0.5 * (low + high)
        values[:] = -pivot
        below[:] = 1.0
        for i in range(1, 2 * n):
            side = diagonal[i // 2] if i % 2 else above[i // 2 - 1]
            square = side * side
            for j in range(n):
                last = values[j] if abs(values[j]) > tiny else -tiny
                values[j] = -pivot[j] - square / last
                below[j] += 1.0 if values[j] < 0.0 else 0.0
        for j in range(n):
            if below[j] - n > j:
                high[j] = pivot[j]
            else:
                low[j] = pivot[j]
    values[:] = 0.5 * (low + high)
