"""Which parts of two signatures may be compared, on which axis, and what cannot be and why."""

import numpy as np

from lineage.signature import Signature, Table
from stats.arrays import Float64Array
from stats.axes import Axis
from stats.features import is_placeholder
from stats.ordering import is_sorted_pair
from stats.result import Skipped

_TABLE_SPREAD = 5e-3
"""Relative spread of row norms below which a position table is fixed: sines and cosines have equal norms, up to
1e-3 after rounding to 16 bits, while even an untrained table of 4,096 columns spreads by 1e-2."""


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
    """Whether columns get smoother or rougher with their index, as in a table that was *initialised* with sines.

    Asked of the whole width, of halves (sines beside cosines) and of quarters (rows beside columns of a grid). A
    learned table of exchangeable dimensions answers yes by chance less than once in 1,000.
    """
    steps = np.diff(table.values, axis=0)[np.diff(table.rows) == 1]
    spread = np.sum((table.values - table.values.mean(axis=0)) ** 2, axis=0)
    if steps.shape[0] < 4 or not np.isfinite(table.values).all():
        return False
    roughness = np.sum(steps * steps, axis=0) / np.where(spread > 0.0, spread, 1.0)
    parts = [p for pieces in (1, 2, 4) for p in np.array_split(roughness, pieces)]
    return any(is_sorted_pair(p, p) for p in parts)


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
    profile = common_profile(a, b)
    if profile is not None and is_sorted_pair(*profile):
        return Skipped(
            tensor="residual dimensions", reason="sorted units: index and norm rise or fall together in both models"
        )
    return None


def common_profile(a: Signature, b: Signature) -> tuple[Float64Array, Float64Array] | None:
    """One size per residual dimension for each model, from what both have: embedding columns, else gains."""
    for kind in ("embed", "unembed", "embed.patch", "embed.position"):
        if kind in a.tables and kind in b.tables:
            norms = _column_norms(a.tables[kind]), _column_norms(b.tables[kind])
            if all(np.isfinite(n).all() for n in norms):
                return norms
    usable = [k for k in sorted(a.vectors.keys() & b.vectors.keys(), key=str) if is_usable(a.vectors[k], b.vectors[k])]
    return (a.vectors[usable[0]], b.vectors[usable[0]]) if usable else None


def is_usable(*vectors: Float64Array) -> bool:
    """Whether all vectors are finite and trained, not constant placeholders."""
    return all(bool(np.isfinite(v).all()) and not is_placeholder(v) for v in vectors)


def common_rows(a: Table, b: Table) -> tuple[Float64Array, Float64Array]:
    """Values of the rows both tables were read at, in one order."""
    _, in_a, in_b = np.intersect1d(a.rows, b.rows, return_indices=True)
    return a.values[in_a], b.values[in_b]


def _column_norms(table: Table) -> Float64Array:
    return np.asarray(np.sqrt(np.sum(table.values * table.values, axis=0)))
