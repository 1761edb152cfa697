"""The hidden-unit rung: every block of one model read against every block of the other.

Valid when the labels of *either* model are random. Multiplying over the blocks of b needs b's labels, over those of
a needs a's; the weaker product is reported, so that nobody can build a model that makes a stranger look guilty.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from lineage.align import hidden_axis
from lineage.finding import Finding, LayerFinding, discounted, mixture
from lineage.signature import Block, Signature
from stats.anchored import anchored_tests
from stats.arrays import Float64Array, IntVector
from stats.combine import combine_evalues
from stats.matchcount import match_count
from stats.ordering import is_sorted_pair
from stats.result import Skipped, TestResult
from stats.tails import log_mean_exp
from stats.units import UnitFeatures, unit_processes

_SAME_INDEX_SHARE = 0.5
"""Prior weight of "the same layer" where depths agree; the rest is spread over the other layers read."""

_LOG_SIDES = math.log(2.0)
"""The p-value of a row shown by itself is doubled: which side's rows are shown depends on both sides' totals."""

_MIN_TOKENS = 16
"""Tokens in common below which answers to them tell units too poorly apart to be worth a voice."""

_Views: TypeAlias = list[Mapping[str, Float64Array]]
"""For each block of a model its matrices by kind."""

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
    cells: dict[Cell, list[TestResult]] = {(i, j): [] for i in rows for j in columns}
    cells |= _cells(sorted(good), a, b)
    sides = [_side("b", a, b, cells, columns, rows), _side("a", a, b, cells, rows, columns)]
    weaker = min(sides, key=lambda side: combine_evalues(side.results))
    shown = tuple(replace(r, log_pvalue=min(0.0, r.log_pvalue + _LOG_SIDES)) for r in weaker.results)
    return Finding(results=shown, skipped=tuple(skipped), layers=weaker.layers)


def paired_blocks(a: Signature, b: Signature) -> list[list[UnitFeatures]]:
    """Features shared by the blocks at one place among those read, for the pairs that can be tested."""
    _, _, good, _ = _usable(a, b)
    places = sorted(i for i, j in good if i == j) if a.width == b.width else []
    return [_parts(a.blocks[i].parts, b.blocks[i].parts, glu=_is_gated(a, b)) for i in places]


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
        parts = [*block.parts.values(), *_folded(block).values()]
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


def _cells(good: Sequence[Cell], a: Signature, b: Signature) -> dict[Cell, list[TestResult]]:
    """All ways of testing each pair of blocks: the same ones for every pair of two models."""
    axis, found = hidden_axis(b), {cell: list[TestResult]() for cell in good}
    for method, features in _ways(good, a, b).items():
        tested = unit_processes(list(features.values()), axis=axis, label_group="")
        for cell, (result, scores) in zip(features, tested, strict=True):
            found[cell].append(replace(result, method=method))
            if method == "hidden-units":
                found[cell].append(match_count(scores, axis=axis, label_group=""))
    wide = _wide(good, a, b)
    for cell, anchored in zip(wide, anchored_tests(list(wide.values()), axis=axis, label_group=""), strict=True):
        found[cell] += [] if anchored is None else [anchored]
    return found


def _ways(good: Sequence[Cell], a: Signature, b: Signature) -> dict[str, dict[Cell, list[UnitFeatures]]]:
    """Features of each pair of blocks by method: as read, gains folded in, and answers to tokens."""
    found: dict[str, tuple[_Views, _Views]] = {}
    if a.width == b.width:
        found["hidden-units"] = ([x.parts for x in a.blocks], [x.parts for x in b.blocks])
        found["hidden-units-folded"] = ([_folded(x) for x in a.blocks], [_folded(x) for x in b.blocks])
    found["hidden-units-probed"] = _answers(a, b)
    glu = _is_gated(a, b)
    parts = {m: {(i, j): _parts(x[i], y[j], glu=glu) for i, j in good} for m, (x, y) in found.items()}
    return {method: {c: p for c, p in cells.items() if p} for method, cells in parts.items()}


def _answers(a: Signature, b: Signature) -> tuple[_Views, _Views]:
    """Answers of both models' units to the tokens that were read in both; none to too few."""
    _, in_a, in_b = np.intersect1d(a.tokens, b.tokens, return_indices=True)
    if in_a.size < _MIN_TOKENS:
        return [{} for _ in a.blocks], [{} for _ in b.blocks]
    return _answers_at(a.blocks, in_a), _answers_at(b.blocks, in_b)


def _answers_at(blocks: Sequence[Block], index: IntVector) -> _Views:
    return [{k: v[index] for k, v in block.probes.items() if np.isfinite(v[index]).all()} for block in blocks]


def _wide(good: Sequence[Cell], a: Signature, b: Signature) -> dict[Cell, list[UnitFeatures]]:
    """Whole rows of each pair of blocks that has some, for the test by inner products inside each model."""
    found = {c: _parts(a.blocks[c[0]].wide, b.blocks[c[1]].wide, glu=_is_gated(a, b)) for c in good}
    return {
        c: parts
        for c, parts in found.items()
        if parts and all(np.isfinite(np.sum(v * v)) for p in parts for v in (p.a, p.b))
    }


def _side(
    name: str,
    a: Signature,
    b: Signature,
    cells: Mapping[Cell, Sequence[TestResult]],
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


def _parts(left: Mapping[str, Float64Array], right: Mapping[str, Float64Array], *, glu: bool) -> list[UnitFeatures]:
    """Paired features of the kinds of matrices both have."""
    return [
        UnitFeatures(left[k], right[k], signed=not (glu and k == "mlp.up")) for k in sorted(left.keys() & right.keys())
    ]


def _folded(block: Block) -> dict[str, Float64Array]:
    """Matrices, each row times the norm gain in front of it, which undoes gain folding."""
    return {k: v if k == "mlp.down" else _fold(v, block.gain) for k, v in block.parts.items()}


def _fold(values: Float64Array, gain: Float64Array | None) -> Float64Array:
    return values if gain is None or not np.isfinite(gain).all() else np.ascontiguousarray(values * gain[:, None])


def _norms(part: Float64Array) -> Float64Array:
    return np.asarray(np.sqrt(np.sum(part * part, axis=0)))
