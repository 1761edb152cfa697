"""A compare document as a page of text: the verdict in a sentence first, then what it rests on."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from lineage.names import safe
from lineage.report.text import (
    WIDTH,
    Column,
    bytes_text,
    counted,
    fitted,
    power_of_ten,
    render,
    table,
    unbroken,
)

_CAVEAT = (
    "By itself this shows neither descent nor its direction: a common ancestor, a common initialisation or a "
    "common public component would also give this result."
)
_NULL = (
    "If {a} and {b} were trained from independent initial weights, a result this strong occurs with probability at "
    "most {p}. This is not the probability that the models are unrelated."
)

_LEGEND = {
    "labels": "what a test relabels",
    "e": "evidence, a number with mean at most 1 under the null (1/e is a p-value)",
    "floor": "the smallest p that the labels read could give",
}
_COMBINED = "Tests that share labels are averaged, groups of labels multiplied; docs: reading-a-p-value."
_SCOPE_ROOM = 16
"""Least columns of what was compared, the only cell that folds."""

_MOST_TARGETS = 8
"""Kinds of modules of an adapter that are named."""

_FEW = 20
"""Pairs below which a counted probability is called so."""


def compare_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """The terminal report of one compare document."""
    if "error" in document:
        return f"{safe(document['error']['message'])}\n"
    blocks: list[list[RenderableType]] = [[_headline(document)], _adapters(document), *_meaning(document)]
    if document["tests"]:
        blocks.append(["Evidence", *_tests(document, width or WIDTH)])
    if document["layers"] and document["verdict"] in {"related", "resembles"}:
        blocks.append(["Layers", _layers(document)])
    if document["thorough"]:
        blocks.append(["Everything both models share", *_thorough(document["thorough"])])
    if document["skipped"]:
        rows = [(s["tensor"], s["reason"]) for s in document["skipped"]]
        blocks.append(["Not tested, and why", table(("what", "reason"), rows)])
    if document["not_covered"] and document["verdict"] != "identical":
        blocks.append(["Not covered by what was read:", *(f"  - {line}" for line in document["not_covered"])])
    return render([*blocks, _cost(document)], colour=colour, width=width)


def _headline(d: Mapping[str, Any]) -> str:
    a, b = safe(d["a"]["id"]), safe(d["b"]["id"])
    verdict = d["verdict"]
    if verdict == "identical":
        return f"IDENTICAL: {a} and {b} hold the same values in every tensor."
    if verdict == "related":
        at_most = unbroken(f"(p <= {power_of_ten(d['log10_p'])})")
        return f"RELATED: {a} and {b} share weights; their weights are not independent {at_most}."
    if verdict == "resembles":
        return f"RESEMBLES: once a rewrite is undone, {a} and {b} agree far more than any control. This is not a proof."
    if verdict == "no-evidence":
        return f"NO EVIDENCE: nothing was found that {a} and {b} share weights. This does not show that they do not."
    if d.get("adapters") and None in (d["adapters"]["a"], d["adapters"]["b"]):
        adapter, other = (a, b) if d["adapters"]["a"] else (b, a)
        return f"UNTESTABLE: {adapter} is an adapter and holds no copy of its base; its weights cannot tell whether that is {other}."
    return f"UNTESTABLE: no tensor or axis on which a test of {a} and {b} is valid."


def _meaning(d: Mapping[str, Any]) -> list[list[RenderableType]]:
    if d["verdict"] == "related":
        null = _NULL.format(a=safe(d["a"]["id"]), b=safe(d["b"]["id"]), p=power_of_ten(d["log10_p"]))
        has_caveat = d["relation"] and d["relation"]["kind"] not in {"identical", "cast"}
        return [[null, _level(d)], [*_relation(d), *([_CAVEAT] if has_caveat else [])]]
    if d["verdict"] == "resembles":
        return [[_controls(d)], _relation(d)]
    if d["verdict"] == "no-evidence":
        seen = d["detectable_similarity"]
        power = (
            f"A row cosine of {seen:g} or more, undisguised, would have been found with power 0.95 in what was read."
            if seen is not None
            else "What was read could not have shown even a near copy at this level."
        )
        about = [] if d.get("adapters") else [power]
        return [[f"Combined p-value {power_of_ten(d['log10_p'])}. {_level(d)}", *about]]
    return []


def _adapters(d: Mapping[str, Any]) -> list[RenderableType]:
    """What adapters among the two claim and fit; nothing of it is evidence."""
    found = d.get("adapters")
    if not found:
        return []
    lines: list[RenderableType] = []
    for side in ("a", "b"):
        adapter, other = found[side], d["b" if side == "a" else "a"]["id"]
        if adapter is None:
            continue
        targets = ", ".join(map(safe, adapter["targets"][:_MOST_TARGETS]))
        claim = (
            f"declares {', '.join(map(safe, adapter['declared']))} as its base"
            if adapter["declared"]
            else "declares no base"
        )
        named = f" (the name of {safe(other)})" if found["names_the_other"] else ""
        lines.append(
            f"{safe(d[side]['id'])}: adapter of rank {adapter['rank']}, {counted(adapter['modules'], 'module')} ({targets}); "
            f"{claim}{named}: a claim, no evidence."
        )
    if found["names_the_other"] is not None or None in (found["a"], found["b"]):
        lines.append(
            "It fits by names and shapes, as it would every model of this architecture."
            if found["fits"]
            else "It does not fit: some module is not there, or has another shape."
        )
    return lines


def _controls(d: Mapping[str, Any]) -> str:
    test = next(t for t in d["tests"] if t["exactness"] == "calibrated")
    at_most = unbroken(f"p <= {power_of_ten(test['log10_p'])}")
    return (
        f"No valid test rejects. The hidden units agree on {test['statistic']:.0%} of their partners, more than any of "
        f"{test['controls']} controls (layers at other depths of the same two models): rank "
        f"{at_most}. A rank among controls is calibrated, not exact."
    )


def _disguise(d: Mapping[str, Any]) -> list[RenderableType]:
    found = d["disguise"]
    if found is None:
        return []
    after = found["agreement_after"]
    left = {
        "bits": "every paired value is then equal, bit for bit",
        "rounding": "what is left is what rounding leaves",
        None: f"matrices then differ by {after['relative_change']} of their norm (cosine {after['cosine']:.3f})",
    }[after["exactness"]]
    return [f"Rewritten: {', '.join(found['transforms'])}. Undone, {left}."]


def _level(d: Mapping[str, Any]) -> str:
    over = counted(d["family_size"], "pair")
    return f"Level used {d['level_used']:.3g} (family-wise {d['alpha']:g} over {over}); {d['exactness']}."


def _relation(d: Mapping[str, Any]) -> list[RenderableType]:
    relation, direction = d["relation"], d["direction"]
    if relation is None:
        return []
    others = ", ".join(f"{o['kind']} {o['probability']:.2f}" for o in relation["alternatives"])
    kind = f"Kind: {_kind(relation)}" + (f"; also possible: {others}." if others else ".")
    lines: list[RenderableType] = [f"{kind} {_counts(relation)}".rstrip()]
    if "sibling" in relation["details"].get("not_excluded", ()):
        lines.append("From two models alone, two children of one parent look the same as a parent and its child.")
    lines += _disguise(d)
    change = relation["details"].get("relative_change")
    if change is not None:
        gain = relation["details"].get("gain_correlation")
        told = "untestable" if gain is None else f"{gain:.2f}"
        cosine = relation["details"]["cosine"]
        kept = relation["details"].get("retention_ratio")
        lines.append(
            f"Matrices changed by {change:.3g} of their norm (cosine {cosine:.3f}); correlation of gains: {told}; "
            f"retention ratio: {'not read' if kept is None else f'{kept:.2f}'}."
        )
    return [*lines, _direction(d, direction)]


def _kind(relation: Mapping[str, Any]) -> str:
    if relation["kind"] == "related":
        return "undetermined"
    return f"{relation['kind']} (probability {relation['probability']:.2f})"


def _counts(relation: Mapping[str, Any]) -> str:
    """How many pairs a probability was counted on; nothing for an exact comparison."""
    n = relation["calibrated_on"].get("n", 0)
    if not n:
        return ""
    few = ": few, so take it as a rough guess" if n < _FEW else ""
    return f"Probabilities are counted on {counted(n, 'fixture pair')}{few}."


def _direction(d: Mapping[str, Any], direction: Mapping[str, Any]) -> str:
    parent = direction["parent"]
    if parent is None:
        return "Direction: undetermined from these weights."
    why = ", ".join(s["name"] for s in direction["signals"])
    return f"Direction: {safe(d[parent]['id'])} is the parent (probability {direction['probability']:.4f}; {why})."


def _tests(d: Mapping[str, Any], width: int) -> list[RenderableType]:
    """The table of tests and its legend; where space is short the least useful columns go first."""
    tests = d["tests"]
    columns = [
        Column("test", tuple(t["method"] for t in tests)),
        Column("labels", tuple(str(t["label_group"]) for t in tests), rank=4),
        Column("n", tuple(str(t["n"]) for t in tests), is_right=True, rank=2),
        Column("statistic", tuple(f"{t['statistic']:.3g}" for t in tests), is_right=True, rank=1, narrowest=WIDTH),
        Column("p", tuple(power_of_ten(t["log10_p"]) for t in tests), is_right=True),
        Column("e", tuple(_evalue(t) for t in tests), is_right=True, rank=3),
        Column("floor", tuple(power_of_ten(t["floor_log10_p"]) for t in tests), is_right=True, rank=1),
        Column("status", tuple(t["exactness"] for t in tests), rank=5),
        Column("what was compared", tuple(t["scope"] for t in tests)),
    ]
    made, shown = fitted(columns, width, room=_SCOPE_ROOM)
    words = "; ".join(f"{name}: {_LEGEND[name]}" for name in _LEGEND if name in shown)
    return [made, f"{words}. {_COMBINED}" if words else _COMBINED]


def _evalue(t: Mapping[str, Any]) -> str:
    """The e-value; 0 where an exact test's is zero, nothing where the method has none."""
    if t["log10_e"] is None:
        return "0" if t["exactness"] == "exact" else ""
    log10_e = t["log10_e"]
    return f"10^{log10_e:.1f}" if log10_e > 3.0 else power_of_ten(log10_e)  # it may be beyond what a float holds


