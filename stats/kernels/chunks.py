"""Power sums of two stored arrays and of their difference: one row of partial sums per chunk of 4,096 elements.

Each chunk is summed in 16 independent lanes, and the lanes are added in order in float64. Lanes make the inner loop
vectorise without reordering any sum; a fused multiply-add rounds once and so gives the same bits on every machine.
"""

from typing import Any

import numpy as np

from stats.kernels import instruction, kernel

CHUNK = 4096
LANES = 16
ROWS = 8
COLUMNS = 15
"""sum u^p of a, of b and of the difference (p = 1 to 4 each), sum a b, equal elements, largest difference."""
WORK = 2 * CHUNK + COLUMNS * LANES + 3


def _fused(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c rounded once; an instruction of its own, not a licence to rewrite others."""

    def build(_target: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return a(a, b, c), build


_fma: Any = instruction(_fused)


@kernel
def widen(bits: Any, kind: int, start: int, out: Any) -> None:
    """Decode out.size elements of uint8 `bits` from `start` on: kind 0 BF16, 1 F16, 2 F32, 3 F64.

    F16 shifted into the places of a float32 is too small by 2^112 exactly, its subnormals included.
    """
    if kind == 0:
        shorts = bits.view(np.uint16)[start : start + out.size]
        for i in range(out.size):
            out[i] = np.uint32(np.uint32(shorts[i]) << np.uint32(16)).view(np.float32)
    elif kind == 1:
        codes = bits.view(np.uint16)[start : start + out.size]
        for i in range(out.size):
            size = np.uint32(np.uint32(codes[i] & 0x7FFF) << np.uint32(13)).view(np.float32) * np.float32(2.0**112)
            size = size if codes[i] & 0x7C00 != 0x7C00 else np.float32(np.nan)
            out[i] = -size if codes[i] & 0x8000 else size
    elif kind == 2:
        out[:] = bits.view(np.float32)[start : start + out.size]
    else:
        out[:] = bits.view(np.float64)[start : start + out.size]


@kernel
def _powers(x: Any, pivot: Any, lanes: Any) -> None:
    """Add u, u^2, u^3, u^4, u = x - pivot, to 4 x 16 lanes, in the type of x."""
    for i in range(x.size // (LANES * ROWS)):
        part = x[i * LANES * ROWS : (i + 1) * LANES * ROWS]
        for j in range(LANES):
            s1 = s2 = s3 = s4 = pivot - pivot
            for r in range(ROWS):
                u = part[r * LANES + j] - pivot
                uu = u * u
                s1 += u
                s2 += uu
                s3 = _fma(uu, u, s3)
                s4 = _fma(uu, uu, s4)
            lanes[j] += s1
            lanes[LANES + j] += s2
            lanes[2 * LANES + j] += s3
            lanes[3 * LANES + j] += s4


@kernel
def _cross(x: Any, y: Any, zero: Any, one: Any, lanes: Any) -> None:
    """Add d, d^2, d^3, d^4, d = x - y, then x y, equal elements and the largest |d| to 7 x 16 lanes."""
    for i in range(x.size // (LANES * ROWS)):
        left = x[i * LANES * ROWS : (i + 1) * LANES * ROWS]
        right = y[i * LANES * ROWS : (i + 1) * LANES * ROWS]
        for j in range(LANES):
            s1 = s2 = s3 = s4 = product = same = zero
            top = lanes[6 * LANES + j]
            for r in range(ROWS):
                p = left[r * LANES + j]
                q = right[r * LANES + j]
                d = p - q
                dd = d * d
                s1 += d
                s2 += dd
                s3 = _fma(dd, d, s3)
                s4 = _fma(dd, dd, s4)
                product = _fma(p, q, product)
                same += one if d == zero else zero
                size = abs(d)
                top = size if size > top else top  # noqa: FURB136 - max() also asks for NaN, at half the speed
            lanes[j] += s1
            lanes[LANES + j] += s2
            lanes[2 * LANES + j] += s3
            lanes[3 * LANES + j] += s4
            lanes[4 * LANES + j] += product
            lanes[5 * LANES + j] += same
            lanes[6 * LANES + j] = top


@kernel
def _chunk(a: Any, b: Any, kinds: Any, start: int, count: int, work: Any, row: Any) -> None:
    """Fill one row of sums from `count` elements; `work` ends in the pivots of a and b and a zero, in its own type."""
    size = -(-count // (LANES * ROWS)) * LANES * ROWS
    x = work[:size]
    y = work[CHUNK : CHUNK + size]
    lanes = work[2 * CHUNK : 2 * CHUNK + COLUMNS * LANES]
    pivot_a, pivot_b, zero = work[WORK - 3], work[WORK - 2], work[WORK - 1]
    lanes[:] = zero
    x[count:] = zero
    y[count:] = zero
    widen(a, kinds[0], start, x[:count])
    widen(b, kinds[1], start, y[:count])
    _cross(x, y, zero, zero + np.float32(1.0), lanes[8 * LANES :])
    x[count:] = pivot_a
    y[count:] = pivot_b
    _powers(x, pivot_a, lanes)
    _powers(y, pivot_b, lanes[4 * LANES :])
    _fold(lanes, row)
    row[13] -= size - count


@kernel
def _stored_powers(x: Any, zero: Any, lanes: Any) -> None:
    """What `widen` and `_powers` add for whole rows of BF16 codes without a pivot, in one step and to the same bits."""
    for i in range(x.size // (LANES * ROWS)):
        part = x[i * LANES * ROWS : (i + 1) * LANES * ROWS]
        for j in range(LANES):
            s1 = s2 = s3 = s4 = zero
            for r in range(ROWS):
                u = np.uint32(np.uint32(part[r * LANES + j]) << np.uint32(16)).view(np.float32)
                uu = u * u
                s1 += u
                s2 += uu
                s3 = _fma(uu, u, s3)
                s4 = _fma(uu, uu, s4)
            lanes[j] += s1
            lanes[LANES + j] += s2
            lanes[2 * LANES + j] += s3
            lanes[3 * LANES + j] += s4


@kernel
def _stored_cross(x: Any, y: Any, zero: Any, one: Any, lanes: Any) -> None:
    """What `widen` and `_cross` add for whole rows of BF16 codes, in one step and to the same bits."""
    for i in range(x.size // (LANES * ROWS)):
        left = x[i * LANES * ROWS : (i + 1) * LANES * ROWS]
        right = y[i * LANES * ROWS : (i + 1) * LANES * ROWS]
        for j in range(LANES):
            s1 = s2 = s3 = s4 = product = same = zero
            top = lanes[6 * LANES + j]
            for r in range(ROWS):
                p = np.uint32(np.uint32(left[r * LANES + j]) << np.uint32(16)).view(np.float32)
                q = np.uint32(np.uint32(right[r * LANES + j]) << np.uint32(16)).view(np.float32)
                d = p - q
                dd = d * d
                s1 += d
                s2 += dd
                s3 = _fma(dd, d, s3)
                s4 = _fma(dd, dd, s4)
                product = _fma(p, q, product)
                same += one if d == zero else zero
                size = abs(d)
                top = size if size > top else top  # noqa: FURB136 - max() also asks for NaN, at half the speed
            lanes[j] += s1
            lanes[LANES + j] += s2
            lanes[2 * LANES + j] += s3
            lanes[3 * LANES + j] += s4
            lanes[4 * LANES + j] += product
            lanes[5 * LANES + j] += same
            lanes[6 * LANES + j] = top


@kernel
def _stored_chunk(a: Any, b: Any, start: int, work: Any, row: Any) -> None:
    """What `_chunk` gives for a whole chunk of BF16 on both sides in float32 lanes without pivots."""
    x = a[2 * start : 2 * (start + CHUNK)].view(np.uint16)
    y = b[2 * start : 2 * (start + CHUNK)].view(np.uint16)
    lanes = work[2 * CHUNK : 2 * CHUNK + COLUMNS * LANES]
    zero = np.float32(0.0)
    lanes[:] = zero
    _stored_cross(x, y, zero, np.float32(1.0), lanes[8 * LANES :])
    _stored_powers(x, zero, lanes)
    _stored_powers(y, zero, lanes[4 * LANES :])
    _fold(lanes, row)


@kernel
def _fold(lanes: Any, row: Any) -> None:
    """Add the lanes of each column in order, in float64; the largest of the last."""
    for k in range(COLUMNS - 1):
        total = 0.0
        for j in range(LANES):
            total += lanes[k * LANES + j]
        row[k] = total
    row[14] = 0.0
    for j in range(LANES):
        row[14] = max(row[14], np.float64(lanes[14 * LANES + j]))


@kernel
def _is_safe(total: float, squares: float, count: int) -> bool:
    """Whether float32 kept all fourth powers in range, and the mean is no larger than half the root mean square."""
    return 8.7e-19 * count < squares < 1.0e12 * count and 4.0 * total * total <= count * squares


@kernel
def pair_chunks(a: Any, b: Any, kinds: Any, narrow: Any, wide: Any, out: Any) -> None:
    """Fill out (chunks, 15) from uint8 `a` and `b`; `narrow` float32 and `wide` float64 of WORK elements are scratch.

    Lanes are float32 where both formats have 16 bits and no pivot is set, unless the sums of the chunk show that
    float32 was too narrow for it; that chunk is summed again in float64. The choice depends on the values alone.
    """
    n = a.size // (2 if kinds[0] < 2 else 2 ** kinds[0])
    brief = kinds[0] < 2 and kinds[1] < 2 and wide[WORK - 3] == 0.0 and wide[WORK - 2] == 0.0
    for c in range(out.shape[0]):
        count = min(CHUNK, n - c * CHUNK)
        row = out[c]
        done = False
        if brief:
            if kinds[0] == 0 and kinds[1] == 0 and count == CHUNK:
                _stored_chunk(a, b, c * CHUNK, narrow, row)
            else:
                _chunk(a, b, kinds, c * CHUNK, count, narrow, row)
            done = _is_safe(row[0], row[1], count) and _is_safe(row[4], row[5], count)
            done = done and (row[14] == 0.0 or _is_safe(row[8], row[9], count))
        if not done:
            _chunk(a, b, kinds, c * CHUNK, count, wide, row)


@kernel
def add_rows(rows: Any, total: Any) -> None:
    """Add rows (chunks, 15) to total (15,) one after the other; the last column is a maximum."""
    for c in range(rows.shape[0]):
        for k in range(COLUMNS - 1):
            total[k] += rows[c, k]
        total[COLUMNS - 1] = max(total[COLUMNS - 1], rows[c, COLUMNS - 1])
