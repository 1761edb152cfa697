"""Undoing what was done to a model: residual stream, layers, hidden units, heads; the mapping later stages compare by.

Everything here describes a pair. The verdict rests on tests (or, for `resembles`, on controls) made elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lineage.body import Body, Layer
from lineage.inner import inner_rotation, inner_table
from lineage.scales import Scales, norm_ratios, ratios
from lineage.streams import Residual, centred, mean_cosine, relabelling, residual_readings, turned
from lineage.tokens import Shared
from stats.arrays import Float64Array, IntVector
from stats.matching import Matching, agreement, cosines, mutual_matches

_SAMPLE = 128
"""Hidden units of a layer of a that look for partners when layers are matched; all of them in small layers."""

MIN_AGREEMENT = 0.2
"""Share of units whose two views must name one partner before two layers are called the same. Strangers: below 0.05."""

_SAME_HEAD = 0.3
"""Cosine of all keys of a head below which no head of the other model is called the same."""

PLAINER = 0.05
"""A plainer reading of the residual stream is kept while it loses at most this much agreement."""


@dataclass(frozen=True, slots=True)
class LayerMap:
    """A layer of b and the layer of a it is made of.

    Attributes
    ----------
    a : int or None
        None when no layer of a resembles it.
    b : int
    agreement : float
        Share of sampled units whose views agree on a partner.
    units : Matching or None
        Hidden units, a against b.
    kv, queries : IntVector or None
        For each key-value head of a, and each query head, the head of b it became.
    mlp, values : Scales or None
        Free scales of the paired hidden units of a gated MLP, and of the value dimensions.
    """

    a: int | None
    b: int
    agreement: float
    units: Matching | None = None
    kv: IntVector | None = None
    queries: IntVector | None = None
    mlp: Scales | None = None
    values: Scales | None = None


@dataclass(frozen=True, slots=True)
class Alignment:
    """The mapping from b to a.

    Attributes
    ----------
    residual : Residual
    layers : tuple of LayerMap
        Of each layer of b that was looked at.
    table : (n, m) float64
        Agreement of layers of a with layers of b.
    sampled : (n, m) float64
        Units that can agree.
    rows : tuple of int
        The layers of a.
    same_depth : bool
        Whether both have equally many layers, so that every layer has its place.
    whole : bool
        Whether all of both models was read.
    inner : bool
        Whether units were told by inner products inside their own model.
    """

    residual: Residual
    layers: tuple[LayerMap, ...]
    table: Float64Array
    sampled: Float64Array
    rows: tuple[int, ...]
    same_depth: bool
    whole: bool = True
    inner: bool = False

    def covers(self, n_a: int, n_b: int) -> bool:
        """Whether every layer of both was looked at, so that their order tells the kind of a reshaping."""
        return len(self.rows) == n_a and len(self.layers) == n_b

    @property
    def matched(self) -> tuple[LayerMap, ...]:
        """Layers of b that have a partner."""
        return tuple(m for m in self.layers if m.a is not None)


def align(a: Body, b: Body, shared: Shared) -> Alignment:
    """Find the mapping of two models, reading both layer by layer.

    Parameters
    ----------
    a, b : Body
    shared : Shared
        The tokens both have.

    Returns
    -------
    Alignment

    Notes
    -----
    Layers first: a layer of b belongs to the layer of a for which most hidden units are paired alike by two of their
    views (gate and up; up and down without a gate). This is tried with the residual stream as it is, with its dimensions
    paired one by one, and with a rotation, each fitted to the embeddings of tokens at one id; the plainest reading that
    agrees best is kept. Where none brings agreement, units are told by inner products inside their own model, which need
    neither, and the rotation is fitted to the units so paired. Then units and heads of each pair of layers.
    Cost: O(layers_a layers_b sample h d) a reading, and O(d^3) once.
    """
    layers_a = [a.layer(i) for i in range(a.architecture.n_layers)]
    layers_b = [b.layer(i) for i in range(b.architecture.n_layers)]
    sampled = np.array([[_sampled(x, y) for y in layers_b] for x in layers_a])
    best: tuple[float, Residual, Float64Array] | None = None
    for residual in residual_readings(a, b, shared):
        moved = [turned(y, residual) for y in layers_b]
        table = np.array([[layer_agreement(x, y) for y in moved] for x in layers_a])
        seen = float(table.max(axis=0).mean())
        if best is None or seen > best[0] + PLAINER:
            best = (seen, residual, table)
        if seen > 1.0 - PLAINER:
            break
    assert best is not None  # noqa: S101 - there is always the reading as it is
    seen, residual, table = best
    rows = tuple(x.index for x in layers_a)
    if seen < MIN_AGREEMENT:
        inner = inner_table(layers_a, layers_b, _SAMPLE)
        if inner.max(axis=0).mean() >= MIN_AGREEMENT:
            residual = inner_rotation(layers_a, layers_b, inner, MIN_AGREEMENT)
            residual, maps = _maps(residual, layers_a, layers_b, inner, (a, b))
            return Alignment(residual, maps, inner, sampled, rows, same_depth=len(rows) == len(maps), inner=True)
    residual, maps = _maps(residual, layers_a, layers_b, table, (a, b))
    return Alignment(residual, maps, table, sampled, rows, same_depth=len(rows) == len(maps))


def _maps(
    residual: Residual,
    layers_a: Sequence[Layer],
    layers_b: Sequence[Layer],
    table: Float64Array,
    models: tuple[Body, Body],
) -> tuple[Residual, tuple[LayerMap, ...]]:
    """The maps of all layers of b, and the residual stream, relabelled where a relabelling does as well as a rotation."""

    def of(way: Residual) -> tuple[LayerMap, ...]:
        return tuple(_layer_map(layers_a, turned(y, way), table[:, j], models) for j, y in enumerate(layers_b))

    maps = of(residual)
    plainer = _plainer(residual, maps, layers_a, layers_b) if residual.kind == "rotation" else None
    return (residual, maps) if plainer is None else (plainer, of(plainer))


def _plainer(
    residual: Residual, maps: Sequence[LayerMap], layers_a: Sequence[Layer], layers_b: Sequence[Layer]
) -> Residual | None:
    """The relabelling behind a fitted rotation, from the rows of all paired hidden units; None when there is none."""
    rows: list[tuple[Float64Array, Float64Array]] = []
    for m in maps:
        if m.a is None or m.units is None:
            continue
        for x, y, _ in paired_views(layers_a[m.a], layers_b[m.b]):
            rows.append((x[m.units.a], y[m.units.b]))
    if not rows:
        return None
    x, y = np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])
    turn = relabelling(x, y)
    if turn is None or residual.turn is None:
        return None
    if mean_cosine(x, y @ turn) < mean_cosine(x, y @ residual.turn) - PLAINER:
        return None
    return Residual("permutation", turn, mean_cosine(x, y @ turn))


def layer_agreement(a: Layer, b: Layer) -> float:
    """Share of sampled hidden units of a that two of their views pair with one unit of b."""
    views = paired_views(a, b)
    if len(views) < 2:
        return 0.0
    step = max(1, a.n_hidden // _SAMPLE)
    scores = [view_scores(x[::step], y, signed=signed) for x, y, signed in views[:2]]
    return float(agreement(*scores) / min(scores[0].shape))


def _sampled(a: Layer, b: Layer) -> float:
    """Units that can agree: those sampled of a, or all of b where it has fewer."""
    step = max(1, a.n_hidden // _SAMPLE)
    return float(min(-(-a.n_hidden // step), b.n_hidden))


def unit_scores(a: Layer, b: Layer) -> Float64Array:
    """Sum over views of the cosines between all hidden units of two layers."""
    total = np.zeros((a.n_hidden, b.n_hidden))
    for x, y, signed in paired_views(a, b):
        total += view_scores(x, y, signed=signed)
    return total / max(1, len(paired_views(a, b)))


def _layer_map(layers: Sequence[Layer], layer: Layer, scores: Float64Array, models: tuple[Body, Body]) -> LayerMap:
    best = int(scores.argmax()) if scores.size else -1
    if best < 0 or scores[best] < MIN_AGREEMENT:
        return LayerMap(None, layer.index, float(scores.max(initial=0.0)))
    if (
        np.count_nonzero(scores == scores[best]) > 1
        and layer.index < scores.size
        and scores[layer.index] == scores[best]
    ):
        best = layer.index  # copies of one layer inside a: the same place is the plainest reading
    base = layers[best]
    units = mutual_matches(unit_scores(base, layer))
    kv = heads_of(base, layer, "attn.k", {m.architecture.n_kv for m in models})
    queries = heads_of(base, layer, "attn.q", {m.architecture.n_heads for m in models})
    scales = _mlp_scales(base, layer, units), _value_scales(base, layer, kv)
    return LayerMap(base.index, layer.index, float(scores[best]), units, kv, queries, *scales)


def heads_of(a: Layer, b: Layer, kind: str, counts: set[int | None]) -> IntVector | None:
    """For each head of a its partner in b, by all rows of its keys or queries; None unless every head has one."""
    n = counts.pop()
    if counts or n is None or kind not in a.reads or kind not in b.reads:
        return None
    x, y = a.reads[kind], b.reads[kind]
    if x.shape != y.shape or x.shape[0] % n:
        return None
    scores = cosines(x.reshape(n, -1), y.reshape(n, -1))
    found = mutual_matches(scores) if n > 1 else None
    if found is None:
        return np.zeros(1, dtype=np.int64) if scores[0, 0] > _SAME_HEAD else None
    return found.b if found.a.size == n and float(found.score.min()) > _SAME_HEAD else None


def _mlp_scales(a: Layer, b: Layer, units: Matching) -> Scales | None:
    """Scales of the paired hidden units of a gated MLP."""
    if "mlp.gate" not in a.reads or not all("mlp.up" in x.reads and "mlp.down" in x.writes for x in (a, b)):
        return None
    read = ratios(a.reads["mlp.up"][units.a], b.reads["mlp.up"][units.b])
    return Scales(read, norm_ratios(a.writes["mlp.down"][units.a], b.writes["mlp.down"][units.b]))


def _value_scales(a: Layer, b: Layer, kv: IntVector | None) -> Scales | None:
    """Scales of the value dimensions, heads put in order; all query heads of a group write through one value."""
    if kv is None or not all("attn.v" in x.reads and "attn.o" in x.writes for x in (a, b)):
        return None
    n, order = kv.size, by_head(a.reads["attn.v"].shape[0], kv)
    groups = [x.writes["attn.o"].reshape(n, -1, order.size // n, x.writes["attn.o"].shape[1]) for x in (a, b)]
    first, second = (np.moveaxis(g, 1, 2).reshape(order.size, -1) for g in groups)
    return Scales(ratios(a.reads["attn.v"], b.reads["attn.v"][order]), norm_ratios(first, second[order]))


def by_head(n: int, kv: IntVector) -> IntVector:
    """Positions along the value axis once the heads are put in the order `kv`."""
    return np.asarray((kv[:, None] * (n // kv.size) + np.arange(n // kv.size)).ravel())


def paired_views(a: Layer, b: Layer) -> list[tuple[Float64Array, Float64Array, bool]]:
    """Views both layers have over one residual width, with whether their sign means something."""
    mine: Mapping[str, Float64Array] = dict(a.hidden_views)
    gated = "mlp.gate" in mine
    return [
        (mine[kind], values, not (gated and kind != "mlp.gate"))
        for kind, values in b.hidden_views
        if kind in mine and mine[kind].shape[1] == values.shape[1]
    ]


def view_scores(x: Float64Array, y: Float64Array, *, signed: bool) -> Float64Array:
    """Cosines of all hidden units of two layers by one view."""
    found = cosines(centred(x), centred(y))
    return found if signed else np.abs(found)
