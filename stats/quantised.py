"""How a matrix was quantised: kind of levels, bits, length of a group, axis. Describes, never tests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, as_matrix
from stats.grids import Grid, float_grid, integer_grid, table_grid
from stats.levels import GROUPS, distinct_counts, half_steps, in_groups, knee

TABLES: Mapping[str, Float64Array] = {
    "nf4": np.array(
        [
            *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
            *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
            *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023),
            1.0,
        ]
    ),
    "fp4": np.array([-12, -8, -6, -4, -3, -2, -0.0625, 0, 0.0625, 2, 3, 4, 6, 8, 12]) / 12,
    "e2m1": np.array([-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]) / 6,
}
"""Levels of four bits that lie unevenly: NF4 (arXiv 2305.14314, appendix E), FP4 of the same library, and E2M1."""

FLOATS: Mapping[str, tuple[int, float]] = {"e4m3": (4, 2.0**-18), "e5m2": (3, 2.0**-32)}
"""Eight-bit floating-point numbers: significant bits, and smallest step where the largest number is about 1."""

_MOST = {"integer": 255, "offset": 31}
_ROW = 0
_SAMPLE = 64
_SCREEN = 16
"""Groups that are fitted for each length, and length of those that every kind must fit before longer ones are tried: a
part of a group fits wherever the whole does."""

_SHARE = 0.98
_FEWEST = 6
"""Share of groups with a value other than zero that must fit, and their least number."""

_EIGHTH = 8
"""Of the sample every eighth group is fitted first: on no grid, they fail already."""

_PLAIN = 0.5
"""Whole multiples are named where they explain at least this share of what the best kind explains, and that is no table:
they are a special case of the other kinds, but the levels of some tables are multiples too."""

_LONGER = 0.75
"""A longer group is the answer where it explains at least this share, per value, of what the best length explains: two
scales that happen to have a common step explain half."""

_LEAST = 0.5
"""Surprise per value, in nats, below which the stored format is too coarse to tell."""

_USED = 0.75
"""Share of a table's levels that must occur."""

FEWEST_BITS = 4
_TABLE_VALUES = 32
_PER_VALUE = 8
_SPARE = 2
"""A row of no scale of groups holds a table of its own where it has at most so many values, each so often on average, in a
format of more significant bits than the first; multiples that would take so many bits more than the table are no grid."""

_KNEE_VALUES = 64
"""Distinct values up to which a knee alone is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How the values of one matrix lie.

    Attributes
    ----------
    kind : str
        `integer` (multiples of a step), `offset` (multiples of a step above the smallest value), a name in `TABLES` or
        `FLOATS`, or `unknown` (few values in each group, by its knee).
    bits : int
        That tell the levels of one group apart.
    group : int or None
        Neighbours that share a scale; None for a whole row.
    axis : str
        `inputs` where groups run along a row, `outputs` where along a column.
    symmetric : bool or None
        Whether zero is in the middle; None where the question has no meaning.
    surprise : float
        Per value, in nats: how unlikely so good a fit is for values of no grid. 0 for `unknown`.
    """

    kind: str
    bits: int
    group: int | None
    axis: str = "inputs"
    symmetric: bool | None = None
    surprise: float = 0.0


def find_levels(matrix: ArrayLike, bits: int, smallest: float = 0.0) -> Levels | None:
    """Look for a grid below the values of a matrix.

    Parameters
    ----------
    matrix : (m, n) array_like
        Rows over inputs, beginning where a group begins.
    bits : int
        Significant bits of the format the values were rounded to, the hidden one included.
    smallest : float
        Distance between the smallest numbers of that format.

    Returns
    -------
    Levels or None
        None where the values lie on no grid.

    Raises
    ------
    ValueError
        Not a matrix, or a value is not finite.

    Notes
    -----
    Null: none; `surprise` is a description. For each length of a group a sample of 64 groups is fitted by
    `stats.grids`; the longest one is the answer whose surprise per value comes near to the largest.
    Eight bits with an offset are not looked for: 16-bit formats cannot show them. Cost: O(m n log n) in the worst case;
    a matrix on no grid costs the fits of 64 groups of 16.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scale = rng.random((64, 4)).repeat(32, axis=1)
    >>> found = find_levels(rng.integers(-7, 8, (64, 128)) * scale, bits=53)
    >>> print(f"{found.bits} bits, groups of {found.group} along {found.axis}")
    4 bits, groups of 32 along inputs
    """
    values = as_matrix(matrix, "matrix")
    for axis, turned in (("inputs", values), ("outputs", np.ascontiguousarray(values.T))):
        found = _best(list(_fitting(turned, bits, smallest)))
        if found is not None and found.kind in _MOST:
            found = _instead(found, turned, bits)
        if found is None:
            found = _by_knee(turned)
        if found is not None:
            return replace(found, axis=axis)
    return _few_values(values) if bits > FEWEST_BITS else None


