"""Which parts of two signatures may be compared, on which axis, and what cannot be and why."""

from collections.abc import Iterator

import numpy as np

from lineage.signature import Signature, Table
from stats.arrays import Float64Array
from stats.axes import Axis
from stats.features import is_placeholder
from stats.ordering import is_sorted_pair
from stats.result import Skipped


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
    return Axis.RESIDUAL_FIXED if table.fixed else Axis.RESIDUAL


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
