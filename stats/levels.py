"""How many values a matrix takes: distinct ones per group, the knee that quantisation leaves, steps of a number format.

Describes, never tests.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, IntVector, as_matrix

GROUPS = (16, 32, 64, 128, 256)
"""Lengths of a group that quantisers in use have; a whole row is the other one."""

_STAYS = 1.35
_DOUBLES = 1.6
"""Growth of the number of values when a group doubles: at most the first inside a group of one scale, at least the
second beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """Where the number of distinct values stops growing.

    Attributes
    ----------
    group : int
        Elements that share a scale.
    values : int
        Most distinct values in such a group.
    """

    group: int
    values: int

    @property
    def bits(self) -> int:
        """Bits that tell as many values apart."""
        return max(1, (self.values - 1).bit_length())


def distinct_counts(matrix: ArrayLike, *, groups: tuple[int, ...] = GROUPS) -> dict[int, int]:
    """Most distinct values in a group of neighbours in a row, for each length of a group.

    Parameters
    ----------
    matrix : (m, n) array_like
        Rows that begin where a group begins.
    groups : tuple of int
        Lengths; those longer than a row are left out, and a whole row is added. What is left of a row after its last
        whole group is not counted.

    Returns
    -------
    dict of int to int
        Largest count by length, ascending.

    Raises
    ------
    ValueError
        Not a matrix, or a value is not finite.

    Notes
    -----
    Null: none. Cost: O(m n log g) for each length.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = rng.integers(0, 16, (64, 256)) * rng.random((64, 2)).repeat(128, axis=1)
    >>> counts = distinct_counts(values)
    >>> print(f"at most {counts[128]} values in 128 neighbours, {counts[256]} in 256")
    at most 16 values in 128 neighbours, 31 in 256
    """
    values = as_matrix(matrix, "matrix")
    n = values.shape[1]
    lengths = sorted({g for g in groups if g <= n} | {n})
    return {g: int(_distinct(in_groups(values, g)).max()) for g in lengths}


def knee(counts: dict[int, int], *, row: int) -> Knee | None:
    """The group at which the number of distinct values stays while it doubled before and doubles beyond.

    Parameters
    ----------
    counts : dict of int to int
        From `distinct_counts`; lengths without their half and their double beside them are passed over.
    row : int
        Length of a row: a count over it may stand in for one beyond the longest group.

    Returns
    -------
    Knee or None
        None where nothing stays: the values were not quantised in groups, or in groups of more than the longest length
        asked for, or with so many levels that a group does not use them up (eight bits).

    Notes
    -----
    Null: none. v(g) / v(g/2) <= 1.35 and v(2g) / v(g) >= 1.6, so a plain bound on v(g), which would accept one bit more
    at twice the group, is not needed. Groups of 16 have no half.
    """
    for group in sorted(counts):
        double = counts.get(2 * group, counts.get(row) if row >= 2 * group else None)
        if group == row or group // 2 not in counts or double is None:
            continue
        if counts[group] <= _STAYS * counts[group // 2] and double >= _DOUBLES * counts[group]:
            return Knee(group=group, values=counts[group])
    return None


def in_groups(values: Float64Array, group: int) -> Float64Array:
    """Rows (m, n) cut into groups (k, group), row by row; what is left of a row is dropped."""
    whole = values.shape[1] // group * group
    return np.ascontiguousarray(values[:, :whole]).reshape(-1, group)


def half_steps(values: Float64Array, bits: int, smallest: float = 0.0) -> Float64Array:
    """Half the distance between neighbouring numbers of a format at each value.

    Parameters
    ----------
    values : float64, any shape
    bits : int
        Significant bits, the hidden one included.
    smallest : float
        Distance between its smallest numbers.

    Returns
    -------
    float64, the same shape
        Largest error of a value that was rounded to nearest.
    """
    _, exponent = np.frexp(values)
    steps = np.ldexp(0.5, exponent - bits)
    return np.asarray(np.maximum(np.where(values == 0.0, 0.0, steps), 0.5 * smallest))


def grid_share(values: ArrayLike, bits: int) -> float:
    """Share of the values that are not zero whose significand has no bit beyond the first `bits`.

    Parameters
    ----------
    values : array_like
        Any shape.
    bits : int
        Significant bits, the hidden one included.

    Returns
    -------
    float
        1 where all are zero. By chance a value of p significant bits is among them once in 2^(p - bits).

    Notes
    -----
    Null: none. The range of exponents is not looked at.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    flat = flat[flat != 0.0]
    if not flat.size:
        return 1.0
    significand = np.ldexp(np.frexp(flat)[0], bits)
    return float(np.mean(significand == np.rint(significand)))


def _distinct(groups: Float64Array) -> IntVector:
    """Distinct values of each row."""
    steps = np.diff(np.sort(groups, axis=1), axis=1)
    return np.asarray(1 + np.count_nonzero(steps, axis=1), dtype=np.int64)
