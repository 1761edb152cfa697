"""A trace document as a page of text: the verdict first, then the line from the root to the model, then its relatives."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from lineage.names import safe
from lineage.report.text import bytes_text, counted, power_of_ten, render, table, unbroken

_NULL = (
    "If the model and a model of the index were trained from independent initial weights, a result this strong occurs "
    "with probability at most {p}. This is not the probability that the models are unrelated."
)
_CAVEAT = (
    "By itself this shows neither descent nor its direction: a common ancestor, a common initialisation or a common public "
    "component would also give this result."
)
_OPEN = "direction open"
_FEW = 12

Block = list[RenderableType]


def trace_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """The terminal report of one trace document."""
    d = document
    blocks: list[Block] = [[_headline(d)], _meaning(d)]
    if d["ancestors"]:
        blocks.append(_line(d))
        if d["verdict"] == "related" and all(a["probability"] is None for a in d["ancestors"]):
            blocks.append([_CAVEAT])
    blocks.append(_relatives(d))
    if d["verdict"] in {"no-evidence", "untestable"}:
        blocks.append(["Not covered:", *(f"  - {line}" for line in d["not_covered"])])
    return render([*blocks, _cost(d)], colour=colour, width=width)


def _headline(d: Mapping[str, Any]) -> str:
    name, over = safe(d["query"]["id"]), counted(d["searched"], "model")
    best = d["ancestors"][0]["id"] if d["ancestors"] else next((r["id"] for r in d["relatives"]), None)
    verdict = d["verdict"]
    if verdict == "identical":
        twins = [r["id"] for r in d["relatives"] if r["kind"] == "identical"]
        return f"IDENTICAL: the weight files of {name} are those of {', '.join(map(safe, twins[:3]))}, byte for byte."
    if verdict == "related":
        at_most = unbroken(f"(p <= {power_of_ten(d['log10_p'])})")
        return f"RELATED: {name} shares weights with {safe(best)} {at_most}; searched: {over}."
    if verdict == "resembles":
        return (
            f"RESEMBLES: {name} agrees with {safe(best)} far more than with any other of {over}. This is not a proof."
        )
    if verdict == "no-evidence":
        return f"NO EVIDENCE: nothing was found that {name} shares weights with any of {over}. This does not show that it does not."
    return f"UNTESTABLE: no tensor or axis of {name} on which a test is valid."


def _meaning(d: Mapping[str, Any]) -> Block:
    over = counted(d["family_size"], "model")
    level = (
        f"Level used {d['level_used']:.3g} (family-wise {d['alpha']:g} over {over}, tested or not); {d['exactness']}."
    )
    if d["verdict"] == "related":
        return [_NULL.format(p=power_of_ten(d["log10_p"])), level]
    if d["verdict"] == "resembles":
        r = d["resemblance"]
        return [
            (
                f"No valid test rejects. The inner products between the tokens of both correlate by {r['correlation']:.2f}; of "
                f"{counted(r['controls'], 'other model')} with the same tokens none by more than {r['largest_control']:.2f}. A "
                "rank among controls is calibrated, not exact."
            )
        ]
    if d["verdict"] == "no-evidence":
        seen = d["detectable_similarity"]
        power = (
            f"A row cosine of {seen:g} or more, undisguised, would have been found with power 0.95 in what was read."
            if seen is not None
            else "What was read could not have shown even a near copy at this level."
        )
        return [level, power]
    return []


def _line(d: Mapping[str, Any]) -> Block:
    """The line from the uppermost ancestor down to the query; other ancestors beside it."""
    by_id = {a["id"]: a for a in d["ancestors"]}
    steps, seen = [], set()
    name = d["root"] if d["root"] in by_id else d["ancestors"][-1]["id"]
    while name in by_id and name not in seen:
        seen.add(name)
        steps.append(by_id[name])
        name = by_id[name]["via"]
    lines: Block = ["From the root to the model:" if len(steps) > 1 else "Where it comes from:"]
    for depth, step in enumerate(steps):
        lines.append(_drawn(depth, safe(step["id"]), "" if depth == 0 else _words(steps[depth - 1])))
    lines.append(_drawn(len(steps), safe(d["query"]["id"]), _words(steps[-1])))
    others = [a for a in d["ancestors"] if a["id"] not in seen]
    if others:
        rows = [(a["id"], f"{a['hops']:,}", a["kind"], _sure(a), power_of_ten(a["log10_p"])) for a in others[:_FEW]]
        lines.append("Other ancestors")
        lines.append(table(("model", "hops", "kind", "probability", "p"), rows, right=(1, 3, 4)))
    return lines


def _drawn(depth: int, name: str, words: str) -> Text:
    line = Text("" if depth == 0 else "   " * (depth - 1) + "└─ ", style="dim")
    line.append(name, style="bold")
    line.append(f"  {words}" if words else "")
    return line


def _words(step: Mapping[str, Any]) -> str:
    """What is said of the link from a step down."""
    return f"{step['kind']}, {_sure(step)}, p <= {power_of_ten(step['log10_p'])} ({step['exactness']})"


def _sure(step: Mapping[str, Any]) -> str:
    return _OPEN if step["probability"] is None else f"{step['probability']:.2f}"


def _relatives(d: Mapping[str, Any]) -> Block:
    found = [r for r in d["relatives"] if r["kind"] != "identical" or d["verdict"] != "identical"]
    if not found:
        return []
    rows = [(r["id"], r["kind"], power_of_ten(r["log10_p"])) for r in found[:_FEW]]
    left = len(found) - len(rows)
    more: Block = [f"… and {left:,} more"] if left > 0 else []
    cut = ["The family is larger than what was looked for."] if d["family_is_cut"] else []
    return ["Other relatives", table(("model", "kind", "p"), rows, right=(2,)), *more, *cut]


def _cost(d: Mapping[str, Any]) -> Block:
    run = d["record"]["run"]
    read = "no weights were read" if d["query"]["indexed"] else f"read {bytes_text(run['bytes_read'])}"
    return [f"{counted(d['tested'], 'model')} tested of {d['searched']:,} searched; {read}; {run['seconds']:.1f} s."]
