"""What is true of every pair of the fixture zoo, and how the kinds fall into the bands of `lineage.relation`."""

import json
from collections import Counter, defaultdict
from itertools import combinations

import derive
from lineage.change import measure_change
from lineage.relation import KIND_COUNTS, band_of
from nulls import ROOT, judged, signature_of

ZOO = ROOT / "fixtures" / "zoo"


def truth() -> dict[str, dict]:
    """Entries of the zoo by id, but for the special ones: neither its pairs nor its trees hold them.

    A disguised model is reordered, rescaled and rotated at once, so that no test of an ordinary descendant speaks of it;
    the runs on clustered data are nulls of their own, a different shape from the micro-runs.
    """
    entries = json.loads((ZOO / "truth.json").read_text())["models"]
    return {m["id"]: m for m in entries if not m.get("disguised") and m["kind"] != "micro-cluster"}


def line_of(models: dict[str, dict], name: str) -> list[str]:
    """A model and its ancestors, nearest first."""
    line = [name]
    while models[line[-1]]["parents"]:
        line.append(models[line[-1]]["parents"][0])
    return line


def relation_of(models: dict[str, dict], a: str, b: str) -> str:
    """True relation of two models: a kind of descent, sibling, shared-init or independent."""
    lines = line_of(models, a), line_of(models, b)
    for name, line in ((a, lines[1]), (b, lines[0])):
        if name in line:
            kinds = {models[i]["kind"] for i in line[: line.index(name)]}
            return next(k for k in ("continued-pretraining", "lora-merge", "fine-tune") if k in kinds)
    if lines[0][-1] == lines[1][-1]:
        return "sibling"
    roots = [models[line[-1]] for line in lines]
    if any(r["shared_init_with"] == other["id"] for r, other in (roots, roots[::-1])):
        return "shared-init"
    return "independent"


def pairs(*, micro: bool = False) -> list[tuple[str, str, str]]:
    """(a, b, true relation) of all pairs of one shape, the micro-runs apart."""
    models = truth()
    names = sorted(n for n, m in models.items() if (m["kind"] == "micro") == micro)
    return [(a, b, relation_of(models, a, b)) for a, b in combinations(names, 2)]


def band_counts() -> dict[str, Counter]:
    """True kinds by band, over pairs of descent and of common start; siblings are counted apart."""
    found: dict[str, Counter] = defaultdict(Counter)
    signed = {n: signature_of(derive.load(ZOO / n), n) for n, m in truth().items() if m["kind"] != "micro"}
    for a, b, relation in pairs():
        if relation != "independent":
            found[band_of(measure_change(signed[a], signed[b]))][relation] += 1
    return found


def verdict_table() -> str:
    """Markdown: verdicts on every pair of trained models of the zoo, the micro-runs apart."""
    found: dict[str, list[dict]] = defaultdict(list)
    signed = {n: signature_of(derive.load(ZOO / n), n) for n, m in truth().items() if m["kind"] != "micro"}
    for a, b, relation in pairs():
        group = relation if relation in {"independent", "sibling", "shared-init"} else "descent"
        found[group].append(judged(signed[a], signed[b]))
    lines = [
        "\n## Pairs of the trained fixtures\n",
        "| true relation | pairs | related | no-evidence | untestable | smallest log10 p | largest log10 p |",
        "|---|---|---|---|---|---|---|",
    ]
    for group, documents in sorted(found.items()):
        verdicts = Counter(d["verdict"] for d in documents)
        values = [d["log10_p"] for d in documents]
        counts = " | ".join(str(verdicts[v]) for v in ("related", "no-evidence", "untestable"))
        lines.append(f"| {group} | {len(documents)} | {counts} | {min(values):.2f} | {max(values):.2f} |")
    most = max(s.bytes_read for s in signed.values())
    return "\n".join(lines) + f"\n\nMost bytes read of one model: {most:,}.\n"


def table() -> str:
    """Markdown: the counts behind the probabilities of `relation`."""
    lines = ["\n## Kinds by band on the fixture zoo\n", "| band | true kinds | counted in the code |", "|---|---|---|"]
    for band, counts in sorted(band_counts().items()):
        told = ", ".join(f"{k} {n}" for k, n in sorted(counts.items()))
        used = ", ".join(f"{k} {n}" for k, n in sorted(KIND_COUNTS[band].items()))
        lines.append(f"| {band} | {told} | {used} |")
    return verdict_table() + "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(table())
