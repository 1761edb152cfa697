"""Sums of keyed signs times weights, by code symbol; exact in whole numbers, so that parts of a model add up in any order."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats.arrays import Float64Array, IntVector
from stats.kernels.carriers import BLOCK, add_brain, add_carriers, row_rms

SYMBOLS = 512
UNIT = 2.0**17
"""A weight counts in steps of its row's root mean square over this: far below any mark."""

MOST_CLIP = 16.0
Rows = npt.NDArray[np.floating | np.uint16]
ByteMatrix = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """What was added up, over any part of a model; parts add exactly.

    Attributes
    ----------
    sums : (512,) int64
        Signs times values by symbol, in `UNIT`.
    high, low : (512,) int64
        Sums of squares, as multiples of 2^32 and what is left.
    counts : (512,) int64
        Values that are not zero.
    """

    sums: IntVector
    high: IntVector
    low: IntVector
    counts: IntVector

    def __add__(self, other: "Carried") -> "Carried":
        return Carried(self.sums + other.sums, self.high + other.high, self.low + other.low, self.counts + other.counts)

    @staticmethod
    def none() -> "Carried":
        """Nothing read."""
        return Carried(*np.zeros((4, SYMBOLS), dtype=np.int64))

    @property
    def n(self) -> int:
        """Carriers read."""
        return int(self.counts.sum())

    @property
    def squares(self) -> Float64Array:
        """Sums of squares by symbol, in `UNIT` squared."""
        return self.high.astype(np.float64) * 2.0**32 + self.low.astype(np.float64)

    @property
    def means(self) -> Float64Array:
        """Mean of sign times value by symbol, in root mean squares of rows; 0 where nothing was read."""
        found: Float64Array = self.sums / np.maximum(self.counts, 1) / UNIT
        return found

    @property
    def soft(self) -> Float64Array:
        """Sum over the root sum of squares by symbol: variance 1 when the signs are chance; 0 where nothing was read."""
        size = np.sqrt(self.squares)
        found: Float64Array = np.divide(self.sums, size, out=np.zeros(SYMBOLS), where=size > 0.0)
        return found

    def statistic(self, code: Float64Array) -> float:
        """Sum of all signs, the code's too, times values over the root sum of squares; 0 where nothing was read.

        Parameters
        ----------
        code : (512,) float64
            +1 or -1 by symbol, 0 to leave one out.
        """
        picked = [int(c) * int(s) for c, s in zip(code, self.sums, strict=True)]
        squares = sum(
            (int(h) << 32) + int(low) for c, h, low in zip(code, self.high, self.low, strict=True) if int(c) != 0
        )
        return sum(picked) / float(squares) ** 0.5 if squares else 0.0


def scales(rows: Rows) -> Float64Array:
    """Root mean square of each row over its finite values.

    Parameters
    ----------
    rows : (m, n) float32 or float64

    Returns
    -------
    (m,) float64
        0 where nothing is finite.
    """
    out = np.empty(rows.shape[0])
    row_rms(np.ascontiguousarray(rows), out)
    return out


def carried(
    rows: Rows, signs: ByteMatrix, symbols: IntVector, *, clip: float, scale: Float64Array | None = None
) -> Carried:
    """Add up keyed signs times rows, each row in units of its scale.

    Parameters
    ----------
    rows : (m, n) float32, float64, or uint16
        uint16 are the stored bits of bfloat16. NaN counts as 0.
    signs : (m, >= n / 8) uint8
        One bit a weight, lowest first; 1 is +1.
    symbols : (m, n / 64 rounded up) int64
        The code symbol of each 64 weights, below 512.
    clip : float
        Larger values count as this; at most 16.
    scale : (m,) float64, optional
        Rows of scale 0 count as 0; the root mean square of each row itself when absent.

    Returns
    -------
    Carried

    Raises
    ------
    ValueError
        Shapes do not fit, a symbol is out of range, or the clip too large.

    Notes
    -----
    Null (in use): the signs are fair and drawn without a look at `rows` and `scale`. Cost: O(m n).
    """
    m, n = rows.shape
    fits = signs.shape[0] == m and signs.shape[1] * 8 >= n and symbols.shape == (m, -(-n // BLOCK))
    if not fits or (scale is not None and scale.shape != (m,)):
        raise ValueError(f"carried: shapes do not fit rows of {rows.shape}")
    if not 0.0 < clip <= MOST_CLIP or (symbols.size and (symbols.min() < 0 or symbols.max() >= SYMBOLS)):
        raise ValueError("carried: a symbol or the clip is out of range")
    out = np.zeros((4, SYMBOLS), dtype=np.int64)
    held = np.ascontiguousarray(rows)
    if held.dtype == np.uint16 and scale is None:
        add_brain(held, signs, symbols, clip, UNIT, out)
    elif held.dtype.kind == "f":
        add_carriers(held, scales(held) if scale is None else scale, signs, symbols, clip, UNIT, out)
    else:
        raise ValueError(f"carried: rows of {held.dtype} with a scale of their own")
    return Carried(*out)
