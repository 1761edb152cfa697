"""Relations across shapes: layers dropped, repeated or stacked, widths cut, vocabularies grown, experts made of one MLP.

What was cut has all its values in the whole, and the whole has what the cut one lacks: the cut one is the child. What holds
one part twice was made from what holds it once. Both can be forged by whoever adds foreign parts to a copy, so no log-odds
here reach those of a replay.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lineage.relation import Relation, Signal
from lineage.structure import structural
from lineage.study import MATRICES, OTHER_ROWS, TABLE_ROWS, Study
from stats.arrays import Float64Array
from stats.layering import SAME, LayerMap, layer_map, stack_cosines

CUT = 8.0
"""Log-odds that the whole is the parent of the cut one. The other way round foreign layers or units were put into a model
and nothing else changed, which growing by new layers does (arXiv 2401.02415) and then copies old ones: see `TWICE`."""

TWICE = 12.0
"""Log-odds that what has a part once is the parent of what has it twice."""

GROWN = 6.0
TRIMMED = 3.0
"""Log-odds of a vocabulary whose further rows lie near the mean of the others, as a library makes them, to be the child;
and of one whose further rows are as trained as all others above a body left bit-identical, to be the parent."""

_TAIL = 64
_NEW = 0.2
_APART = 0.5
_TRAINED = 0.8
_SEEN = 0.75
"""Rows before the further ones that are looked at; spread of the further ones around the mean, in units of that quantile of
the spreads of all others and of those before them, up to which they are new, and from which they are trained. Reserved
tokens at the end of a vocabulary are hardly trained either, and lie in between: they tell nothing."""

_FOREIGN = 0.2
"""Cosine of rows of a table below which it is of another origin."""

GROUPS = (("attn.q", "attn.k", "attn.v", "attn.o"), ("mlp.gate", "mlp.up", "mlp.down"))


@dataclass(frozen=True, slots=True)
class Reshaped:
    """How two models of different shapes belong together.

    Attributes
    ----------
    kind : str
    forward : bool
        Whether the first is the parent.
    log_odds : float
        Of that direction, natural; 0 where nothing tells.
    change : float
        Root mean square of the differences over that of the values, of the layers that both have: 0 for equal ones.
    details : mapping
    """

    kind: str
    forward: bool
    log_odds: float
    change: float
    details: dict[str, Any] = field(default_factory=dict)


def reshaped(a: Study, b: Study) -> Reshaped | None:
    """Name the relation of two models of different shapes.

    Parameters
    ----------
    a, b : Study
        A related pair.

    Returns
    -------
    Reshaped or None
        None where the parts that both have do not tell a kind. For one shape only layers that stand twice, or are of another
        origin, tell one.

    Notes
    -----
    Null: none. Layers are compared in the places that were read of both, so a model whose units were put in another order
    as well is not recognised here (`lineage.looking` does). Cost: O(layers_a layers_b) cosines of a few rows.
    """
    cosines = stack_cosines(layers_of(a), layers_of(b), GROUPS)
    onto, back = layer_map(cosines), layer_map(np.ascontiguousarray(cosines.T))
    if not any(s is not None for s in onto.sources):
        return None
    found = _experts(a, b, onto) or _depth(a, b, onto, back)
    if found is None and a.n_layers == b.n_layers:
        found = _order(onto, back) or _width(a, b, onto) or _vocabulary(a, b, onto)
    if found is None:
        return None
    kind, forward, log_odds, details = found
    change = change_of(a, b, onto)
    mapped = [{"a": s, "b": j, "cosine": round(onto.cosines[j], 4)} for j, s in enumerate(onto.sources)]
    return Reshaped(
        kind, forward, log_odds, change, {**details, "layers_changed": round(change, 6), "layer_map": mapped}
    )


def replaced_table(a: Study, b: Study) -> str | None:
    """`embedding-swap` or `head-swap` where layers are shared and a table of the same shape is of another origin."""
    foreign = []
    for kind in ("embed", "unembed"):
        x, y = a.tables.get(kind), b.tables.get(kind)
        if x is not None and y is not None and x.shape == y.shape:
            first, second = (np.asarray(v, dtype=np.float64) for v in (x, y))
            size = float(np.sqrt(np.sum(first * first) * np.sum(second * second)))
            if size > 0.0 and abs(float(np.sum(first * second))) / size < _FOREIGN:
                foreign.append(kind)
    return None if not foreign else "embedding-swap" if "embed" in foreign else "head-swap"


def as_relation(found: Reshaped) -> Relation:
    """The relation of a pair in that order."""
    sign = 1.0 if found.forward else -1.0
    signals = (Signal("structure", sign * found.log_odds),) if found.log_odds else ()
    return structural(found.kind, found.details, signals)


def layers_of(model: Study) -> list[dict[str, Float64Array]]:
    """Matrices of each layer by role, as float64."""
    held: list[dict[str, Float64Array]] = [{} for _ in range(model.n_layers)]
    for name, values in model.matrices.items():
        layer, _, kind = name.partition(".")
        if kind in MATRICES and int(layer) < len(held):
            held[int(layer)][kind] = np.asarray(values, dtype=np.float64)
    return held


@np.errstate(over="ignore", invalid="ignore")
def change_of(a: Study, b: Study, onto: LayerMap) -> float:
    """Relative difference of the layers that both have, on matrices of one shape."""
    first, second = layers_of(a), layers_of(b)
    gap = size = 0.0
    for j, i in enumerate(onto.sources):
        for kind in MATRICES if i is not None else ():
            x, y = first[i or 0].get(kind), second[j].get(kind)
            if x is None or y is None or x.shape[1] != y.shape[1] or _full(a, i, kind) != _full(b, j, kind):
                continue
            rows = min(len(x), len(y))
            gap += float(np.sum((x[:rows] - y[:rows]) ** 2))
            size += float(np.sqrt(np.sum(x[:rows] ** 2) * np.sum(y[:rows] ** 2)))
    return float(np.sqrt(gap / size)) if size > 0.0 else float("inf")


Found = tuple[str, bool, float, dict[str, Any]]


def _full(model: Study, layer: int | None, kind: str) -> tuple[int, ...]:
    name = f"{layer}.{kind}"
    return model.shapes.get(name, model.matrices[name].shape)


def _experts(a: Study, b: Study, onto: LayerMap) -> Found | None:
    """A mixture whose experts are all like the MLP of a dense model."""
    if bool(a.experts) == bool(b.experts):
        return None
    dense, mixture = (a, b) if b.experts else (b, a)
    cosines = []
    for name, values in mixture.experts.items():
        layer, _, kind = name.rpartition(".")[0].partition(".")
        source = onto.sources[int(layer)] if mixture is b else int(layer)
        known = dense.matrices.get(f"{source}.{kind}")
        rows = OTHER_ROWS if known is not None and known.shape[1:] == values.shape[1:] else 0
        x, y = (np.asarray(v, dtype=np.float64)[:rows] for v in (values if known is None else known, values))
        size = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
        cosines.append(float(np.sum(x * y)) / size if size > 0.0 else 0.0)
    like = [c >= SAME for c in cosines]
    if not like or not onto.whole or not all(like):
        return None
    experts = 1 + max(int(name.rpartition(".")[2]) for name in mixture.experts)
    details = {"experts": experts, "least_cosine": round(min(cosines), 4), "experts_equal": min(cosines) >= 1.0 - 1e-12}
    return "moe-upcycle", dense is a, TWICE if experts > 1 else 0.0, details


def _depth(a: Study, b: Study, onto: LayerMap, back: LayerMap) -> Found | None:
    """Layers dropped, or repeated."""
    if a.n_layers == b.n_layers:
        return None
    forward = a.n_layers < b.n_layers
    into_long, into_short = (onto, back) if forward else (back, onto)  # sources of the longer one, of the shorter one
    if into_long.whole and not into_long.distinct:
        used = {s for s in into_long.sources if s is not None}
        kind = "depth-upscale" if len(used) == min(a.n_layers, b.n_layers) else "frankenmerge"
        return kind, forward, TWICE, {"sources": list(into_long.sources)}
    if into_short.whole and into_short.distinct and into_short.rising:
        kept = {s for s in into_short.sources if s is not None}
        dropped = sorted(set(range(max(a.n_layers, b.n_layers))) - kept)
        return "depth-prune", not forward, CUT, {"dropped": dropped}
    return None


def _order(onto: LayerMap, back: LayerMap) -> Found | None:
    """One depth: a layer that stands twice, or layers of another origin."""
    if onto.whole and not onto.distinct:
        return "frankenmerge", True, TWICE, {"sources": list(onto.sources)}
    if back.whole and not back.distinct:
        return "frankenmerge", False, TWICE, {"sources": list(back.sources)}
    if not onto.whole:
        return "partial-copy", True, 0.0, {"shared_layers": [j for j, s in enumerate(onto.sources) if s is not None]}
    return None


def _width(a: Study, b: Study, onto: LayerMap) -> Found | None:
    """Hidden units cut from every MLP."""
    sizes = []
    for model in (a, b):
        units = [_full(model, i, "mlp.up")[0] for i in range(model.n_layers) if f"{i}.mlp.up" in model.matrices]
        sizes.append(units)
    if not onto.rising or len(sizes[0]) != len(sizes[1]) or sizes[0] == sizes[1] or not sizes[0]:
        return None
    wide_first = all(x >= y for x, y in zip(*sizes, strict=True))
    if not wide_first and not all(x <= y for x, y in zip(*sizes, strict=True)):
        return None
    wide, narrow = (a, b) if wide_first else (b, a)
    return "width-prune", wide_first, CUT, {"units": [sizes[0][0], sizes[1][0]], **_units_found(wide, narrow)}


def _units_found(wide: Study, narrow: Study) -> dict[str, Any]:
    """Share of the units of the narrow model that the wide one holds bit for bit, where both were read whole."""
    found = total = 0
    for i in range(narrow.n_layers):
        name = f"{i}.mlp.up"
        if any(name not in m.matrices or m.matrices[name].shape != _full(m, i, "mlp.up") for m in (wide, narrow)):
            return {}
        held = {np.ascontiguousarray(row).tobytes() for row in wide.matrices[name]}
        rows = [np.ascontiguousarray(row).tobytes() for row in narrow.matrices[name].astype(wide.matrices[name].dtype)]
        found, total = found + sum(row in held for row in rows), total + len(rows)
    return {"units_equal": round(found / total, 6)} if total else {}


def _vocabulary(a: Study, b: Study, onto: LayerMap) -> Found | None:
    """Rows added to the table of tokens, or taken from it."""
    kind = next((k for k in ("embed", "unembed") if k in a.tables and k in b.tables), None)
    if kind is None:
        return None
    sizes = [m.shapes.get(kind, m.tables[kind].shape)[0] for m in (a, b)]
    if sizes[0] == sizes[1]:
        return None
    forward = sizes[0] < sizes[1]
    small, large = (a, b) if forward else (b, a)
    rows = min(len(small.tables[kind]), len(large.tables[kind]), TABLE_ROWS if _is_cut(small, kind) else min(sizes))
    x, y = (np.asarray(m.tables[kind][:rows], dtype=np.float64) for m in (small, large))
    size = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
    if x.shape != y.shape or size == 0.0 or float(np.sum(x * y)) / size < _FOREIGN:
        return "embedding-swap", True, 0.0, {"rows": sizes}
    further = _further(large, kind, min(sizes))
    details: dict[str, Any] = {"rows": sizes, "rows_equal": round(float(np.mean(np.all(x == y, axis=1))), 6)}
    if not len(further):
        return "vocab-change", True, 0.0, details
    centre, tail = y.mean(axis=0), y[-_TAIL:]
    size = max(float(np.quantile(np.sqrt(np.mean((y - centre) ** 2, axis=1)), _SEEN)), 1e-300)
    spread, before = (float(np.sqrt(np.mean((v - centre) ** 2))) / size for v in (further, tail))
    if (not further.any() and tail.any()) or spread <= min(_NEW, _APART * before):
        details["further_rows"] = "near the mean" if further.any() else "zero"
        return "vocab-change", forward, GROWN, details
    details["further_rows"] = "as the others" if spread >= _TRAINED else "hardly trained"
    is_trimmed = spread >= _TRAINED and change_of(a, b, onto) == 0.0
    return "vocab-change", not forward, TRIMMED if is_trimmed else 0.0, details


def _is_cut(model: Study, kind: str) -> bool:
    return model.shapes.get(kind, model.tables[kind].shape)[0] != len(model.tables[kind])


def _further(large: Study, kind: str, known: int) -> Float64Array:
    """Rows of a table beyond those of the other, of what was read: all of them, or some from its end."""
    table = np.asarray(large.tables[kind], dtype=np.float64)
    n = large.shapes.get(kind, table.shape)[0]
    where = (
        np.arange(n)
        if n == len(table)
        else np.concatenate([np.arange(TABLE_ROWS), np.arange(n - (len(table) - TABLE_ROWS), n)])
    )
    return np.asarray(table[where >= known])
