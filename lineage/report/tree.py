"""A tree document in the terminal: one drawn tree per family, then what stayed open."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from lineage.report.text import bytes_text, power_of_ten, render, safe, table


def tree_text(document: Mapping[str, Any], *, colour: bool = False) -> str:
    """The terminal report of one tree document."""
    families = [c for c in document["components"] if c["size"] > 1]
    alone = [c["roots"][0] for c in document["components"] if c["size"] == 1]
    parts: list[RenderableType] = [_headline(document, len(families), len(alone))]
    view = _View(document)
    for number, component in enumerate(families, start=1):
        parts += ["", *view.family(component, number)]
    if alone:
        parts += ["", f"On their own ({len(alone)}): no test linked them to anything here"]
        parts += [f"  {safe(name)}{view.copies(name)}" for name in alone]
    siblings = sum(u["reason"] == "sibling" for u in document["unresolved"])
    if any(u["reason"] == "shared-init" for u in document["unresolved"]):
        parts += ["", "A common start, no evidence of descent", _unresolved(document)]
    if siblings:
        parts += ["", f"{siblings} further related pair(s) are children of one parent in the trees above."]
    if document["skipped"]:
        parts += ["", "Not read", table(("model", "reason"), [(s["ref"], s["reason"]) for s in document["skipped"]])]
    return render([*parts, "", _cost(document)], colour=colour)


def _headline(d: Mapping[str, Any], families: int, alone: int) -> str:
    return (
        f"{len(d['nodes'])} models: {families} {'family' if families == 1 else 'families'}, {alone} on their own. "
        f"{d['family_size']} pairs tested at level {d['level_used']:.2g} each (family-wise {d['alpha']:g})."
    )


class _View:
    """Families of one document as drawn trees."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.children: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.open: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.twins: dict[str, list[str]] = defaultdict(list)
        self.nodes = {n["id"]: n for n in document["nodes"]}
        for edge in document["edges"]:
            self.children[edge["parent"]].append(edge)
        for link in document["unresolved"]:
            if link["reason"] == "direction-undetermined":
                self.open[link["a"]].append({**link, "to": link["b"]})
                self.open[link["b"]].append({**link, "to": link["a"]})
        for node in document["nodes"]:
            if node["duplicate_of"]:
                self.twins[node["duplicate_of"]].append(node["id"])

    def copies(self, name: str) -> str:
        """Names of identical copies, for behind a name."""
        twins = self.twins.get(name, [])
        return f"  (identical: {', '.join(safe(t) for t in twins)})" if twins else ""

    def family(self, component: Mapping[str, Any], number: int) -> list[RenderableType]:
        """One drawing per root of a family."""
        title = f"Family {number}, {component['size']} models"
        drawn: list[RenderableType] = [title]
        seen: set[str] = set()
        for root, sure in zip(component["roots"], component["root_probabilities"], strict=True):
            node = self.nodes[root]
            told = "" if sure > 0.5 else "  (root undetermined, drawn from the centre)"
            top = Tree(
                Text(
                    f"{safe(root)}{self.copies(root)}  [{node['architecture']}, {node['parameters']:,} parameters, {node['dtype']}]{told}"
                )
            )
            seen.add(root)
            self._grow(top, root, seen)
            drawn.append(top)
        return drawn

    def _grow(self, branch: Tree, name: str, seen: set[str]) -> None:
        for edge in self.children.get(name, []):
            if edge["child"] in seen:
                continue
            seen.add(edge["child"])
            label = f"{safe(edge['child'])}  {edge['kind']}, p {power_of_ten(edge['log10_p'])}, probability {edge['probability']:.2f}"
            self._grow(branch.add(Text(label + self.copies(edge["child"]))), edge["child"], seen)
        for link in self.open.get(name, []):
            if link["to"] in seen:
                continue
            seen.add(link["to"])
            label = f"{safe(link['to'])}  {link['kind']}, p {power_of_ten(link['log10_p'])}, direction undetermined"
            self._grow(branch.add(Text(label + self.copies(link["to"]))), link["to"], seen)
        for edge in sorted(
            (e for es in self.children.values() for e in es if e["child"] == name), key=lambda e: str(e["parent"])
        ):
            if edge["parent"] in seen:
                continue
            seen.add(edge["parent"])
            label = f"{safe(edge['parent'])}  its parent, {edge['kind']}, p {power_of_ten(edge['log10_p'])}"
            self._grow(branch.add(Text(label + self.copies(edge["parent"]))), edge["parent"], seen)


def _unresolved(d: Mapping[str, Any]) -> RenderableType:
    rows = [
        (u["a"], u["b"], u["kind"], power_of_ten(u["log10_p"]), u["reason"])
        for u in d["unresolved"]
        if u["reason"] == "shared-init"
    ]
    return table(("model", "model", "kind", "p", "why not an edge"), rows, right=(3,))


def _cost(d: Mapping[str, Any]) -> str:
    run = d["record"]["run"]
    if not d["nodes"] or "bytes_read" not in run:
        return ""
    per_model = run["bytes_read"] // max(1, len(run["inputs"]))
    return f"Read {bytes_text(per_model)} a model on average, {run['seconds']:.1f} s in all."
