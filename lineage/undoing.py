"""A suspect's arrays put back into the order, basis and scales of the unmarked reference.

Nothing here knows a key, and the reference is never the marked file: what is done to the suspect depends on the suspect
and on the unmarked model alone, so that reading a mark afterwards keeps its p-value.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crawl import Architecture
from lineage.aligned import paired
from lineage.aligning import LayerMap, align
from lineage.body import Body, Layer
from lineage.streams import turned
from lineage.tokens import Shared
from stats.arrays import Float64Array, IntVector

_WRITES = ("attn.o", "mlp.down")
_BETTER = 0.1
"""A mixture is taken back where the cosine with the reference rises by this much: training mixes nothing so far."""

_MOST_TOKENS = 4096


class HeldBody(Body):
    """A model as arrays by role, for the aligner."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], architecture: Architecture) -> None:
        self.weights = weights
        self.architecture = architecture
        self.id = ""
        self._kept: dict[int, Layer] = {}

    def embedding(self, rows: IntVector) -> Float64Array | None:
        """Some rows of the embedding, or None."""
        return self.table("embed", rows)

    def table(self, kind: str, tokens: IntVector) -> Float64Array | None:
        """Rows of a table, or None."""
        values = self.weights.get(kind)
        if values is None or values.ndim != 2 or values.shape[1] != self.architecture.width:
            return None
        rows = np.asarray(values[tokens], dtype=np.float64)
        return rows if np.isfinite(np.sum(rows * rows)) else None

    def gain(self, layer: int | None, kind: str | None) -> Float64Array | None:
        """A norm gain over the residual stream, or None."""
        name = kind if layer is None else f"L{layer:04d}.{kind}"
        values = self.weights.get(name or "")
        if values is None or values.shape != (self.architecture.width,):
            return None
        wide = np.asarray(values, dtype=np.float64)
        return wide if np.isfinite(wide).all() else None

    @property
    def n_tokens(self) -> int:
        """Rows of the embedding, 0 without one."""
        values = self.weights.get("embed")
        return 0 if values is None else values.shape[0]

    def _matrix(self, kind: str, layer: int, *, norm: str | None) -> Float64Array | None:
        values = self.weights.get(f"L{layer:04d}.{kind}")
        if values is None or values.ndim != 2:
            return None
        wide = np.asarray(values, dtype=np.float64)
        gain = self.gain(layer, norm)
        wide = wide if gain is None or kind in _WRITES else wide * gain
        return wide if np.isfinite(np.sum(wide * wide)) else None


def undone(
    suspect: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]], architecture: Architecture
) -> dict[str, Float64Array]:
    """Matrices of a suspect as they would stand in the reference, were they rewritten from it.

    Parameters
    ----------
    suspect, reference : mapping of role to ndarray
        The reference is the unmarked model.
    architecture : Architecture
        Of the reference.

    Returns
    -------
    dict of role to float64
        By the reference's roles and shapes; units without a partner are empty, layers without one are left out.

    Notes
    -----
    Order of hidden units and heads, the residual stream, signs and scales through `lineage.aligning`; then, where heads
    are known, turns and scales of rotary pairs and mixtures of value dimensions, by least squares against the reference.
    """
    depth = 1 + max((int(role[1:5]) for role in suspect if role.startswith("L")), default=-1)
    known, seen = HeldBody(reference, architecture), HeldBody(suspect, replace(architecture, n_layers=depth))
    tokens = np.arange(min(known.n_tokens, seen.n_tokens, _MOST_TOKENS))
    found = align(known, seen, Shared(tokens, tokens))
    out: dict[str, Float64Array] = {}
    for m in found.matched:
        base, other = known.layer(m.a or 0), turned(seen.layer(m.b), found.residual)
        rows = _with_places(base, other, m)
        if architecture.n_heads and architecture.n_kv:
            _unmix(rows, base, architecture.n_heads, architecture.n_kv)
        out |= {f"L{m.a or 0:04d}.{kind}": _stored(kind, values, known, m.a or 0) for kind, values in rows.items()}
    return out


