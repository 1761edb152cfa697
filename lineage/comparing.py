"""The workflow of `lineage compare`: two references in, one document out."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from crawl import ModelRef, OpenOptions, WeightSource, open_model
from lineage.adapterunits import Adapted, adapted, with_adapters
from lineage.align import residual_obstacle
from lineage.body import Body
from lineage.budget import LIMITS, Allowance, Limits, plan_sample
from lineage.change import is_wider, measure_change
from lineage.detect import detectable_similarity, not_covered
from lineage.documents import (
    direction_entry,
    disguise_entry,
    layer_entries,
    log10,
    model_entry,
    relation_entry,
    result_entry,
    skipped_entry,
)
from lineage.evidence import Evidence, deepened, gather
from lineage.identity import same_values
from lineage.looking import Look, look
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.published import add_published, require_solver
from lineage.reading import sign
from lineage.record import SCHEMA_VERSION, RunRecord, input_entry, row_key_parameter, run_entry
from lineage.relation import Relation, identical, relate
from lineage.signature import Signature
from lineage.stepping import Steps, answered
from lineage.structure import relate_looked
from lineage.thorough import add_thorough
from stats.combine import family_level

_PLAIN_COSINE = 0.5
"""Cosine every kind of matrix must keep in what was read for a relation to be taken as it stands."""


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
    published : bool
        Whether the published statistics are added, beside the verdict.
    thorough : bool
        Read everything both models share as well, and look closely at larger models, or at every layer of them.
    limits : Limits
        What a closer look may read.
    """

    alpha: float = 1e-6
    family_size: int = 1
    seed: int = 0
    max_bytes: int | None = None
    row_key: RowKey = PUBLIC_KEY
    open_options: OpenOptions | None = field(default=None, compare=False)
    published: bool = False
    thorough: bool = False
    limits: Limits = LIMITS

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
    if options.published:
        require_solver()
    tell("reading", 0, 2)
    with (
        open_model(a, options=options.open_options) as source_a,
        open_model(b, options=options.open_options) as source_b,
    ):
        first = sign(source_a, key=options.row_key, max_bytes=options.max_bytes)
        tell("reading", 1, 2)
        second = sign(source_b, key=options.row_key, max_bytes=options.max_bytes)
        tell("reading", 2, 2)
        tell("testing", 0, 1)
        document = compare_signed(
            first,
            second,
            options,
            is_identical=lambda: _is_identical(source_a, source_b, options),
            closer=lambda found: look_closely(source_a, source_b, first, second, options, found),
            steps=answered((source_a, first), (source_b, second), options.row_key, options.max_bytes),
            adapters=lambda: adapted(source_a, source_b, max_bytes=options.max_bytes),
        )
        if options.published:
            add_published(document, source_a, source_b, key=options.row_key, max_bytes=options.max_bytes)
        tell("testing", 1, 1)
        if options.thorough:
            add_thorough(document, source_a, source_b, options.row_key, tell)
        cost = run_entry([first.ref, second.ref], [source_a, source_b], time.perf_counter() - start)
        document["record"]["run"] = cost
        return document


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def compare_signed(
    a: Signature,
    b: Signature,
    options: CompareOptions,
    *,
    is_identical: Callable[[], bool | None] = lambda: None,
    closer: Callable[[Evidence], Look | None] = lambda _evidence: None,
    steps: Steps = lambda relation: relation,
    adapters: Callable[[], Adapted | None] = lambda: None,
) -> dict[str, Any]:
    """The document of one pair, from two signatures.

    Parameters
    ----------
    a, b : Signature
    options : CompareOptions
    is_identical : callable
        Asked only when everything read agrees: compares all values, or returns None when it cannot.
    closer : callable
        Asked, with what was found, only when nothing was or the relation is not plain: looks closely, or returns None
        when it cannot.
    steps : callable
        Asked only of a related pair. With None: what was done to one model to make the other, where steps can be
        replayed. With a relation: the same with the direction that structure tells.
    adapters : callable
        Asked only where an architecture is unknown: what adapters among the two say.

    Returns
    -------
    dict
    """
    evidence = gather(a, b)
    found = adapters() if a.architecture is None or b.architecture is None else None
    evidence = evidence if found is None else with_adapters(evidence, found)
    ask = Questions(is_identical, closer, steps)
    answer = judge if found is None else partial(_judge_adapters, found)
    judged = answer(a, b, evidence, options, ask)
    evidence = judged.deeper or evidence
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
    document = _document(a, b, evidence, judged, options, record)
    return document if found is None else {**document, **found.told(judged.verdict)}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict of a pair and what follows from it."""

    verdict: str
    relation: Relation | None = None
    detectable: float | None = None
    seen: Look | None = None
    deeper: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked of opened models, only where it matters; see `compare_signed`."""

    is_identical: Callable[[], bool | None] = lambda: None
    closer: Callable[[Evidence], Look | None] = lambda _evidence: None
    steps: Steps = lambda relation: relation


