"""Which parts of two signatures may be compared, on which axis, and what cannot be and why."""

import math
from collections.abc import Iterator

import numpy as np

from lineage.signature import Signature, Table
from stats.arrays import Float64Array, IntVector
from stats.axes import Axis
from stats.features import is_placeholder
from stats.ordering import is_sorted_pair
from stats.residual import column_test
from stats.result import Skipped

_TABLE_SPREAD = 5e-3
"""Relative spread of row norms below which a position table is fixed: sines and cosines have equal norms, up to
1e-3 after rounding to 16 bits, while even an untrained table of 4,096 columns spreads by 1e-2."""


_MIN_STEPS = 4
"""Neighbouring rows below which a position table cannot be told from a fixed one."""

_MIN_GRID = 8

_LOG_WAVES = math.log(1e4)
"""Evidence at which a table is said to come from sines; by chance once in 10,000 questions."""


def residual_axis(signature: Signature) -> Axis:
    """What the residual dimensions of a model are: exchangeable, or tied to a fixed position table.

    An architecture with a position table that was not read may hide sines and cosines in its code: unknown.
    """
    arch = signature.architecture
    if arch is None:
        return Axis.UNKNOWN
    table = signature.tables.get("embed.position")
    if table is None:
        return Axis.UNKNOWN if arch.positions == "learned" else Axis.RESIDUAL
    return Axis.RESIDUAL_FIXED if is_fixed_table(table.row_norms) or is_ramped_table(table) else Axis.RESIDUAL


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


def hidden_axis(signature: Signature) -> Axis:
    """What the units of an MLP block are."""
    return Axis.UNKNOWN if signature.architecture is None else Axis.HIDDEN


def residual_obstacle(a: Signature, b: Signature) -> Skipped | None:
    """Why no residual label test is possible between two models, or None when it is.

    The null needs the labels of one model to be random. Both are asked for here, which costs power only in
    pairs of a known and an odd architecture, and keeps a table both models share from speaking for them.
    """
    for signature in (a, b):
        axis = residual_axis(signature)
        if axis is Axis.UNKNOWN:
            return Skipped(tensor="residual dimensions", reason=f"{signature.id}: unknown architecture")
        if axis is Axis.RESIDUAL_FIXED:
            return Skipped(
                tensor="residual dimensions",
                reason=f"{signature.id}: its position table is fixed (sines and cosines), which ties every dimension to a frequency",
            )
    if a.width != b.width:
        return Skipped(
            tensor="residual dimensions", reason=f"widths differ ({a.width} and {b.width}): no common labels"
        )
    for name, first, second in _profiles(a, b):
        if is_sorted_pair(first, second):
            reason = f"sorted units: index and size of {name} rise or fall together in both models"
            return Skipped(tensor="residual dimensions", reason=reason)
    return None


def _profiles(a: Signature, b: Signature) -> Iterator[tuple[str, Float64Array, Float64Array]]:
    """(name, sizes in a, sizes in b) of every residual dimension: columns of each table, and each gain vector."""
    for kind in sorted(a.tables.keys() & b.tables.keys()):
        norms = _column_norms(a.tables[kind]), _column_norms(b.tables[kind])
        if all(np.isfinite(n).all() for n in norms):
            yield kind, *norms
    for key in sorted(a.vectors.keys() & b.vectors.keys(), key=str):
        if is_usable(a.vectors[key], b.vectors[key]):
            yield f"{key[1]} of layer {key[0]}", a.vectors[key], b.vectors[key]


def is_usable(*vectors: Float64Array) -> bool:
    """Whether all vectors are finite and trained, not constant placeholders."""
    return all(bool(np.isfinite(v).all()) and not is_placeholder(v) for v in vectors)


def common_rows(a: Table, b: Table) -> tuple[Float64Array, Float64Array]:
    """Values of the rows both tables were read at, in one order."""
    _, in_a, in_b = np.intersect1d(a.rows, b.rows, return_indices=True)
    return a.values[in_a], b.values[in_b]


def _column_norms(table: Table) -> Float64Array:
    return np.asarray(np.sqrt(np.sum(table.values * table.values, axis=0)))
