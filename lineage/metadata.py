"""What dates and declared parents say of a family: log-odds beside those of the weights, never mixed with them.

A card is written by whoever uploads a model, and a date of a repository is the day of its upload. Both help where weights
leave a direction open, and neither is evidence: they enter `probability_with_metadata` and nothing else.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from lineage.graph import Edge
from lineage.infer import sigmoid
from lineage.relation import LOG_ODDS_CAP, Signal
from stats.arrays import Float64Array

DATE_FLOOR = datetime(2022, 3, 2, 23, 29, 4, tzinfo=UTC)
"""Creation of every repository of the Hub that is older than its record of creations: no date at all."""

OTHER_OWNER, SAME_OWNER = 4.0, 1.7
"""Natural log-odds that the earlier of two models is the parent: of the 131 typed edges of MDGBench (TensorLock) the parent
was earlier in 110 of 112 between two owners, and in 16 of 19 within one, where releases are nearly simultaneous."""

DECLARED = 5.0
"""Natural log-odds of a declared parent: strong, and forgeable."""

CONTRADICTION = 6.0
"""Natural log-odds between what weights and what claims say of a direction from which they contradict each other."""

_SUREST = 1e-9


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said of one input.

    Attributes
    ----------
    id : str
    owner : str or None
        Who published it, where that is known.
    declared : tuple of str
        Parents its card names, in the card's words.
    created : datetime or None
        When it was released.
    """

    id: str
    owner: str | None
    declared: tuple[str, ...]
    created: datetime | None


@dataclass(frozen=True, slots=True)
class Claims:
    """What is said of one distinct model, its copies included; `parents` are ids of other distinct models."""

    owner: str | None = None
    parents: frozenset[str] = frozenset()
    created: datetime | None = None


def gathered(statements: Sequence[Statement], duplicate_of: Mapping[str, str]) -> dict[str, Claims]:
    """Claims by distinct model.

    Parameters
    ----------
    statements : sequence of Statement
    duplicate_of : mapping of str to str
        Id of a copy to the id it is a copy of.

    Returns
    -------
    dict of str to Claims

    Notes
    -----
    Copies of a model are often uploaded long after it: the earliest date counts, with its owner. A declared name means
    the model whose whole id it is, or else the only one whose id ends in its last part.
    """
    names = _names(s.id for s in statements)
    classes: dict[str, list[Statement]] = defaultdict(list)
    for s in sorted(statements, key=lambda s: s.id):
        classes[duplicate_of.get(s.id, s.id)].append(s)
    found = {}
    for name, group in classes.items():
        dated = [s for s in group if s.created is not None and not _is_floor(s.created)]
        first = min(dated, key=lambda s: (s.created or DATE_FLOOR, s.id), default=group[0])
        meant = {_meant(d, names) for s in group for d in s.declared}
        parents = {duplicate_of.get(p, p) for p in meant if p is not None} - {name}
        found[name] = Claims(first.owner, frozenset(parents), first.created if dated else None)
    return found


def claim_signals(a: Claims, b: Claims, id_a: str, id_b: str) -> tuple[Signal, ...]:
    """What claims say of two models: log-odds above 0 favour a as the parent.

    Notes
    -----
    Antisymmetric. Nothing where a date is missing, at the floor or the same, and where each names the other.
    """
    found = []
    if a.created is not None and b.created is not None and a.created != b.created:
        size = OTHER_OWNER if None not in (a.owner, b.owner) and a.owner != b.owner else SAME_OWNER
        found.append(Signal("dates", size if a.created < b.created else -size))
    if (named := (id_a in b.parents) - (id_b in a.parents)) != 0:
        found.append(Signal("declared-parent", named * DECLARED))
    return tuple(found)


