"""Inner products of unit features, in one fixed summation order."""

from stats.arrays import Float64Array
from stats.kernels import kernel


@kernel
def gram(a: Float64Array, b: Float64Array, out: Float64Array) -> None:
    """Fill out[i, j] = sum_k a[k, i] * b[k, j] for a (k, n), b (k, m), out (n, m).

    Features come first and the sum runs over k in the outer loop: the inner loop then vectorises without
    reordering any sum, so the result has the same bits on one thread or many. BLAS promises no such thing.
    """
    out[:, :] = 0.0
    for k in range(a.shape[0]):
        for i in range(a.shape[1]):
            left = a[k, i]
            for j in range(b.shape[1]):
                out[i, j] += left * b[k, j]
