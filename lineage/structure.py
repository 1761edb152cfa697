"""Kinds of relation that a closer look shows: layers left out, repeated or foreign, widths, vocabularies, rewrites."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lineage.change import measure_change
from lineage.evidence import Evidence
from lineage.looking import Look
from lineage.relation import READ_ONLY, Relation, Signal, relate_change
from lineage.signature import Signature
from stats.distance import pair_sums

CHECKED = 17
"""Mechanical derivatives of the fixtures whose layer map and kind the tests check: all were right."""

_BIASES = 0.9
"""Probability that a model whose matrices and tables are all those of another one is that model: biases and inner norms
are not compared below a rewrite."""

_LOG_SHARED = 13.8
"""Evidence (natural log of 10^6) above which a part is called shared."""

_FOREIGN = 0.2
"""Cosine of table rows below which a table is of another origin; long training leaves more."""


def relate_looked(a: Signature, b: Signature, evidence: Evidence, seen: Look) -> Relation:
    """Name the relation of a pair that was looked at closely.

    Parameters
    ----------
    a, b : Signature
    evidence : Evidence
        The tests of the pair.
    seen : Look
        What the closer look saw.

    Returns
    -------
    Relation
        `kind` is what remains after the rewrites are undone.
    """
    change = replace(measure_change(a, b), retention=seen.retention)
    details = _details(seen)
    kind = _kind(a, b, evidence, seen)
    if kind is not None:
        if kind == "partial-copy" and not seen.alignment.matched:
            details["shared"] = _shared_parts(evidence)
        return structural(kind, details)
    if not seen.transforms:
        return relate_change(change, details)
    if seen.agreement.exactness is not None and not seen.alignment.whole:
        details["compared"] = "units of the layers sampled, in their answers to probes; the rest was not read"
        told = {"population": "none: what was not read may differ", "n": 0, "ece": None}
        return Relation("identical", READ_ONLY, (("related", 1.0 - READ_ONLY),), ("identical",), (), details, told)
    if seen.agreement.exactness is not None and seen.agreement.complete:
        details["compared"] = "every matrix of every layer and every table; not biases, nor norms inside heads"
        told = {"population": "none: every matrix was compared, biases were not", "n": 0, "ece": None}
        others = (("fine-tune", 1.0 - _BIASES),)
        return Relation("identical", _BIASES, others, ("identical",), (), details, told)
    aligned = replace(
        change,
        matrices=seen.agreement.sums,
        by_role=seen.agreement.by_role,
        same_shape=True,
        gain_correlation=None,
    )
    return relate_change(aligned, details)


_ON: Mapping[str, Any] = {
    "population": "mechanical derivatives of the fixture zoo",
    "n": CHECKED,
    "ece": None,
}


def structural(kind: str, details: Mapping[str, Any], signals: tuple[Signal, ...] = ()) -> Relation:
    """A relation by its structure, with the share that was right on the fixtures."""
    probability = (CHECKED + 1) / (CHECKED + 2)
    return Relation(kind, probability, (("related", 1.0 - probability),), (kind,), signals, details, _ON)


def _details(seen: Look) -> dict[str, Any]:
    return {
        "retention_ratio": None if seen.retention is None else round(seen.retention, 4),
        "layer_map": [{"a": m.a, "b": m.b, "agreement": round(m.agreement, 4)} for m in seen.alignment.layers],
    }


def _blocks_agree(evidence: Evidence) -> bool:
    return any(r.label_group.startswith("hidden") and (r.log_evalue or 0.0) > 1.0 for r in evidence.results)


_PARTS = {
    "embedding-columns": "embed",
    "head-columns": "unembed",
    "norm-gains": "norm gains",
    "final-gain": "final gain",
    "attention-columns": "attention",
    "value-units": "attention values",
}


def _shared_parts(evidence: Evidence) -> list[str]:
    """What was copied when no layer was: parts whose own tests reject far beyond any level."""
    return [_PARTS[r.method] for r in evidence.results if r.method in _PARTS and (r.log_evalue or 0.0) > _LOG_SHARED]


def _kind(a: Signature, b: Signature, evidence: Evidence, seen: Look) -> str | None:
    """Kind told by layers, depth, widths and tables; None where only the size of the change can tell."""
    order = [m.a for m in seen.alignment.layers if m.a is not None]
    if not order:
        return "partial-copy" if _shared_parts(evidence) and not _blocks_agree(evidence) else None
    if not seen.alignment.covers(a.n_layers, b.n_layers):
        missing = len(order) < len(seen.alignment.layers)
        return "related" if missing or a.n_layers != b.n_layers else _width_kind(a, b, seen)
    if a.n_layers != b.n_layers:
        return _depth_kind(order, a.n_layers, b.n_layers)
    if len(order) < len(seen.alignment.layers):
        return "partial-copy"
    if order != sorted(set(order)):
        return "frankenmerge" if len(set(order)) < len(order) else "related"
    return _width_kind(a, b, seen)


def _depth_kind(order: list[int], n_a: int, n_b: int) -> str:
    """Layers of b by their partners: all there but fewer, all of a once more, or only some of them."""
    distinct = len(set(order)) == len(order)
    if len(order) == n_b:
        return "depth-prune" if distinct else "depth-upscale"
    return "depth-prune" if distinct and order == list(range(n_a)) else "partial-copy"


def _width_kind(a: Signature, b: Signature, seen: Look) -> str | None:
    widths = [{v.n_units for v in s.blocks} for s in (a, b)]
    if widths[0] != widths[1]:
        return "width-prune"
    if not seen.same_vocabulary:
        return "vocab-change"
    if seen.transforms:
        return _turned_table_kind(seen)
    return _table_kind(a, b)


def _turned_table_kind(seen: Look) -> str | None:
    """The same below a rewrite, from the tables as they were compared."""
    foreign = [
        k for k in ("embed", "unembed") if k in seen.agreement.by_role and seen.agreement.by_role[k].cosine < _FOREIGN
    ]
    return None if not foreign else "embedding-swap" if "embed" in foreign else "head-swap"


def _table_kind(a: Signature, b: Signature) -> str | None:
    """Embedding or head of another origin on layers that are shared."""
    foreign = [k for k in ("embed", "unembed") if _is_foreign(a, b, k)]
    if not foreign:
        return None
    return "embedding-swap" if "embed" in foreign else "head-swap"


def _is_foreign(a: Signature, b: Signature, kind: str) -> bool:
    if kind not in a.tables or kind not in b.tables:
        return False
    first, second = a.tables[kind].values, b.tables[kind].values
    return first.shape == second.shape and abs(pair_sums(first, second).cosine) < _FOREIGN
