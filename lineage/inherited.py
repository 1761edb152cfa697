"""What a step of training left as it was: rows of tables that no data touched, and whole arrays that were frozen.

Such a part is a mark that arises once. A model that holds it has it from a model that holds it too, so every step of a
tree at which parts change must be accounted for, and the tree with the fewest such changes explains them best. Distances
say how far a step went; this says what it did not touch, which a small step of a sibling cannot imitate.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from crawl.casts import SIGNIFICANT_BITS, can_replay, round_to
from lineage.stored import Values
from lineage.study import Study
from stats.arrays import Float64Array

COARSEST = 8
"""Significant bits of the coarsest format all members are rounded to; a coarser member has changed everywhere."""

_COMPUTED = 2.0**-18
"""Relative distance of a row from its multiple that float32 arithmetic may leave over thousands of steps."""

_TABLES = ("embed", "embed.position")
_CHUNK = 1 << 20


def changed_rows(members: Sequence[Study]) -> Float64Array:
    """Share of rows of the tables that differ in more than size between two members.

    Parameters
    ----------
    members : sequence of Study
        n of one shape class.

    Returns
    -------
    (n, n) float64
        Symmetric, 0 on the diagonal; all 0 where there is no table.

    Notes
    -----
    Decoupled weight decay multiplies rows that no data touched by one number (arXiv 1711.05101), so rows are compared up to
    a factor, to within one unit of the last place of the coarsest format among the members. The output matrix is left out:
    every token pushes all of its rows. Cost: O(n^2 k d) for k rows of d values.
    """
    n = len(members)
    changed, total = np.zeros((n, n)), 0
    for same in _same(members, members):
        changed += np.sum(~same, axis=0)
        total += len(same)
    np.fill_diagonal(changed, 0.0)
    return changed / max(1, total)


def same_rows(group: Sequence[Study], members: Sequence[Study]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which rows are the same up to a factor, as in `changed_rows`.

    Parameters
    ----------
    group, members : sequence of Study
        g and n of one shape class; the coarsest format is that of the members.

    Returns
    -------
    (k, g, n) bool
    """
    parts = list(_same(group, members))
    return np.concatenate(parts) if parts else np.zeros((0, len(group), len(members)), dtype=np.bool_)


def _same(
    group: Sequence[Study], members: Sequence[Study]
) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Which rows are the same up to a factor, (rows, g, n), some rows at a time."""
    for kind in _TABLES:
        if not all(kind in m.tables for m in members):
            continue
        bits = max(COARSEST, min(SIGNIFICANT_BITS.get(m.dtypes[kind], 53) for m in members))
        least = 1.0 - max(2.0**-bits, _COMPUTED) ** 2
        rows, width = members[0].tables[kind].shape
        step = max(1, _CHUNK // max(1, len(members) * max(len(group), width)))
        for start in range(0, rows, step):
            part = slice(start, start + step)
            (x, no_x), (y, no_y) = (_directions([m.tables[kind][part] for m in some]) for some in (group, members))
            cosine = x @ y.transpose(0, 2, 1)
            same = (cosine > 0.0) & (cosine * cosine >= least)
            yield same | (no_x[:, :, None] & no_y[:, None, :])


def _directions(parts: Sequence[Values]) -> tuple[Float64Array, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Rows over their sizes, (rows, models, width), and which of them are zero."""
    x = np.stack([np.asarray(p, dtype=np.float64) for p in parts], axis=1)
    size = np.sqrt(np.sum(x * x, axis=2, keepdims=True))
    return x / np.where(size > 0.0, size, 1.0), size[:, :, 0] == 0.0


def changed_arrays(members: Sequence[Study]) -> Float64Array:
    """Share of matrices, tables and vectors in which two members differ once rounded to the coarsest format among all.

    Parameters
    ----------
    members : sequence of Study
        n of one shape class.

    Returns
    -------
    (n, n) float64
        Symmetric, 0 on the diagonal.

    Notes
    -----
    Cost: one digest of every array.
    """
    n = len(members)
    changed, total = np.zeros((n, n)), 0
    for group in ("matrices", "tables", "vectors"):
        arrays = [getattr(m, group) for m in members]
        for name in sorted(set.intersection(*(set(a) for a in arrays))):
            target = _coarsest([m.dtypes[name] for m in members])
            seen = np.array([_digest(_rounded(a[name], target)) for a in arrays])
            changed += seen[:, None] != seen[None, :]
            total += 1
    return changed / max(1, total)


def _coarsest(dtypes: Sequence[str]) -> str | None:
    known = [d for d in dtypes if can_replay(d) and SIGNIFICANT_BITS.get(d, 53) >= COARSEST]
    return min(known, key=lambda d: (SIGNIFICANT_BITS[d], d), default=None)


def _rounded(values: Values, dtype: str | None) -> Float64Array:
    x = np.asarray(values, dtype=np.float64) if dtype is None else round_to(values, dtype)
    return np.ascontiguousarray(x + 0.0)  # one zero


def _digest(values: Float64Array) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
