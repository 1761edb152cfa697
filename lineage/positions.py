"""Position tables: learned ones, and those that came from sines, which tie every residual dimension to a frequency."""

import math

import numpy as np

from lineage.signature import Table
from stats.arrays import Float64Array, IntVector
from stats.ordering import is_sorted_pair
from stats.residual import column_test

_TABLE_SPREAD = 5e-3
"""Relative spread of row norms below which a position table is fixed: sines and cosines have equal norms, up to
1e-3 after rounding to 16 bits, while even an untrained table of 4,096 columns spreads by 1e-2."""


_MIN_STEPS = 4
"""Neighbouring rows below which a position table cannot be told from a fixed one."""

_MIN_GRID = 8

_LOG_WAVES = math.log(1e4)
"""Evidence at which a table is said to come from sines; by chance once in 10,000 questions."""


def is_fixed(table: Table) -> bool:
    """Whether a position table came from sines, as it stands or before training."""
    return is_fixed_table(table.row_norms) or is_ramped_table(table)


def is_fixed_table(row_norms: Float64Array) -> bool:
    """Whether a position table is a deterministic one (sines and cosines): all its non-zero rows share one norm."""
    norms = row_norms[row_norms > 0.0]
    if norms.size < 4:
        return True  # an all-zero or nearly empty table was never learned either
    return bool(np.std(norms) < _TABLE_SPREAD * np.mean(norms))


def is_ramped_table(table: Table) -> bool:
    """Whether a table was *initialised* with sines: its columns know theirs, or get smoother or rougher with their index.

    The first is asked of the usual layouts (sines beside cosines, in turns, and two of them for a grid), by the exact
    test itself; the second of the whole width, of halves and of quarters, whatever the frequencies. A learned table of
    exchangeable dimensions answers yes by chance about once in 1,000. A table of few rows cannot be asked: refused.
    """
    if not np.isfinite(np.sum(table.values * table.values)):
        return True
    steps = np.diff(table.values, axis=0)[np.diff(table.rows) == 1]
    if steps.shape[0] < _MIN_STEPS:
        return True
    spread = np.sum((table.values - table.values.mean(axis=0)) ** 2, axis=0)
    roughness = np.sum(steps * steps, axis=0) / np.where(spread > 0.0, spread, 1.0)
    parts = [p for pieces in (1, 2, 4) for p in np.array_split(roughness, pieces) if p.size]
    return any(is_sorted_pair(p, p) for p in parts) or any(_knows(table.values, w) for w in _waves(table))


def _knows(values: Float64Array, waves: Float64Array) -> bool:
    """Whether the columns of a table know those of a fixed one."""
    evidence = column_test(values, waves).log_evalue if values.shape[1] > 1 else None
    return evidence is not None and evidence > _LOG_WAVES


def _waves(table: Table) -> list[Float64Array]:
    """The fixed tables of arXiv 1706.03762 (Section 3.5) and its grid form, at the rows read, in their usual layouts."""
    n, d = table.rows.size, table.values.shape[1]
    side = round(table.n_rows**0.5)
    grids = [(table.rows // side, table.rows % side), ((table.rows - 1) // side, (table.rows - 1) % side)]
    found = [_sines(table.rows, d, turns=True), _sines(table.rows, d, turns=False)]
    for down, across in grids if d >= _MIN_GRID else []:
        found.append(
            np.concatenate([_sines(down, d // 2, turns=False), _sines(across, d - d // 2, turns=False)], axis=1)
        )
    return [w for w in found if w.shape == (n, d)]


def _sines(places: IntVector, d: int, *, turns: bool) -> Float64Array:
    """Sines and cosines of places at d/2 frequencies, in turns or one half after the other."""
    column = np.arange(d)
    half = (d + 1) // 2
    step = column // 2 if turns else column % half
    angle = places[:, None] / 10000.0 ** (step / half)
    is_cosine = column % 2 == 1 if turns else column >= half
    return np.asarray(np.where(is_cosine, np.cos(angle), np.sin(angle)))
