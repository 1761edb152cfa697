"""By what rule entries were set to zero: read from the values they had before. Describes, never tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array

Mask = NDArray[np.bool_]

FEW_OF_MANY = ((2, 4), (1, 4), (4, 8), (3, 4))
"""(zeros, of so many neighbours): the patterns that hardware and libraries know."""

_MOST = 1 << 17
"""Values of a matrix whose order is looked at."""

_OUT_OF_ORDER = 1e-3
"""Share of the entries that may lie on the wrong side of a threshold: ties, and thresholds of a sample."""

_ROWS = 0.02
"""Share of rows that may have an entry on the wrong side."""

_EVEN = 0.02
"""Distance from one half up to which a probability of larger size says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The rule behind a mask.

    Attributes
    ----------
    name : str
        `global`, `matrix` or `row` (below one threshold of size for all, for each matrix, for each row), `2:4` and the
        like (the smallest of every few neighbours), `units` (whole rows or columns), `random`, `unknown`.
    by_size : bool
        Whether the sizes of the values before give the mask: it is a function of them.
    auc : float
        Probability that an entry kept was larger than one set to zero, within its matrix; one half where the choice
        has nothing to do with size.
    """

    name: str
    by_size: bool
    auc: float


def find_pattern(before: Sequence[Float64Array], gone: Sequence[Mask]) -> Pattern:
    """Say by which rule entries were chosen.

    Parameters
    ----------
    before : sequence of (m, n) float64
        Matrices before entries were set to zero; what was zero then takes no part.
    gone : sequence of (m, n) bool
        What was set to zero.

    Returns
    -------
    Pattern

    Raises
    ------
    ValueError
        No matrix, shapes differ, or nothing was set to zero, or everything.

    Notes
    -----
    Null: none. Magnitude pruning as in arXiv 1506.02626, n of m as in arXiv 2104.08378. Cost: a sort of at most 131,072
    values a matrix.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(64, 64))
    >>> print(find_pattern([values], [np.abs(values) < 0.5]).name)
    global
    """
    if not before or len(before) != len(gone) or any(v.shape != g.shape for v, g in zip(before, gone, strict=True)):
        raise ValueError("matrices and masks of the same shapes are needed, at least one")
    n_gone, n_all = sum(int(g.sum()) for g in gone), sum(g.size for g in gone)
    if not 0 < n_gone < n_all:
        raise ValueError("some entries must have been set to zero, and some not")
    sizes = [np.abs(v) for v in before]
    auc = float(np.mean([_auc(s, g) for s, g in zip(sizes, gone, strict=True)]))
    neighbours = _neighbours(gone)
    if all(_is_units(g) for g in gone):
        return Pattern(name="units", by_size=False, auc=auc)
    if neighbours is not None:
        ordered = all(_in_groups_ordered(s, g, neighbours[1]) for s, g in zip(sizes, gone, strict=True))
        return Pattern(name=f"{neighbours[0]}:{neighbours[1]}", by_size=ordered, auc=auc)
    name = _threshold(sizes, gone)
    if name is not None:
        return Pattern(name=name, by_size=True, auc=auc)
    return Pattern(name="random" if abs(auc - 0.5) <= _EVEN else "unknown", by_size=False, auc=auc)


def _threshold(sizes: Sequence[Float64Array], gone: Sequence[Mask]) -> str | None:
    """What one threshold holds for; None where none does."""
    kept = [~g & (s > 0.0) for s, g in zip(sizes, gone, strict=True)]
    if _is_ordered(np.concatenate([s[g] for s, g in zip(sizes, gone, strict=True)]), _joined(sizes, kept)):
        return "global"
    if all(_is_ordered(s[g], s[k]) for s, g, k in zip(sizes, gone, kept, strict=True)):
        return "matrix"
    rows = [_rows_ordered(s, g, k) for s, g, k in zip(sizes, gone, kept, strict=True)]
    return "row" if min(rows) >= 1.0 - _ROWS else None


def _rows_ordered(sizes: Float64Array, gone: Mask, kept: Mask) -> float:
    """Share of rows in which no entry set to zero was larger than one kept."""
    return float(np.mean(np.where(gone, sizes, -np.inf).max(axis=1) <= np.where(kept, sizes, np.inf).min(axis=1)))


def _joined(sizes: Sequence[Float64Array], chosen: Sequence[Mask]) -> Float64Array:
    return np.concatenate([s[k] for s, k in zip(sizes, chosen, strict=True)])


def _is_ordered(gone: Float64Array, kept: Float64Array) -> bool:
    """Whether hardly any entry set to zero was larger than hardly any kept."""
    if not gone.size or not kept.size:
        return True
    top = float(np.quantile(gone, 1.0 - _OUT_OF_ORDER, method="lower"))
    return float(np.mean(kept < top)) <= _OUT_OF_ORDER


def _neighbours(gone: Sequence[Mask]) -> tuple[int, int] | None:
    """(zeros, of so many neighbours in a row) that hold in every group of every matrix, from some start."""
    for few, many in FEW_OF_MANY:
        if all(any(_has(g[:, start:], few, many) for start in range(many)) for g in gone):
            return few, many
    return None


def _has(gone: Mask, few: int, many: int) -> bool:
    counts = _counts(gone, many)
    return counts.size > 0 and bool(np.all(counts == few))


def _counts(gone: Mask, many: int) -> NDArray[np.intp]:
    whole = gone.shape[1] // many * many
    return np.asarray(gone[:, :whole].reshape(-1, many).sum(axis=1))


def _in_groups_ordered(sizes: Float64Array, gone: Mask, many: int) -> bool:
    """Whether in every few neighbours the smallest went, from some start."""
    for start in range(many):
        whole = (gone.shape[1] - start) // many * many
        s, g = (x[:, start : start + whole].reshape(-1, many) for x in (sizes, gone))
        counts = g.sum(axis=1)
        if counts.size and np.all(counts == counts[0]):
            top = np.where(g, s, -np.inf).max(axis=1)
            return bool(np.mean(np.where(g, np.inf, s).min(axis=1) >= top) >= 1.0 - _OUT_OF_ORDER)
    return False


def _is_units(gone: Mask) -> bool:
    """Whether whole rows and columns went and nothing else."""
    rows, columns = (np.asarray(gone.all(axis=axis)) for axis in (1, 0))
    return bool(np.array_equal(gone, rows[:, None] | columns[None, :]))


def _auc(sizes: Float64Array, gone: Mask) -> float:
    flat, mask = sizes.ravel(), gone.ravel()
    step = max(1, flat.size // _MOST)
    flat, mask = flat[::step], mask[::step]
    n_gone = int(mask.sum())
    if not 0 < n_gone < mask.size:
        return 0.5
    _, place, counts = np.unique(flat, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - 0.5 * (counts - 1.0))[place]
    kept = float(ranks[~mask].sum()) - (mask.size - n_gone) * (mask.size - n_gone + 1) / 2.0
    return kept / (n_gone * (mask.size - n_gone))
