"""The hidden-unit rung: every block of one model read against every block of the other.

Valid when the labels of *either* model are random. Multiplying over the blocks of b needs b's labels, over those of
a needs a's; the weaker product is reported, so that nobody can build a model that makes a stranger look guilty.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lineage.align import hidden_axis
from lineage.finding import Finding, LayerFinding, discounted, mixture
from lineage.signature import Block, Signature
from stats.anchored import anchored_test
from stats.arrays import Float64Array
from stats.axes import Axis
from stats.combine import combine_evalues
from stats.ordering import is_sorted_pair
from stats.result import Skipped, TestResult
from stats.tails import log_mean_exp
from stats.units import UnitFeatures, unit_tests

_SAME_INDEX_SHARE = 0.5
"""Prior weight of "the same layer" where depths agree; the rest is spread over the other layers read."""

_LOG_SIDES = math.log(2.0)
"""The p-value of a row shown by itself is doubled: which side's rows are shown depends on both sides' totals."""

_MIN_TOKENS = 16
"""Tokens in common below which answers to them tell units too poorly apart to be worth a voice."""

Cell = tuple[int, int]
"""(position among the blocks of a, position among those of b)."""


@dataclass(frozen=True, slots=True)
class _Side:
    """One model's labels: its blocks in the role of label groups, the other's as an unknown map."""

    name: str
    results: tuple[TestResult, ...]
    layers: tuple[LayerFinding, ...]


def hidden(a: Signature, b: Signature) -> Finding:
    """Hidden units of every block read, same layer and any layer, plain and with the norm gain folded in."""
    if not a.blocks or not b.blocks:
        return Finding(skipped=(Skipped(tensor="hidden units", reason="no MLP block was read in one of the models"),))
    rows, columns, good, skipped = _usable(a, b)
    if not rows or not columns:
        return Finding(skipped=tuple(skipped))
    pairs = [(i, j) for i in rows for j in columns]
    cells = {(i, j): _cell(a.blocks[i], b.blocks[j], a, b) if (i, j) in good else () for i, j in pairs}
    sides = [_side("b", a, b, cells, columns, rows), _side("a", a, b, cells, rows, columns)]
    weaker = min(sides, key=lambda side: combine_evalues(side.results))
    shown = tuple(replace(r, log_pvalue=min(0.0, r.log_pvalue + _LOG_SIDES)) for r in weaker.results)
    return Finding(results=shown, skipped=tuple(skipped), layers=weaker.layers)


def paired_blocks(a: Signature, b: Signature) -> list[list[UnitFeatures]]:
    """Features shared by the blocks at one place among those read, for the pairs that can be tested."""
    _, _, good, _ = _usable(a, b)
    places = sorted(i for i, j in good if i == j) if a.width == b.width else []
    return [_parts(a.blocks[i], b.blocks[i], glu=_is_gated(a, b), folded=False) for i in places]


def _usable(a: Signature, b: Signature) -> tuple[list[int], list[int], set[Cell], list[Skipped]]:
    """Positions of the blocks of a and of b that take part, the pairs among them that can be tested, and why not others.

    A pair that does not fit is left out by itself, for reasons that know no label. Sorted units are told by labels, so
    both blocks are left out whole.
    """
    skipped: list[Skipped] = []
    rows, columns = _sound(a, skipped), _sound(b, skipped)
    if a.width != b.width:
        reason = f"residual widths differ ({a.width} and {b.width}): rows are compared by their answers to tokens only"
        skipped.append(Skipped(tensor="hidden units", reason=reason))
    obstacles = {(i, j): _obstacle(a.blocks[i], b.blocks[j]) for i in rows for j in columns}
    ordered = {c for c, reason in obstacles.items() if reason is None and _is_sorted(a.blocks[c[0]], b.blocks[c[1]])}
    obstacles |= dict.fromkeys(ordered, "sorted units: index and norm rise or fall together in both models")
    rows = [i for i in rows if i not in {c[0] for c in ordered}]
    columns = [j for j in columns if j not in {c[1] for c in ordered}]
    good = {(i, j) for i in rows for j in columns if obstacles[i, j] is None}
    for reason in dict.fromkeys(r for r in obstacles.values() if r):
        lost = {j for (_, j), r in obstacles.items() if r == reason} - {j for _, j in good}
        if lost:
            where = ", ".join(str(b.blocks[j].layer) for j in sorted(lost))
            skipped.append(Skipped(tensor=f"hidden units of layer {where}", reason=reason))
    return (
        [i for i in rows if i in {c[0] for c in good}],
        [j for j in columns if j in {c[1] for c in good}],
        good,
        skipped,
    )


def _sound(signature: Signature, skipped: list[Skipped]) -> list[int]:
    """Blocks of finite values, whose squares are finite as well with the gain folded in, and of two units at least."""
    kept = []
    for i, block in enumerate(signature.blocks):
        parts = [p for k, v in block.parts.items() for p in (v, v if k == "mlp.down" else _fold(v, block.gain))]
        reason = ""
        if any(p.shape[1] < 2 for p in parts):
            reason = f"{signature.id}: fewer than two units"
        elif not all(np.isfinite(v).all() for v in parts):
            reason = f"{signature.id}: NaN or infinite values: untestable"
        elif not all(np.isfinite(np.sum(p * p)) for p in parts):
            reason = f"{signature.id}: values whose squares overflow: untestable"
        if reason:
            skipped.append(Skipped(tensor=f"hidden units of layer {block.layer}", reason=reason))
        else:
            kept.append(i)
    return kept


def _obstacle(left: Block, right: Block) -> str | None:
    """Why the units of two blocks cannot be paired, known without any label; None when they can."""
    if left.n_units != right.n_units:
        return f"block sizes differ ({left.n_units} and {right.n_units} units): no common labels"
    if not left.parts.keys() & right.parts.keys():
        return "no matrix of the block was read in both models"
    return None


def _is_sorted(left: Block, right: Block) -> bool:
    common = sorted(left.parts.keys() & right.parts.keys())
    return any(is_sorted_pair(_norms(left.parts[k]), _norms(right.parts[k])) for k in common)


def _cell(left: Block, right: Block, a: Signature, b: Signature) -> tuple[TestResult, ...]:
    """All ways of testing one pair of blocks: the same ones for every pair of two models."""
    glu, axis = _is_gated(a, b), hidden_axis(b)
    found: list[TestResult] = []
    if a.width == b.width:
        found += unit_tests(_parts(left, right, glu=glu, folded=False), axis=axis, label_group="")
        folded = unit_tests(_parts(left, right, glu=glu, folded=True), axis=axis, label_group="")[0]
        found.append(replace(folded, method="hidden-units-folded"))
    probes = _probed(left, right, a, b, glu=glu)
    if probes:
        found.append(replace(unit_tests(probes, axis=axis, label_group="")[0], method="hidden-units-probed"))
    return (*found, *_anchored(left, right, glu=glu, axis=axis))


def _anchored(left: Block, right: Block, *, glu: bool, axis: Axis) -> tuple[TestResult, ...]:
    """The test by inner products inside each model, where whole rows were read; none when units are all alike."""
    kinds = sorted(left.wide.keys() & right.wide.keys())
    parts = [UnitFeatures(left.wide[k], right.wide[k], signed=not (glu and k == "mlp.up")) for k in kinds]
    if not parts or not all(np.isfinite(np.sum(v * v)) for p in parts for v in (p.a, p.b)):
        return ()
    try:
        return (anchored_test(parts, axis=axis, label_group=""),)
    except ValueError:  # equal inner products, or too few units: known without any label
        return ()


def _probed(left: Block, right: Block, a: Signature, b: Signature, *, glu: bool) -> list[UnitFeatures]:
    """Answers of both models' units to the tokens that were read in both."""
    _, in_a, in_b = np.intersect1d(a.tokens, b.tokens, return_indices=True)
    if in_a.size < _MIN_TOKENS:
        return []
    parts = []
    for kind in sorted(left.probes.keys() & right.probes.keys()):
        x, y = left.probes[kind][in_a], right.probes[kind][in_b]
        if np.isfinite(x).all() and np.isfinite(y).all():
            parts.append(UnitFeatures(x, y, signed=not (glu and kind == "mlp.up")))
    return parts


