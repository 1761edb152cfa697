"""Sums of keyed signs times weights by code symbol, in whole numbers, so that any split of a model adds up to the same."""

from typing import Any

import numpy as np

from stats.kernels import kernel

BLOCK = 64
"""Weights in a row that carry one symbol."""


@kernel
def row_rms(rows: Any, out: Any) -> None:
    """Root mean square of each row of float32 or float64 over its finite values; 0 for rows without any."""
    for r in range(rows.shape[0]):
        total = 0.0
        count = 0
        lanes = np.zeros(8)
        whole = rows.shape[1] // 8 * 8
        for start in range(0, whole, 8):
            for j in range(8):
                x = np.float64(rows[r, start + j])
                lanes[j] += x * x
        for j in range(8):
            total += lanes[j]
        for i in range(whole, rows.shape[1]):
            total += np.float64(rows[r, i]) * np.float64(rows[r, i])
        count = rows.shape[1]
        if not np.isfinite(total):
            total = 0.0
            count = 0
            for i in range(rows.shape[1]):
                x = np.float64(rows[r, i])
                if np.isfinite(x) and np.isfinite(x * x):
                    total += x * x
                    count += 1
        out[r] = np.sqrt(total / count) if count else 0.0


@kernel
def add_carriers(x: Any, scale: Any, signs: Any, symbols: Any, clip: float, unit: float, out: Any) -> None:
    """Add to out (4, symbols) int64: sums of s k, k^2 >> 32, k^2 & (2^32 - 1), and values that are not 0.

    k is the nearest whole number to unit x / scale, at most unit clip in size; NaN counts as 0, infinity as clip.
    `signs` (rows, bytes) holds a bit a weight, lowest first, 1 for +1; `symbols` (rows, blocks) the symbol of each 64.
    """
    most = np.float32(unit * clip)
    for r in range(x.shape[0]):
        factor = np.float32(unit / scale[r]) if scale[r] > 0.0 else np.float32(0.0)
        if not np.isfinite(factor):
            factor = np.float32(0.0)
        for b in range(symbols.shape[1]):
            start = b * BLOCK
            stop = min(x.shape[1], start + BLOCK)
            added = np.int64(0)
            squares = np.int64(0)
            seen = np.int64(0)
            for i in range(start, stop):
                v = np.float32(x[r, i]) * factor
                v = min(max(v, -most), most) if v == v else np.float32(0.0)  # noqa: PLR0124 - NaN is not itself
                k = np.int64(np.int32(np.rint(v)))
                bit = np.int64((signs[r, i >> 3] >> (i & 7)) & 1)
                added += k * (2 * bit - 1)
                squares += k * k
                seen += np.int64(k != 0)
            symbol = symbols[r, b]
            out[0, symbol] += added
            out[1, symbol] += squares >> 32
            out[2, symbol] += squares & 0xFFFFFFFF
            out[3, symbol] += seen