def fit_grid(groups: Float64Array, kind: str, bits: int, smallest: float = 0.0, *, most: int | None = None) -> Grid:
    """Fit one kind of levels to groups of stored values.

    Parameters
    ----------
    groups : (k, g) float64
        Finite.
    kind : str
        As in `Levels`, but for `unknown`.
    bits : int
        Significant bits of the format the values were rounded to, the hidden one included.
    smallest : float
        Distance between the smallest numbers of that format.
    most : int, optional
        Largest multiple tried, where the kind has multiples.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        The kind is unknown.

    Notes
    -----
    Values may have been rounded on the way: half a step is widened by an eighth for formats of up to eight significant
    bits (arithmetic in float16 first), by a thousandth for up to eleven, and fourfold beyond. Cost: as `stats.grids`.
    """
    widened = 1.125 if bits <= 8 else 1.001 if bits <= 11 else 4.0
    half = half_steps(groups, bits, smallest) * widened
    if kind in TABLES:
        return table_grid(groups, half, TABLES[kind])
    if kind in FLOATS:
        return float_grid(groups, half, *FLOATS[kind])
    if kind not in _MOST:
        raise ValueError(f"no levels of kind {kind!r}")
    return integer_grid(groups, half, most or _MOST[kind], offset=kind == "offset")


def _fitting(values: Float64Array, bits: int, smallest: float) -> Iterator[tuple[Levels, float]]:
    """Every kind and length that fits, with its surprise per value."""
    n = values.shape[1]
    for kind in (*_MOST, *TABLES, *FLOATS):
        if kind in FLOATS and bits <= FLOATS[kind][0]:
            continue
        for group in (*(g for g in GROUPS if g < n), _ROW):
            sample = _sampled(in_groups(values, group or n))
            speaks = np.asarray(sample.any(axis=1))
            few = fit_grid(sample[::_EIGHTH], kind, bits, smallest)
            misfits = np.count_nonzero(speaks[::_EIGHTH] & ~few.fits)
            if speaks.sum() < _FEWEST or 1.0 - misfits / speaks.sum() < _SHARE:
                break  # whatever the rest does
            found = fit_grid(sample, kind, bits, smallest)
            if found.fits[speaks].mean() < _SHARE:
                break  # nor does anything longer
            surprise = float(found.surprise.sum() / max(1, np.count_nonzero(found.levels)))
            if surprise >= _LEAST and _is_used(kind, found):
                yield _described(kind, found, group or None), surprise


def _sampled(groups: Float64Array) -> Float64Array:
    """Evenly spaced groups."""
    count = min(_SAMPLE, groups.shape[0])
    return groups[np.linspace(0, groups.shape[0] - 1, count).astype(np.intp)]


def _is_used(kind: str, found: Grid) -> bool:
    if kind not in TABLES:
        return True
    return bool(np.unique(found.levels[found.fits]).size >= _USED * TABLES[kind].size)


def _described(kind: str, found: Grid, group: int | None) -> Levels:
    if kind in TABLES:
        return Levels(kind=kind, bits=4, group=group)
    if kind in FLOATS:
        return Levels(kind=kind, bits=8, group=group)
    levels = found.levels[found.fits]
    span = int(np.max(levels.max(axis=1) - levels.min(axis=1)))
    bits = max(1, span.bit_length())
    centred = np.mean(np.abs(levels).max(axis=1) <= 2 ** (bits - 1)) >= _SHARE
    return Levels(kind=kind, bits=bits, group=group, symmetric=bool(centred) and kind == "integer")


def _best(found: list[tuple[Levels, float]]) -> Levels | None:
    """The kind that explains most, plain multiples before all but tables; of its lengths the longest about as good."""
    if not found:
        return None
    top = max(surprise for _, surprise in found)
    best = next(levels.kind for levels, surprise in found if surprise == top)
    plain = any(levels.kind == "integer" and surprise >= _PLAIN * top for levels, surprise in found)
    kind = "integer" if plain and best not in TABLES else best
    lengths = [(levels, surprise) for levels, surprise in found if levels.kind == kind]
    most = max(surprise for _, surprise in lengths)
    levels, surprise = [f for f in lengths if f[1] >= _LONGER * most][-1]
    return replace(levels, surprise=surprise)


def _instead(found: Levels, values: Float64Array, bits: int) -> Levels:
    """A table of its own where multiples would take far more bits: a handful of values are multiples of something."""
    few = _few_values(values) if bits > FEWEST_BITS else None
    return few if few is not None and found.bits >= few.bits + _SPARE else found


def _few_values(values: Float64Array) -> Levels | None:
    """A table of its own for each row, or for all: few values in rows much longer than that."""
    sample = values[np.linspace(0, values.shape[0] - 1, min(_SAMPLE, values.shape[0])).astype(np.intp)]
    most = distinct_counts(sample, groups=())[values.shape[1]]
    used = int(np.count_nonzero(sample, axis=1).min())  # of a pruned row hardly any value is left
    if not 2 <= most <= min(_TABLE_VALUES, used // _PER_VALUE):
        return None
    return Levels(kind="unknown", bits=max(1, (most - 1).bit_length()), group=None)


def _by_knee(values: Float64Array) -> Levels | None:
    """Few values in each group, of no known table."""
    n = values.shape[1]
    if values.shape[0] * n < _FEWEST * _SCREEN * _SCREEN:
        return None
    sample = values[np.linspace(0, values.shape[0] - 1, min(_SAMPLE, values.shape[0])).astype(np.intp)]
    found = knee(distinct_counts(sample), row=n)
    if found is None or found.values > _KNEE_VALUES or found.values >= found.group:
        return None
    if np.median(np.count_nonzero(in_groups(sample, found.group), axis=1)) < found.values:
        return None  # what pruning left of a group, each value once
    return Levels(kind="unknown", bits=found.bits, group=found.group)
