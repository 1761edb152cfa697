"""Reading a signature: the only place that decides which bytes of a model the ladder touches."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from crawl import Architecture, Role, View, WeightSource
from lineage.copies import label_groups
from lineage.likeness import MIN_SAMPLE, MOST_TENSORS, SAMPLE_ELEMENTS, is_buffer, pick_names
from lineage.plan import (
    MAX_CENSUS_COLUMNS,
    MAX_COLUMNS,
    N_CENSUS_ROWS,
    N_UNITS,
    PUBLIC_KEY,
    SIGNATURE_VERSION,
    RowKey,
    pick_columns,
    pick_layers,
    pick_run,
    pick_tokens,
    pick_wide,
)
from lineage.positions import is_fixed
from lineage.probing import Probes, folded
from lineage.signature import TABLE_KINDS, Block, Signature, Table, Values, VectorKey
from lineage.valuereading import read_experts, read_values
from stats.arrays import Float64Array
from stats.result import Skipped

SLIM_TABLES = ("embed", "embed.position", "embed.patch")
SLIM_TENSORS = 8
"""Tables, and tensors of an unknown architecture, of a slim reading."""

_CENSUS_KINDS = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down", "router")


@np.errstate(over="ignore", invalid="ignore")
def sign(
    source: WeightSource, *, key: RowKey = PUBLIC_KEY, max_bytes: int | None = None, slim: bool = False
) -> Signature:
    """Read the signature of an opened model.

    Parameters
    ----------
    source : WeightSource
        An opened model.
    key : RowKey
        Places the rows.
    max_bytes : int, optional
        Most bytes read in all, the header included. What would go beyond is skipped with the reason; the choice
        depends on shapes alone.
    slim : bool
        Only what a dozen requests fetch: the tokens of the embedding, the final gain, and one matrix of hidden units in
        each layer read, all in the same places as ever.

    Returns
    -------
    Signature

    Raises
    ------
    CrawlError
        Bytes are missing, malformed or cannot be fetched.

    Notes
    -----
    Cost: below 4 MB of a model of 7B or 70B parameters in 16 bits from a disk; on the Hub bytes are spent to save
    requests. See docs/methods/what-is-read.md.
    """
    arch = source.architecture
    if arch is None:
        reader = Reader(source, key, slice(0, 0), max_bytes, slim=slim)
        reader.skip("all tensors", "unknown architecture: no axis has been named, so no label test is valid")
        reader.sample()
    else:
        reader = Reader(source, key, pick_columns(arch.width, MAX_COLUMNS, key), max_bytes, slim=slim)
        reader.read(arch)
    parts = (reader.vectors, reader.blocks, reader.tables, reader.others())
    return Signature(
        ref=str(source.ref),
        id=source.ref.id,
        version=SIGNATURE_VERSION,
        key_name=key.name,
        architecture=arch,
        n_parameters=source.n_parameters,
        dtype=source.dtype,
        columns=reader.columns,
        vectors=reader.vectors,
        blocks=tuple(reader.blocks),
        block_groups=label_groups(reader.blocks, gated=arch is not None and arch.glu),
        tables=reader.tables,
        tokens=reader.tokens,
        values=tuple(reader.values),
        experts=tuple(reader.experts),
        census=reader.census,
        samples=reader.samples,
        skipped=tuple(reader.skipped),
        header_digest=source.header_digest(),
        slices_digest=_digest(*parts),
        bytes_read=source.bytes_read,
        requests=source.requests,
    )


class Reader:
    """Collects the slices of one model."""

    def __init__(
        self, source: WeightSource, key: RowKey, columns: slice, max_bytes: int | None, *, slim: bool = False
    ) -> None:
        self.max_bytes = max_bytes
        self.slim = slim
        self.source = source
        self.key = key
        self.columns = columns
        self.vectors: dict[VectorKey, Float64Array] = {}
        self.full: dict[VectorKey, Float64Array] = {}
        self.wide_embed: Float64Array | None = None
        self.tokens = np.arange(0)
        self.values: list[Values] = []
        self.experts: list[Values] = []
        self.blocks: list[Block] = []
        self.tables: dict[str, Table] = {}
        self.census: dict[str, Float64Array] = {}
        self.samples: dict[str, Float64Array] = {}
        self.skipped: list[Skipped] = []

    def skip(self, tensor: str, reason: str) -> None:
        """Record what is not read."""
        self.skipped.append(Skipped(tensor=tensor, reason=reason))

    def sample(self) -> None:
        """A few rows of every trained-looking tensor of an unknown architecture, for equality and similarity only."""
        for name in pick_names(sorted(self.source.tensors), SLIM_TENSORS if self.slim else MOST_TENSORS):
            tensor = self.source.tensors[name]
            n = math.prod(tensor.shape)
            if not tensor.dtype.is_float or n < MIN_SAMPLE or is_buffer(name):
                continue
            row = n // tensor.shape[0]
            rows = pick_run(f"sample/{row}", tensor.shape[0], max(1, SAMPLE_ELEMENTS // row), self.key)
            part = pick_columns(tensor.shape[1], SAMPLE_ELEMENTS, self.key) if len(tensor.shape) == 2 else None
            if row > SAMPLE_ELEMENTS and part is None:
                continue
            if self.max_bytes is not None and self.source.bytes_read + 8 * SAMPLE_ELEMENTS > self.max_bytes:
                self.skip(name, f"reading it would go beyond the limit of {self.max_bytes} bytes")
                continue
            self.samples[name] = _f64(self.source.rows(tensor, rows, columns=part))

    def read(self, arch: Architecture) -> None:
        """Gains, hidden units, tables, values, experts, census: the order of the ladder, the descriptive part last."""
        layers = pick_layers(arch.n_layers)
        for role in sorted(self.source.views, key=str):
            view = self.source.views[role]
            wanted = role.layer is None or (role.layer in layers and not self.slim)
            if wanted and self._is_residual_vector(role, view, arch) and self.affords(view, 1, arch.width, str(role)):
                self.full[role.layer, role.kind] = _f64(self.source.view_vector(view))
        self.vectors = {key: values[self.columns] for key, values in self.full.items()}
        for layer in layers:
            self._read_block(layer, arch)
        for kind in SLIM_TABLES if self.slim else TABLE_KINDS:
            self._read_table(kind, arch)
        probes = self._probes(arch)
        self.blocks = [probes.with_probes(block) for block in self.blocks]
        if self.slim:
            self.skip("norms of layers, head, values, experts, census", "a slim reading leaves them out")
            return
        self.values = read_values(self, arch, probes)
        self.experts = read_experts(self, arch, probes)
        for layer in layers:
            self._read_census(layer)

    def others(self) -> dict[str, Float64Array]:
        """Everything else that was read, by a name of its own, for the digest."""
        found = {**self.census, **self.samples}
        for name, group in (("values", self.values), ("experts", self.experts)):
            found |= {f"{name} {v.layer}": v.parts for v in group}
        for block in self.blocks:
            found |= {f"wide {block.layer} {kind}": values for kind, values in block.wide.items()}
        return found

    def _probes(self, arch: Architecture) -> Probes:
        """What turns rows over all residual dimensions into answers to tokens."""
        table = self.tables.get("embed")
        self.tokens = table.rows if table is not None else self.tokens
        head = self.tables.get("unembed", table if arch.tied_head else None)
        narrow = arch.width <= MAX_COLUMNS
        final = self.full.get((None, "norm.final"))
        out = head.values * (1.0 if final is None else final) if head is not None and narrow else None
        return Probes(self.wide_embed, out if head is None or np.array_equal(head.rows, self.tokens) else None)

    def affords(self, view: View, rows: int, columns: int, what: str) -> bool:
        """Whether a read of rows x columns elements stays within the byte limit; records the skip when not."""
        cost = rows * columns * len(view.tensor.span) // max(1, math.prod(view.tensor.shape))
        if self.max_bytes is None or self.source.bytes_read + cost <= self.max_bytes:
            return True
        self.skip(what, f"reading it would go beyond the limit of {self.max_bytes} bytes")
        return False

    @staticmethod
    def _is_residual_vector(role: Role, view: View, arch: Architecture) -> bool:
        kind = role.kind.removeprefix("bias.")
        inner = kind in {"norm.q", "norm.k"}
        return kind.startswith("norm.") and not inner and len(view.shape) == 1 and view.shape[0] == arch.width

    def find(self, kind: str, layer: int) -> View | None:
        """The view of a kind in a layer: the dense one, else that of expert 0."""
        dense = self.source.views.get(Role(kind, layer, None))
        return dense if dense is not None else self.source.views.get(Role(kind, layer, 0))

    def _read_block(self, layer: int, arch: Architecture) -> None:
        rows: dict[str, Float64Array] = {}
        n_units = 0
        wide = arch.width <= MAX_COLUMNS or layer in pick_wide(arch.n_layers)
        for kind in ("mlp.up", "mlp.gate", "mlp.down") if self.slim else ("mlp.gate", "mlp.up", "mlp.down"):
            view = self.find(kind, layer)
            if view is None or (self.slim and rows):
                continue
            columns = slice(0, arch.width) if wide else self.columns
            values = self._units(view, kind, f"layer {layer} {kind}", arch, columns)
            if values is not None:
                rows[kind] = values
                n_units = view.shape[1] if kind == "mlp.down" else view.shape[0]
        if not rows:
            if not any(s.tensor.startswith(f"layer {layer} mlp") for s in self.skipped):
                self.skip(f"layer {layer} MLP", "no matrix in which a hidden unit is contiguous in the file")
            return
        gain = self.full.get((layer, arch.mlp_norm)) if arch.mlp_norm else None
        full = {k: folded(v, None if k == "mlp.down" else gain) for k, v in rows.items()} if wide else {}
        self.blocks.append(
            Block(
                layer=layer,
                n_units=n_units,
                parts={k: np.ascontiguousarray(v[self.columns]) if wide else v for k, v in rows.items()},
                gain=None if gain is None else gain[self.columns],
                wide=full,
            )
        )

    def _units(self, view: View, kind: str, what: str, arch: Architecture, columns: slice) -> Float64Array | None:
        """(k, s) features of the chosen units, or None where a unit is scattered over the file."""
        outputs, inputs = view.shape
        is_down = kind == "mlp.down"
        if (outputs if is_down else inputs) != arch.width or view.transposed != is_down:
            return None
        units = pick_run("units", inputs if is_down else outputs, N_UNITS, self.key)
        if not self.affords(view, units.size, columns.stop - columns.start, what):
            return None
        if is_down:
            return _f64(self.source.view_columns(view, units, rows=columns))
        return np.ascontiguousarray(_f64(self.source.view_rows(view, units, columns=columns)).T)

    def _read_census(self, layer: int) -> None:
        for kind in _CENSUS_KINDS:
            view = self.find(kind, layer)
            if view is None or len(view.shape) != 2:
                continue
            stored_rows, stored_columns = (view.shape[1], view.shape[0]) if view.transposed else view.shape
            what = "units" if kind in {"mlp.gate", "mlp.up"} else f"census/{kind}"
            index = pick_run(what, stored_rows, N_UNITS if what == "units" else N_CENSUS_ROWS, self.key)[:N_CENSUS_ROWS]
            part = pick_columns(stored_columns, MAX_CENSUS_COLUMNS, self.key)
            role = str(Role(kind, layer, None))
            if not self.affords(view, index.size, part.stop - part.start, f"{role} (census)"):
                continue
            if view.transposed:
                self.census[role] = _f64(self.source.view_columns(view, index, rows=part))
            else:
                self.census[role] = _f64(self.source.view_rows(view, index, columns=part))

    def _read_table(self, kind: str, arch: Architecture) -> None:
        view = self.source.views.get(Role(kind, None, None))
        if view is None:
            if kind == "unembed" and arch.tied_head:
                self.skip("unembed", "tied to the embedding: it is the same tensor")
            return
        if kind == "embed.patch":
            self._read_patches(view, arch)
            return
        if len(view.shape) != 2 or view.shape[1] != arch.width or view.transposed:
            self.skip(kind, f"its shape {view.shape} does not end in the residual width {arch.width}")
            return
        rows = pick_tokens("tokens" if kind in {"embed", "unembed"} else kind, view.shape[0], self.key)
        wide = kind in {"embed", "embed.position"}
        if not self.affords(view, rows.size, arch.width if wide else self.columns.stop - self.columns.start, kind):
            return
        values = _f64(self.source.view_rows(view, rows, columns=None if wide else self.columns))
        norms = np.sqrt(np.sum(values * values, axis=1))
        if kind == "embed":
            self.wide_embed = values
        values = np.ascontiguousarray(values[:, self.columns]) if wide else values
        table = Table(kind=kind, n_rows=view.shape[0], rows=rows, values=values, row_norms=norms)
        self.tables[kind] = replace(table, fixed=kind == "embed.position" and is_fixed(table))

    def _read_patches(self, view: View, arch: Architecture) -> None:
        """Patch projection [width, inputs]: residual dimensions are rows, so it is read whole and turned."""
        inputs = view.shape[1]
        if len(view.shape) != 2 or view.shape[0] != arch.width:
            self.skip("embed.patch", f"its shape {view.shape} does not start with the residual width {arch.width}")
            return
        part = pick_run("patch", inputs, 64, self.key)
        index = np.arange(self.columns.start, self.columns.stop)
        if not self.affords(view, index.size, part.size, "embed.patch"):
            return
        values = _f64(self.source.view_rows(view, index, columns=slice(int(part[0]), int(part[-1]) + 1)))
        values = np.ascontiguousarray(values.T)
        norms = np.sqrt(np.sum(values * values, axis=1))
        self.tables["embed.patch"] = Table(kind="embed.patch", n_rows=inputs, rows=part, values=values, row_norms=norms)


def _f64(values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Float64Array:
    return np.asarray(values, dtype=np.float64)


def _digest(
    vectors: Mapping[VectorKey, Float64Array],
    blocks: list[Block],
    tables: Mapping[str, Table],
    census: Mapping[str, Float64Array],
) -> str:
    digest = hashlib.sha256()

    def add(name: str, values: Float64Array) -> None:
        digest.update(f"{name}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())

    for (layer, kind), values in sorted(vectors.items(), key=lambda item: (str(item[0][0]), item[0][1])):
        add(f"{layer}.{kind}", values)
    for block in blocks:
        for kind in sorted(block.parts):
            add(f"{block.layer}.{kind}", block.parts[kind])
    for kind in sorted(tables):
        add(kind, tables[kind].values)
    for role in sorted(census):
        add(role, census[role])
    return digest.hexdigest()
