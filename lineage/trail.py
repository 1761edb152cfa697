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
        Nearest first, then the most probable, then the strongest, then by id. A model reached on several ways is there
        once, by the shortest. Above the last one that is told stand those it is linked to in an open direction, without
        a probability; nothing above those.
    """
    found = dict(start)
    below_all = {a.via for a in start.values()}
    ring: Sequence[Ancestor] = list(start.values())
    while ring:
        upper: dict[str, Ancestor] = {}
        for below in ring:
            for step in _steps_above(graph, below, log_pvalue):
                known = upper.get(step.id)
                if step.id not in found and step.id not in below_all and (known is None or _sure(step) > _sure(known)):
                    upper[step.id] = step
        found |= upper
        ring = list(upper.values())
    return tuple(sorted(found.values(), key=lambda a: (a.hops, -_sure(a), a.log_pvalue, a.id)))


def _steps_above(graph: LineageGraph, below: Ancestor, log_pvalue: Callable[[str], float]) -> list[Ancestor]:
    edges = graph.parents_of(below.id)
    if edges or below.probability is None:
        return [_above(below, edge, _tested(graph, edge, log_pvalue)) for edge in edges]
    return [
        Ancestor(other, below.id, below.hops + 1, link.kind, log_pvalue(other), "exact", None)
        for other, link in _open_links(graph, below.id)
    ]


def parents_of(graph: LineageGraph, name: str, log_pvalue: Callable[[str], float]) -> dict[str, Ancestor]:
    """The parents of a model; where none is told, those it is linked to in an open direction, whoever descends from it."""
    found = {}
    for e in graph.parents_of(name):
        p, exactness = _tested(graph, e, log_pvalue)
        found[e.parent] = Ancestor(e.parent, name, 1, e.kind, p, exactness, e.probability)
    return found or {
        other: Ancestor(other, name, 1, link.kind, log_pvalue(other), "exact", None)
        for other, link in _open_links(graph, name)
    }


def _open_links(graph: LineageGraph, name: str) -> list[tuple[str, Unresolved]]:
    return [
        (_other(u, name), u) for u in graph.unresolved if u.reason == "direction-undetermined" and name in {u.a, u.b}
    ]


def root_above(ancestors: Sequence[Ancestor]) -> str | None:
    """The uppermost of the most probable line, of those told where there are some; None without ancestors."""
    told = [a for a in ancestors if a.probability is not None] or list(ancestors)
    return max(told, key=lambda a: (a.hops, _sure(a), a.id)).id if told else None


def _above(below: Ancestor, edge: Edge, tested: tuple[float, str]) -> Ancestor:
    sure = None if below.probability is None else below.probability * edge.probability
    return Ancestor(edge.parent, below.id, below.hops + 1, edge.kind, *tested, sure)


def _tested(graph: LineageGraph, edge: Edge, log_pvalue: Callable[[str], float]) -> tuple[float, str]:
    """Log p of the query and the parent of an edge, and what it promises: nobody can test an ancestor that nobody holds."""
    virtual = {n.id for n in graph.nodes if n.virtual}
    if edge.parent in virtual:
        return edge.log_pvalue, "heuristic"
    return log_pvalue(edge.parent), "exact" if edge.child in virtual else edge.exactness


def _other(link: Unresolved, name: str) -> str:
    return link.b if link.a == name else link.a


def _sure(ancestor: Ancestor) -> float:
    return -1.0 if ancestor.probability is None else ancestor.probability