def claim_log_odds(ids: Sequence[str], claims: Mapping[str, Claims]) -> Float64Array:
    """[i, j]: natural log-odds by claims alone that i is the parent of j, capped; antisymmetric."""
    n = len(ids)
    found = np.zeros((n, n))
    for i, a in enumerate(ids):
        for j, b in enumerate(ids[:i]):
            total = math.fsum(s.log_odds for s in claim_signals(claims.get(a, _SILENT), claims.get(b, _SILENT), a, b))
            found[i, j] = max(-LOG_ODDS_CAP, min(LOG_ODDS_CAP, total))
            found[j, i] = -found[i, j]
    return found


@dataclass(frozen=True, slots=True)
class Joint:
    """What weights and claims say together of the members of one shape.

    Attributes
    ----------
    probability : mapping of (str, str) to float
        Of every parent and child.
    tree : tuple of (str, str)
        Parents and children of the best tree.
    """

    probability: Mapping[tuple[str, str], float] = field(default_factory=dict)
    tree: tuple[tuple[str, str], ...] = ()

    def beside(self, other: "Joint") -> "Joint":
        """The same with another shape."""
        return Joint({**self.probability, **other.probability}, (*self.tree, *other.tree))


def with_claims(
    edges: Sequence[Edge], joint: Joint, claims: Mapping[str, Claims]
) -> tuple[list[Edge], list[tuple[str, str, float]]]:
    """Edges with `probability_with_metadata` and all else as it was; and (parent, child, probability) of the joint tree.

    Parameters
    ----------
    edges : sequence of Edge
    joint : Joint
        Where whole trees were weighed with the claims. Of other edges the odds are multiplied.
    claims : mapping of str to Claims
    """
    found, tree = [], [(p, c, joint.probability[p, c]) for p, c in joint.tree]
    for e in edges:
        told = joint.probability.get((e.parent, e.child))
        if told is None:
            told = sigmoid(log_odds_of(e.probability) + float(claim_log_odds([e.parent, e.child], claims)[0, 1]))
            tree.append((e.parent, e.child, told))
        found.append(replace(e, probability_with_metadata=told))
    return found, tree


def contradictions(
    edges: Sequence[Edge], claims: Mapping[str, Claims], component_of: Mapping[str, int]
) -> list[dict[str, str]]:
    """Claims that weights contradict: a direction claimed the other way, and a declared parent that no test relates.

    Returns
    -------
    list of dict
        Ids of the claimed parent and of its claimed child, and which of the two it is, by ids.
    """
    found = {}
    for e in edges:
        claimed = float(claim_log_odds([e.parent, e.child], claims)[0, 1])
        if claimed < 0.0 and log_odds_of(e.direction_probability) - claimed > CONTRADICTION:
            found[e.child, e.parent] = "direction"
    for child, said in claims.items():
        for parent in said.parents:
            if component_of.get(parent) != component_of.get(child):
                found[parent, child] = "not-related"
    return [{"claimed_parent": p, "claimed_child": c, "reason": found[p, c]} for p, c in sorted(found)]


def log_odds_of(probability: float) -> float:
    """Natural log-odds of a probability, that of certainty kept finite."""
    p = min(1.0 - _SUREST, max(_SUREST, probability))
    return math.log(p / (1.0 - p))


def _is_floor(moment: datetime) -> bool:
    return abs(moment - DATE_FLOOR) < timedelta(seconds=1)


def _keys(name: str) -> tuple[str, str]:
    """A name without scheme, commit and case, and its last part."""
    plain = name.strip().removeprefix("hf://").partition("@")[0].rstrip("/").casefold()
    return plain, plain.rpartition("/")[2]


def _names(ids: Iterable[str]) -> dict[str, str | None]:
    """Whole names and last parts to ids; None where one belongs to several."""
    whole: dict[str, str | None] = {}
    last: dict[str, str | None] = {}
    for name in sorted(ids):
        for table, key in zip((whole, last), _keys(name), strict=True):
            table[key] = None if key in table else name
    return last | whole


def _meant(declared: str, names: Mapping[str, str | None]) -> str | None:
    whole, last = _keys(declared)
    return names[whole] if whole in names else names.get(last)


_SILENT = Claims()
