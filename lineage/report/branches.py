"""Families of a tree document as drawn trees: who hangs below whom, and what is counted where not all is shown."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lineage.names import safe
from lineage.report.text import power_of_ten

UNDIRECTED = "(undirected)"

SHARED_START = "Shares only a start with the models above; no evidence that one descends from the other:"
_MERGED = "Joined to the models above by a merge:"
_SIBLINGS = "Linked to the models above, but to no parent or child here:"


@dataclass(frozen=True, slots=True)
class Twig:
    """One model below another.

    Attributes
    ----------
    name : str
        Id.
    kind : str
        Of the relation, with what sets it apart from others in a count.
    words : tuple of str
        What is said of it, the most important first.
    edge : (str, str) or None
        Parent and child that the line between them stands for.
    """

    name: str
    kind: str
    words: tuple[str, ...]
    edge: tuple[str, str] | None = None


@dataclass(slots=True)
class Grove:
    """The trees of one family.

    Attributes
    ----------
    tops : list of (str, str)
        Id of the uppermost model of each tree, the largest tree first, and what the tree has to do with those before.
    below : dict of str to list of Twig
        Those that hang below a model, the largest trees first.
    weight : dict of str to int
        Models in the tree below and with a model, copies included.
    top_of : dict of str to str
        Model to the uppermost model of its tree.
    also : dict of str to list of str
        Parents of a model that no line leads to, each with its share.
    """

    tops: list[tuple[str, str]] = field(default_factory=list)
    below: dict[str, list[Twig]] = field(default_factory=dict)
    weight: dict[str, int] = field(default_factory=dict)
    top_of: dict[str, str] = field(default_factory=dict)
    also: dict[str, list[str]] = field(default_factory=dict)


class Branches:
    """One document sorted for drawing: links of each model, and its copies."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.nodes = {n["id"]: n for n in document["nodes"]}
        self._groves: dict[int, Grove] = {}
        self.twins: dict[str, list[str]] = defaultdict(list)
        self.parents: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._children: dict[str, list[str]] = defaultdict(list)
        self._open: dict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
        self._apart: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for node in document["nodes"]:
            if node["duplicate_of"]:
                self.twins[node["duplicate_of"]].append(node["id"])
        for edge in document["edges"]:
            self.parents[edge["child"]].append(edge)
            self._children[edge["parent"]].append(edge["child"])
        for edges in self.parents.values():
            edges.sort(key=lambda e: (-(e.get("coefficient") or 0.0), -e["probability"], e["parent"]))
        for link in document["unresolved"]:
            ends = ((link["a"], link["b"]), (link["b"], link["a"]))
            for one, other in ends:
                if link["reason"] in {"shared-init", "sibling"}:
                    self._apart[one].append((other, link["reason"]))
                else:
                    self._open[one].append((other, link))

    def grove(self, number: int, members: Sequence[str], roots: Sequence[str]) -> Grove:
        """The trees of one family: from its roots, then from whoever they leave over.

        A model hangs below its first parent (that of the largest share in a merge); where only an undirected link
        leads to it, below the nearer to the root. Found once, and kept by its number.
        """
        if number in self._groves:
            return self._groves[number]
        grove = self._groves[number] = Grove()
        top_of = grove.top_of
        sources = sorted(members, key=lambda i: (bool(self.parents.get(i)), i))
        for top in (*roots, *sources):
            if top not in top_of:
                self._grow(top, grove)
        for name in reversed(top_of):
            grove.weight[name] = 1 + len(self.twins.get(name, ()))
            grove.weight[name] += sum(grove.weight[t.name] for t in grove.below.get(name, ()))
            grove.below.get(name, []).sort(key=lambda t: (-grove.weight[t.name], t.kind, t.name))
        shown = {twig.edge for twigs in grove.below.values() for twig in twigs}
        for name in top_of:
            missing = [_share(e) for e in self.parents.get(name, ()) if (e["parent"], name) not in shown]
            if missing:
                grove.also[name] = missing
        tops = [i for i in top_of if top_of[i] == i]
        tops.sort(key=lambda i: -grove.weight[i])
        links = {top: self._links_of(top, top_of) for top in tops[1:]}
        grove.tops = [(top, links.get(top, "")) for top in tops]
        return grove

    def _grow(self, top: str, grove: Grove) -> None:
        """Hang everything that is reached below one model, breadth first."""
        top_of = grove.top_of
        top_of[top] = top
        layer = [top]
        while layer:
            following = []
            for name in layer:
                for twig in self._reached(name):
                    if twig.name not in top_of:
                        top_of[twig.name] = top
                        grove.below.setdefault(name, []).append(twig)
                        following.append(twig.name)
            layer = following

    def _reached(self, name: str) -> Iterator[Twig]:
        """Children of which this is the first parent, models at undirected links, and the first parent."""
        for child in sorted(set(self._children.get(name, ()))):
            first = self.parents[child][0]
            if first["parent"] == name:
                share = first.get("coefficient")
                kind = first["kind"] if share is None else f"{first['kind']} ({share:.2g})"
                sure = f"probability {first['probability']:.2f}"
                yield Twig(child, first["kind"], (kind, f"p {power_of_ten(first['log10_p'])}", sure), (name, child))
        for other, link in self._open.get(name, ()):
            words = (f"{link['kind']} {UNDIRECTED}", f"p {power_of_ten(link['log10_p'])}")
            yield Twig(other, words[0], words)
        for edge in self.parents.get(name, ())[:1]:
            words = (f"its parent, {edge['kind']}", f"p {power_of_ten(edge['log10_p'])}")
            yield Twig(edge["parent"], "parent", words, (edge["parent"], name))

    def _links_of(self, top: str, top_of: Mapping[str, str]) -> str:
        """What a tree has to do with the others of its family."""
        inside = [i for i in top_of if top_of[i] == top]
        for name in inside:
            near = (*self._children.get(name, ()), *(e["parent"] for e in self.parents.get(name, ())))
            if any(top_of[other] != top for other in near):
                return _MERGED
        reasons = {reason for name in inside for other, reason in self._apart.get(name, ()) if top_of[other] != top}
        return SHARED_START if "shared-init" in reasons else _SIBLINGS


def _share(edge: Mapping[str, Any]) -> str:
    """A further parent, with its share where there is one."""
    share = edge.get("coefficient")
    return safe(edge["parent"]) if share is None else f"{safe(edge['parent'])} ({share:.2g})"
