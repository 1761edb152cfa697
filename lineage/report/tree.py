"""A tree document in the terminal: one drawn tree per family, then what stands apart and what stayed open."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from lineage.report.text import bytes_text, counted, power_of_ten, render, safe, table

_UNDIRECTED = "Undirected links are drawn from the centre of the family and say nothing of who came first."
_SHARED_START = "Shares only a start with the models above; no evidence that one descends from the other:"
_UNTESTABLE = "no test was valid on any pair with them (an unknown architecture, or no usable values, on either side)"


def tree_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """The terminal report of one tree document."""
    view = _View(document)
    blocks: list[Sequence[RenderableType]] = [[_headline(document, view)]]
    blocks += [view.family(component, number) for number, component in enumerate(view.families, start=1)]
    blocks.append(_listed("Identical, and linked to nothing else here", view.copied, view))
    blocks.append(_listed(f"On their own ({len(view.alone)}): {_why_alone(document)}", view.alone, view))
    blocks.append(_listed(f"Could not be tested ({len(view.untestable)}): {_UNTESTABLE}", view.untestable, view))
    blocks.append(_unresolved(document))
    if document["skipped"]:
        rows = [(s["ref"], s["reason"]) for s in document["skipped"]]
        blocks.append(["Not read", table(("model", "reason"), rows)])
    return render([*blocks, _cost(document)], colour=colour, width=width)


def _headline(d: Mapping[str, Any], view: "_View") -> str:
    """Counts that add up to the number of models; copies are counted where their originals are, and once more."""
    related = sum(c["size"] + view.copies_in(c) for c in view.families)
    copied = sum(1 + len(view.twins[name]) for name in view.copied)
    parts = [
        f"{related} in {counted(len(view.families), 'family', 'families')}" if related else "no family",
        f"{copied} in {counted(len(view.copied), 'identical set')} with no other link" if copied else "",
        f"{len(view.alone)} on {'its' if len(view.alone) == 1 else 'their'} own" if view.alone else "",
        f"{len(view.untestable)} that could not be tested" if view.untestable else "",
    ]
    n_copies = sum(len(t) for t in view.twins.values())
    copies = f" ({counted(n_copies, 'identical copy', 'identical copies')} among them)" if n_copies else ""
    tested = (
        f"{counted(d['family_size'], 'pair')} tested at level {d['level_used']:.2g} each (family-wise {d['alpha']:g})."
        if d["family_size"]
        else "No pair of different models to test."
    )
    return f"{counted(len(d['nodes']), 'model')}{copies}: {', '.join(p for p in parts if p)}. {tested}"


def _why_alone(d: Mapping[str, Any]) -> str:
    return "no test linked them to anything here" if d["family_size"] else "there was nothing else to test them with"


def _listed(title: str, names: Sequence[str], view: "_View") -> list[RenderableType]:
    return [title, *(f"  {safe(name)}{view.copies(name)}" for name in names)] if names else []


class _View:
    """One document sorted for drawing: families, and what stands apart."""

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
        self._sort(document)

    def _sort(self, document: Mapping[str, Any]) -> None:
        self.families = [c for c in document["components"] if c["size"] > 1]
        single = [c["roots"][0] for c in document["components"] if c["size"] == 1]
        self.copied = [name for name in single if name in self.twins]
        rest = [name for name in single if name not in self.twins]
        self.untestable = [n for n in rest if document["family_size"] and not self.nodes[n]["testable"]]
        self.alone = [n for n in rest if n not in self.untestable]

    def copies(self, name: str) -> str:
        """Names of identical copies, for behind a name."""
        twins = self.twins.get(name, [])
        return f"  (identical: {', '.join(safe(t) for t in twins)})" if twins else ""

    def copies_in(self, component: Mapping[str, Any]) -> int:
        """How many identical copies the members of a family have."""
        return sum(len(t) for name, t in self.twins.items() if self.nodes[name]["component"] == component["id"])

    def family(self, component: Mapping[str, Any], number: int) -> list[RenderableType]:
        """One drawing per root of a family, the largest first."""
        n_copies = self.copies_in(component)
        copies = f" and {counted(n_copies, 'identical copy', 'identical copies')}" if n_copies else ""
        seen: set[str] = set()
        drawn: list[tuple[int, Tree]] = []
        for root, sure in zip(component["roots"], component["root_probabilities"], strict=True):
            before = len(seen)
            seen.add(root)
            top = self._top(root, sure)
            self._grow(top, root, seen)
            drawn.append((len(seen) - before, top))
        parts: list[RenderableType] = [f"Family {number}, {counted(component['size'], 'model')}{copies}"]
        for place, (_, top) in enumerate(sorted(drawn, key=lambda item: -item[0])):
            parts += [_SHARED_START, top] if place else [top]
        return [*parts, _UNDIRECTED] if seen & set(self.open) else parts

    def _top(self, root: str, sure: float) -> Tree:
        node = self.nodes[root]
        told = "" if sure > 0.5 else "  (root undetermined, drawn from the centre)"
        size = f"{node['architecture']}, {node['parameters']:,} parameters, {node['dtype']}"
        return Tree(Text(f"{safe(root)}{self.copies(root)}  [{size}]{told}"))

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
            label = f"{safe(link['to'])}  {link['kind']}, p {power_of_ten(link['log10_p'])} (undirected)"
            self._grow(branch.add(Text(label + self.copies(link["to"]))), link["to"], seen)
        for edge in sorted(
            (e for es in self.children.values() for e in es if e["child"] == name), key=lambda e: str(e["parent"])
        ):
            if edge["parent"] in seen:
                continue
            seen.add(edge["parent"])
            label = f"{safe(edge['parent'])}  its parent, {edge['kind']}, p {power_of_ten(edge['log10_p'])}"
            self._grow(branch.add(Text(label + self.copies(edge["parent"]))), edge["parent"], seen)


def _unresolved(d: Mapping[str, Any]) -> list[RenderableType]:
    """Links that are no edges: common starts as a table, further children of one parent as a number."""
    rows = [
        (u["a"], u["b"], u["kind"], power_of_ten(u["log10_p"])) for u in d["unresolved"] if u["reason"] == "shared-init"
    ]
    title = "A common start, no evidence of descent"
    parts: list[RenderableType] = [title, table(("model", "model", "kind", "p"), rows, right=(3,))] if rows else []
    siblings = sum(u["reason"] == "sibling" for u in d["unresolved"])
    if siblings:
        are = "is a pair" if siblings == 1 else "are pairs"
        parts.append(f"{counted(siblings, 'further link')} {are} of children of one parent in the trees above.")
    return parts


def _cost(d: Mapping[str, Any]) -> list[RenderableType]:
    run = d["record"]["run"]
    if not d["nodes"] or "bytes_read" not in run:
        return []
    per_model = run["bytes_read"] // max(1, len(run["inputs"]))
    return [f"Read {bytes_text(per_model)} a model on average, {run['seconds']:.1f} s in all."]
