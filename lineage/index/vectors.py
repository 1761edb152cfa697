"""Search vectors: what a search compares of a model, in less than a kilobyte of signs and four of finer numbers.

A vector says which models are worth a test and is none itself. Each field is a fixed random projection of one kind of
slice, of which only the signs are kept: two models whose slices have cosine c agree in about 1 - arccos(c) / pi of them.
Fields that rest on labels find plain descendants, and those of which one kind of label was changed; the two that rest on
inner products between tokens know neither labels, nor a basis, nor a width, and find what was rewritten in every way.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lineage.errors import MalformedDocumentError
from lineage.signature import TABLE_KINDS, Signature, Table
from stats.arrays import Float64Array, IntVector

VECTOR_VERSION = 1
"""Rises with any change below: vectors of two versions are not compared."""

FIELDS: dict[str, int] = {"gains": 512, "tables": 1024, "units": 1024, "answers": 1024, "inputs": 2048, "outputs": 1024}
"""Signs of each field. By labels: norm gains, rows of tables, hidden units and value dimensions as they are, and by their
answers to tokens. Without: inner products between the tokens of the embedding, and of the head."""

LABELLED = ("gains", "tables", "units", "answers")
FREE = ("inputs", "outputs")
N_SIGNS = sum(FIELDS.values())

DROPPED = 3 / 16
"""Share of the directions of a table, the longest ones, left out of its inner products: they tell common from rare tokens,
and are alike in all models of one language. Of 64 tokens 12; with 8 or 16 the fixtures separate a little less."""

_FEWEST = 16
"""Tokens below which there is nothing to compare."""

N_FINE = 2016
"""Inner products of 64 tokens: as many are kept of each table, in 8 bits, for the few models a search looks at twice."""

_LEAST_BEHIND = 8
"""Values behind each sign of a slice: signs of nothing are all alike."""

_HEAD = 40
_SIZE = _HEAD + N_SIGNS // 8 + 2 * N_FINE


@dataclass(frozen=True, slots=True)
class Vector:
    """What a search compares of one model.

    Attributes
    ----------
    layout : bytes
        Digest of what two models need in common for their labels to be compared: residual width, gated or not, row key.
    tokens : bytes
        Digest of the rows behind the inner products, and of the row key.
    held : int
        Which fields are there, one bit each in the order of `FIELDS`.
    signs : (`N_SIGNS` / 8,) uint8
    fine : (2, `N_FINE`) int8
        Inner products of the tokens of the embedding and of the head, zero where there are none.
    """

    layout: bytes
    tokens: bytes
    held: int
    signs: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
    fine: "np.ndarray[tuple[int, ...], np.dtype[np.int8]]"

    def to_bytes(self) -> bytes:
        """The vector as it is stored."""
        head = VECTOR_VERSION.to_bytes(2, "little") + self.held.to_bytes(2, "little") + bytes(4)
        return head + self.layout + self.tokens + self.signs.tobytes() + self.fine.tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "Vector":
        """Read a stored vector.

        Raises
        ------
        MalformedDocumentError
            It is none, or one of another version.
        """
        if len(data) != _SIZE or int.from_bytes(data[:2], "little") != VECTOR_VERSION:
            raise MalformedDocumentError(
                f"a search vector of {len(data):,} bytes that this program does not know", hint="add the model again"
            )
        start = _HEAD + N_SIGNS // 8
        return Vector(
            layout=data[8:24],
            tokens=data[24:40],
            held=int.from_bytes(data[2:4], "little"),
            signs=np.frombuffer(data, dtype=np.uint8, count=N_SIGNS // 8, offset=_HEAD),
            fine=np.frombuffer(data, dtype=np.int8, offset=start).reshape(2, N_FINE),
        )

    def has(self, name: str) -> bool:
        """Whether a field is there."""
        return bool(self.held >> list(FIELDS).index(name) & 1)


def fine_of(stored: Sequence[bytes]) -> tuple[IntVector, "np.ndarray[Any, np.dtype[np.int8]]"]:
    """(n,) fields held and (n, 2, `N_FINE`) finer numbers of stored vectors of this version."""
    for data in stored:
        if len(data) != _SIZE or int.from_bytes(data[:2], "little") != VECTOR_VERSION:
            Vector.from_bytes(data)
    rows = np.frombuffer(b"".join(stored), dtype=np.uint8).reshape(len(stored), _SIZE)
    held = np.ascontiguousarray(rows[:, 2:4]).view("<u2").ravel().astype(np.int64)
    fine = np.ascontiguousarray(rows[:, _HEAD + N_SIGNS // 8 :]).view(np.int8)
    return held, fine.reshape(len(stored), 2, N_FINE)


def spans() -> dict[str, slice]:
    """Bytes of each field within the signs."""
    found, start = {}, 0
    for name, bits in FIELDS.items():
        found[name] = slice(start, start + bits // 8)
        start += bits // 8
    return found


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def vector_of(signature: Signature) -> Vector | None:
    """The search vector of a signature; None for an unknown architecture, of which nothing is tested either.

    Parameters
    ----------
    signature : Signature

    Returns
    -------
    Vector or None

    Notes
    -----
    Cost: one pass over the signature, and an eigendecomposition of the inner products of 64 tokens.
    """
    arch = signature.architecture
    if arch is None:
        return None
    held, signs = 0, []
    products = [_token_products(t) for t in _token_tables(signature)]
    for position, (name, bits) in enumerate(FIELDS.items()):
        free = [("", products[FREE.index(name)])] if name in FREE else []
        total = _projected(name, bits, iter(free) if free else _parts(signature, name))
        held |= bool(np.any(total)) << position
        signs.append(total > 0.0)
    layout = f"{signature.version}/{signature.key_name}/{signature.width}/{arch.glu}"
    return Vector(
        layout=_short(layout),
        tokens=_short(f"{signature.version}/{signature.key_name}/{_token_rows(signature)}"),
        held=held,
        signs=np.packbits(np.concatenate(signs)),
        fine=np.stack([_fine(p) for p in products]),
    )


def _parts(s: Signature, name: str) -> Iterator[tuple[str, Float64Array]]:
    """Slices of one field, with names that say which coordinates belong together."""
    if name == "gains":
        layers = sorted({layer for layer, _ in s.vectors if layer is not None})
        for (layer, kind), v in s.vectors.items():
            yield f"{'' if layer is None else layers.index(layer)}.{kind}", v
    elif name == "tables":
        for kind, table in s.tables.items():
            levelled = _levelled(table.values)
            for row, values in zip(table.rows.tolist(), levelled, strict=True):
                yield f"{kind}.{row}", values / np.sqrt(max(1, len(levelled)))
    else:
        told = name == "answers"
        for place, block in enumerate(s.blocks):
            for kind, v in (block.probes if told else block.parts).items():
                yield f"{place}.{kind}", _levelled(v.T).T
        for group, units in (("values", s.values), ("experts", s.experts)):
            for place, u in enumerate(units):
                yield f"{group}.{place}", _levelled((u.probes if told else u.parts).T).T


def _levelled(rows: Float64Array) -> Float64Array:
    """Rows of length one, centred over both axes."""
    if not rows.size:
        return rows
    gap = rows - rows.mean(axis=1, keepdims=True)
    gap = gap / np.maximum(np.sqrt(np.sum(gap * gap, axis=1, keepdims=True)), 1e-300)
    return np.asarray(gap - gap.mean(axis=0))


def _projected(field: str, bits: int, parts: Iterator[tuple[str, Float64Array]]) -> Float64Array:
    """Sum of the projections of all parts, each of length one: parts that two models lack in common only add noise."""
    total = np.zeros(bits)
    for name, values in parts:
        flat = values.ravel()
        flat = flat - flat.mean() if flat.size else flat
        size = float(np.sqrt(np.sum(flat * flat)))
        if not (flat.size > 1 and 0.0 < size < np.inf):
            continue
        weight = size if field == "tables" else 1.0
        seed = f"{VECTOR_VERSION}/{field}/{name}/{values.shape}"
        total += _spread_over(flat * (weight / size), bits, _drawn(seed, flat.size * _copies(flat.size, bits, name)))
    return total


def _copies(n: int, bits: int, name: str) -> int:
    """How many signs each value takes part in, so that every sign has some behind it; rows of tables are many."""
    return 1 if name.partition(".")[0] in TABLE_KINDS else max(1, -(-_LEAST_BEHIND * bits // n))


def _spread_over(
    flat: Float64Array, bits: int, drawn: "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]"
) -> Float64Array:
    """Each value added to, or taken from, the totals that were drawn for it."""
    values = np.tile(flat, drawn.size // flat.size)
    signed = np.where(drawn >> 31 == 0, values, -values)
    return np.bincount((drawn & (bits - 1)).astype(np.int64), weights=signed, minlength=bits).astype(np.float64)


def _drawn(text: str, n: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]":
    """Numbers below 2^32 that depend on a text alone, on every machine."""
    return np.frombuffer(hashlib.shake_256(text.encode()).digest(4 * n), dtype="<u4")


def _token_tables(s: Signature) -> list[Float64Array]:
    """Rows of the embedding (or of what stands in its place), and of the head with the final gain folded in."""
    table = _input_table(s)
    first = np.zeros((0, 0)) if table is None else table.values
    head = s.tables.get("unembed", s.tables.get("embed"))
    if head is None or table is None or head.rows.size != table.rows.size:
        return [first, np.zeros((0, 0))]
    gain = s.vectors.get((None, "norm.final"))
    return [first, head.values if gain is None else head.values * gain]


def _input_table(s: Signature) -> Table | None:
    return next((s.tables[k] for k in ("embed", "embed.patch") if k in s.tables), None)


def _token_rows(s: Signature) -> str:
    table = _input_table(s)
    return "none" if table is None else f"{table.kind} {table.rows.tolist()}"


def _token_products(rows: Float64Array) -> Float64Array:
    """Cosines between all pairs of rows, their longest common directions left out; empty where there are too few.

    Notes
    -----
    Blind to any rotation of the columns and to the scale of each row.
    """
    if rows.shape[0] < _FEWEST or not np.isfinite(np.sum(rows * rows)):
        return np.zeros(0)
    gap = rows - rows.mean(axis=0)
    sizes, ways = np.linalg.eigh(gap @ gap.T)
    kept = slice(0, rows.shape[0] - round(DROPPED * rows.shape[0]))
    rest = (ways[:, kept] * np.maximum(sizes[kept], 0.0)) @ ways[:, kept].T
    spread = np.sqrt(np.maximum(np.diag(rest), 0.0))
    least = 1e-6 * float(spread.max(initial=0.0))
    scale = np.where(spread > least, 1.0 / np.where(spread > least, spread, 1.0), 0.0)
    return np.asarray((rest * scale[:, None] * scale)[np.triu_indices(rows.shape[0], 1)])


def _fine(products: Float64Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.int8]]":
    """The products in steps of a fortieth of their spread, at most `N_FINE` of them."""
    out = np.zeros(N_FINE, dtype=np.int8)
    part = products[:N_FINE]
    spread = float(np.std(part)) if part.size else 0.0
    if spread > 0.0:
        out[: part.size] = np.clip(np.rint((part - part.mean()) * (20.0 / spread)), -127, 127).astype(np.int8)
    return out


def _short(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
