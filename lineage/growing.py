"""The workflow of `lineage tree`: many references in, families with rooted trees out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crawl import ModelRef, OpenOptions
from lineage.attaching import Fit, fits_of, with_adapters
from lineage.documents import log10
from lineage.families import Kindred, family_graph
from lineage.graph import LineageGraph
from lineage.grouping import ask_all, ask_some
from lineage.keeping import KeptAnswers
from lineage.members import Member, Progress, Studies, duplicates_of, read_members
from lineage.metadata import Claims, Statement, contradictions, gathered
from lineage.plan import PUBLIC_KEY, SIGNATURE_VERSION, RowKey
from lineage.record import SCHEMA_VERSION, RunRecord, input_entry, row_key_parameter, run_entry, tool_version
from lineage.screening import FEW, screen
from lineage.tested import Answers, PairTests
from stats.combine import family_level

CALIBRATED_ON: Mapping[str, Any] = {
    "population": "links of trained families and of twins made of their updates, none of which was fitted to",
    "n": 1037,
    "ece": 0.027,
}
"""What the probabilities of edges were checked on (docs/methods/trees-measured.md)."""


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """Options of `tree`; how models are opened and where answers of pairs are kept do not change its result."""

    alpha: float = 1e-6
    seed: int = 0
    row_key: RowKey = PUBLIC_KEY
    metadata: bool = False
    open_options: OpenOptions | None = field(default=None, compare=False)
    answers: Answers | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Family:
    """Everything `tree` found, before it becomes a document."""

    graph: LineageGraph
    members: tuple[Member, ...]
    testable: frozenset[str]
    skipped: tuple[tuple[str, str], ...]
    family_size: int
    n_tested: int
    level: float
    further_bytes: int
    claims: Mapping[str, Claims] | None = None
    fits: tuple[Fit, ...] = ()


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
        parameters={
            "alpha": options.alpha,
            "row_key": row_key_parameter(options.row_key),
            "metadata": options.metadata,
        },
        inputs=[{**input_entry(m.signature), "id": m.id} for m in found.members],
    )
    record.run.update(
        run_entry([m.id for m in found.members], [m.signature for m in found.members], time.perf_counter() - start)
    )
    record.run["bytes_read"] += found.further_bytes
    return tree_document(found, options, record)


def recover(
    refs: Mapping[str, ModelRef] | Sequence[tuple[str, ModelRef]],
    options: TreeOptions,
    progress: Progress | None = None,
) -> Family:
    """Read, test and infer; see `tree`."""
    tell = progress or (lambda _stage, _done, _total: None)
    members, skipped = read_members(refs, options.row_key, options.open_options, tell)
    duplicate_of, spent = duplicates_of(members, options.open_options)
    distinct = [m for m in members if m.id not in duplicate_of]
    family_size = len(distinct) * (len(distinct) - 1) // 2
    level = family_level(options.alpha, family_size)
    tests = PairTests([m.signature for m in distinct], level, options.answers)
    testable = _asked(distinct, tests, tell)
    studies = Studies(options.row_key, options.open_options, tell)
    claims = _claims(members, duplicate_of) if options.metadata else None
    graph = family_graph(members, duplicate_of, Kindred(distinct, tests, studies.read, claims, options.seed))
    fits = _fits(distinct, graph, options)
    graph = with_adapters(graph, fits)
    testable |= {distinct[i].id for i in tests.testable}
    testable |= {copy for copy, original in duplicate_of.items() if original in testable}
    return Family(
        graph,
        tuple(members),
        frozenset(testable),
        tuple(skipped),
        family_size,
        len(tests.answered),
        level,
        spent + studies.bytes_read,
        claims,
        tuple(fits),
    )


def _fits(distinct: Sequence[Member], graph: LineageGraph, options: TreeOptions) -> list[Fit]:
    """Adapters among the inputs, and the pairs of related models they may have been merged between."""
    unknown = [(m.id, m.ref) for m in distinct if m.signature.architecture is None]
    models = [(m.id, m.ref) for m in distinct if m.signature.architecture is not None]
    pairs = [(e.parent, e.child) for e in graph.edges] + [(u.a, u.b) for u in graph.unresolved]
    return fits_of(unknown, models, pairs, options.open_options)


def kept_answers(path: Path, key: RowKey) -> KeptAnswers:
    """A file of answers of pairs, for `TreeOptions.answers`: what a run adds is there for the next.

    Parameters
    ----------
    path : Path
        Made where it is missing.
    key : RowKey
        The one that places the rows of the run.

    Returns
    -------
    KeptAnswers
        To be used in a `with` block.

    Raises
    ------
    UsageError
        The file cannot be used, or was made with another key or program.
    MalformedDocumentError
        It is no such file, or was changed.
    """
    made_with = {"row_key": row_key_parameter(key), "signature": str(SIGNATURE_VERSION)}
    return KeptAnswers(path, {"program": tool_version(), **made_with})


def _claims(members: Sequence[Member], duplicate_of: Mapping[str, str]) -> dict[str, Claims]:
    owned = [(m, m.ref.location.partition("/")[0] if m.ref.scheme == "hub" else None) for m in members]
    return gathered([Statement(m.id, owner, m.declared, m.created) for m, owner in owned], duplicate_of)


def _metadata(found: Family) -> dict[str, Any] | None:
    """The trees that weights and claims give together, and where they contradict each other."""
    if found.claims is None:
        return None
    component_of = {n.id: n.component for n in found.graph.nodes}
    return {
        "edges": [
            {"parent": p, "child": c, "probability_with_metadata": round(sure, 6)} for p, c, sure in found.graph.claimed
        ],
        "contradictions": contradictions(found.graph.edges, found.claims, component_of),
    }


def _asked(members: Sequence[Member], tests: PairTests, tell: Progress) -> set[str]:
    """Test every pair of few models, or enough pairs of many; ids of which some pair could be tested."""
    seen = screen(tests.signatures)
    (ask_all if len(members) <= FEW else ask_some)(seen, tests, tell)
    return {m.id for i, m in enumerate(members) if seen.comparable[i].sum() > seen.comparable[i, i]}


def tree_document(found: Family, options: TreeOptions, record: RunRecord) -> dict[str, Any]:
    """What was found, as a document; `lineage trace` embeds it."""
    graph = found.graph
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "alpha": options.alpha,
        "family_size": found.family_size,
        "pairs_tested": found.n_tested,
        "level_used": found.level,
        "probabilities": {
            "calibrated_on": dict(CALIBRATED_ON),
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
                "testable": n.id in found.testable,
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
                "probability_with_metadata": _rounded(e.probability_with_metadata),
                "coefficient": e.coefficient,
                "evidence": dict(e.evidence),
            }
            for e in graph.edges
        ],
        "components": [
            {
                "id": c.id,
                "roots": list(c.roots),
                "root_probabilities": [round(p, 6) for p in c.root_probabilities],
                "size": len(c.members),
                "hidden_ancestor": c.hidden_ancestor,
            }
            for c in graph.components
        ],
        "unresolved": [
            {"a": u.a, "b": u.b, "kind": u.kind, "log10_p": log10(u.log_pvalue), "reason": u.reason}
            for u in graph.unresolved
        ],
        "skipped": [{"ref": ref, "reason": reason} for ref, reason in found.skipped],
        "adapters": [fit.entry for fit in found.fits],
        "metadata": _metadata(found),
    }


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 6)
