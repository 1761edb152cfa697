"""The workflow of `lineage trace`: where in an index a model comes from."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crawl import OpenOptions
from lineage.detect import detectable_similarity, not_covered
from lineage.documents import log10, model_entry
from lineage.errors import UsageError
from lineage.evidence import gather
from lineage.families import Kindred, family_graph
from lineage.graph import LineageGraph
from lineage.grouping import ask_all, ask_some
from lineage.growing import Family, TreeOptions, tree_document
from lineage.index.circle import Answers, Circle, Searcher, Tell
from lineage.index.finding import Finder
from lineage.index.leaning import lean_study
from lineage.index.query import Query, find_query, parsed
from lineage.index.resembling import Resemblance, resembling
from lineage.index.shelf import Shelf
from lineage.index.store import Store
from lineage.members import Member
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.record import SCHEMA_VERSION, RunRecord, input_entry, row_key_parameter, run_entry
from lineage.relation import relate
from lineage.screening import screen
from lineage.study import Study
from lineage.tested import PairTests
from lineage.trail import Ancestor, ancestors_of, parents_of, root_above
from stats.combine import family_level

_ALL_PAIRS = 12
"""Members up to which every pair of a family is tested."""

_UNSEARCHED = (
    "a model that was rewritten in every way and has other tokens as well: nothing that is searched is left of it"
)
_NOT_FOUND = "a relative that the search did not bring up (docs/methods/search.md says how often)"


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Options of `trace`.

    Attributes
    ----------
    index : Path
    alpha : float
        Family-wise level over all models of the index.
    seed : int
    row_key : RowKey
        Places the rows of a model that is not in the index.
    backend : str
        Name in `lineage.index.backends.BACKENDS`.
    open_options : OpenOptions or None
    """

    index: Path
    alpha: float = 1e-6
    seed: int = 0
    row_key: RowKey = PUBLIC_KEY
    backend: str = "exact"
    open_options: OpenOptions | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Found:
    """Everything a trace found, before it becomes a document."""

    query: Query
    verdict: str
    circle: Circle
    resemblance: Resemblance | None
    graph: LineageGraph
    family: Family
    ancestors: tuple[Ancestor, ...]
    relatives: tuple[tuple[str, str, float], ...]
    searched: int
    level: float
    detectable: float | None


def trace(reference: str, options: TraceOptions, progress: Tell | None = None) -> dict[str, Any]:
    """Look for the ancestors of a model in an index.

    Parameters
    ----------
    reference : str
        An id of the index, or a model that can be opened.
    options : TraceOptions
    progress : callable, optional

    Returns
    -------
    dict
        The document of `schemas/trace-1.json`.

    Raises
    ------
    CrawlError
        The model can be neither found nor opened.
    UnusableIndexError
        The index is not there, or damaged.
    UsageError
        The row key is not that of the index.
    """
    tell = progress or (lambda _stage, _done, _total: None)
    start = time.perf_counter()
    with Store.open(options.index) as store:
        shelf = Shelf(store)
        tell("reading", 0, 1)
        query = find_query(reference, shelf, options.row_key, options.open_options)
        tell("reading", 1, 1)
        _check_reading(query, store)
        found = look(query, shelf, Finder(store, backend=options.backend), options, tell)
        return document_of(found, options, time.perf_counter() - start)


def _check_reading(query: Query, store: Store) -> None:
    """Signatures of two row keys were read at different rows: no test is possible."""
    mine, held = f"{query.signature.version} {query.signature.key_name}", store.meta("reading")
    if held not in {"", mine}:
        raise UsageError(
            f"read with signature version and row key {mine}, and the index holds {held}",
            where=query.id,
            hint="give the row key of the index with --row-key",
        )


