"""Keyed shifts of weights, stored in the format they had: coarse formats keep the mean of a shift they cannot hold."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats.arrays import Float64Array, IntVector
from stats.kernels.carriers import BLOCK
from stats.kernels.dither import change_sums, round_keyed, shift_rows

Rows = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Grid:
    """A floating-point format.

    Attributes
    ----------
    bits : int
        Significant bits, the hidden one included.
    lowest : int
        Exponent of the smallest normal number.
    largest : float
        Largest finite number.
    """

    bits: int
    lowest: int
    largest: float


GRIDS: dict[str, Grid] = {
    "BF16": Grid(8, -126, 3.3895313892515355e38),
    "F16": Grid(11, -14, 65504.0),
    "F8_E4M3": Grid(4, -6, 448.0),
    "F8_E5M2": Grid(3, -14, 57344.0),
}
"""Formats coarser than what marks are computed in, by their names in safetensors headers."""


def shifted(
    rows: Rows, scale: Float64Array, signs: npt.NDArray[np.uint8], symbols: IntVector, steps: Float64Array
) -> Float64Array:
    """Rows plus, at each place, its symbol's step times its sign times the row's scale.

    Parameters
    ----------
    rows : (m, n) float32 or float64
    scale : (m,) float64
    signs : (m, >= n / 8) uint8
        One bit a weight, lowest first; 1 is +1.
    symbols : (m, n / 64 rounded up) int64
    steps : (512,) float64

    Returns
    -------
    (m, n) float64
    """
    out = np.empty(rows.shape)
    shift_rows(np.ascontiguousarray(rows), scale, signs, symbols, steps, BLOCK, out)
    return out


def rounded(target: Float64Array, draws: npt.NDArray[np.uint16], grid: Grid) -> Float64Array:
    """Round to a neighbour on a grid: the upper one as often as the value lies near it.

    Parameters
    ----------
    target : (m, n) float64
    draws : (m, n) uint16
        Keyed; up when draws / 2^16 reaches over the distance to the upper neighbour.
    grid : Grid

    Returns
    -------
    (m, n) float64
        NaN where the value leaves the range.
    """
    out = np.empty(target.shape)
    round_keyed(np.ascontiguousarray(target), np.ascontiguousarray(draws), grid.bits, grid.lowest, grid.largest, out)
    return out


def change(before: Rows, after: Rows, bits: int) -> Float64Array:
    """Sums over two versions of some rows.

    Parameters
    ----------
    before, after : (m, n) float
    bits : int
        Significant bits of the format they are stored in.

    Returns
    -------
    (8,) float64
        Values, changed ones, sum of squares, of squared changes, of the squares that rounding to `bits` leaves on average,
        zeros that changed; largest change, largest relative change of a row. What is not finite is left out.
    """
    out = np.zeros(8)
    change_sums(np.ascontiguousarray(before), np.ascontiguousarray(after), bits, out)
    return out
