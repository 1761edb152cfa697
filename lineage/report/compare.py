"""A compare document as a page of text: the verdict in a sentence first, then what it rests on."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from lineage.report.text import bytes_text, power_of_ten, render, safe, table

_CAVEAT = (
    "By itself this shows neither descent nor its direction: a common ancestor, a common initialisation or a "
    "common public component would also give this result."
)
_NULL = (
    "If {a} and {b} were trained from independent initial weights, a result this strong occurs with probability at "
    "most {p}. This is not the probability that the models are unrelated."
)


def compare_text(document: Mapping[str, Any], *, colour: bool = False) -> str:
    """The terminal report of one compare document."""
    if "error" in document:
        return f"{safe(document['error']['message'])}\n"
    parts: list[RenderableType] = [_headline(document), ""]
    parts += _meaning(document)
    if document["tests"]:
        parts += ["", "Evidence", _tests(document)]
    if document["layers"] and document["verdict"] == "related":
        parts += ["", "Layers", _layers(document)]
    if document["thorough"]:
        parts += ["", "Everything both models share", *_thorough(document["thorough"])]
    if document["skipped"]:
        rows = [(s["tensor"], s["reason"]) for s in document["skipped"]]
        parts += ["", "Not tested, and why", table(("what", "reason"), rows)]
    if document["not_covered"]:
        parts += ["", "Not covered by what was read:"] + [f"  - {line}" for line in document["not_covered"]]
    return render([*parts, "", _cost(document)], colour=colour)


def _headline(d: Mapping[str, Any]) -> str:
    a, b = safe(d["a"]["id"]), safe(d["b"]["id"])
    verdict = d["verdict"]
    if verdict == "identical":
        return f"IDENTICAL: {a} and {b} hold the same values in every tensor."
    if verdict == "related":
        return f"RELATED: {a} and {b} share weights; their weights are not independent (p <= {power_of_ten(d['log10_p'])})."
    if verdict == "no-evidence":
        return f"NO EVIDENCE: nothing was found that {a} and {b} share weights. This does not show that they do not."
    return f"UNTESTABLE: no tensor or axis on which a test of {a} and {b} is valid."


def _meaning(d: Mapping[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if d["verdict"] == "related":
        null = _NULL.format(a=safe(d["a"]["id"]), b=safe(d["b"]["id"]), p=power_of_ten(d["log10_p"]))
        lines += [null, _level(d), "", *_relation(d)]
        if d["relation"] and d["relation"]["kind"] not in {"identical", "cast"}:
            lines.append(_CAVEAT)
    if d["verdict"] == "no-evidence":
        seen = d["detectable_similarity"]
        lines.append(f"Combined p-value {power_of_ten(d['log10_p'])}. " + _level(d))
        lines.append(
            f"A row cosine of {seen:g} or more, undisguised, would have been found with power 0.95 in what was read."
            if seen is not None
            else "What was read could not have shown even a near copy at this level."
        )
    return lines


def _level(d: Mapping[str, Any]) -> str:
    return f"Level used {d['level_used']:.3g} (family-wise {d['alpha']:g} over {d['family_size']} pair(s)); {d['exactness']}."


def _relation(d: Mapping[str, Any]) -> list[RenderableType]:
    relation, direction = d["relation"], d["direction"]
    if relation is None:
        return []
    others = ", ".join(f"{o['kind']} {o['probability']:.2f}" for o in relation["alternatives"])
    lines: list[RenderableType] = [f"Kind: {_kind(relation)}" + (f"; also possible: {others}." if others else ".")]
    if "sibling" in relation["details"].get("not_excluded", ()):
        lines.append("From two models alone, two children of one parent look the same as a parent and its child.")
    change = relation["details"].get("relative_change")
    if change is not None:
        gain = relation["details"].get("gain_correlation")
        told = "untestable" if gain is None else f"{gain:.2f}"
        cosine = relation["details"]["cosine"]
        lines.append(
            f"Matrices changed by {change:.3g} of their norm (cosine {cosine:.3f}); correlation of gains: {told}."
        )
    return [*lines, _direction(d, direction)]


def _kind(relation: Mapping[str, Any]) -> str:
    if relation["kind"] == "related":
        return "undetermined"
    return f"{relation['kind']} (probability {relation['probability']:.2f})"


def _direction(d: Mapping[str, Any], direction: Mapping[str, Any]) -> str:
    parent = direction["parent"]
    if parent is None:
        return "Direction: undetermined from these weights."
    why = ", ".join(s["name"] for s in direction["signals"])
    return f"Direction: {safe(d[parent]['id'])} is the parent (probability {direction['probability']:.4f}; {why})."


def _tests(d: Mapping[str, Any]) -> RenderableType:
    rows = [
        (
            t["method"],
            t["label_group"],
            t["n"],
            f"{t['statistic']:.3g}",
            power_of_ten(t["log10_p"]),
            "0" if t["log10_e"] is None else power_of_ten(t["log10_e"]),
            power_of_ten(t["floor_log10_p"]),
            t["exactness"],
            t["scope"],
        )
        for t in d["tests"]
    ]
    return table(
        ("test", "labels", "n", "statistic", "p", "e", "floor", "status", "what was compared"),
        rows,
        right=(2, 3, 4, 5, 6),
    )


def _layers(d: Mapping[str, Any]) -> RenderableType:
    rows = [
        (layer["a"], layer["b"], f"{layer['similarity']:.3f}", power_of_ten(layer["log10_p"])) for layer in d["layers"]
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


def _cost(d: Mapping[str, Any]) -> str:
    run = d["record"]["run"]
    if "bytes_read" not in run:
        return ""
    each = ", ".join(f"{bytes_text(i['bytes_read'])} of {safe(i['ref'])}" for i in run["inputs"])
    return f"Read {each} in {run['requests']} reads, {run['seconds']:.2f} s."
