"""Links of a family, and what is settled before any tree: mechanical copies, and the shortest way to join the rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OPEN_BAND = (0.25, 0.75)
"""A direction with a probability inside this band is undetermined."""


@dataclass(frozen=True, slots=True)
class Link:
    """A tested and related pair inside one family.

    Attributes
    ----------
    a, b : str
        Ids, a < b.
    distance : float
        Squared distance on the family's common tensor set.
    log_odds : float
        Natural log-odds that a is the parent of b, given the edge; 0 without evidence.
    kind : str
        Relation kind between the two.
    is_descent : bool
        False where only a common start was shown; such links never become edges.
    log_pvalue : float
    exactness : str
    evidence : mapping
    """

    a: str
    b: str
    distance: float
    log_odds: float
    kind: str
    is_descent: bool
    log_pvalue: float
    exactness: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RootedLink:
    """A tree link with the probability that its a-end is the parent, and that it belongs in the tree at all.

    `support` is the share of trees from matrices drawn anew that have the link; None where none were drawn.
    """

    link: Link
    a_is_parent: float
    belongs: float = 1.0
    support: float | None = None


def copies_of(links: Sequence[Link]) -> dict[str, Link]:
    """Each mechanical copy (a cast) with the link to what it was made from; where neither is, the larger id.

    Of several sources the one fewest roundings away: a copy in BF16 of a copy in F16 is replayed from both of its ancestors.
    """
    found: dict[str, Link] = {}
    casts = [k for k in links if k.kind == "cast"]
    for link in sorted(casts, key=lambda k: (-abs(k.log_odds), len(k.evidence.get("steps", ())), k.a, k.b)):
        source, copy = (link.a, link.b) if link.log_odds >= 0.0 else (link.b, link.a)
        above = source
        while above in found and above != copy:
            step = found[above]
            above = step.a if step.b == above else step.b
        if copy not in found and above != copy:
            found[copy] = link
    return found


def spanning_tree(members: Sequence[str], links: Sequence[Link], fixed: Sequence[Link] = ()) -> list[Link]:
    """Links of least total distance that join all members, those of `fixed` first.

    Parameters
    ----------
    members : sequence of str
    links : sequence of Link
    fixed : sequence of Link
        Links that are there already; those with an end outside the members are left out.

    Returns
    -------
    list of Link
        By ids. Ties by id, so the order of the inputs never matters. Cost: O(m log m) for m links.
    """
    parent = {i: i for i in members}

    def find(i: str) -> str:
        while parent[i] != i:
            i = parent[i]
        return i

    tree = []
    inside = [k for k in fixed if k.a in parent and k.b in parent]
    for link in [*inside, *sorted(links, key=lambda k: (k.distance, k.a, k.b))]:
        a, b = find(link.a), find(link.b)
        if a != b:
            parent[max(a, b)] = min(a, b)
            tree.append(link)
    return sorted(tree, key=lambda k: (k.a, k.b))


def sigmoid(log_odds: float) -> float:
    """Probability of natural log-odds."""
    return 1.0 / (1.0 + math.exp(-max(-700.0, min(700.0, log_odds))))
