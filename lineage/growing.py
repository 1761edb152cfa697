"""The workflow of `lineage tree`: many references in, families with rooted trees out."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

from crawl import CrawlError, ModelRef, OpenOptions, open_model
from lineage.distances import family_distances
from lineage.documents import log10
from lineage.errors import NoModelError, UsageError
from lineage.evidence import Evidence, gather
from lineage.graph import Component, Edge, LineageGraph, Node, Unresolved, connected_components
from lineage.identity import same_values
from lineage.infer import OPEN_BAND, Link, RootedTree, infer_component
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.reading import sign
from lineage.record import SCHEMA_VERSION, RunRecord, input_entry, row_key_parameter, run_entry
from lineage.relation import Relation, relate
from lineage.signature import Signature
from stats.combine import family_level

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """Options of `tree` that can change its result; as `CompareOptions`."""

    alpha: float = 1e-6
    seed: int = 0
    row_key: RowKey = PUBLIC_KEY
    open_options: OpenOptions | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Member:
    """One input of the tree: its name in the document, where it is, and what was read of it."""

    id: str
    ref: ModelRef
    signature: Signature
    declared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Everything `tree` found, before it becomes a document."""

    graph: LineageGraph
    members: tuple[Member, ...]
    skipped: tuple[tuple[str, str], ...]
    family_size: int
    level: float


