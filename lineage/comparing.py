"""The workflow of `lineage compare`: two references in, one document out."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crawl import ModelRef, OpenOptions, WeightSource, open_model
from lineage.detect import NOT_COVERED, detectable_similarity
from lineage.documents import direction_entry, log10, model_entry, relation_entry, result_entry, skipped_entry
from lineage.evidence import Evidence, gather
from lineage.identity import same_values
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.reading import sign
from lineage.record import SCHEMA_VERSION, RunRecord, input_entry, row_key_parameter, run_entry
from lineage.relation import Relation, identical, relate
from lineage.signature import Signature
from lineage.thorough import add_thorough
from stats.combine import family_level


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """Options of `compare` that can change its result.

    Attributes
    ----------
    alpha : float
        Family-wise level.
    family_size : int
        Number of tests the level is shared by.
    seed : int
        Seed of the generators.
    max_bytes : int or None
        Most bytes read of one model.
    row_key : RowKey
        Places the rows.
    open_options : OpenOptions or None
        How models are opened.
    thorough : bool
        Read everything both models share as well; changes no test and no verdict.
    """

    alpha: float = 1e-6
    family_size: int = 1
    seed: int = 0
    max_bytes: int | None = None
    row_key: RowKey = PUBLIC_KEY
    open_options: OpenOptions | None = field(default=None, compare=False)
    thorough: bool = False

    @property
    def level(self) -> float:
        """Level used for one pair."""
        return family_level(self.alpha, self.family_size)


def compare(
    a: str | ModelRef,
    b: str | ModelRef,
    options: CompareOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Test whether two models share weights.

    Parameters
    ----------
    a, b : str or ModelRef
        Hub ids, folders or weight files.
    options : CompareOptions, optional
    progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    dict
        The document of `schemas/compare-1.json`.

    Raises
    ------
    CrawlError
        A model is missing, gated, malformed or cannot be read.
    LineageError
        The options do not fit.
    """
    options = options or CompareOptions()
    tell = progress or (lambda _stage, _done, _total: None)
    start = time.perf_counter()
    tell("reading", 0, 2)
    with (
        open_model(a, options=options.open_options) as source_a,
        open_model(b, options=options.open_options) as source_b,
    ):
        first = sign(source_a, key=options.row_key, max_bytes=options.max_bytes)
        tell("reading", 1, 2)
        second = sign(source_b, key=options.row_key, max_bytes=options.max_bytes)
        tell("reading", 2, 2)
        document = compare_signed(
            first, second, options, is_identical=lambda: _is_identical(source_a, source_b, options)
        )
        if options.thorough:
            add_thorough(document, source_a, source_b, options.row_key, tell)
        cost = run_entry([first.ref, second.ref], [source_a, source_b], time.perf_counter() - start)
        document["record"]["run"] = cost
        return document


def compare_signed(
    a: Signature,
    b: Signature,
    options: CompareOptions,
    *,
    is_identical: Callable[[], bool | None] = lambda: None,
) -> dict[str, Any]:
    """The document of one pair, from two signatures.

    Parameters
    ----------
    a, b : Signature
    options : CompareOptions
    is_identical : callable
        Asked only when everything read agrees: compares all values, or returns None when it cannot.

    Returns
    -------
    dict
    """
    evidence = gather(a, b)
    judged = judge(a, b, evidence, options, is_identical)
    record = RunRecord(
        command="compare",
        seed=options.seed,
        parameters={
            "alpha": options.alpha,
            "max_bytes": options.max_bytes,
            "row_key": row_key_parameter(options.row_key),
            "thorough": options.thorough,
        },
        inputs=[input_entry(a), input_entry(b)],
    )
    return _document(a, b, evidence, judged, options, record)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict of a pair and what follows from it."""

    verdict: str
    relation: Relation | None
    detectable: float | None


def judge(
    a: Signature,
    b: Signature,
    evidence: Evidence,
    options: CompareOptions,
    is_identical: Callable[[], bool | None] = lambda: None,
) -> Judgement:
    """Verdict at the level used: only a valid test, or equality of everything, can say more than no-evidence."""
    rejects = evidence.log_pvalue <= math.log(options.level)
    if a.slices_digest == b.slices_digest and a.header_digest == b.header_digest and is_identical():
        return Judgement("identical", identical("every stored value"), None)
    if not evidence.is_testable:
        return Judgement("untestable", None, None)
    if not rejects:
        return Judgement("no-evidence", None, detectable_similarity(a, b, evidence, options.level, options.seed))
    return Judgement("related", relate(a, b), None)


def identity_of(a: str | ModelRef, b: str | ModelRef, options: CompareOptions) -> Callable[[], bool | None]:
    """A question that opens both models only when it is asked."""

    def ask() -> bool | None:
        with open_model(a, options=options.open_options) as left, open_model(b, options=options.open_options) as right:
            return _is_identical(left, right, options)

    return ask


def _is_identical(a: WeightSource, b: WeightSource, options: CompareOptions) -> bool | None:
    return same_values(a, b, max_bytes=options.max_bytes)


def _document(
    a: Signature, b: Signature, evidence: Evidence, judged: Judgement, options: CompareOptions, record: RunRecord
) -> dict[str, Any]:
    relation = judged.relation
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "a": model_entry(a),
        "b": model_entry(b),
        "verdict": judged.verdict,
        "alpha": options.alpha,
        "family_size": options.family_size,
        "level_used": options.level,
        "log10_p": log10(evidence.log_pvalue),
        "floor_log10_p": log10(evidence.log_floor),
        "exactness": "exact" if evidence.is_testable else "heuristic",
        "detectable_similarity": judged.detectable,
        "not_covered": list(NOT_COVERED) if judged.verdict in {"no-evidence", "untestable"} else list(NOT_COVERED[1:3]),
        "relation": None if relation is None else relation_entry(relation),
        "direction": direction_entry(relation),
        "disguise": None,
        "layers": [
            {"a": f.a, "b": f.b, "log10_p": log10(min(0.0, -f.log_evalue)), "similarity": round(f.similarity, 6)}
            for f in evidence.layers
        ],
        "tests": [result_entry(r) for r in evidence.results],
        "skipped": [skipped_entry(s) for s in evidence.skipped],
        "thorough": None,
    }
