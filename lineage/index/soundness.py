"""Whether a decoded signature fits together: shapes, bounds and names, before any test relies on them."""

from collections.abc import Iterable, Iterator

from crawl import Architecture
from lineage.errors import MalformedDocumentError
from lineage.index.packing import Array
from lineage.signature import TABLE_KINDS, Block, Signature, Table, Values

_MOST_LAYERS = 100_000
_MOST_UNITS = 1 << 40
_MOST_GROUPS = 64
"""Blocks, vectors or tables of one kind: a reading has a few."""

_MOST_SIDE = 1 << 20


def check_signature(s: Signature) -> None:
    """Refuse a signature whose parts contradict each other.

    Raises
    ------
    MalformedDocumentError
        They do; the message names the part.
    """
    problem = next(_problems(s), None)
    if problem is not None:
        raise MalformedDocumentError(f"its parts do not fit together: {problem}", where=s.id)


def _problems(s: Signature) -> Iterator[str]:
    yield from _facts(s)
    n = s.columns.stop - s.columns.start
    for (layer, kind), v in s.vectors.items():
        if not (layer is None or _is_count(layer, _MOST_LAYERS)) or not isinstance(kind, str) or v.shape != (n,):
            yield f"vector {kind}"
    if len(s.block_groups) != len(s.blocks) or any(
        not _is_count(g, i) or s.block_groups[g] != g for i, g in enumerate(s.block_groups)
    ):
        yield "groups of blocks"
    for block in s.blocks:
        yield from _block(block, n, s.width, s.tokens.size)
    for table in s.tables.values():
        yield from _table(table, n)
    if not _is_index(s.tokens, _MOST_UNITS):
        yield "tokens"
    for units in (*s.values, *s.experts):
        yield from _values(units, s.tokens.size)
    arrays = (*s.census.values(), *s.samples.values())
    if any(v.dtype.kind != "f" for v in arrays) or any(v.ndim != 2 for v in s.census.values()):
        yield "descriptive rows"


def _facts(s: Signature) -> Iterable[str]:
    texts = (
        s.key_name,
        s.dtype,
        s.header_digest,
        s.slices_digest,
        *(t for k in s.skipped for t in (k.tensor, k.reason)),
    )
    if not all(isinstance(t, str) for t in texts):
        yield "names and digests"
    if not (_is_count(s.version, 1 << 30) and _is_count(s.n_parameters, 1 << 60)):
        yield "version and size"
    start, stop = s.columns.start, s.columns.stop
    if not (_is_count(start, _MOST_SIDE) and _is_count(stop, _MOST_SIDE) and start <= stop <= max(s.width, 0)):
        yield "residual dimensions"
    if max(len(s.blocks), len(s.tables), len(s.values), len(s.experts)) > _MOST_GROUPS or len(s.vectors) > 4096:
        yield "more parts than a reading has"
    if s.architecture is not None:
        yield from _architecture(s.architecture)


def _architecture(a: Architecture) -> Iterable[str]:
    flags = (a.glu, a.activation_sign_free_up, a.tied_head)
    texts = (a.name, *(t for t in (a.mlp_norm, a.attn_norm) if t is not None), *a.hints)
    counts = [c for c in (a.n_heads, a.n_kv) if c is not None]
    if not all(type(f) is bool for f in flags) or not all(isinstance(t, str) for t in texts):
        yield "architecture"
    if a.norm_type not in {"rms", "layer"} or a.positions not in {"rotary", "learned", "alibi", "none"}:
        yield "architecture"
    if not (_is_count(a.n_layers, _MOST_LAYERS) and _is_count(a.width, _MOST_SIDE)):
        yield "depth and width"
    if not all(_is_count(c, _MOST_SIDE) and c > 0 for c in counts):
        yield "heads"


def _block(b: Block, n: int, width: int, n_tokens: int) -> Iterable[str]:
    what = f"block {b.layer}"
    sizes = {v.shape[1] for v in (*b.parts.values(), *b.probes.values(), *b.wide.values()) if v.ndim == 2}
    matrices = (*b.parts.values(), *b.probes.values(), *b.wide.values())
    if not (_is_count(b.layer, _MOST_LAYERS) and _is_count(b.n_units, _MOST_UNITS)) or not b.parts:
        yield what
    if any(v.ndim != 2 or v.dtype.kind != "f" for v in matrices) or len(sizes) != 1 or max(sizes) > b.n_units:
        yield f"{what}: its units"
    elif (
        any(v.shape[0] != n for v in b.parts.values())
        or any(v.shape[0] != n_tokens for v in b.probes.values())
        or any(v.shape[0] != width for v in b.wide.values())
        or (b.gain is not None and (b.gain.shape != (n,) or b.gain.dtype.kind != "f"))
    ):
        yield f"{what}: its features"


def _table(t: Table, n: int) -> Iterable[str]:
    fits = t.kind in TABLE_KINDS and _is_count(t.n_rows, _MOST_UNITS) and type(t.fixed) is bool
    if not fits or not _is_index(t.rows, t.n_rows):
        yield f"table {t.kind}"
    elif t.values.shape != (t.rows.size, n) or t.row_norms.shape != t.rows.shape:
        yield f"table {t.kind}: its rows"


def _values(v: Values, n_tokens: int) -> Iterable[str]:
    known = _is_count(v.layer, _MOST_LAYERS) and _is_count(v.n_units, _MOST_UNITS)
    if not known or v.parts.ndim != 2 or v.probes.ndim != 2:
        yield "value dimensions"
    elif not (v.parts.shape[1] == v.probes.shape[1] <= v.n_units and v.probes.shape[0] in {0, n_tokens}):
        yield "value dimensions: their features"


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_index(rows: Array, n: int) -> bool:
    """A vector of different whole numbers below n."""
    if rows.ndim != 1 or rows.dtype.kind != "i" or rows.size > _MOST_SIDE:
        return False
    return not rows.size or (rows.min() >= 0 and rows.max() < n and len(set(rows.tolist())) == rows.size)