def _side(
    name: str,
    a: Signature,
    b: Signature,
    cells: Mapping[Cell, tuple[TestResult, ...]],
    own: Sequence[int],
    other: Sequence[int],
) -> _Side:
    """Average over the other model's blocks, per block of this model and per way of testing."""
    mine, theirs = (b, a) if name == "b" else (a, b)
    results: list[TestResult] = []
    layers: list[LayerFinding] = []
    for j in own:
        log_weights = _log_prior(mine, theirs, j, other)
        rows = [cells[(i, j) if name == "b" else (j, i)] for i in other]
        if not any(rows):
            continue
        first = mine.block_groups[j]
        group = f"hidden:{name}:{mine.blocks[first].layer}"
        scope = f"layer {mine.blocks[j].layer} of {name}, {next(r.n for row in rows for r in row)} units"
        mixed = [
            _mixed(rows, log_weights, method, scope) for method in dict.fromkeys(r.method for row in rows for r in row)
        ]
        found = discounted(replace(r, label_group=group) for r in mixed)
        results.extend(found)
        best = int(np.argmax([_strength(row) for row in rows] + log_weights))
        pair = (theirs.blocks[other[best]].layer, mine.blocks[j].layer)
        similarity = max((r.statistic for r in rows[best] if r.method != "match-count"), default=0.0)
        pooled = log_mean_exp(np.array([r.log_evalue for r in found if r.log_evalue is not None]))
        layers.append(LayerFinding(*(pair if name == "b" else pair[::-1]), pooled, similarity))
    return _Side(name, tuple(results), tuple(sorted(layers, key=lambda f: (f.b, f.a))))