def _with_places(base: Layer, other: Layer, m: LayerMap) -> dict[str, Float64Array]:
    """Rows of a layer in the reference's order, those without a partner empty."""
    made = {}
    for kind, _, rows in paired(base, other, m):
        whole = np.zeros(({**base.reads, **base.writes}[kind].shape[0], rows.shape[1]))
        at = m.units.a if kind.startswith("mlp.") and m.units is not None else np.arange(rows.shape[0])
        whole[at] = rows
        made[kind] = whole
    return made


def _stored(kind: str, rows: Float64Array, known: HeldBody, layer: int) -> Float64Array:
    """Rows as the reference stores them: what is written stands in columns, gains are outside."""
    if kind in _WRITES:
        return np.ascontiguousarray(rows.T)
    norm = known.architecture.attn_norm if kind.startswith("attn.") else known.architecture.mlp_norm
    gain = known.gain(layer, norm)
    return rows if gain is None else rows / np.where(gain == 0.0, 1.0, gain)


def _unmix(rows: dict[str, Float64Array], base: Layer, n_heads: int, n_kv: int) -> None:
    """Take back turns of rotary pairs in queries and keys, and mixtures of the dimensions of each value head."""
    for kind, n in (("attn.q", n_heads), ("attn.k", n_kv)):
        if kind in rows and kind in base.reads and rows[kind].shape == base.reads[kind].shape:
            rows[kind] = _nearer(rows[kind], _turned_back(rows[kind], base.reads[kind], n), base.reads[kind])
    if not {"attn.v", "attn.o"} <= rows.keys() or "attn.v" not in base.reads:
        return
    plain, known = rows["attn.v"], base.reads["attn.v"]
    size, share = plain.shape[0] // n_kv, n_heads // n_kv
    values, written = plain.copy(), rows["attn.o"].copy()
    for head in range(n_kv):
        own = slice(head * size, (head + 1) * size)
        mixer, *_ = np.linalg.lstsq(known[own].T, plain[own].T, rcond=None)  # plain = mixer.T @ known
        if np.linalg.cond(mixer) > _WORST:
            continue
        values[own] = np.linalg.solve(mixer.T, plain[own])
        for reader in range(head * share, (head + 1) * share):
            read = slice(reader * size, (reader + 1) * size)
            written[read] = mixer @ rows["attn.o"][read]
    if _cosine(values, known) > _cosine(plain, known) + _BETTER:
        rows["attn.v"], rows["attn.o"] = values, written


_WORST = 1e6
"""Condition beyond which a mixture is none that anyone can take back."""


def _turned_back(rows: Float64Array, known: Float64Array, n: int) -> Float64Array:
    """Rows with each rotary pair, seen as a complex row, divided by its factor over the reference's."""
    half = rows.shape[0] // n // 2
    pairs, base = (x.reshape(n, 2, half, -1) for x in (rows, known))
    z, w = pairs[:, 0] + 1j * pairs[:, 1], base[:, 0] + 1j * base[:, 1]
    size = np.einsum("hij,hij->hi", w.conj(), w).real
    factor = np.einsum("hij,hij->hi", w.conj(), z) / np.where(size > 0.0, size, 1.0)
    back = z / np.where(np.abs(factor) > 0.0, factor, 1.0)[..., None]
    return np.stack([back.real, back.imag], axis=1).reshape(rows.shape)


def _nearer(plain: Float64Array, changed: Float64Array, known: Float64Array) -> Float64Array:
    return changed if _cosine(changed, known) > _cosine(plain, known) + _BETTER else plain


def _cosine(x: Float64Array, y: Float64Array) -> float:
    """Mean size of the cosines between rows of one index."""
    inner = np.abs(np.einsum("ij,ij->i", x, y))
    size = np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))
    return float(np.mean(inner / np.where(size > 0.0, size, 1.0)))
