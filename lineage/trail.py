"""From a family graph to the line of ancestors of one model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lineage.graph import Edge, LineageGraph, Unresolved


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One step up.

    Attributes
    ----------
    id : str
    via : str
        The descendant through which it was reached: the query itself for a parent.
    hops : int
    kind : str
        Of the link between the two.
    log_pvalue : float
        Natural log, of the test of the query and this ancestor.
    exactness : str
        What that p-value promises.
    probability : float or None
        That it is an ancestor: of all links on the way, as if independent; None where a direction is open.
    """

    id: str
    via: str
    hops: int
    kind: str
    log_pvalue: float
    exactness: str
    probability: float | None


def ancestors_of(
    graph: LineageGraph, start: Mapping[str, Ancestor], log_pvalue: Callable[[str], float]
) -> tuple[Ancestor, ...]:
    """All ancestors above some first ones.

    Parameters
    ----------
    graph : LineageGraph
    start : mapping of str to Ancestor
        The nearest, by id.
    log_pvalue : callable
        Of the test of the query and a model.

    Returns
    -------
    tuple of Ancestor
        Nearest first, then the most probable, then by id. A model reached on several ways is there once, by the shortest.
    """
    found = dict(start)
    ring: Sequence[Ancestor] = list(start.values())
    while ring:
        upper: dict[str, Ancestor] = {}
        for below in ring:
            for edge in graph.parents_of(below.id):
                if edge.parent in found:
                    continue
                step = _above(below, edge, log_pvalue(edge.parent))
                known = upper.get(edge.parent)
                if known is None or _sure(step) > _sure(known):
                    upper[edge.parent] = step
        found |= upper
        ring = list(upper.values())
    return tuple(sorted(found.values(), key=lambda a: (a.hops, -_sure(a), a.id)))


def parents_of(graph: LineageGraph, name: str, log_pvalue: Callable[[str], float]) -> dict[str, Ancestor]:
    """The parents of a model; where none is told, those it is linked to in an open direction."""
    edges = graph.parents_of(name)
    found = {
        e.parent: Ancestor(e.parent, name, 1, e.kind, log_pvalue(e.parent), e.exactness, e.probability) for e in edges
    }
    if found or any(e.parent == name for e in graph.edges):
        return found
    for u in graph.unresolved:
        if u.reason == "direction-undetermined" and name in {u.a, u.b}:
            other = _other(u, name)
            found[other] = Ancestor(other, name, 1, u.kind, log_pvalue(other), "exact", None)
    return found


def root_above(ancestors: Sequence[Ancestor]) -> str | None:
    """The uppermost of the most probable line; None without ancestors."""
    return max(ancestors, key=lambda a: (a.hops, _sure(a), a.id)).id if ancestors else None


def _above(below: Ancestor, edge: Edge, log_pvalue: float) -> Ancestor:
    sure = None if below.probability is None else below.probability * edge.probability
    return Ancestor(edge.parent, below.id, below.hops + 1, edge.kind, log_pvalue, edge.exactness, sure)


def _other(link: Unresolved, name: str) -> str:
    return link.b if link.a == name else link.a


def _sure(ancestor: Ancestor) -> float:
    return -1.0 if ancestor.probability is None else ancestor.probability