def _layers(d: Mapping[str, Any]) -> RenderableType:
    rows = [
        (
            "none" if layer["a"] is None else layer["a"],
            layer["b"],
            f"{layer['similarity']:.3f}",
            power_of_ten(layer["log10_p"]),
        )
        for layer in d["layers"]
    ]
    return table(("layer of a", "layer of b", "row cosine", "p"), rows, right=(0, 1, 2, 3))


def _thorough(found: Mapping[str, Any]) -> list[RenderableType]:
    """Pooled numbers first, then one row a role kind; nothing here is a test."""
    rows = [_thorough_row(f"{entry['kind']} ({entry['tensors']})", entry) for entry in found["by_kind"]]
    rows.insert(0, _thorough_row(f"all ({found['pooled']['tensors']})", found["pooled"]))
    names = ("what", "cosine", "change", "unchanged", "norm growth", "kurtosis", "largest", "rank", "effective")
    lines: list[RenderableType] = [table(names, rows, right=tuple(range(1, 9)))]
    left = found["left_out"]
    return (
        [*lines, "", "Left out, and why", table(("what", "reason"), [(s["tensor"], s["reason"]) for s in left])]
        if left
        else lines
    )


def _thorough_row(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    rank = entry.get("delta_rank")
    numbers = [
        ("cosine", ".6f"),
        ("relative_change", ".3g"),
        ("unchanged_share", ".1%"),
        ("norm_growth", "+.3g"),
        ("kurtosis_change", "+.3g"),
        ("largest_change", ".3g"),
    ]
    told = ["-" if entry[key] is None else format(entry[key], form) for key, form in numbers]
    return (name, *told, f"{rank['median']:g}" if rank else "-", f"{rank['effective']:.1f}" if rank else "-")


def _cost(d: Mapping[str, Any]) -> list[RenderableType]:
    run = d["record"]["run"]
    if "bytes_read" not in run:
        return []
    each = ", ".join(f"{bytes_text(i['bytes_read'])} of {safe(i['ref'])}" for i in run["inputs"])
    return [f"Read {each} in {counted(run['requests'], 'read')}, {run['seconds']:.2f} s."]
