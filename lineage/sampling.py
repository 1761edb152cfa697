"""Two models too large to be held: a few units of many layers of one look for partners in a few layers of the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crawl.casts import SIGNIFICANT_BITS
from lineage.aligned import Agreement, unscaled
from lineage.aligning import MIN_AGREEMENT, PLAINER, Alignment, LayerMap, paired_views, view_scores
from lineage.body import Body, Layer
from lineage.budget import Plan, findable
from lineage.finding import LayerFinding
from lineage.layertests import at_units, log_evidence
from lineage.plan import RowKey
from lineage.scales import Scales, ratios
from lineage.sketching import Probes, Sketch, probes_of, sketch
from lineage.streams import Residual
from stats.arrays import Float64Array, IntVector
from stats.distance import PairSums, pair_sums
from stats.matching import Matching, agreement, mutual_matches
from stats.tails import log_mean_exp


@dataclass(frozen=True, slots=True)
class _Column:
    """One layer of b against the layers of a, under one reading of the residual stream."""

    shares: Float64Array
    mapped: LayerMap
    sums: Mapping[str, PairSums]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a sample of two models shows.

    Attributes
    ----------
    alignment : Alignment
    agreement : Agreement
        What is left of the difference of the paired units, in their answers to the probes.
    layers : tuple of LayerFinding
        One per layer of b that was looked at.
    """

    alignment: Alignment
    agreement: Agreement
    layers: tuple[LayerFinding, ...]


def align_samples(
    a: Body, b: Body, plan: Plan, tokens: tuple[Float64Array, Float64Array] | None, *, dtype: str, key: RowKey
) -> Seen:
    """Find which layer became which, and which unit, from samples.

    Parameters
    ----------
    a, b : Body
    plan : Plan
        What is read.
    tokens : ((t, d_a), (t, d_b)) float64, or None
        Embeddings of the tokens both models have, in one order.
    dtype : str
        Stored number format of the coarser of the two.
    key : RowKey
        Places the units.

    Returns
    -------
    Seen

    Notes
    -----
    As `lineage.aligning.align`, with two readings of the residual stream: as it is, seen through fixed directions, and
    in any basis, seen through the tokens both models have. The agreement of two layers is the number of units whose two
    views name one partner over the number that can be expected in what was read.
    Cost: every byte of the plan once; memory of one layer of answers of b and of the answers of the few units of a.
    """
    probes = probes_of((a.architecture.width, b.architecture.width), tokens)
    if not probes[0].readings:
        return _nothing(a, b, plan)
    base = [sketch(a, plan.kinds, i, plan.few.n_units, probes[0], key) for i in plan.few.layers]
    columns: dict[str, list[_Column]] = {name: [] for name, _ in probes[0].readings}
    sampled, evidence = np.zeros((len(base), len(plan.many.layers))), []
    for j, layer in enumerate(plan.many.layers):
        other = sketch(b, plan.kinds, layer, plan.many.n_units, probes[1], key)
        sampled[:, j] = [_findable(x, other) for x in base]
        evidence.append(_evidence(base, other, probes[0], key))
        for name, found in columns.items():
            found.append(_column(base, other, name, sampled[:, j]))
    tables = {name: np.stack([c.shares for c in found], axis=1) for name, found in columns.items()}
    name = _plainest(tables)
    residual = Residual(name, None, 0.0)
    maps = tuple(c.mapped for c in columns[name])
    same_depth = a.architecture.n_layers == b.architecture.n_layers
    alignment = Alignment(residual, maps, tables[name], sampled, plan.few.layers, same_depth=same_depth, whole=False)
    similar = [m.units.similarity if m.units is not None else 0.0 for m in maps]
    return Seen(
        alignment,
        _pooled([c.sums for c in columns[name]], dtype),
        tuple(LayerFinding(m.a, m.b, e, s) for m, e, s in zip(maps, evidence, similar, strict=True)),
    )


def _nothing(a: Body, b: Body, plan: Plan) -> Seen:
    """Streams of two widths and no token in common: nothing can be compared."""
    table = np.zeros((len(plan.few.layers), len(plan.many.layers)))
    maps = tuple(LayerMap(None, j, 0.0) for j in plan.many.layers)
    same_depth = a.architecture.n_layers == b.architecture.n_layers
    found = Alignment(
        Residual("unknown", None, 0.0), maps, table, table, plan.few.layers, same_depth=same_depth, whole=False
    )
    return Seen(
        found, Agreement(PairSums(), {}, None, complete=False), tuple(LayerFinding(None, m.b, 0.0, 0.0) for m in maps)
    )