def judge(a: Signature, b: Signature, evidence: Evidence, options: CompareOptions, ask: Questions) -> Judgement:
    """Verdict at the level used: only a valid test, or equality of everything, can say `related` or `identical`."""
    rejects = evidence.log_pvalue <= math.log(options.level)
    same = ask.is_identical() if a.slices_digest == b.slices_digest else False
    if same:
        return Judgement("identical", identical("every stored value"))
    replayed = ask.steps(None) if rejects else None
    if replayed is not None or (rejects and is_plain(a, b, evidence)):
        return Judgement("related", replayed or relate(a, b, differs=same is False))
    seen = ask.closer(evidence)
    if seen is not None:
        evidence = deepened(evidence, seen.tests)
        rejects = evidence.log_pvalue <= math.log(options.level)
    if rejects:
        found = relate(a, b, differs=same is False) if seen is None else relate_looked(a, b, evidence, seen)
        return Judgement("related", ask.steps(found), seen=seen, deeper=evidence)
    if seen is not None and seen.resembles:
        return Judgement("resembles", relate_looked(a, b, evidence, seen), seen=seen, deeper=evidence)
    if not evidence.is_testable:
        return Judgement("untestable", seen=seen)
    detectable = detectable_similarity(a, b, evidence, options.level, options.seed)
    return Judgement("no-evidence", detectable=detectable, seen=seen, deeper=evidence)


def _judge_adapters(
    found: Adapted, a: Signature, b: Signature, evidence: Evidence, options: CompareOptions, ask: Questions
) -> Judgement:
    """The verdict where one or both are adapters."""
    if a.slices_digest == b.slices_digest and ask.is_identical():
        return Judgement("identical", identical("every stored value"))
    rejects = evidence.log_pvalue <= math.log(options.level)
    verdict = "related" if rejects else "no-evidence" if evidence.is_testable else "untestable"
    return Judgement(verdict, found.relation if rejects else None)


def is_plain(a: Signature, b: Signature, evidence: Evidence) -> bool:
    """Whether a related pair shows itself in place: one shape, every layer read with its like, values still near."""
    change = measure_change(a, b)
    in_place = bool(evidence.layers) and all(f.a == f.b for f in evidence.layers)
    matrices = [sums.cosine for kind, sums in change.by_role.items() if not kind.startswith(("norm.", "bias."))]
    return in_place and change.same_shape and min(matrices, default=0.0) >= _PLAIN_COSINE


def look_closely(
    source_a: WeightSource,
    source_b: WeightSource,
    a: Signature,
    b: Signature,
    options: CompareOptions,
    evidence: Evidence,
) -> Look | None:
    """A closer look at two opened models, or None when it is not affordable or an architecture is unknown."""
    if source_a.architecture is None or source_b.architecture is None:
        return None
    allowed = Allowance(options.thorough, options.max_bytes, options.limits)
    plan = None
    if not (allowed.whole(source_a) and allowed.whole(source_b)):
        plan = plan_sample(source_a, source_b, allowed)
        if plan is None:
            return None
    pair = Body(source_a, source_a.architecture), Body(source_b, source_b.architecture)
    related = evidence.log_pvalue <= math.log(options.level)
    coarser = b.dtype if is_wider(a.dtype, b.dtype) else a.dtype
    labelled = residual_obstacle(a, b) is None
    return look(*pair, dtype=coarser, key=options.row_key, related=related, labelled=labelled, plan=plan)


def identity_of(a: str | ModelRef, b: str | ModelRef, options: CompareOptions) -> Callable[[], bool | None]:
    """A question that opens both models only when it is asked."""

    def ask() -> bool | None:
        with open_model(a, options=options.open_options) as left, open_model(b, options=options.open_options) as right:
            return _is_identical(left, right, options)

    return ask


def closer_of(
    a: str | ModelRef, b: str | ModelRef, first: Signature, second: Signature, options: CompareOptions
) -> Callable[[Evidence], Look | None]:
    """A closer look that opens both models only when it is asked for."""

    def ask(evidence: Evidence) -> Look | None:
        with open_model(a, options=options.open_options) as left, open_model(b, options=options.open_options) as right:
            return look_closely(left, right, first, second, options, evidence)

    return ask


def _is_identical(a: WeightSource, b: WeightSource, options: CompareOptions) -> bool | None:
    return same_values(a, b, max_bytes=options.max_bytes)


def _document(
    a: Signature, b: Signature, evidence: Evidence, judged: Judgement, options: CompareOptions, record: RunRecord
) -> dict[str, Any]:
    relation, seen = judged.relation, judged.seen
    resembles = judged.verdict == "resembles"
    results = (*evidence.results, *((seen.resemblance,) if seen is not None else ()))
    log_p = seen.resemblance.log_pvalue if seen is not None and resembles else evidence.log_pvalue
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "a": model_entry(a),
        "b": model_entry(b),
        "verdict": judged.verdict,
        "alpha": options.alpha,
        "family_size": options.family_size,
        "level_used": options.level,
        "log10_p": log10(log_p),
        "log10_e": log10(evidence.log_evalue) if math.isfinite(evidence.log_evalue) else None,
        "floor_log10_p": log10(evidence.log_floor),
        "exactness": "calibrated" if resembles else "exact" if evidence.is_testable else "heuristic",
        "detectable_similarity": judged.detectable,
        "not_covered": not_covered(judged.verdict, looked=None if seen is None else seen.alignment.whole),
        "relation": None if relation is None else relation_entry(relation),
        "direction": direction_entry(relation),
        "disguise": None if seen is None or relation is None else disguise_entry(seen.transforms, seen.agreement),
        "layers": layer_entries(
            seen.layers if seen is not None and relation is not None else evidence.layers, options.alpha
        ),
        "tests": [result_entry(r) for r in results],
        "skipped": [skipped_entry(s) for s in (*evidence.skipped, *(seen.skipped if seen is not None else ()))],
        "thorough": None,
        "adapters": None,
    }
