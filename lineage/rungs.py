"""The rungs of the ladder: each turns two signatures into test results, or says why it cannot."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from lineage.align import common_rows, hidden_axis, is_usable, residual_axis
from lineage.signature import Block, Signature, VectorKey
from stats.arrays import Float64Array
from stats.ordering import LOG_SKIP_DISCOUNT, is_sorted_pair
from stats.residual import column_test, gain_test
from stats.result import Skipped, TestResult
from stats.tails import log_mean_exp
from stats.units import UnitFeatures, unit_tests

_MAP_FREE_WINDOW = 32
"""Labels per window of the map-free gains, which test every pair of layers: 4 x 4 processes for the price of two."""

_SAME_INDEX_SHARE = 0.5
"""Prior weight of "the same layer" where depths agree; the rest is spread over the other layers read."""


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """How one layer of b answers: the layer of a it agrees with best, and the evidence of its own labels.

    Attributes
    ----------
    a, b : int
        Layers.
    log_evalue : float
        Natural log of the e-value of b's label group, averaged over the layers of a.
    similarity : float
        Mean cosine between paired units.
    """

    a: int
    b: int
    log_evalue: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rung found: results, what it skipped, and layers where it speaks of layers."""

    results: tuple[TestResult, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    layers: tuple[LayerFinding, ...] = ()


def gains(a: Signature, b: Signature) -> Finding:
    """Norm gains (and norm biases): same index, the final ones by themselves, and every layer against every layer."""
    results: list[TestResult] = []
    skipped: list[Skipped] = []

    def run(method: str, pairs: Sequence[tuple[VectorKey, VectorKey]], scope: str) -> None:
        if not pairs:
            return
        left = np.stack([a.vectors[i] for i, _ in pairs])
        right = np.stack([b.vectors[j] for _, j in pairs])
        _collect(
            results,
            skipped,
            scope,
            lambda: replace(gain_test(left, right, axis=residual_axis(b), scope=scope), method=method),
        )

    outer = [(k, k) for k in _keys(a, b) if k[0] is None]
    run("final-gain", outer, ", ".join(k[1] for k, _ in outer))
    inner = [(k, k) for k in _keys(a, b) if k[0] is not None]
    if a.n_layers == b.n_layers:
        run("norm-gains", inner, f"{len(inner)} vectors, layers {_layers_of(inner)}")
    map_free = _map_free_gains(a, b)
    if map_free is not None:
        results.append(map_free)
    if not results and not skipped:
        skipped.append(Skipped(tensor="norm gains", reason="no norm gain or bias of residual width in both models"))
    return Finding(tuple(_discounted(results)), tuple(skipped))


def _map_free_gains(a: Signature, b: Signature) -> TestResult | None:
    """Mean over all pairs of layers of the e-value of their gains: blind to which layer became which."""
    kinds = sorted({k[1] for k in a.vectors if k[0] is not None} & {k[1] for k in b.vectors if k[0] is not None})
    layers_a = sorted({k[0] for k in a.vectors if k[0] is not None})
    layers_b = sorted({k[0] for k in b.vectors if k[0] is not None})
    same_depth = a.n_layers == b.n_layers
    found: list[TestResult] = []
    for i, j in product(layers_a, layers_b):
        keys = [k for k in kinds if (i, k) in a.vectors and (j, k) in b.vectors]
        keys = [k for k in keys if is_usable(a.vectors[i, k], b.vectors[j, k])]
        if not keys or (same_depth and i == j):
            continue
        left, right = np.stack([a.vectors[i, k] for k in keys]), np.stack([b.vectors[j, k] for k in keys])
        found.append(gain_test(left, right, axis=residual_axis(b), window=_MAP_FREE_WINDOW))
    if not found:
        return None
    return _mixture(found, None, "norm-gains-map-free", f"{len(found)} pairs of layers")


def tables(a: Signature, b: Signature) -> Finding:
    """Columns of embeddings, heads, learned positions and patch projections."""
    results: list[TestResult] = []
    skipped: list[Skipped] = []
    for kind in sorted(a.tables.keys() | b.tables.keys()):
        if kind not in a.tables or kind not in b.tables:
            skipped.append(Skipped(tensor=kind, reason=f"only {(a if kind in a.tables else b).id} has one"))
            continue
        left, right = common_rows(a.tables[kind], b.tables[kind])
        scope = f"{left.shape[0]} rows of {kind}"
        name = {"embed": "embedding-columns", "unembed": "head-columns"}.get(
            kind, f"{kind.removeprefix('embed.')}-columns"
        )
        test = partial(column_test, left, right, axis=residual_axis(b), method=name, scope=scope)
        _collect(results, skipped, kind, test)
    return Finding(tuple(_discounted(results)), tuple(skipped))


def hidden(a: Signature, b: Signature) -> Finding:
    """Hidden units of every block of b read, each against every block of a read."""
    if not a.blocks or not b.blocks:
        return Finding(skipped=(Skipped(tensor="hidden units", reason="no MLP block was read in one of the models"),))
    results: list[TestResult] = []
    skipped: list[Skipped] = []
    layers: list[LayerFinding] = []
    for block in b.blocks:
        partners = [(c, w) for c, w in zip(a.blocks, _layer_prior(a, b, block), strict=True) if w > 0.0]
        problem = next(filter(None, (_block_obstacle(c, block, a, b) for c, _ in partners)), None)
        if problem is not None:
            skipped.append(Skipped(tensor=f"hidden units of layer {block.layer}", reason=problem))
            continue
        found = _block_results(partners, block, a, b)
        results.extend(found.results)
        layers.extend(found.layers)
    return Finding(tuple(results), tuple(skipped), tuple(layers))


def paired_blocks(a: Signature, b: Signature) -> list[tuple[Block, list[UnitFeatures]]]:
    """Each block of b with the features it shares with the block of a at the same place among those read."""
    glu = _is_gated(a, b)
    pairs = []
    for left, right in zip(a.blocks, b.blocks, strict=False):
        if _block_obstacle(left, right, a, b) is None:
            pairs.append((right, _parts(left, right, glu=glu, folded=False)))
    return pairs


def _is_gated(a: Signature, b: Signature) -> bool:
    return bool(a.architecture and b.architecture and a.architecture.glu and b.architecture.glu)


def _layer_prior(a: Signature, b: Signature, block: Block) -> list[float]:
    """Prior weight of each block of a as the partner of this block of b; fixed by depths alone."""
    n = len(a.blocks)
    if a.n_layers != b.n_layers or n == 1 or all(c.layer != block.layer for c in a.blocks):
        return [1.0 / n] * n
    rest = (1.0 - _SAME_INDEX_SHARE) / (n - 1)
    return [_SAME_INDEX_SHARE if c.layer == block.layer else rest for c in a.blocks]


def _block_obstacle(left: Block, right: Block, a: Signature, b: Signature) -> str | None:
    """Why the units of two blocks cannot be paired, or None when they can."""
    common = sorted(left.parts.keys() & right.parts.keys())
    if left.n_units != right.n_units:
        return f"block sizes differ ({left.n_units} and {right.n_units} units): no common labels"
    if a.width != b.width:
        return f"residual widths differ ({a.width} and {b.width}): rows cannot be compared"
    if not common:
        return "no matrix of the block was read in both models"
    if any(not np.isfinite(block.parts[k]).all() for block in (left, right) for k in common):
        return "NaN or infinite values: untestable"
    if any(is_sorted_pair(_norms(left.parts[k]), _norms(right.parts[k])) for k in common):
        return "sorted units: index and norm rise or fall together in both models"
    return None


def _block_results(partners: Sequence[tuple[Block, float]], block: Block, a: Signature, b: Signature) -> Finding:
    """Average over the blocks of a, per way of testing; then the layer that carries most of the evidence."""
    group = f"hidden:{block.layer}"
    glu = _is_gated(a, b)
    log_weights = np.log(np.array([w for _, w in partners]))
    rows: list[tuple[TestResult, ...]] = []
    for partner, _ in partners:
        plain = unit_tests(_parts(partner, block, glu=glu, folded=False), axis=hidden_axis(b), label_group=group)
        folded = unit_tests(_parts(partner, block, glu=glu, folded=True), axis=hidden_axis(b), label_group=group)
        rows.append((*plain, replace(folded[0], method="hidden-units-folded")))
    scope = f"layer {block.layer}, {rows[0][0].n} units, {len(rows)} layer(s) of a"
    results = _discounted([_mixture([row[m] for row in rows], log_weights, rows[0][m].method, scope) for m in range(3)])
    pooled = log_mean_exp(np.array([r.log_evalue for r in results if r.log_evalue is not None]))
    best = int(np.argmax([row[0].log_evalue or 0.0 for row in rows] + log_weights))
    similarity = max(rows[best][0].statistic, rows[best][2].statistic)
    return Finding(
        results=tuple(results), layers=(LayerFinding(partners[best][0].layer, block.layer, pooled, similarity),)
    )


def _parts(left: Block, right: Block, *, glu: bool, folded: bool) -> list[UnitFeatures]:
    """Paired features; folded: each row times the norm gain in front of it, which undoes gain folding."""
    parts = []
    for kind in sorted(left.parts.keys() & right.parts.keys()):
        x, y = left.parts[kind], right.parts[kind]
        if folded and kind != "mlp.down":
            x, y = _fold(x, left.gain), _fold(y, right.gain)
        parts.append(UnitFeatures(x, y, signed=not (glu and kind == "mlp.up")))
    return parts


def _fold(values: Float64Array, gain: Float64Array | None) -> Float64Array:
    return values if gain is None else np.ascontiguousarray(values * gain[:, None])


def _mixture(found: Sequence[TestResult], log_weights: Float64Array | None, method: str, scope: str) -> TestResult:
    """One result from tests that share labels: the weighted mean of their e-values, its p-value 1 / e."""
    pooled = log_mean_exp(np.array([r.log_evalue for r in found], dtype=np.float64), log_weights)
    floor = min(r.log_floor for r in found)
    statistic = max(r.statistic for r in found) if method != "norm-gains-map-free" else min(r.statistic for r in found)
    return replace(
        found[0],
        method=method,
        statistic=statistic,
        log_evalue=pooled,
        log_pvalue=min(0.0, max(-pooled, floor)) if math.isfinite(pooled) else 0.0,
        log_floor=floor,
        scope=scope,
    )


def _discounted(results: Iterable[TestResult]) -> list[TestResult]:
    """Pay for the gate that skips sorted units, which looks at labels."""
    paid = []
    for r in results:
        log_e = None if r.log_evalue is None else r.log_evalue - LOG_SKIP_DISCOUNT
        paid.append(replace(r, log_evalue=log_e, log_pvalue=min(0.0, r.log_pvalue + LOG_SKIP_DISCOUNT)))
    return paid


def _collect(results: list[TestResult], skipped: list[Skipped], tensor: str, test: Callable[[], TestResult]) -> None:
    """Run one test; an input it refuses becomes a skipped tensor with the reason."""
    try:
        results.append(test())
    except ValueError as error:
        skipped.append(Skipped(tensor=tensor, reason=str(error)))


def _keys(a: Signature, b: Signature) -> list[VectorKey]:
    return sorted(a.vectors.keys() & b.vectors.keys(), key=lambda k: (-1 if k[0] is None else k[0], k[1]))


def _layers_of(pairs: Sequence[tuple[VectorKey, VectorKey]]) -> str:
    return ", ".join(str(layer) for layer in sorted({k[0] for k, _ in pairs if k[0] is not None}))


def _norms(part: Float64Array) -> Float64Array:
    return np.asarray(np.sqrt(np.sum(part * part, axis=0)))