def _mixed(rows: Sequence[Sequence[TestResult]], log_weights: Float64Array, method: str, scope: str) -> TestResult:
    """One way of testing, averaged over the blocks of the other model that have it, weights fixed by shapes alone."""
    pairs = [(r, w) for row, w in zip(rows, log_weights.tolist(), strict=True) for r in row if r.method == method]
    weights = np.array([w for _, w in pairs])
    return mixture([r for r, _ in pairs], weights - (log_mean_exp(weights) + math.log(weights.size)), method, scope)


def _strength(row: Sequence[TestResult]) -> float:
    return max((-math.inf if r.log_evalue is None else r.log_evalue for r in row), default=-math.inf)


def _log_prior(mine: Signature, theirs: Signature, j: int, other: Sequence[int]) -> Float64Array:
    """Log weight of each block of the other model as the partner of this one; fixed by depths alone."""
    layers = [theirs.blocks[i].layer for i in other]
    here = mine.blocks[j].layer
    if mine.n_layers != theirs.n_layers or here not in layers or len(layers) == 1:
        return np.full(len(layers), -math.log(len(layers)))
    rest = (1.0 - _SAME_INDEX_SHARE) / (len(layers) - 1)
    weights = np.array([_SAME_INDEX_SHARE if layer == here else rest for layer in layers], dtype=np.float64)
    return np.asarray(np.log(weights))


def _is_gated(a: Signature, b: Signature) -> bool:
    return bool(a.architecture and b.architecture and a.architecture.glu and b.architecture.glu)


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
    return values if gain is None or not np.isfinite(gain).all() else np.ascontiguousarray(values * gain[:, None])


def _norms(part: Float64Array) -> Float64Array:
    return np.asarray(np.sqrt(np.sum(part * part, axis=0)))
