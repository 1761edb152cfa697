"""Values to documents: the one place where natural logs become log10 and results become JSON.

Field names are those of the contract; a change of meaning raises `record.SCHEMA_VERSION`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lineage.aligned import Agreement
from lineage.finding import LayerFinding
from lineage.relation import EXACT, Relation
from lineage.signature import Signature
from stats.combine import ebh
from stats.result import Skipped, TestResult

LN10 = math.log(10.0)


def log10(natural: float) -> float:
    """Natural log to log10, rounded far below any meaning, with no negative zero."""
    return round(natural / LN10, 6) + 0.0 if math.isfinite(natural) else 0.0


def model_entry(signature: Signature) -> dict[str, Any]:
    """What a document says of one model."""
    arch = signature.architecture
    return {
        "ref": signature.ref,
        "id": signature.id,
        "architecture": arch.name if arch else None,
        "parameters": signature.n_parameters,
        "dtype": signature.dtype,
    }


def result_entry(result: TestResult) -> dict[str, Any]:
    """One test in a document."""
    log_e = result.log_evalue
    return {
        "method": result.method,
        "null": result.null,
        "n": result.n,
        "statistic": round(result.statistic, 6),
        "log10_p": log10(result.log_pvalue),
        "log10_e": None if log_e is None or not math.isfinite(log_e) else log10(log_e),
        "floor_log10_p": log10(result.log_floor),
        "exactness": result.exactness,
        "label_group": result.label_group,
        "scope": result.scope,
        "controls": result.controls,
        "z": None if result.z is None else round(result.z, 2),
    }


def skipped_entry(skipped: Skipped) -> dict[str, str]:
    """One skipped tensor in a document."""
    return {"tensor": skipped.tensor, "reason": skipped.reason}


def disguise_entry(transforms: Sequence[str], agreement: Agreement) -> dict[str, Any] | None:
    """What was done to a model and what is left once it is undone; None where nothing was done."""
    if not transforms:
        return None
    sums = agreement.sums
    return {
        "transforms": list(transforms),
        "agreement_after": {
            "exactness": agreement.exactness,
            "cosine": round(sums.cosine, 4),
            "relative_change": round(sums.relative_change, 4) if math.isfinite(sums.relative_change) else None,
            "elements": sums.n,
        },
    }


def layer_entries(layers: Sequence[LayerFinding], alpha: float) -> list[dict[str, Any]]:
    """The layers of a document; `rejected` by e-BH over all of them."""
    rejected = ebh(np.array([f.log_evalue for f in layers]), alpha)
    return [
        {
            "a": f.a,
            "b": f.b,
            "log10_p": log10(min(0.0, -f.log_evalue)),
            "similarity": round(f.similarity, 4),
            "rejected": bool(r),
        }
        for f, r in zip(layers, rejected, strict=True)
    ]


def relation_entry(relation: Relation) -> dict[str, Any]:
    """The relation block of a document."""
    return {
        "kind": relation.kind,
        "probability": round(relation.probability, 4),
        "alternatives": [{"kind": k, "probability": round(p, 4)} for k, p in relation.alternatives],
        "steps": list(relation.steps),
        "details": dict(relation.details),
        "calibrated_on": dict(relation.calibrated_on),
    }


def direction_entry(relation: Relation | None) -> dict[str, Any]:
    """The direction block: a parent only where a signal speaks."""
    signals: Sequence[Any] = relation.signals if relation else ()
    log_odds = relation.log_odds if relation else 0.0
    probability = 1.0 / (1.0 + math.exp(-abs(log_odds)))
    return {
        "parent": None if log_odds == 0.0 else ("a" if log_odds > 0.0 else "b"),
        "probability": round(probability, 6),
        "calibrated_on": dict(EXACT) if log_odds else {"population": "no signal: even odds", "n": 0, "ece": None},
        "signals": [{"name": s.name, "favours": s.favours, "log_odds": round(s.log_odds, 4)} for s in signals],
    }


def error_entry(error: Exception) -> dict[str, str]:
    """The error block of a document: kind, one sentence, where, and what to do."""
    kind = type(error).__name__.removesuffix("Error")
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind).lstrip("-")
    return {
        "kind": words,
        "message": str(error),
        "where": str(getattr(error, "where", "")),
        "hint": str(getattr(error, "hint", "") or ""),
    }
