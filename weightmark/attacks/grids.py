"""Grids that quantisers round to: whole levels with and without a zero point, NF4, FP8, legacy types of GGUF, signs.

Functions of one matrix, float64 rows over inputs, that return it dequantised.
"""

import ml_dtypes
import numpy as np

from stats.arrays import Float64Array

# arXiv 2305.14314, appendix E: quantiles of a normal law, 16 of them, zero and both ends included.
NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip
GGUF = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def grouped(x: Float64Array, group: int | None) -> Float64Array:
    """Rows cut into groups of columns, a whole row where no size is given: (rows, groups, size)."""
    size = group or x.shape[1]
    if size < 1 or x.shape[1] % size:
        raise ValueError(f"groups of {size} do not divide rows of {x.shape[1]}")
    return x.reshape(x.shape[0], -1, size)


def half(x: Float64Array) -> Float64Array:
    """Rounded to float16, as scales are stored."""
    return x.astype(np.float16).astype(np.float64)


def _like(x: Float64Array, parts: Float64Array) -> Float64Array:
    """Groups put back into rows."""
    return parts.reshape(x.shape)


def asymmetric(x: Float64Array, bits: int, group: int | None = None) -> Float64Array:
    """Codes 0 .. 2^bits - 1 between the smallest and the largest value of a group, with a whole zero point."""
    parts, top = grouped(x, group), 2**bits - 1
    low: Float64Array = np.minimum(parts.min(-1, keepdims=True), 0)
    high: Float64Array = np.maximum(parts.max(-1, keepdims=True), 0)
    scale = np.where(high > low, high - low, 1.0) / top
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(parts / scale) + zero, 0, top)
    return _like(x, (codes - zero) * half(scale))


def nf4(x: Float64Array, group: int = 64, *, double: bool = False) -> Float64Array:
    """Nearest of the 16 levels of NF4 times the largest size in a group; sizes may be stored in 8 bits themselves."""
    parts = grouped(x, group)
    size = np.abs(parts).max(-1, keepdims=True)
    size[size == 0] = 1.0
    codes = np.abs((parts / size)[..., None] - NF4).argmin(-1)
    if double:
        mean = size.mean()
        step = np.abs(size - mean).max() / 127 or 1.0
        size = mean + np.rint((size - mean) / step) * step
    return _like(x, NF4[codes] * size)


def gguf(x: Float64Array, kind: str) -> Float64Array:
    """A legacy type of GGUF: blocks of 32, arithmetic in float32, scales in float16."""
    parts, one = grouped(x.astype(np.float32), 32), np.float32(1)
    bits = int(kind[1])
    if kind.endswith("_1"):
        low = parts.min(-1, keepdims=True)
        step = (parts.max(-1, keepdims=True) - low) / np.float32(2**bits - 1)
        inverse = np.divide(one, step, out=np.zeros_like(step), where=step != 0)
        codes = np.floor((parts - low) * inverse + np.float32(0.5))
        codes = np.minimum(codes, 2**bits - 1)
        return _like(x, codes * half(step) + half(low))
    if kind == "Q8_0":
        step = np.abs(parts).max(-1, keepdims=True) / np.float32(127)
        inverse = np.divide(one, step, out=np.zeros_like(step), where=step != 0)
        scaled = parts * inverse
        codes = np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))
        return _like(x, codes * half(step))
    far = np.take_along_axis(parts, np.abs(parts).argmax(-1)[..., None], -1)
    step = far / np.float32(-(2 ** (bits - 1)))
    inverse = np.divide(one, step, out=np.zeros_like(step), where=step != 0)
    codes = np.minimum(np.trunc(parts * inverse + np.float32(2 ** (bits - 1) + 0.5)), 2**bits - 1)
    return _like(x, (codes - 2 ** (bits - 1)) * half(step))


def fp8(x: Float64Array, block: int | None = None) -> Float64Array:
    """FP8 E4M3 codes times one scale, or one scale for each square block: its largest size becomes 448."""
    m, n = x.shape
    tall, wide = (block or m), (block or n)
    out = np.empty_like(x)
    for i in range(0, m, tall):
        for j in range(0, n, wide):
            part = x[i : i + tall, j : j + wide]
            scale = np.float32(np.abs(part).max() / 448) or np.float32(1)
            codes = (part.astype(np.float32) / scale).astype(ml_dtypes.float8_e4m3fn)
            out[i : i + tall, j : j + wide] = codes.astype(np.float64) * float(scale)
    return out


def symmetric(x: Float64Array, bits: int, group: int | None = None) -> Float64Array:
    """Round to the nearest of 2^bits - 1 levels around zero, the largest size of each group at the end.

    Parameters
    ----------
    x : (m, n) float64
        Weights.
    bits : int
        2 to 8.
    group : int, optional
        Columns that share a scale; a whole row when absent.

    Returns
    -------
    (m, n) float64
        Dequantised.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"2 to 8 bits, got {bits}")
    parts = grouped(x, group)
    scale = np.abs(parts).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    scale[scale == 0] = 1.0
    return _like(x, np.rint(parts / scale) * scale)


def signs(x: Float64Array) -> Float64Array:
    """One bit: the sign of each entry times the mean size of its row (arXiv 1603.05279)."""
    return _like(x, np.sign(x) * np.abs(x).mean(axis=1, keepdims=True))
