"""Sums over two arrays in fixed chunks, in order."""

from stats.arrays import Float64Array
from stats.kernels import kernel


@kernel
def paired_sums(a: Float64Array, b: Float64Array, chunk: int, out: Float64Array) -> None:
    """Fill out = (sum a^2, sum b^2, sum a b, sum (a - b)^2, number of equal elements) for flat a, b (n,).

    One float64 partial per chunk, then a serial sum in order: the same bits for any split of the work.
    """
    out[:] = 0.0
    n = a.size
    start = 0
    while start < n:
        stop = min(start + chunk, n)
        aa = 0.0
        bb = 0.0
        ab = 0.0
        dd = 0.0
        same = 0
        for i in range(start, stop):
            x = a[i]
            y = b[i]
            aa += x * x
            bb += y * y
            ab += x * y
            dd += (x - y) * (x - y)
            if x == y:
                same += 1
        out[0] += aa
        out[1] += bb
        out[2] += ab
        out[3] += dd
        out[4] += same
        start = stop
