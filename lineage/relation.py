"""What kind of relation a related pair has, and in which direction: opinions with measured error rates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lineage.casting import Chain, find_chain, narrow_grid
from lineage.change import Change, common_arrays, is_comparable, is_equal, measure_change
from lineage.signature import Signature

MIN_PROBABILITY = 0.6
"""Below this no kind is named: the answer is `related`."""

LOG_ODDS_CAP = 14.0
"""Cap on the natural log-odds of any one signal, however exact."""

GRID_HISTORY = 8.0
"""Log-odds that a model near the values of a coarser one was trained from it. Rounding leaves differences of every size up
to half a step; smaller ones alone come from training that began there, or at a common ancestor on the same grid."""

SMALL_CHANGE = 0.2
"""Relative change of the matrices up to which training on is called a fine-tune, beyond it continued pre-training."""

MIN_GAIN_CORRELATION = 0.3
LARGE_CHANGE = 0.5
"""Parameters that start constant agree by descent only. Far apart and below this correlation: a common start."""

MIN_COSINE = 0.1
"""Pooled cosine below which matrices have nothing to do with each other, whatever else is shared."""

MIN_RETENTION = 0.6
"""Retention ratio below which only a start is shared: on the zoo shared starts reach 0.35 to 0.55, descent 1.0 and more."""

UNCHANGED_MATRICES = 0.2
"""Share of role kinds left bit-identical from which an update is called partial (adapters, frozen parts)."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One reason to believe in a direction: log-odds > 0 favours a as the parent."""

    name: str
    log_odds: float

    @property
    def favours(self) -> str | None:
        """The favoured side, a or b, or None."""
        return None if self.log_odds == 0.0 else ("a" if self.log_odds > 0.0 else "b")


