"""The second reading of a related pair: what was done to one model to make the other."""

from collections.abc import Callable
from dataclasses import replace

from crawl import OpenOptions, WeightSource, open_model
from lineage.change import measure_change
from lineage.peeling import is_worth_peeling, peeled
from lineage.plan import RowKey
from lineage.relation import Relation
from lineage.reshaping import as_relation, reshaped
from lineage.signature import Signature
from lineage.study import Study, study, study_bytes

DIRECTED = frozenset({"depth-prune", "depth-upscale", "frankenmerge", "width-prune", "vocab-change", "moe-upcycle"})
"""Kinds whose structure tells which side was made from the other."""

Opened = tuple[WeightSource, Signature]
Steps = Callable[[Relation | None], Relation | None]


def steps_between(a: Opened, b: Opened, key: RowKey, max_bytes: int | None = None) -> Relation | None:
    """Steps between two opened models that a test relates.

    Parameters
    ----------
    a, b : (WeightSource, Signature)
        Each opened model with what the ladder read of it.
    key : RowKey
        Places the rows.
    max_bytes : int, optional
        Most bytes read of one model, those it has read already included.

    Returns
    -------
    Relation or None
        None where no step can be told, or a second reading would go beyond the limit.

    Raises
    ------
    CrawlError
        Bytes are missing, malformed or cannot be fetched.

    Notes
    -----
    Cost: nothing where the ladder saw no trace of a step, else that of `lineage.study.study` and `lineage.peeling.peeled`.
    """
    change = measure_change(a[1], b[1])
    mixed = _has_experts(a[0]) != _has_experts(b[0])
    near = all(source.ref.scheme != "hub" for source, _ in (a, b))
    if not mixed and not is_worth_peeling(a[1], b[1], change, near=near):
        return None
    pair = _studied(a, b, key, max_bytes)
    if pair is None:
        return None
    if mixed:
        found = reshaped(*pair)
        return None if found is None else as_relation(found)
    return peeled(*pair)


def directed(relation: Relation, a: Opened, b: Opened, key: RowKey, max_bytes: int | None = None) -> Relation:
    """A relation across shapes with the direction its structure tells, where a second reading finds the same kind.

    Parameters
    ----------
    relation : Relation
        As a closer look named it.
    a, b : (WeightSource, Signature)
    key : RowKey
    max_bytes : int, optional
        As in `steps_between`.

    Returns
    -------
    Relation

    Raises
    ------
    CrawlError
        Bytes are missing, malformed or cannot be fetched.
    """
    if relation.kind not in DIRECTED or relation.signals:
        return relation
    pair = _studied(a, b, key, max_bytes)
    found = None if pair is None else reshaped(*pair)
    if found is None or found.kind != relation.kind:
        return relation
    told = as_relation(found)
    return replace(relation, signals=told.signals, details={**told.details, **relation.details})


def _has_experts(source: WeightSource) -> bool:
    return any(role.expert is not None for role in source.views)


def _studied(a: Opened, b: Opened, key: RowKey, max_bytes: int | None) -> tuple[Study, Study] | None:
    if max_bytes is not None and any(s.bytes_read + study_bytes(s) > max_bytes for s, _ in (a, b)):
        return None
    first, second = (study(source, key, name=source.ref.id) for source, _ in (a, b))
    return None if first is None or second is None else (first, second)


def answered(a: Opened, b: Opened, key: RowKey, max_bytes: int | None = None) -> Steps:
    """Both questions as one: without a relation its steps are looked for, with one its direction."""

    def ask(relation: Relation | None) -> Relation | None:
        if relation is None:
            return steps_between(a, b, key, max_bytes)
        return directed(relation, a, b, key, max_bytes)

    return ask


def answered_when_asked(
    a: Signature, b: Signature, key: RowKey, max_bytes: int | None, options: OpenOptions | None
) -> Steps:
    """The same, opening both models only when asked."""

    def ask(relation: Relation | None) -> Relation | None:
        with open_model(a.ref, options=options) as left, open_model(b.ref, options=options) as right:
            return answered((left, a), (right, b), key, max_bytes)(relation)

    return ask
