"""From pairs to one rooted tree per family: topology first, direction second.

A minimum spanning tree on squared distances over one common tensor set, then the posterior of every rooting from
the direction evidence on its edges. The shape of a tree alone directs nothing: the share of nodes on a side, which a
uniform prior on the root would turn into a probability, is divided out. A first version behind a stable interface:
`infer_component` takes measured links and returns edges with probabilities.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

OPEN_BAND = (0.25, 0.75)
"""A direction with a probability inside this band is undetermined."""


UPDATE_COSINE = 0.2
"""Spread of the cosine between two updates of one family: 0.09 to 0.35 in size on published and own families."""


_SURE = 0.9
_FAR = 4.0
"""A place is reconsidered below this probability, and only for a leaf this many times farther (squared) than the step."""


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
    """A tree link with the probability that its a-end is the parent, and that it belongs in the tree at all."""

    link: Link
    a_is_parent: float
    belongs: float = 1.0


@dataclass(frozen=True, slots=True)
class RootedTree:
    """The inferred tree of one family."""

    links: tuple[RootedLink, ...]
    root_probability: Mapping[str, float]

    @property
    def root(self) -> str:
        """The most probable root; among equals the one nearest to all others, then by id."""
        best = max(self.root_probability.values())
        near = [i for i, p in self.root_probability.items() if p >= best * (1.0 - 1e-9)]
        return min(near, key=lambda i: (self._depth(i), i))

    def _depth(self, root: str) -> int:
        """Sum over all links of the nodes behind them, seen from a root: smallest at the centre."""
        links = [r.link for r in self.links]
        away = orient(root, links)
        return sum(len(_side_of(k.b if away[k.a, k.b] else k.a, k, links)) for k in links)


def infer_component(members: Sequence[str], links: Sequence[Link]) -> RootedTree:
    """Tree and rooting of one family.

    Parameters
    ----------
    members : sequence of str
        Ids of one connected component.
    links : sequence of Link
        All related pairs among them, strongest evidence or not.

    Returns
    -------
    RootedTree

    Notes
    -----
    Squared distances add along a path when successive updates are orthogonal (arXiv 2405.18432 works on plain
    distances, which do not). Mechanical copies are taken out first and hung below their source: rounding noise would
    put them between it and its kin. P(root = r) is proportional to exp(sum of log-odds of edges oriented away from r);
    P(a is parent) sums it over the side of a, and the odds of that sum under no evidence are divided out: without any
    signal it is one half.
    Cost: O(m^2 log m) for m members.
    """
    descent = [k for k in links if k.is_descent]
    copies = copies_of(descent)
    core = [k for k in descent if k.a not in copies and k.b not in copies]
    squared = {(k.a, k.b): k.distance for k in links} | {(k.b, k.a): k.distance for k in links}
    trunk = _recentred(_spanning_tree(members, core), {frozenset((k.a, k.b)): k for k in core}, squared)
    tree = sorted([*trunk, *copies.values()], key=lambda k: (k.a, k.b))
    scores = dict.fromkeys(members, 0.0)
    sides: dict[tuple[str, str], set[str]] = {}
    for link in tree:
        side = _side_of(link.a, link, tree)
        sides[link.a, link.b] = side
        for r in members:
            scores[r] += 0.5 * link.log_odds * (1.0 if r in side else -1.0)
    posterior = _softmax(scores)
    rooted = [RootedLink(k, _told_by_evidence(sides[k.a, k.b], posterior)) for k in tree]
    rooted = [replace(r, belongs=_attachment(r.link, trunk, squared)) if r.link in trunk else r for r in rooted]
    return RootedTree(tuple(rooted), posterior)


def _told_by_evidence(side: set[str], posterior: Mapping[str, float]) -> float:
    """Probability that the root lies on a side, at even prior odds: posterior odds over those of the uniform root."""
    inside = math.fsum(posterior[r] for r in sorted(side))
    outside = math.fsum(posterior[r] for r in sorted(set(posterior) - side))
    inside, outside = inside / len(side), outside / (len(posterior) - len(side))
    return inside / (inside + outside)


def _recentred(
    tree: list[Link], known: Mapping[frozenset[str], Link], squared: Mapping[tuple[str, str], float]
) -> list[Link]:
    """Leaves whose place distances cannot tell hang where more models hang: heavy children come from bases more often.

    A leaf that trained for long lies almost equally far from all kin of its parent, and likeness of data decides which
    looks nearest. Only its place is moved, step by step towards the neighbour of more links, and only while a step is
    within what unlike updates blur.
    """
    for leaf in sorted({i for k in tree for i in (k.a, k.b)}):
        while True:
            links = [k for k in tree if leaf in (k.a, k.b)]
            if len(links) != 1:
                break
            better = _busier(leaf, links[0], tree, known, squared)
            if better is None:
                break
            tree = [k for k in tree if k is not links[0]] + [better]
    return sorted(tree, key=lambda k: (k.a, k.b))


def _busier(
    leaf: str,
    link: Link,
    tree: Sequence[Link],
    known: Mapping[frozenset[str], Link],
    squared: Mapping[tuple[str, str], float],
) -> Link | None:
    """The link of a leaf to the neighbour of its holder that holds most others, where distances leave it open."""
    holder = link.b if link.a == leaf else link.a
    held: dict[str, int] = defaultdict(int)
    for k in tree:
        if k is not link:
            held[k.a] += 1
            held[k.b] += 1
    around = {k.b if k.a == holder else k.a for k in tree if k is not link and holder in (k.a, k.b)}
    open_ones = [
        n
        for n in around
        if held[n] > held[holder]
        and frozenset((leaf, n)) in known
        and squared[leaf, holder] > _FAR * squared[holder, n]
        and _share_from(leaf, holder, n, squared) < _SURE
    ]
    best = max(sorted(open_ones), key=lambda n: held[n], default=None)
    return None if best is None else known[frozenset((leaf, best))]


def _share_from(x: str, f: str, a: str, squared: Mapping[tuple[str, str], float]) -> float:
    """Probability that x comes from f and not from f's neighbour a; see `_attachment`."""
    step, near, far = squared[a, f], squared[x, f], squared.get((x, a), math.inf)
    if not (0.0 < step < math.inf and far < math.inf):
        return 1.0
    t = (far + step - near) / (2.0 * step)
    blur = UPDATE_COSINE * math.sqrt(near / step)
    return 1.0 / (1.0 + math.exp(-min(50.0, max(-50.0, (t - 0.5) / max(blur, 1e-9)))))


