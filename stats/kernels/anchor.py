"""Agreement with the units revealed before, for every pair of units at once."""

from stats.arrays import Float64Array
from stats.kernels import kernel


@kernel
def anchored(a: Float64Array, b: Float64Array, out: Float64Array) -> None:
    """Add sum over kernels k and anchors s < min(i, j) of a[k, i, s] * b[k, j, s] to out[i, j].

    a, b (K, n, n): inner products inside each model; out (n, n): on entry what is known without anchors.

    When unit t of one model is the query, the candidates left are t .. n - 1 of the other, and min(t, j) = t: all
    units before t are anchors, in either role. Each sum runs over s, then k, in order.
    """
    n_kernels, n, _ = a.shape
    for i in range(n):
        for j in range(n):
            total = 0.0
            for s in range(min(i, j)):
                for k in range(n_kernels):
                    total += a[k, i, s] * b[k, j, s]
            out[i, j] += total
