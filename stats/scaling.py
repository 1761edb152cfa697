"""Codes that are a matrix rounded after its rows and columns were scaled: the scales, and how many codes refuse them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array, as_pair

_SQUARES = 8
_MIDDLES = 12
"""Rounds of least squares, which are off by what rounding leaves, and of middles of bounds, which are not."""

_TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledRounding:
    """Scales between a matrix and its codes.

    Attributes
    ----------
    rows, columns : float64 vectors
        Scales; known up to one factor between them.
    refused : float
        Share of the codes asked that rounding the scaled matrix does not give.
    spread : float
        Standard deviation of the natural log of the columns' scales.
    """

    rows: Float64Array
    columns: Float64Array
    refused: float
    spread: float


def scaled_rounding(
    matrix: Float64Array, codes: Float64Array, asked: NDArray[np.bool_], slack: float
) -> ScaledRounding:
    """Scale the rows and columns of a matrix so that rounding gives the codes.

    Parameters
    ----------
    matrix : (m, n) float64
        In units of a step.
    codes : (m, n) float64
        Whole numbers.
    asked : (m, n) bool
        Which codes must follow; codes at the ends of a range, where values are cut off, should not.
    slack : float
        What a scaled value may lie beyond half a unit, as a share of its code: how well the step is known.

    Returns
    -------
    ScaledRounding

    Raises
    ------
    ValueError
        Shapes differ or a value is not finite.

    Notes
    -----
    Null: none. Each code bounds the scale of its row, given that of its column, to an interval; scales move to the
    middle of what their largest lower and their smallest upper bound leave, by turns. Codes of another matrix, or of this
    one changed by a hundredth of a step and more on average, leave bounds that contradict one another, so the share of
    refused codes is a sharp sign. Cost: O(m n) each of 20 rounds.
    """
    values, wanted = as_pair(matrix, codes, min_columns=1)
    use = asked & (values != 0.0)
    rows, columns = _least_squares(values, wanted, use)
    low, high = wanted - 0.5 - slack * np.abs(wanted), wanted + 0.5 + slack * np.abs(wanted)
    for _ in range(_MIDDLES):
        columns = _middle(values * rows[:, None], low, high, use, 0)
        rows = _middle(values * columns, low, high, use, 1)
    scaled = values * rows[:, None] * columns
    refused = (scaled < low) | (scaled > high)
    positive = columns[columns > 0.0]
    return ScaledRounding(
        rows=rows,
        columns=columns,
        refused=float(np.mean(refused[asked])) if asked.any() else 1.0,
        spread=float(np.std(np.log(positive))) if 2 * positive.size > columns.size else np.inf,
    )


def _least_squares(
    values: Float64Array, wanted: Float64Array, use: NDArray[np.bool_]
) -> tuple[Float64Array, Float64Array]:
    """Scales that bring the values nearest to the codes, by turns."""
    seen, target = np.where(use, values, 0.0), np.where(use, wanted, 0.0)
    rows = np.ones(values.shape[0])
    for _ in range(_SQUARES):
        part = seen * rows[:, None]
        columns = np.sum(target * part, axis=0) / np.maximum(np.sum(part * part, axis=0), _TINY)
        part = seen * columns
        rows = np.sum(target * part, axis=1) / np.maximum(np.sum(part * part, axis=1), _TINY)
    return rows, columns


def _middle(
    values: Float64Array, low: Float64Array, high: Float64Array, use: NDArray[np.bool_], axis: int
) -> Float64Array:
    """The middle of the bounds along an axis; 1 where nothing bounds."""
    divisor = np.where(use & (values != 0.0), values, 1.0)
    ends = low / divisor, high / divisor
    use = use & (values != 0.0)
    most = np.where(use, np.maximum(*ends), np.inf).min(axis=axis)
    least = np.where(use, np.minimum(*ends), -np.inf).max(axis=axis)
    bounded = np.isfinite(most) & np.isfinite(least)
    return np.asarray(0.5 * (np.where(bounded, most, 1.0) + np.where(bounded, least, 1.0)))
