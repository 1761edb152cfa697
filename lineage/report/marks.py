"""The documents of `lineage mark` for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from lineage.names import safe
from lineage.report.text import bytes_text, counted, power_of_ten, render, table

Block = list[RenderableType]

_KEEP = "Keep it with the key: whoever has it learns what would be undone, though hardly a weight."

_WORDS = {"found": "the mark is there", "not-found": "the mark was not found", "inconclusive": "nothing can be said"}


def schemes_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """`lineage mark schemes`."""
    rows = [
        (
            s["name"],
            "needed" if s["needs_reference"] else "helps" if s["takes_reference"] else "not used",
            counted(s["payload_bytes"], "byte") if s["payload_bytes"] else "none",
            "no" if s["zero_distortion"] else "yes",
            "slices" if s["streams"] else "whole matrices",
            s["source"],
        )
        for s in document["schemes"]
    ]
    headers = ("scheme", "unmarked model", "payload", "changes values", "reads", "source")
    return render([[table(headers, rows)]], colour=colour, width=width)


def keygen_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """`lineage mark keygen`."""
    return render([[Text(f"{document['key_id']}: {safe(document['out'])}")]], colour=colour, width=width)


def plan_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """`lineage mark plan`."""
    d = document
    head = f"{d['scheme']}: {counted(d['carriers'], 'weight')} in {counted(d['tensors'], 'matrix', 'matrices')}"
    if d["strength"] is None:
        return render([[Text(head)]], colour=colour, width=width)
    told = f"each shifted by {d['strength']:.2%} of its row's size; the statistic should be {d['statistic']:.1f}"
    rows = [(f["after"], f"{f['statistic']:.1f}") for f in d["forecast"]]
    blocks: list[Block] = [[Text(head), Text(told)], [table(("afterwards", "statistic"), rows, right=(1,))]]
    needed = d["needed"]
    told = f"With this payload found at p < 10^-6 from {needed['1e-6']:.1f}, at the level of claims (2^-128) from "
    blocks.append([Text(f"{told}{needed['2^-128']:.1f}; a payload can be read blind from about 23.")])
    return render(blocks, colour=colour, width=width)


def embed_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """`lineage mark embed`."""
    d, f = document, document["fidelity"]
    blocks: list[Block] = [
        [
            Text(f"{safe(d['out'])}: marked by {d['key_id']} ({d['scheme']}), {counted(d['carriers'], 'carrier')}"),
            Text(
                f"changed by {f['relative_change']:.3%} of their size; rounding to this format left "
                f"{f['rounding_noise']:.3%} before; the largest change of a row is {f['largest_row_change']:.3%}"
            ),
        ]
    ]
    if d["statistic"] is not None:
        blocks[0].append(Text(f"blind verification should see a statistic of {d['statistic']:.1f}"))
    if d.get("text"):
        blocks[0].append(Text(_cost(d["text"])))
    if d.get("sketch"):
        s = d["sketch"]
        told = f"{safe(s['path'])}: a sketch of the model as it was, {bytes_text(s['bytes'])}; the key knows it"
        blocks[0].append(Text(told))
    if d["left_out"]:
        names = ", ".join(safe(n) for n in d["left_out"][:5])
        blocks.append([Text(f"not copied, because they hold the model without the mark: {names}")])
    return render(blocks, colour=colour, width=width)


def _cost(text: Mapping[str, Any]) -> str:
    """What a mark costs on a text."""
    before, after = text["perplexity_before"], text["perplexity_after"]
    change = f"{text['loss_change']:+.3%} ± {text['loss_change_error']:.3%}"
    return f"perplexity {before:.4f} before and {after:.4f} after on {counted(text['tokens'], 'token')}; loss {change}"


def verify_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """`lineage mark verify`."""
    d = document
    head = Text(f"{d['verdict']}: {_WORDS[d['verdict']]}", style="bold")
    p = (
        f"If the key was drawn without a look at these weights{_besides(d)}, a statistic of {d['statistic']:.2f} or more "
        f"comes about with probability at most {power_of_ten(d['log10_p'])}"
    )
    p += f" (over {counted(d['keys'], 'key')}, {counted(d['family_size'], 'test')} and all payloads of one length)."
    blocks: list[Block] = [[head], [Text(p), Text(_payload(d)), Text(_how(d))]]
    if d["verdict"] == "not-found":
        blocks.append([Text("Not found is not absent: a rewrite that was not undone hides a mark from this reading.")])
    if d["controls"] is not None and not d["controls"]["as_expected"]:
        c = d["controls"]
        told = f"keys that marked nothing give a mean of {c['mean']} and a spread of {c['spread']}: this reading is off"
        blocks.append([Text(told)])
    return render(blocks, colour=colour, width=width)


def _besides(d: Mapping[str, Any]) -> str:
    """What a reading takes for granted besides."""
    if d.get("sketch_used"):
        return " and the sketch without a look at the key"
    return "" if d["mode"] == "blind" else " and the reference without a look at the key"


def _payload(d: Mapping[str, Any]) -> str:
    if d["payload"] is None:
        return "no payload was read"
    if d["payload_ok"] is None and not d["payload"].strip("0"):
        return "the key has no payload, and none was read"
    told = {True: ", the key's own", False: ", not the key's", None: ""}[d["payload_ok"]]
    return f"payload {d['payload']}{told}"


def _how(d: Mapping[str, Any]) -> str:
    way = f"read {d['mode']}, {d['coverage']:.2%} of the carriers, {bytes_text(d['bytes_read'])}"
    if d["alignment"] is None:
        return way
    undone = ", ".join(d["alignment"]["transforms"]) or "no transform"
    by = "by a sketch of" if d.get("sketch_used") else "to"
    return f"{way}; aligned {by} the unmarked model, undone: {undone}"


def sketch_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """`lineage mark sketch`."""
    d = document
    parts = ", ".join(f"{kind} {bytes_text(n)}" for kind, n in d["sizes"].items() if n)
    told = f"{safe(d['out'])}: {bytes_text(d['bytes'])} ({parts}), SHA-256 {d['sha256']}"
    return render([[Text(told), Text(_KEEP)]], colour=colour, width=width)