def _attachment(link: Link, tree: Sequence[Link], squared: Mapping[tuple[str, str], float]) -> float:
    """Probability that neither end of a link belongs to a neighbour of the other end instead.

    For x linked to f and a next to f, t = <x - a, f - a> / |f - a|^2 is near 1 when x comes from f and near 0 when x
    comes from a, each blurred by the cosine of unlike updates times |x| / |f - a|. Training on like data makes that
    cosine positive, so a heavily trained child of a can lie closer to its sibling f than to a.
    """
    probability = 1.0
    for x, f in ((link.a, link.b), (link.b, link.a)):
        for other in tree:
            if other is link or f not in (other.a, other.b):
                continue
            a = other.b if other.a == f else other.a
            probability = min(probability, _share_from(x, f, a, squared))
    return probability


def copies_of(links: Sequence[Link]) -> dict[str, Link]:
    """Each mechanical copy (a cast) with the link to what it was made from; where neither is, the larger id."""
    found: dict[str, Link] = {}
    for link in sorted((k for k in links if k.kind == "cast"), key=lambda k: (-abs(k.log_odds), k.a, k.b)):
        source, copy = (link.a, link.b) if link.log_odds >= 0.0 else (link.b, link.a)
        above = source
        while above in found and above != copy:
            step = found[above]
            above = step.a if step.b == above else step.b
        if copy not in found and above != copy:
            found[copy] = link
    return found


def orient(root: str, tree: Sequence[Link]) -> dict[tuple[str, str], bool]:
    """For each link (a, b): whether a lies on the root's side; links out of the root's reach keep a first."""
    around: dict[str, list[Link]] = defaultdict(list)
    for link in tree:
        around[link.a].append(link)
        around[link.b].append(link)
    found: dict[tuple[str, str], bool] = {}
    stack, seen = [root], {root}
    while stack:
        here = stack.pop()
        for link in around[here]:
            there = link.b if link.a == here else link.a
            if there not in seen:
                seen.add(there)
                found[link.a, link.b] = link.a == here
                stack.append(there)
    return {(k.a, k.b): found.get((k.a, k.b), True) for k in tree}


def _spanning_tree(members: Sequence[str], links: Sequence[Link]) -> list[Link]:
    """Kruskal; ties by id, so the order of the inputs never matters."""
    parent = {i: i for i in members}

    def find(i: str) -> str:
        while parent[i] != i:
            i = parent[i]
        return i

    tree = []
    for link in sorted(links, key=lambda k: (k.distance, k.a, k.b)):
        a, b = find(link.a), find(link.b)
        if a != b:
            parent[max(a, b)] = min(a, b)
            tree.append(link)
    return sorted(tree, key=lambda k: (k.a, k.b))


def _side_of(start: str, cut: Link, tree: Sequence[Link]) -> set[str]:
    around: dict[str, list[str]] = defaultdict(list)
    for link in tree:
        if link is not cut:
            around[link.a].append(link.b)
            around[link.b].append(link.a)
    seen, stack = {start}, [start]
    while stack:
        for there in around[stack.pop()]:
            if there not in seen:
                seen.add(there)
                stack.append(there)
    return seen


def _softmax(scores: Mapping[str, float]) -> dict[str, float]:
    top = max(scores.values())
    weights = {i: math.exp(s - top) for i, s in sorted(scores.items())}
    total = float(np.sum(np.array(list(weights.values()))))
    return {i: w / total for i, w in weights.items()}
