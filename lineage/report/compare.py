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
    if document["layers"] and document["verdict"] in {"related", "resembles"}:
        parts += ["", "Layers", _layers(document)]
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
    if verdict == "resembles":
        return f"RESEMBLES: once a rewrite is undone, {a} and {b} agree far more than any control. This is not a proof."
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
    if d["verdict"] == "resembles":
        lines += [_controls(d), "", *_relation(d)]
    if d["verdict"] == "no-evidence":
        seen = d["detectable_similarity"]
        lines.append(f"Combined p-value {power_of_ten(d['log10_p'])}. " + _level(d))
        lines.append(
            f"A row cosine of {seen:g} or more, undisguised, would have been found with power 0.95 in what was read."
            if seen is not None
            else "What was read could not have shown even a near copy at this level."
        )
    return lines


def _controls(d: Mapping[str, Any]) -> str:
    test = next(t for t in d["tests"] if t["exactness"] == "calibrated")
    return (
        f"No valid test rejects. The hidden units agree on {test['statistic']:.0%} of their partners, more than any of "
        f"{test['controls']} controls (layers at other depths of the same two models): rank p <= "
        f"{power_of_ten(test['log10_p'])}. A rank among controls is calibrated, not exact."
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
    return f"Level used {d['level_used']:.3g} (family-wise {d['alpha']:g} over {d['family_size']} pair(s)); {d['exactness']}."


def _relation(d: Mapping[str, Any]) -> list[RenderableType]:
    relation, direction = d["relation"], d["direction"]
    if relation is None:
        return []
    others = ", ".join(f"{o['kind']} {o['probability']:.2f}" for o in relation["alternatives"])
    lines: list[RenderableType] = [f"Kind: {_kind(relation)}" + (f"; also possible: {others}." if others else ".")]
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
            _evalue(t),
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


def _evalue(t: Mapping[str, Any]) -> str:
    """The e-value; 0 where an exact test's is zero, nothing where the method has none."""
    if t["log10_e"] is None:
        return "0" if t["exactness"] == "exact" else ""
    return power_of_ten(t["log10_e"])


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


def _cost(d: Mapping[str, Any]) -> str:
    run = d["record"]["run"]
    if "bytes_read" not in run:
        return ""
    each = ", ".join(f"{bytes_text(i['bytes_read'])} of {safe(i['ref'])}" for i in run["inputs"])
    return f"Read {each} in {run['requests']} reads, {run['seconds']:.2f} s."