def _plainest(tables: Mapping[str, Float64Array]) -> str:
    """The plainest reading that loses little to the best one."""
    seen = {name: float(table.max(axis=0).mean()) for name, table in tables.items()}
    return next(name for name, share in seen.items() if share >= max(seen.values()) - PLAINER)


def _findable(x: Sketch, y: Sketch) -> float:
    return findable(x.units.size, x.n_hidden, y.units.size, y.n_hidden)


def _column(base: Sequence[Sketch], other: Sketch, name: str, expected: Float64Array) -> _Column:
    """Agreement of all layers of a with one of b, and the mapping of the best of them."""
    layer = other.seen[name]
    shares = np.zeros(len(base))
    for i, x in enumerate(base):
        views = paired_views(x.seen[name], layer)
        if len(views) > 1:
            tables = [view_scores(u, v, signed=signed) for u, v, signed in views[:2]]
            shares[i] = min(1.0, agreement(*tables) / max(1.0, expected[i]))
    best = int(shares.argmax())
    places = [i for i, x in enumerate(base) if x.layer == other.layer]
    if places and shares[places[0]] == shares[best]:
        best = places[0]  # copies of one layer inside a: the same place is the plainest reading
    if shares[best] < MIN_AGREEMENT:
        return _Column(shares, LayerMap(None, layer.index, float(shares[best])), {})
    return _mapped(base[best], other, name, shares, float(expected[best]))


def _mapped(x: Sketch, y: Sketch, name: str, shares: Float64Array, expected: float) -> _Column:
    left, right = x.seen[name], y.seen[name]
    scores = [view_scores(u, v, signed=signed) for u, v, signed in paired_views(left, right)]
    pairs = mutual_matches(np.asarray(sum(scores)) / len(scores))
    scales = _scales(left, right, pairs, [mutual_matches(table) for table in scores[:2]])
    sums: dict[str, PairSums] = {}
    for kind in sorted({**left.reads, **left.writes}.keys() & {**right.reads, **right.writes}.keys()):
        u, v = ({**side.reads, **side.writes}[kind] for side in (left, right))
        sums[kind] = pair_sums(u[pairs.a], unscaled(v[pairs.b], scales, kind))
    units = Matching(x.units[pairs.a], y.units[pairs.b], pairs.score, max(1, round(expected)), y.units.size)
    share = float(shares.max())
    return _Column(shares, LayerMap(left.index, right.index, share, units=units, mlp=scales), sums)


def _scales(a: Layer, b: Layer, pairs: Matching, views: Sequence[Matching]) -> Scales | None:
    """Scales of paired hidden units of a gated MLP, from the side that reads; 0 where the views do not name one partner."""
    if not all("mlp.gate" in side.reads and "mlp.up" in side.reads for side in (a, b)):
        return None
    x, y = a.reads["mlp.up"][pairs.a], b.reads["mlp.up"][pairs.b]
    size = np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))
    alike = np.abs(np.einsum("ij,ij->i", x, y)) / np.maximum(size, 1e-300)
    sure = np.ones(pairs.a.size, dtype=np.bool_)
    for view in views:
        partner = np.full(a.n_hidden, -1)
        partner[view.a] = view.b
        sure &= partner[pairs.a] == pairs.b
    return Scales(np.where(sure, ratios(x, y), 0.0), np.zeros(pairs.a.size), alike)


def _evidence(base: Sequence[Sketch], other: Sketch, probes: Probes, key: RowKey) -> float:
    """Exact evidence of a layer of b from units read at one index in both, averaged over the readings."""
    found = []
    for name, _ in probes.readings:
        layers = []
        common: IntVector = np.zeros(0, dtype=np.int64)
        for x in base:
            if x.n_hidden == other.n_hidden:
                common, mine, theirs = np.intersect1d(x.units, other.units, return_indices=True)
                layers.append((at_units(x.seen[name], mine), theirs))
        if layers and common.size:
            found.append(log_evidence([x for x, _ in layers], at_units(other.seen[name], layers[0][1]), key))
    return log_mean_exp(np.array(found)) if found else 0.0


def _pooled(columns: Sequence[Mapping[str, PairSums]], dtype: str) -> Agreement:
    by_role: dict[str, PairSums] = {}
    for sums in columns:
        for kind, values in sums.items():
            by_role[kind] = by_role.get(kind, PairSums()) + values
    total = PairSums()
    for kind in sorted(by_role):
        total += by_role[kind]
    edge = 2.0 ** -SIGNIFICANT_BITS.get(dtype, 24)
    close = bool(by_role) and all(sums.relative_change <= edge for sums in by_role.values())
    return Agreement(total, by_role, "rounding" if close else None, complete=False)
