"""Families from tested pairs: one graph of nodes, directed edges and links that stay open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lineage.graph import Component, Edge, LineageGraph, Node, Unresolved, connected_components
from lineage.grouping import groups_of
from lineage.hidden import root_above, virtual_of, with_hidden
from lineage.infer import OPEN_BAND, Link, sigmoid
from lineage.linking import Linker
from lineage.making import Made
from lineage.members import Member
from lineage.metadata import Claims, Joint, with_claims
from lineage.peeling import refined
from lineage.placing import Ask, Placed, place
from lineage.reshaping import replaced_table, reshaped
from lineage.study import Study
from lineage.tested import PairTests


@dataclass(frozen=True, slots=True)
class Kindred:
    """What families are inferred from.

    Attributes
    ----------
    distinct : sequence of Member
        Those that are not copies of another, in the order of `tests`.
    tests : PairTests
        Answers of pairs, and more of them where a tree proposes a link.
    studies_of : callable
        Larger slices of members, by id: read for one family at a time.
    claims : mapping of str to Claims, optional
        Dates and declared parents: for `probability_with_metadata` and `claimed` alone.
    seed : int
        Of the draws behind `bootstrap`.
    """

    distinct: Sequence[Member]
    tests: PairTests
    studies_of: Callable[[Sequence[Member]], Mapping[str, Study]]
    claims: Mapping[str, Claims] | None = None
    seed: int = 0


def family_graph(members: Sequence[Member], duplicate_of: Mapping[str, str], kindred: Kindred) -> LineageGraph:
    """Nodes, edges, open links and families.

    Parameters
    ----------
    members : sequence of Member
        All inputs.
    duplicate_of : mapping of str to str
        Id of a copy to the id it is a copy of.
    kindred : Kindred

    Returns
    -------
    LineageGraph
    """
    groups = groups_of(kindred.tests)
    component_of = {kindred.distinct[i].id: n for n, group in enumerate(groups) for i in group}
    edges: list[Edge] = []
    unresolved: list[Unresolved] = []
    components: list[Component] = []
    claimed: list[tuple[str, str, float]] = []
    virtual: list[Node] = []
    by_id = {m.id: m for m in members}
    for number, group in enumerate(groups):
        found: list[Edge] = []
        roots, joint = _infer_group(group, kindred, found, unresolved)
        if kindred.claims is not None:
            found, joined = with_claims(found, joint, kindred.claims)
            claimed += joined
        edges += found
        names, probabilities = tuple(r for r, _ in roots), tuple(p for _, p in roots)
        ids = tuple(kindred.distinct[i].id for i in group)
        inferred = [
            replace(_node(by_id[c], number, None), id=h, ref=h, declared=(), virtual=True) for h, c in virtual_of(found)
        ]
        virtual += inferred
        components.append(Component(number, names, probabilities, ids, min((v.id for v in inferred), default=None)))
    nodes = tuple(_node(m, component_of[duplicate_of.get(m.id, m.id)], duplicate_of.get(m.id)) for m in members)
    return LineageGraph(
        (*nodes, *virtual),
        tuple(sorted(edges, key=lambda e: (e.parent, e.child))),
        tuple(components),
        tuple(sorted(unresolved, key=lambda u: (u.a, u.b))),
        tuple(sorted(claimed)),
    )


def _infer_group(
    group: Sequence[int], kindred: Kindred, edges: list[Edge], unresolved: list[Unresolved]
) -> tuple[list[tuple[str, float]], Joint]:
    """Trees of one family: one per group joined by descent; common starts between groups stay unresolved."""
    joint, members = Joint(), [kindred.distinct[i] for i in group]
    if len(members) == 1:
        return [(members[0].id, 1.0)], joint
    ids = [m.id for m in members]
    linker = Linker(ids, group, kindred.tests)
    links, studies = linker.links(), kindred.studies_of(members)
    roots = []
    for part in connected_components(ids, [(k.a, k.b) for k in links if k.is_descent]):
        own = set(part)
        inside = [k for k in links if k.a in own and k.b in own]
        if len(part) == 1:
            roots.append((part[0], 1.0))
            continue
        known = {i: studies[i] for i in part if i in studies}
        placed = place(part, inside, known, kindred.claims, linker.ask, kindred.seed)
        joint = joint.beside(placed.joint)
        settled = [*_settle(placed, studies, unresolved), *_made_edges(placed.made, linker.ask)]
        settled = with_hidden(settled, placed.hidden)
        unresolved.extend(_siblings(settled, inside))
        edges.extend(settled)
        roots.append((root_above(placed.root, settled), placed.root_probability))
    unresolved.extend(Unresolved(k.a, k.b, k.kind, k.log_pvalue, "shared-init") for k in links if not k.is_descent)
    return roots, joint


def _settle(placed: Placed, studies: Mapping[str, Study], unresolved: list[Unresolved]) -> list[Edge]:
    """Directed links become edges; those inside the open band stay unresolved."""
    edges = []
    for item in placed.links:
        link, forward = item.link, item.a_is_parent
        kind, details = _refined(link, studies, forward)
        if OPEN_BAND[0] <= forward <= OPEN_BAND[1]:
            unresolved.append(Unresolved(link.a, link.b, kind, link.log_pvalue, "direction-undetermined"))
            continue
        parent, child, sure = (link.a, link.b, forward) if forward > 0.5 else (link.b, link.a, 1.0 - forward)
        sign = 1.0 if parent == link.a else -1.0
        told = [(s["name"], s["log_odds"]) for s in link.evidence["signals"]]
        told += placed.signals.get((link.a, link.b), ())
        turned = [{"name": name, "log_odds": round(sign * value, 4) + 0.0} for name, value in told]
        evidence = {**link.evidence, **details, "signals": turned}
        evidence["bootstrap"] = item.support
        edges.append(
            Edge(
                parent,
                child,
                kind,
                sure * item.belongs,
                sure,
                link.log_pvalue,
                link.exactness,
                evidence=evidence,
            )
        )
    return edges


def _refined(link: Link, studies: Mapping[str, Study], forward: float) -> tuple[str, dict[str, Any]]:
    """Kind of a link and what stands behind it, where the size of the change does not tell."""
    if not {link.a, link.b} <= studies.keys():
        return link.kind, {}
    first, second = (link.a, link.b) if forward >= 0.5 else (link.b, link.a)
    found = refined(studies[first], studies[second]) or refined(studies[second], studies[first])
    if found is not None:
        return found.kind, {**found.details, "steps": list(found.steps)}
    return _restructured(link, studies[first], studies[second])


def _restructured(link: Link, parent: Study, child: Study) -> tuple[str, dict[str, Any]]:
    """Layers or tables of another origin in a model of the same shape."""
    if parent.shape_class != child.shape_class:
        return link.kind, {}
    layers = reshaped(parent, child)
    if layers is not None:
        return layers.kind, {**layers.details, "steps": [layers.kind]}
    table = replaced_table(parent, child)
    return (link.kind, {}) if table is None else (table, {"steps": [table]})


def _made_edges(made: Sequence[Made], ask: Ask) -> list[Edge]:
    """Edges of what was made by a formula, from each of its sources that a test relates to it."""
    edges = []
    for item in made:
        sure = sigmoid(item.log_odds)
        for parent, coefficient in item.parents:
            link = ask(parent, item.child)
            if link is not None:
                evidence = {"signals": [{"name": "replay", "log_odds": item.log_odds}], **item.details}
                edges.append(
                    Edge(
                        parent,
                        item.child,
                        item.kind,
                        sure * item.belongs,
                        sure,
                        link.log_pvalue,
                        link.exactness,
                        coefficient,
                        evidence,
                    )
                )
    return edges


def _siblings(edges: Sequence[Edge], links: Sequence[Link]) -> list[Unresolved]:
    """Related pairs that the tree shows to be children of one parent, and not parent and child themselves."""
    parents_of: dict[str, set[str]] = {}
    for e in edges:
        parents_of.setdefault(e.child, set()).add(e.parent)
    joined = {frozenset((e.parent, e.child)) for e in edges}
    return [
        Unresolved(k.a, k.b, "sibling", k.log_pvalue, "sibling")
        for k in links
        if k.is_descent
        and frozenset((k.a, k.b)) not in joined
        and parents_of.get(k.a, set()) & parents_of.get(k.b, set())
    ]


def _node(member: Member, component: int, twin: str | None) -> Node:
    s = member.signature
    return Node(
        member.id,
        str(member.ref),
        component,
        s.architecture.name if s.architecture else None,
        s.n_parameters,
        s.dtype,
        member.declared,
        twin,
    )
