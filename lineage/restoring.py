"""A suspect's matrices in the places of an unmarked model that only its sketch stands for.

Depends on the suspect and the sketch alone: no key is looked at, so reading a mark afterwards keeps its p-value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crawl import Role, View, WeightSource
from lineage.aligning import MIN_AGREEMENT, PLAINER, LayerMap, by_head, heads_of, layer_agreement, paired_views
from lineage.body import Body, Layer
from lineage.disguise import moved
from lineage.projecting import dense, n_columns, picked_tokens, projected, token_columns, token_rows
from lineage.scales import Scales, norm_ratios, ratios
from lineage.streams import centred, pair_dimensions
from stats.arrays import Float64Array, IntVector
from stats.matching import Matching, cosines, fitted_rotation
from weightmark.sketchfile import SIDE, Sketch, directions

_FEW = 4
"""Layers of the suspect by which the reading of the residual stream is chosen."""

_WEIGHTS = 1 << 22
"""Weights that are put in place at once."""

_STRIP = 256
"""Units that look for their like at once."""

_MARGIN = 1e-9
"""A best score must beat the next by this much."""

_READS = {"attn.q", "attn.k", "attn.v", "mlp.gate", "mlp.up"}
_KINDS = (*sorted(_READS), "attn.o", "mlp.down")
_HIDDEN = {"mlp.gate", "mlp.up", "mlp.down"}
_ATTENTION = {"attn.q": "queries", "attn.o": "queries", "attn.k": "kv", "attn.v": "kv"}

Relabelled: TypeAlias = tuple[IntVector, Float64Array]
"""For each dimension of the suspect the one of the model it becomes, and its sign."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How the residual stream of the suspect becomes that of the model.

    Attributes
    ----------
    kind : {"identity", "permutation", "rotation"}
    relabelled : (IntVector, float64) or None
    matrix : (d, d) float64 or None
        Rows of the suspect times this.
    """

    kind: str
    relabelled: Relabelled | None = None
    matrix: Float64Array | None = None

    def of_signs(self, signs: Float64Array) -> Float64Array:
        """Directions of the model in the basis of the suspect."""
        if self.relabelled is not None:
            return self.relabelled[1][:, None] * signs[self.relabelled[0]]
        return signs if self.matrix is None else self.matrix @ signs

    def of_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of the suspect in the basis of the model; a relabelling rounds nothing."""
        if self.relabelled is not None:
            out = np.empty_like(rows)
            out[:, self.relabelled[0]] = rows * self.relabelled[1].astype(rows.dtype)
            return out
        return rows if self.matrix is None else rows.astype(np.float64) @ self.matrix

    def write(self, out: NDArray[Any], rows: IntVector, values: NDArray[Any]) -> None:
        """Put what is written into some residual dimensions of the suspect where the model writes it."""
        if self.matrix is not None:
            out += self.matrix[rows].T @ values
        elif self.relabelled is not None:
            out[self.relabelled[0][rows]] = values * self.relabelled[1][rows, None].astype(values.dtype)
        else:
            out[rows] = values