def tree(
    refs: Mapping[str, ModelRef] | Sequence[tuple[str, ModelRef]],
    options: TreeOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Recover the families among many models.

    Parameters
    ----------
    refs : mapping of id to ModelRef
        The models, under the ids the document will use.
    options : TreeOptions, optional
    progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    dict
        The document of `schemas/tree-1.json`.

    Raises
    ------
    NoModelError
        Nothing to look at.
    UsageError
        Two models carry one id.
    """
    options = options or TreeOptions()
    start = time.perf_counter()
    found = recover(refs, options, progress)
    record = RunRecord(
        command="tree",
        seed=options.seed,
        parameters={"alpha": options.alpha, "row_key": row_key_parameter(options.row_key)},
        inputs=[{**input_entry(m.signature), "id": m.id} for m in found.members],
    )
    record.run.update(
        run_entry([m.id for m in found.members], [m.signature for m in found.members], time.perf_counter() - start)
    )
    return _document(found, options, record)


def recover(
    refs: Mapping[str, ModelRef] | Sequence[tuple[str, ModelRef]],
    options: TreeOptions,
    progress: Progress | None = None,
) -> Family:
    """Read, test and infer; see `tree`."""
    tell = progress or (lambda _stage, _done, _total: None)
    members, skipped = _read_all(_unique(refs), options, tell)
    duplicate_of = _duplicates(members, options)
    distinct = [m for m in members if m.id not in duplicate_of]
    family_size = max(1, len(distinct) * (len(distinct) - 1) // 2)
    level = family_level(options.alpha, family_size)
    related = _related_pairs(distinct, level, tell)
    groups = connected_components([m.id for m in distinct], list(related))
    graph = _graph(members, distinct, duplicate_of, groups, related)
    return Family(graph, tuple(members), tuple(skipped), family_size, level)


def _unique(refs: Mapping[str, ModelRef] | Sequence[tuple[str, ModelRef]]) -> list[tuple[str, ModelRef]]:
    pairs = sorted(refs.items() if isinstance(refs, Mapping) else refs, key=lambda pair: pair[0])
    if not pairs:
        raise NoModelError("no model was found", hint="name models, or a folder that holds some")
    for (first, _), (second, _) in pairwise(pairs):
        if first == second:
            raise UsageError(
                "two models would carry this id", where=first, hint="search one folder, or name each model apart"
            )
    return pairs


def _read_all(
    refs: Sequence[tuple[str, ModelRef]], options: TreeOptions, tell: Progress
) -> tuple[list[Member], list[tuple[str, str]]]:
    """Signatures of all readable models; an unreadable one is skipped with its sentence and the run goes on."""
    members: list[Member] = []
    skipped: list[tuple[str, str]] = []
    for done, (name, ref) in enumerate(refs):
        tell("reading", done, len(refs))
        try:
            with open_model(ref, options=options.open_options) as source:
                members.append(Member(name, ref, sign(source, key=options.row_key), tuple(source.card.base_models)))
        except CrawlError as error:
            skipped.append((name, str(error)))
    tell("reading", len(refs), len(refs))
    return members, skipped


def _duplicates(members: Sequence[Member], options: TreeOptions) -> dict[str, str]:
    """Id of each redundant copy to the smallest id of its class; candidates by digest, then every value compared."""
    classes: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        classes.setdefault((member.signature.header_digest, member.signature.slices_digest), []).append(member)
    found: dict[str, str] = {}
    for group in classes.values():
        kept: list[Member] = []
        for member in group:
            twin = next((k for k in kept if _are_identical(k, member, options)), None)
            if twin is None:
                kept.append(member)
            else:
                found[member.id] = twin.id
    return found


def _are_identical(a: Member, b: Member, options: TreeOptions) -> bool:
    with (
        open_model(a.ref, options=options.open_options) as left,
        open_model(b.ref, options=options.open_options) as right,
    ):
        return same_values(left, right) is True


def _related_pairs(members: Sequence[Member], level: float, tell: Progress) -> dict[tuple[str, str], Evidence]:
    """Every pair the tests reject at the family-wise level, by ids in order."""
    found: dict[tuple[str, str], Evidence] = {}
    total = len(members) * (len(members) - 1) // 2
    for done, (a, b) in enumerate(combinations(members, 2)):
        if done % 64 == 0:
            tell("testing", done, total)
        evidence = gather(a.signature, b.signature)
        if evidence.log_pvalue <= math.log(level):
            found[a.id, b.id] = evidence
    tell("testing", total, total)
    return found


def _graph(
    members: Sequence[Member],
    distinct: Sequence[Member],
    duplicate_of: Mapping[str, str],
    groups: Sequence[Sequence[str]],
    related: Mapping[tuple[str, str], Evidence],
) -> LineageGraph:
    by_id = {m.id: m for m in distinct}
    component_of = {i: n for n, group in enumerate(groups) for i in group}
    edges: list[Edge] = []
    unresolved: list[Unresolved] = []
    components: list[Component] = []
    for number, group in enumerate(groups):
        roots = _infer_group([by_id[i] for i in group], related, edges, unresolved)
        components.append(Component(number, tuple(roots), tuple(group)))
    nodes = tuple(_node(m, component_of[duplicate_of.get(m.id, m.id)], duplicate_of.get(m.id)) for m in members)
    return LineageGraph(
        nodes,
        tuple(sorted(edges, key=lambda e: (e.parent, e.child))),
        tuple(components),
        tuple(sorted(unresolved, key=lambda u: (u.a, u.b))),
    )


def _infer_group(
    members: Sequence[Member],
    related: Mapping[tuple[str, str], Evidence],
    edges: list[Edge],
    unresolved: list[Unresolved],
) -> list[str]:
    """Trees of one family: one per group joined by descent; common starts between groups stay unresolved."""
    if len(members) == 1:
        return [members[0].id]
    links = _links(members, related)
    ids = [m.id for m in members]
    roots = []
    for part in connected_components(ids, [(k.a, k.b) for k in links if k.is_descent]):
        inside = [k for k in links if k.a in part and k.b in part]
        if len(part) == 1:
            roots.append(part[0])
            continue
        rooted = infer_component(part, inside)
        settled = _settle(rooted, unresolved)
        unresolved.extend(_siblings(settled, inside))
        edges.extend(settled)
        roots.append(rooted.root)
    unresolved.extend(Unresolved(k.a, k.b, k.kind, k.log_pvalue, "shared-init") for k in links if not k.is_descent)
    return roots


def _links(members: Sequence[Member], related: Mapping[tuple[str, str], Evidence]) -> list[Link]:
    distances = family_distances([m.signature for m in members])
    links = []
    for (i, a), (j, b) in combinations(enumerate(members), 2):
        evidence = related.get((a.id, b.id))
        if evidence is None:
            continue
        relation = relate(a.signature, b.signature)
        links.append(
            Link(
                a=a.id,
                b=b.id,
                distance=float(distances[i, j]),
                log_odds=relation.log_odds,
                kind=relation.kind,
                is_descent=relation.is_descent,
                log_pvalue=evidence.log_pvalue,
                exactness="exact",
                evidence=_edge_evidence(relation, float(distances[i, j])),
            )
        )
    return links


def _edge_evidence(relation: Relation, distance: float) -> dict[str, Any]:
    return {
        "squared_distance": round(distance, 9) if math.isfinite(distance) else None,
        "kind_probability": round(relation.probability, 4),
        "relative_change": relation.details.get("relative_change"),
        "signals": [{"name": s.name, "log_odds": round(s.log_odds, 4)} for s in relation.signals],
    }


def _settle(rooted: RootedTree, unresolved: list[Unresolved]) -> list[Edge]:
    """Directed links become edges; those inside the open band stay unresolved."""
    edges = []
    for item in rooted.links:
        link, forward = item.link, item.a_is_parent
        if OPEN_BAND[0] <= forward <= OPEN_BAND[1]:
            unresolved.append(Unresolved(link.a, link.b, link.kind, link.log_pvalue, "direction-undetermined"))
            continue
        parent, child, sure = (link.a, link.b, forward) if forward > 0.5 else (link.b, link.a, 1.0 - forward)
        edges.append(
            Edge(
                parent,
                child,
                link.kind,
                sure * item.belongs,
                sure,
                link.log_pvalue,
                link.exactness,
                evidence=link.evidence,
            )
        )
    return edges


def _siblings(edges: Sequence[Edge], links: Sequence[Link]) -> list[Unresolved]:
    """Related pairs that the tree shows to be children of one parent."""
    parent_of = {e.child: e.parent for e in edges}
    return [
        Unresolved(k.a, k.b, "sibling", k.log_pvalue, "sibling")
        for k in links
        if k.is_descent and k.a in parent_of and parent_of[k.a] == parent_of.get(k.b)
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


def _document(found: Family, options: TreeOptions, record: RunRecord) -> dict[str, Any]:
    graph = found.graph
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "alpha": options.alpha,
        "family_size": found.family_size,
        "level_used": found.level,
        "probabilities": {
            "calibrated_on": {"population": "none yet: from distances and a uniform root prior", "n": 0, "ece": None}
        },
        "nodes": [
            {
                "id": n.id,
                "ref": n.ref,
                "component": n.component,
                "architecture": n.architecture,
                "parameters": n.parameters,
                "dtype": n.dtype,
                "declared": list(n.declared),
                "duplicate_of": n.duplicate_of,
                "virtual": n.virtual,
            }
            for n in graph.nodes
        ],
        "edges": [
            {
                "parent": e.parent,
                "child": e.child,
                "kind": e.kind,
                "probability": round(e.probability, 6),
                "direction_probability": round(e.direction_probability, 6),
                "log10_p": log10(e.log_pvalue),
                "exactness": e.exactness,
                "probability_with_metadata": None,
                "coefficient": e.coefficient,
                "evidence": dict(e.evidence),
            }
            for e in graph.edges
        ],
        "components": [
            {"id": c.id, "roots": list(c.roots), "size": len(c.members), "hidden_ancestor": c.hidden_ancestor}
            for c in graph.components
        ],
        "unresolved": [
            {"a": u.a, "b": u.b, "kind": u.kind, "log10_p": log10(u.log_pvalue), "reason": u.reason}
            for u in graph.unresolved
        ],
        "skipped": [{"ref": ref, "reason": reason} for ref, reason in found.skipped],
    }
