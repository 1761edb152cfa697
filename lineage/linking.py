"""Links of one family: a tested and related pair with its kind and distance, made when it is asked for."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from lineage.distances import family_distances
from lineage.grouping import Groups
from lineage.infer import Link
from lineage.relation import Relation, relate
from lineage.signature import Signature
from lineage.tested import PairTests

MOST_TRIES = 16
"""Pairs looked at in vain, nearest first, for each part of a family before no descent is assumed between the parts."""

Pair = tuple[int, int]


class Linker:
    """Links of one family.

    Parameters
    ----------
    ids : sequence of str
        Of its members, in order.
    positions : sequence of int
        Of the same members among those of `tests`, rising.
    tests : PairTests
    """

    def __init__(self, ids: Sequence[str], positions: Sequence[int], tests: PairTests) -> None:
        self._ids = ids
        self._at = dict(zip(ids, range(len(ids)), strict=True))
        self._positions = positions
        self._tests = tests
        self._signatures: list[Signature] = [tests.signatures[p] for p in positions]
        self._distances = family_distances(self._signatures)
        self._relations: dict[Pair, Relation] = {}

    def links(self) -> list[Link]:
        """Links of all pairs that were tested and are related, in order, and of those that join what descends."""
        inside = {p: i for i, p in enumerate(self._positions)}
        pairs = [(inside[p], inside[q]) for p, q in self._tests.related if p in inside and q in inside]
        found = {pair: self._link(pair) for pair in pairs}
        self._join_parts(found)
        return [found[pair] for pair in sorted(found)]

    def ask(self, a: str, b: str) -> Link | None:
        """The link of two members, tested now if it was not before; None where no test relates them."""
        i, j = sorted((self._at[a], self._at[b]))
        return self._link((i, j)) if self._tests.rejects(self._positions[i], self._positions[j]) else None

    def _link(self, pair: Pair) -> Link:
        i, j = pair
        relation, distance = self._relation(pair), float(self._distances[i, j])
        return Link(
            a=self._ids[i],
            b=self._ids[j],
            distance=distance,
            log_odds=relation.log_odds,
            kind=relation.kind,
            is_descent=relation.is_descent,
            log_pvalue=self._tests.answer(self._positions[i], self._positions[j]).log_pvalue,
            exactness="exact",
            evidence=_evidence(relation, distance),
        )

    def _relation(self, pair: Pair) -> Relation:
        if pair not in self._relations:
            self._relations[pair] = relate(self._signatures[pair[0]], self._signatures[pair[1]])
        return self._relations[pair]

    def _join_parts(self, found: dict[Pair, Link]) -> None:
        """Where pairs were left out, look for descent between the parts that descend from each other, nearest first."""
        n, parts = len(self._ids), Groups(len(self._ids))
        for (i, j), link in found.items():
            if link.is_descent and parts.may_join(i, j):
                parts.join(i, j)
        left = 0 if len(found) == n * (n - 1) // 2 else MOST_TRIES * len(parts.lists())
        for pair in sorted(combinations(range(n), 2), key=lambda p: (float(self._distances[p]), p)) if left else ():
            if not left or parts.is_one:
                return
            if not parts.may_join(*pair):
                continue
            if self._is_descent(pair):
                found[pair] = self._link(pair)
                parts.join(*pair)
            else:
                parts.failed(*pair)
                left -= 1

    def _is_descent(self, pair: Pair) -> bool:
        """Whether two descend from each other; only what looks so is tested."""
        positions = self._positions[pair[0]], self._positions[pair[1]]
        return self._relation(pair).is_descent and self._tests.rejects(*positions)


def _evidence(relation: Relation, distance: float) -> dict[str, Any]:
    return {
        "squared_distance": round(distance, 9) if math.isfinite(distance) else None,
        "kind_probability": round(relation.probability, 4),
        "relative_change": relation.details.get("relative_change"),
        "steps": list(relation.steps),
        "signals": [{"name": s.name, "log_odds": round(s.log_odds, 4)} for s in relation.signals],
    }