class Restored(Mapping[str, NDArray[Any]]):
    """Matrices of a suspect by the roles of the model, put in place one at a time as they are asked for.

    Units without a partner are rows (or columns) of zeros.
    """

    def __init__(self, body: Body, sketch: Sketch, turn: Turn, maps: Mapping[int, LayerMap]) -> None:
        self._body = body
        self._turn = turn
        self._maps = maps
        self._gains = sketch.of("rot.")
        self._hidden = {
            int(n[6:10]): a.shape[0] for n, a in sketch.arrays.items() if n.startswith("perm.L") and ".mlp." in n
        }
        self._roles = {
            str(Role(kind, index)): (kind, index, view)
            for index, m in sorted(maps.items())
            for kind in _KINDS
            if (view := dense(body, kind, m.b)) is not None and self._is_placed(kind, index, m)
        }

    @property
    def transforms(self) -> tuple[str, ...]:
        """Names of what is undone."""
        return tuple(sorted(moved(self._turn.kind, list(self._maps.values()))))

    def __getitem__(self, role: str) -> NDArray[Any]:
        kind, index, view = self._roles[role]
        m = self._maps[index]
        place, size = self._places(kind, index, view)
        dtype = np.float64 if self._turn.matrix is not None else self._body.source.view_rows(view, np.arange(0)).dtype
        out = np.zeros(self.shape_of(role), dtype)
        for rows in _strips(view):
            values = self._body.source.view_rows(view, rows)
            if kind in _READS:
                kept = place[rows] >= 0
                moved_to = place[rows][kept]
                out[moved_to] = self._in_basis(kind, index, m.b, values[kept]) * size[moved_to, None].astype(dtype)
            else:
                wide = np.zeros((rows.size, out.shape[1]), dtype)
                wide[:, place[place >= 0]] = values[:, place >= 0]
                self._turn.write(out, rows, wide * size.astype(dtype))
        return out

    def _places(self, kind: str, index: int, view: View) -> tuple[IntVector, Float64Array]:
        """For each unit of the suspect its place in the model, -1 without one; and for each place what undoes its scale."""
        n, m = view.shape[0 if kind in _READS else 1], self._maps[index]
        if kind not in _HIDDEN:
            heads = m.queries if _ATTENTION[kind] == "queries" else m.kv
            order = np.arange(n) if heads is None else by_head(n, heads)
            place = np.full(n, -1)
            place[order] = np.arange(order.size)
            return place, np.ones(n)
        place, size = np.full(n, -1), np.ones(self._hidden[index])
        if m.units is not None:
            place[m.units.b] = m.units.a
            if m.mlp is not None and kind != "mlp.gate":
                undone = m.mlp.undone
                size[m.units.a] = undone if kind == "mlp.down" else 1.0 / undone
        return place, size

    def shape_of(self, role: str) -> tuple[int, ...]:
        """Shape of a matrix, without reading it: hidden units are those of the model."""
        kind, index, view = self._roles[role]
        n_out, n_in = view.shape
        if kind not in _HIDDEN:
            return n_out, n_in
        return (self._hidden[index], n_in) if kind in _READS else (n_out, self._hidden[index])

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)

    def _is_placed(self, kind: str, index: int, m: LayerMap) -> bool:
        return kind not in _HIDDEN or (m.units is not None and index in self._hidden)

    def _in_basis(self, kind: str, index: int, layer: int, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows over the residual stream of the model. A rotation has the gains of the suspect folded in before."""
        if self._turn.kind != "rotation" or kind not in _READS:
            return self._turn.of_rows(rows)
        arch = self._body.architecture
        norm = arch.attn_norm if kind.startswith("attn.") else arch.mlp_norm
        own = self._body.gain(layer, norm)
        gain = None if norm is None else self._gains.get(str(Role(norm, index)))
        turned = self._turn.of_rows(rows if own is None else rows * own)
        return turned if gain is None else turned * np.divide(1.0, gain, out=np.zeros_like(gain), where=gain != 0.0)


def restored(sketch: Sketch, suspect: WeightSource) -> Restored | None:
    """Undo rewrites of a suspect as far as a sketch shows them.

    Parameters
    ----------
    sketch : Sketch
        Of kind `perm`; with `rot` rotations are undone too.
    suspect : WeightSource

    Returns
    -------
    Restored or None
        None where the suspect has another width or no known architecture, or no layer of it is like one of the sketch.

    Notes
    -----
    Undone: order and signs of residual dimensions, or a rotation; layers; order, scales and signs of hidden units; order of
    heads. Cost: one pass over the suspect; memory of one matrix, of the projections, and d^2 for a rotation.
    """
    arch = suspect.architecture
    if arch is None or arch.width != sketch.counts["width"] or "perm" not in sketch.kinds:
        return None
    body, known = Body(suspect, arch), known_layers(sketch)
    if not known:
        return None
    turn = best_turn(sketch, body, known)
    best: dict[int, LayerMap] = {}
    for layer in range(arch.n_layers):
        m = _layer_map(sketch, body, known, seen_layer(sketch, body, layer, turn))
        if m is not None and m.a is not None and (m.a not in best or m.agreement > best[m.a].agreement):
            best[m.a] = m
    return Restored(body, sketch, turn, best) if best else None


def known_layers(sketch: Sketch) -> dict[int, Layer]:
    """The layers of a sketch, their rows projections."""
    found: dict[int, dict[str, Float64Array]] = {}
    for name, rows in sketch.of("perm.L").items():
        found.setdefault(int(name[:4]), {})[name[5:]] = rows
    return {
        index: Layer(
            index,
            {k: v for k, v in kinds.items() if k != "mlp.down"},
            {k: v for k, v in kinds.items() if k == "mlp.down"},
        )
        for index, kinds in sorted(found.items())
        if "mlp.down" in kinds and "mlp.up" in kinds
    }


def seen_layer(sketch: Sketch, body: Body, layer: int, turn: Turn) -> Layer:
    """A layer of the suspect by the same projections as the sketch."""
    kept = {n[len("perm.L0000.") :]: a.shape[1] for n, a in sketch.arrays.items() if n.startswith("perm.L")}
    signs = directions(sketch.digest, "residual", sketch.counts["width"], SIDE)
    return projected(body, layer, kept, turn.of_signs(signs))


def residual_columns(sketch: Sketch, body: Body) -> tuple[Float64Array, Float64Array] | None:
    """Residual dimensions of model and suspect over the same tokens, (64, d) each; None where either has none."""
    n = n_columns(sketch.counts["vocabulary"])
    held = sketch.arrays.get("perm.residual")
    if held is None or n < 2 or (body.vocabulary or 0) < n:
        return None
    seen = token_columns(body, n, directions(sketch.digest, "tokens", n, SIDE))
    return None if seen is None else (held.astype(np.float64).T, seen.T)


def turns(sketch: Sketch, body: Body) -> Iterator[Turn]:
    """How the residual stream of the suspect may have become what it is, the plainest first; a rotation costs d^3."""
    yield Turn("identity")
    columns = residual_columns(sketch, body)
    paired = None if columns is None else pair_dimensions(*columns)
    if paired is not None:
        yield Turn("permutation", relabelled=paired)
    held = sketch.arrays.get("rot.tokens")
    rows = picked_tokens(sketch.counts["vocabulary"], sketch.counts["width"])
    if held is not None and len(held) == rows.size:
        there = rows < (body.vocabulary or 0)
        seen = token_rows(body, rows[there]) if there.any() else None
        if seen is not None:
            yield Turn("rotation", matrix=fitted_rotation(held[there].astype(np.float64), seen))


def best_turn(sketch: Sketch, body: Body, known: Mapping[int, Layer]) -> Turn:
    """The plainest reading under which layers of the suspect are most like layers of the sketch."""
    depth = body.architecture.n_layers
    looked = sorted({int(i) for i in np.linspace(0, depth - 1, min(_FEW, depth))})
    best = (-1.0, Turn("identity"))
    for turn in turns(sketch, body):
        layers = [seen_layer(sketch, body, layer, turn) for layer in looked]
        seen = float(np.mean([max(layer_agreement(x, y) for x in known.values()) for y in layers]))
        if seen > best[0] + PLAINER:
            best = (seen, turn)
        if seen > 1.0 - PLAINER:
            break
    return best[1]


def _layer_map(sketch: Sketch, body: Body, known: Mapping[int, Layer], layer: Layer) -> LayerMap | None:
    """The layer of the sketch that a layer of the suspect is most like, and what became of its units and heads."""
    scores = {index: layer_agreement(x, layer) for index, x in known.items()}
    index = max(scores, key=lambda i: (scores[i], i == layer.index))
    if scores[index] < MIN_AGREEMENT:
        return None
    base, arch = known[index], body.architecture
    units = partners(base, layer)
    kv = heads_of(base, layer, "attn.k", {sketch.counts["kv_heads"] or None, arch.n_kv})
    queries = heads_of(base, layer, "attn.q", {sketch.counts["heads"] or None, arch.n_heads})
    mlp = None
    if "mlp.gate" in base.reads and all("mlp.up" in x.reads and "mlp.down" in x.writes for x in (base, layer)):
        read = ratios(base.reads["mlp.up"][units.a], layer.reads["mlp.up"][units.b])
        mlp = Scales(read, norm_ratios(base.writes["mlp.down"][units.a], layer.writes["mlp.down"][units.b]))
    return LayerMap(index, layer.index, scores[index], units, kv, queries, mlp)


def partners(a: Layer, b: Layer) -> Matching:
    """Hidden units that are each other's best by all views together, some units at a time; ties are left out.

    As `stats.matching.mutual_matches` of `lineage.aligning.unit_scores`, in memory of a strip of the table.
    """
    views = [(centred(x), centred(y), signed) for x, y, signed in paired_views(a, b)]
    n, m = a.n_hidden, b.n_hidden
    chosen, score, clear = np.zeros(n, dtype=np.int64), np.full(n, -np.inf), np.zeros(n, dtype=np.bool_)
    back, top, second = np.zeros(m, dtype=np.int64), np.full(m, -np.inf), np.full(m, -np.inf)
    for start in range(0, n, _STRIP):
        part = slice(start, min(n, start + _STRIP))
        table = np.zeros((part.stop - start, m))
        for x, y, signed in views:
            seen = cosines(x[part], y)
            table += seen if signed else np.abs(seen)
        table /= max(1, len(views))
        rows = np.arange(len(table))
        chosen[part], score[part] = table.argmax(axis=1), table.max(axis=1)
        clear[part] = np.count_nonzero(table >= (score[part] - _MARGIN)[:, None], axis=1) == 1
        place, highest = table.argmax(axis=0), table.max(axis=0)
        table[place, np.arange(m)] = -np.inf
        next_best = table.max(axis=0) if rows.size > 1 else np.full(m, -np.inf)
        second = np.maximum(np.maximum(second, next_best), np.minimum(top, highest))
        back[highest > top] = start + place[highest > top]
        top = np.maximum(top, highest)
    mutual = clear & (back[chosen] == np.arange(n)) & (top[chosen] - second[chosen] > _MARGIN)
    found = np.flatnonzero(mutual)
    return Matching(found, chosen[found], score[found], n, m)


def _strips(view: View) -> Iterator[IntVector]:
    """Rows of a matrix that are read at once: all where they are stored as columns."""
    n, width = view.shape
    step = n if view.transposed else max(1, _WEIGHTS // width)
    return (np.arange(a, min(n, a + step)) for a in range(0, n, step))