def look(
    query: Query, shelf: Shelf, finder: Finder, options: TraceOptions, tell: Tell, answers: Answers | None = None
) -> Found:
    """Search, test and infer; see `trace`. `answers` of earlier queries are used and added to."""
    names = [name for name in shelf.store.ids(state="signed") if name != query.id]
    level = family_level(options.alpha, len(names))
    inner = family_level(options.alpha, len(names) * (len(names) - 1) // 2)
    answers = Answers() if answers is None else answers
    searcher = Searcher(shelf, finder, names, answers)
    circle = searcher.around(query, level, inner, tell)
    likeness = None
    if not circle.related and not query.twins:
        likeness = resembling(
            query.vector, query.id, finder, lambda name: searcher.kin_of([name], inner, without=query.id)[0]
        )
    members = _members(query, circle, likeness, shelf)
    family = _family(members, query, shelf, answers, options, (inner, len(names) + 1), tell)
    ancestors = _ancestors(query, likeness, family.graph, answers, shelf)
    verdict = _verdict(query, circle, likeness, answers)
    return Found(
        query=query,
        verdict=verdict,
        circle=circle,
        resemblance=likeness,
        graph=family.graph,
        family=family,
        ancestors=ancestors,
        relatives=_relatives(query, circle, ancestors, shelf),
        searched=len(names),
        level=level,
        detectable=_detectable(query, circle, shelf, level, options.seed) if verdict == "no-evidence" else None,
    )


def _verdict(query: Query, circle: Circle, likeness: Resemblance | None, answers: Answers) -> str:
    if query.twins:
        return "identical"
    if circle.related:
        return "related"
    if likeness is not None:
        return "resembles"
    tried = [a for pair, a in answers.held.items() if query.id in pair]
    return "no-evidence" if any(a.is_testable for a in tried) or query.vector is not None else "untestable"


def _members(query: Query, circle: Circle, likeness: Resemblance | None, shelf: Shelf) -> list[Member]:
    names = {*circle.kin, *query.twins, *(likeness.family if likeness is not None else ())} - {query.id}
    found = [_member(name, shelf) for name in names]
    found.append(Member(query.id, query.ref, query.signature, query.declared))
    return sorted(found, key=lambda m: m.id)


def _member(name: str, shelf: Shelf) -> Member:
    entry = shelf.entry(name)
    return Member(name, parsed(entry.ref), shelf.signature(name), tuple(p.id for p in entry.parents))


def _family(
    members: Sequence[Member],
    query: Query,
    shelf: Shelf,
    answers: Answers,
    options: TraceOptions,
    counted: tuple[float, int],
    tell: Tell,
) -> Family:
    """The family graph of the members, from what is stored; files that are equal byte for byte stand for each other."""
    inner, n_models = counted
    twins = sorted({query.id, *query.twins}) if query.twins else []
    duplicate_of = dict.fromkeys(twins[1:], twins[0]) if twins else {}
    distinct = [m for m in members if m.id not in duplicate_of]
    tests = PairTests([m.signature for m in distinct], inner, answers)
    seen = screen(tests.signatures)
    (ask_all if len(distinct) <= _ALL_PAIRS else ask_some)(seen, tests, tell)

    def studies_of(wanted: Sequence[Member]) -> dict[str, Study]:
        """Of one kind for a whole family: values read at other places cannot be compared."""
        read = {m.id: query.study if m.id == query.id else shelf.study(m.id) for m in wanted}
        if None in read.values():
            read = {m.id: lean_study(m.signature) for m in wanted}
        return {name: found for name, found in read.items() if found is not None}

    graph = family_graph(members, duplicate_of, Kindred(distinct, tests, studies_of, None, options.seed))
    testable = frozenset(distinct[i].id for i in tests.testable)
    n_pairs = n_models * (n_models - 1) // 2
    return Family(graph, tuple(members), testable, (), n_pairs, len(tests.answered), inner, 0)


def _ancestors(
    query: Query, likeness: Resemblance | None, graph: LineageGraph, answers: Answers, shelf: Shelf
) -> tuple[Ancestor, ...]:
    if likeness is not None:
        return _resembled(query, likeness, graph)

    def log_pvalue(name: str) -> float:
        return answers.ask(query.signature, shelf.signature(name)).log_pvalue

    name = next((n.duplicate_of for n in graph.nodes if n.id == query.id and n.duplicate_of), query.id)
    above = parents_of(graph, name, log_pvalue)
    first = {k: v for k, v in above.items() if k not in query.twins}
    return ancestors_of(graph, first, log_pvalue)


def _resembled(query: Query, likeness: Resemblance, graph: LineageGraph) -> tuple[Ancestor, ...]:
    """Of those equally alike the uppermost is named first: what came after it left no trace in what was compared."""
    depth = {name: len(ancestors_of(graph, parents_of(graph, name, _one), _one)) for name in likeness.nearest}
    nearest = min(likeness.nearest, key=lambda name: (depth[name], name))
    first = Ancestor(nearest, query.id, 1, "related", likeness.log_pvalue, "calibrated", None)
    above = ancestors_of(graph, {nearest: first}, lambda _name: likeness.log_pvalue)
    return tuple(Ancestor(a.id, a.via, a.hops, a.kind, a.log_pvalue, "calibrated", None) for a in above)


def _one(_name: str) -> float:
    return 0.0


def _relatives(
    query: Query, circle: Circle, ancestors: Sequence[Ancestor], shelf: Shelf
) -> tuple[tuple[str, str, float], ...]:
    """(id, kind, natural log p) of all others the tests relate to the query, the strongest first."""
    above = {a.id for a in ancestors}
    found = [(name, "identical", p) for name, p in circle.related if name in query.twins]
    for name, p in circle.related:
        if name not in above and name not in query.twins:
            found.append((name, relate(query.signature, shelf.signature(name)).kind, p))
    return tuple(sorted(found, key=lambda item: (item[2], item[0])))


def _detectable(query: Query, circle: Circle, shelf: Shelf, level: float, seed: int) -> float | None:
    """What would have been seen in the model that could have shown most: the first of those tested."""
    for name in circle.tested[:1]:
        other = shelf.signature(name)
        return detectable_similarity(query.signature, other, gather(query.signature, other), level, seed)
    return None


def document_of(found: Found, options: TraceOptions, seconds: float) -> dict[str, Any]:
    """What was found, as a document."""
    query, likeness = found.query, found.resemblance
    parameters = {"alpha": options.alpha, "row_key": row_key_parameter(options.row_key), "backend": options.backend}
    record = RunRecord("trace", parameters, options.seed, [{**input_entry(query.signature), "id": query.id}])
    record.run.update(run_entry([query.id], [query], seconds))
    graph = tree_document(found.family, TreeOptions(options.alpha, options.seed, options.row_key), record)
    missed = [_NOT_FOUND, _UNSEARCHED] if found.verdict in {"no-evidence", "untestable"} else []
    strongest = max((-p for _, p in found.circle.related), default=0.0)
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "query": {**model_entry(query.signature), "id": query.id, "ref": str(query.ref), "indexed": query.indexed},
        "verdict": found.verdict,
        "alpha": options.alpha,
        "family_size": max(1, found.searched),
        "level_used": found.level,
        "log10_p": log10(-strongest if likeness is None else likeness.log_pvalue),
        "exactness": "exact" if likeness is None else "calibrated",
        "ancestors": [_ancestor_entry(a) for a in found.ancestors],
        "root": root_above(found.ancestors) or _own_root(found),
        "relatives": [{"id": name, "kind": kind, "log10_p": log10(p)} for name, kind, p in found.relatives],
        "resemblance": None if likeness is None else _resemblance_entry(likeness),
        "graph": {key: value for key, value in graph.items() if key not in {"schema_version", "record"}},
        "family_is_cut": found.circle.is_cut,
        "searched": found.searched,
        "tested": len(found.circle.tested),
        "detectable_similarity": found.detectable,
        "not_covered": [*not_covered(found.verdict, looked=None), *missed],
    }


def _own_root(found: Found) -> str | None:
    """The query itself where others descend from it."""
    return found.query.id if any(e.parent == found.query.id for e in found.graph.edges) else None


def _ancestor_entry(a: Ancestor) -> dict[str, Any]:
    return {
        "id": a.id,
        "via": a.via,
        "hops": a.hops,
        "kind": a.kind,
        "log10_p": log10(a.log_pvalue),
        "exactness": a.exactness,
        "probability": None if a.probability is None else round(a.probability, 6),
    }


def _resemblance_entry(r: Resemblance) -> dict[str, Any]:
    return {
        "nearest": list(r.nearest),
        "correlation": round(r.correlation, 4),
        "largest_control": round(r.largest_control, 4),
        "controls": r.controls,
    }
