"""Reads value dimensions of attention and router rows: what a rewriter of MLP and residual stream tends to leave alone."""

from typing import Protocol

import numpy as np

from crawl import Architecture, Role, View, WeightSource
from lineage.plan import MAX_COLUMNS, N_EXPERTS, N_VALUE_RUNS, VALUE_RUN, pick_values, pick_wide
from lineage.probing import Probes, folded
from lineage.signature import Values, VectorKey
from stats.arrays import Float64Array

_WIDE_RUNS = 2
"""Runs read, in one layer, of a model wider than the usual window: keeps the reading flat in size."""


class Reads(Protocol):
    """What this module needs of a reader."""

    source: WeightSource
    full: dict[VectorKey, Float64Array]
    columns: slice

    def affords(self, view: View, rows: int, columns: int, what: str) -> bool:
        """Whether a read stays within the byte limit."""


def read_values(reader: Reads, arch: Architecture, probes: Probes) -> list[Values]:
    """Value dimensions of the middle layers read, over all residual dimensions.

    Where the rows of `attn.v` are contiguous they are read with the gain in front; otherwise (Conv1D) the rows of
    `attn.o`, which a value dimension writes through.
    """
    narrow = arch.width <= MAX_COLUMNS
    found = []
    for layer in pick_wide(arch.n_layers) if narrow else pick_wide(arch.n_layers)[:1]:
        v, o = (reader.source.views.get(Role(kind, layer)) for kind in ("attn.v", "attn.o"))
        writes = v is None or v.transposed
        view = o if writes else v
        if view is None or len(view.shape) != 2 or view.transposed != writes:
            continue
        n = view.shape[1 if writes else 0]
        heads = arch.n_heads if writes else arch.n_kv
        if heads is not None and (n // heads) % VALUE_RUN:
            continue  # runs would cross heads; a claim may refuse a test, never make one
        units = pick_values(n, N_VALUE_RUNS if narrow else _WIDE_RUNS)
        if not units.size or not reader.affords(view, units.size, arch.width, f"layer {layer} values"):
            continue
        if writes:
            rows = np.asarray(reader.source.view_columns(view, units), dtype=np.float64)
        else:
            read = np.asarray(reader.source.view_rows(view, units), dtype=np.float64)
            gain = reader.full.get((layer, arch.attn_norm)) if arch.attn_norm else None
            rows = folded(np.ascontiguousarray(read.T), gain)
        found.append(Values(layer, n, rows, probes.answers(rows, writes=writes)))
    return found


def read_experts(reader: Reads, arch: Architecture, probes: Probes) -> list[Values]:
    """Router rows of the middle layers read: one row an expert."""
    found = []
    for layer in pick_wide(arch.n_layers):
        view = reader.source.views.get(Role("router", layer))
        if view is None or len(view.shape) != 2 or view.transposed or view.shape[1] != arch.width:
            continue
        units = np.arange(min(view.shape[0], N_EXPERTS))
        width = reader.columns.stop - reader.columns.start
        if not reader.affords(view, units.size, width, f"layer {layer} router"):
            continue
        read = np.asarray(reader.source.view_rows(view, units, columns=reader.columns), dtype=np.float64)
        gain = reader.full.get((layer, arch.mlp_norm)) if arch.mlp_norm else None
        rows = folded(np.ascontiguousarray(read.T), None if gain is None else gain[reader.columns])
        answers = probes.answers(rows) if width == arch.width else np.zeros((0, units.size))
        found.append(Values(layer, view.shape[0], rows, answers))
    return found
