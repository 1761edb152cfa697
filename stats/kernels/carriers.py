"""Sums of keyed signs times weights by code symbol, in whole numbers, so that any split of a model adds up to the same."""

from typing import Any

import numpy as np

from stats.kernels import kernel

BLOCK = 64
"""Weights in a row that carry one symbol."""


@kernel
def _root_mean_square(row: Any, lanes: Any) -> float:
    """Over the values whose square is finite; eight lanes, added in order. `lanes` (8,) float64 is scratch."""
    lanes[:] = 0.0
    whole = row.size // 8 * 8
    for start in range(0, whole, 8):
        for j in range(8):
            x = np.float64(row[start + j])
            lanes[j] += x * x
    total = 0.0
    for j in range(8):
        total += lanes[j]
    for i in range(whole, row.size):
        total += np.float64(row[i]) * np.float64(row[i])
    count = row.size
    if not np.isfinite(total):
        total = 0.0
        count = 0
        for i in range(row.size):
            square = np.float64(row[i]) * np.float64(row[i])
            if np.isfinite(square):
                total += square
                count += 1
    return np.sqrt(total / count) if count else 0.0


@kernel
def _add_row(row: Any, scale: float, signs: Any, symbols: Any, most: Any, unit: float, out: Any) -> None:
    factor = np.float32(unit / scale) if scale > 0.0 else np.float32(0.0)
    if not np.isfinite(factor):
        factor = np.float32(0.0)
    for b in range(symbols.size):
        start = b * BLOCK
        added = np.int64(0)
        squares = np.int64(0)
        seen = np.int64(0)
        for i in range(start, min(row.size, start + BLOCK)):
            v = np.float32(row[i]) * factor
            v = min(max(v, -most), most) if v == v else np.float32(0.0)  # noqa: PLR0124 - NaN is not itself
            k = np.int64(np.int32(np.rint(v)))
            added += k * (2 * np.int64((signs[i >> 3] >> (i & 7)) & 1) - 1)
            squares += k * k
            seen += np.int64(k != 0)
        out[0, symbols[b]] += added
        out[1, symbols[b]] += squares >> 32
        out[2, symbols[b]] += squares & 0xFFFFFFFF
        out[3, symbols[b]] += seen


@kernel
def row_rms(rows: Any, out: Any) -> None:
    """Root mean square of each row over its finite values; 0 for rows without any."""
    lanes = np.empty(8)
    for r in range(rows.shape[0]):
        out[r] = _root_mean_square(rows[r], lanes)


@kernel
def add_carriers(x: Any, scale: Any, signs: Any, symbols: Any, clip: float, unit: float, out: Any) -> None:
    """Add to out (4, symbols) int64: sums of s k, k^2 >> 32, k^2 & (2^32 - 1), and values that are not 0.

    k is the nearest whole number to unit x / scale, at most unit clip in size; NaN counts as 0, infinity as clip.
    `signs` (rows, bytes) holds a bit a weight, lowest first, 1 for +1; `symbols` (rows, blocks) the symbol of each 64.
    """
    most = np.float32(unit * clip)
    for r in range(x.shape[0]):
        _add_row(x[r], scale[r], signs[r], symbols[r], most, unit, out)


@kernel
def add_brain(bits: Any, signs: Any, symbols: Any, clip: float, unit: float, out: Any) -> None:
    """As `add_carriers` for bfloat16 as uint16, each row in units of its own root mean square."""
    most = np.float32(unit * clip)
    row = np.empty(bits.shape[1], dtype=np.float32)
    lanes = np.empty(8)
    for r in range(bits.shape[0]):
        for i in range(row.size):
            row[i] = np.uint32(np.uint32(bits[r, i]) << np.uint32(16)).view(np.float32)
        _add_row(row, _root_mean_square(row, lanes), signs[r], symbols[r], most, unit, out)