@dataclass(frozen=True, slots=True)
class Relation:
    """Kind and direction of a related pair.

    Attributes
    ----------
    kind : str
        One of the contract's kinds; `related` when none is probable enough.
    probability : float
        Of that kind.
    alternatives : tuple of (str, float)
        The other kinds considered.
    steps : tuple of str
        Composite relations from parent to child.
    signals : tuple of Signal
        Evidence of direction.
    details : mapping
        Numbers behind the kind.
    calibrated_on : mapping
        Population, size and error of the probability.
    """

    kind: str
    probability: float
    alternatives: tuple[tuple[str, float], ...] = ()
    steps: tuple[str, ...] = ()
    signals: tuple[Signal, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    calibrated_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log_odds(self) -> float:
        """Natural log-odds that a is the parent, capped."""
        total = math.fsum(s.log_odds for s in self.signals)
        return max(-LOG_ODDS_CAP, min(LOG_ODDS_CAP, total))

    @property
    def is_descent(self) -> bool:
        """Whether the pair may be joined by an edge: anything but a bare common start."""
        return self.kind != "shared-init"


READ_ONLY = 0.5
"""Nothing is known of the values that were not read."""

EXACT: Mapping[str, Any] = {"population": "exact comparison, no population needed", "n": 0, "ece": 0.0}


def identical(compared: str) -> Relation:
    """Equal values in one dtype, with what was compared."""
    return Relation("identical", 1.0, steps=("identical",), details={"compared": compared}, calibrated_on=EXACT)


def relate(a: Signature, b: Signature, *, differs: bool = False) -> Relation:
    """Name the relation of a pair that a valid test has shown to be related.

    Parameters
    ----------
    a, b : Signature
        The pair.
    differs : bool
        Whether the models are known to differ somewhere, though perhaps not in what was read.

    Returns
    -------
    Relation
        Exact kinds (equal values, a replayed cast) first; then the size of the change decides between kinds with
        the shares measured on the trained fixtures. Two checkpoints in one dtype give no direction.
    """
    if is_equal(a, b) and a.dtype == b.dtype and not differs:
        return Relation(
            "identical",
            READ_ONLY,
            (("related", 1.0 - READ_ONLY),),
            ("identical",),
            details={"compared": "every value read; the rest was not read"},
            calibrated_on={"population": "none: what was not read may differ", "n": 0, "ece": None},
        )
    forward, backward = (_chain(a, b), _chain(b, a)) if _may_be_cast(a, b) else (None, None)
    cast = _cast(a, b, forward, backward)
    return cast if cast is not None else relate_change(measure_change(a, b), signals=_history(forward, backward))


def relate_change(
    change: Change, details: Mapping[str, Any] | None = None, signals: tuple[Signal, ...] = ()
) -> Relation:
    """Kind of a relation from the size of a change, with the shares measured on the trained fixtures.

    Parameters
    ----------
    change : Change
        As measured, on aligned tensors where a rewrite was undone.
    details : mapping, optional
        Further numbers for the relation.
    signals : tuple of Signal
        Evidence of direction.

    Returns
    -------
    Relation
    """
    return replace(_statistical(change, {**_details(change), **(details or {})}), signals=signals)


def _may_be_cast(a: Signature, b: Signature) -> bool:
    """Whether formats differ, or one side lies on a coarser grid than it is stored in."""
    if a.dtype != b.dtype:
        return True
    few = [(next(iter(s.census.values()), None), s.dtype) for s in (a, b)]
    return any(v is not None and narrow_grid([v[:1]], dtype) is not None for v, dtype in few)


def _chain(source: Signature, target: Signature) -> Chain | None:
    """Roundings of the matrices read; norms are often left in a wider format than the rest."""
    if not is_comparable(source, target):
        return None
    arrays = common_arrays(source, target)
    return find_chain([(x, y, target.dtype) for _, x, y, is_vector in arrays if not is_vector])


def _cast(a: Signature, b: Signature, forward: Chain | None, backward: Chain | None) -> Relation | None:
    """The rounded copy is the child; equal values in another format have no direction."""
    if forward is not None and not forward.formats and backward is not None and not backward.formats:
        if a.dtype == b.dtype:
            return None
        details = {"from": a.dtype, "to": b.dtype, "through": []}
        return Relation("cast", 1.0, (), ("cast",), (), details, EXACT)
    for chain, source, target, sign in ((forward, a, b, 1.0), (backward, b, a, -1.0)):
        if chain is not None and chain.is_rounding:
            details = {"from": source.dtype, "to": target.dtype, "through": list(chain.formats)}
            signals = (Signal("rounding-residual", sign * LOG_ODDS_CAP),)
            return Relation("cast", 1.0, (), ("cast",) * len(chain.formats), signals, details, EXACT)
    return None


def _history(forward: Chain | None, backward: Chain | None) -> tuple[Signal, ...]:
    """A model that rounds to another one, and lies nearer to it than rounding leaves anything, was trained from it."""
    if forward is not None and forward.formats and not forward.is_rounding:
        return (Signal("grid-history", -GRID_HISTORY),)
    if backward is not None and backward.formats and not backward.is_rounding:
        return (Signal("grid-history", GRID_HISTORY),)
    return ()


def _details(change: Change) -> dict[str, Any]:
    by_role = {
        kind: {
            "relative_change": _rounded(s.relative_change),
            "cosine": _rounded(s.cosine),
            "unchanged_share": _rounded(s.unchanged_share),
        }
        for kind, s in sorted(change.by_role.items())
    }
    return {
        "relative_change": _rounded(change.matrices.relative_change),
        "cosine": _rounded(change.matrices.cosine),
        "unchanged_share": _rounded(change.matrices.unchanged_share),
        "gain_correlation": None if change.gain_correlation is None else _rounded(change.gain_correlation),
        "by_role": by_role,
    }


def _statistical(change: Change, details: dict[str, Any]) -> Relation:
    band = band_of(change)
    counts = KIND_COUNTS[band]
    total = sum(counts.values()) + len(counts)
    shares = sorted(((kind, (n + 1) / total) for kind, n in counts.items()), key=lambda item: (-item[1], item[0]))
    kind, probability = shares[0]
    if band not in {"common-start", "other-shape", "unlike"}:
        details["not_excluded"] = ["sibling"]
    calibrated = {**CALIBRATED_ON, "band": band, "n": sum(counts.values())}
    if probability < MIN_PROBABILITY:
        return Relation("related", 1.0, tuple(shares), ("related",), (), details, calibrated)
    return Relation(kind, probability, tuple(shares[1:]), (kind,), (), details, calibrated)


def band_of(change: Change) -> str:
    """Which row of `KIND_COUNTS` a pair falls into."""
    if not change.same_shape or change.matrices.n == 0:
        return "other-shape"
    if change.matrices.cosine < MIN_COSINE:
        return "unlike"
    distance = change.matrices.relative_change
    correlation = change.gain_correlation
    if distance > LARGE_CHANGE and correlation is not None and correlation < MIN_GAIN_CORRELATION:
        return "common-start"
    if change.retention is not None and change.retention < MIN_RETENTION:
        return "common-start"
    kinds = [k for k in change.by_role if not k.startswith(("norm.", "bias."))]
    frozen = sum(change.by_role[k].unchanged_share == 1.0 for k in kinds)
    if frozen >= UNCHANGED_MATRICES * len(kinds):
        return "partial-update"
    return "small-change" if distance <= SMALL_CHANGE else "large-change"


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


KIND_COUNTS: Mapping[str, Mapping[str, int]] = {
    "small-change": {"fine-tune": 12, "continued-pretraining": 0},
    "large-change": {"continued-pretraining": 3, "fine-tune": 0},
    "partial-update": {"lora-merge": 1, "fine-tune": 0, "partial-copy": 0},
    "common-start": {"shared-init": 6, "continued-pretraining": 0},
    "other-shape": {"related": 0},
    "unlike": {"related": 0},
}
"""Pairs of the fixture zoo in each band, by their true kind (docs/methods/calibration.md): a kind's probability is its
share with one pair added to each kind. Counted over pairs of which one descends from the other, or which share an
initialisation; two children of one parent look the same from two models alone, and every answer says so."""

CALIBRATED_ON: Mapping[str, Any] = {
    "population": "pairs of the fixture zoo of which one descends from the other or which share an initialisation",
    "ece": None,
}
