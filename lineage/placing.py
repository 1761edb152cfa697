"""Where each member of a family belongs: what was made by a formula first, then the tree of the rest, then the shapes."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lineage.bootstrap import link_support
from lineage.bridging import bridged
from lineage.graph import connected_components
from lineage.hidden import Hidden, hidden_ancestors
from lineage.infer import OPEN_BAND, Link, RootedLink, copies_of, sigmoid, spanning_tree
from lineage.kinship import Kinship, kinship
from lineage.making import Made, find_made
from lineage.metadata import Claims, Joint, claim_log_odds
from lineage.posterior import TreePosterior, tree_posterior
from lineage.signals import traits_of
from lineage.study import Study

PAIR_EVIDENCE = 10.0
"""Log-odds two models need to be directed when there is no third: only exact evidence reaches it."""

Ask = Callable[[str, str], Link | None]
"""The link of two ids, or None."""

INTERCEPT = 0.41
SLOPE = 1.24
_SUREST = 1e-9


@dataclass(frozen=True, slots=True)
class Root:
    """The root of the best tree of one shape, with the size of that tree and the probability of the root."""

    id: str
    size: int
    probability: float


@dataclass(frozen=True, slots=True)
class Placed:
    """The tree of one family joined by descent.

    Attributes
    ----------
    links : tuple of RootedLink
        Of the tree.
    made : tuple of Made
        Members made from others by a formula, with their parents.
    root : str
        Most probable root.
    root_probability : float
    signals : mapping of (str, str) to tuple of (str, float)
        What spoke of the direction of a link, by its ids in order.
    joint : Joint
        What claims and weights say together; empty without claims.
    hidden : tuple of Hidden
        Ancestors that are not among the members.
    """

    links: tuple[RootedLink, ...]
    made: tuple[Made, ...]
    root: str
    root_probability: float
    signals: Mapping[tuple[str, str], tuple[tuple[str, float], ...]] = field(default_factory=dict)
    joint: Joint = field(default_factory=Joint)
    hidden: tuple[Hidden, ...] = ()


def place(
    members: Sequence[str],
    links: Sequence[Link],
    studies: Mapping[str, Study],
    claims: Mapping[str, Claims] | None = None,
    ask: Ask | None = None,
    seed: int = 0,
) -> Placed:
    """Place all members of one family.

    Parameters
    ----------
    members : sequence of str
        Ids of members joined by descent, at least two.
    links : sequence of Link
        All related pairs among them.
    studies : mapping of str to Study
        Larger slices, where there are any.
    claims : mapping of str to Claims, optional
        Dates and declared parents: they fill `joint` and change nothing else.
    ask : callable, optional
        The link of two members that is not among `links`, or None where no test relates them.
    seed : int
        Of the draws behind `support`.

    Returns
    -------
    Placed

    Notes
    -----
    Copies and merges are taken out first: noise and averages bend trees of distances. Members of one shape get the tree
    of `lineage.posterior`; shapes are joined, and members without slices placed, by the shortest links.
    """
    descent = [k for k in links if k.is_descent]
    link_of = _lookup(descent, ask)
    copies = copies_of(descent)
    classes: dict[Any, list[str]] = defaultdict(list)
    for i in members:
        if i in studies and i not in copies:
            classes[studies[i].shape_class].append(i)
    made = [m for ids in classes.values() for m in find_made([studies[i] for i in sorted(ids)])]
    taken = {m.child for m in made} | set(copies)
    rooted: list[RootedLink] = [RootedLink(k, sigmoid(k.log_odds)) for k in copies.values()]
    told: dict[tuple[str, str], tuple[tuple[str, float], ...]] = {}
    roots: dict[str, Root] = {}
    joint = Joint()
    hidden: list[Hidden] = []
    for ids in (part for held in classes.values() for part in _joined(held, descent)):
        core = sorted(i for i in ids if i not in taken)
        if len(core) > 1:
            kin = _kin(core, studies)
            rooted += _class_links(kin, link_of, roots, hidden, [studies[i] for i in core], seed)
            told |= _told(kin)
            if claims is not None:
                joint = joint.beside(_joint(kin, claims))
        else:
            roots |= {i: Root(i, 1, 1.0) for i in core}
    shapes = bridged([[i for i in ids if i not in taken] for ids in classes.values()], rooted, descent, studies)
    rooted, made = list(shapes.rooted), [*(m for m in made if m.child not in copies), *shapes.stacks]
    rest = [k for k in descent if k.a not in taken and k.b not in taken]
    stacked = [k for m in shapes.stacks for p, _ in m.parents if (k := link_of(*sorted((p, m.child)))) is not None]
    joined = spanning_tree(sorted(set(members) - taken), rest, [*(r.link for r in rooted), *stacked])
    inside = {(r.link.a, r.link.b) for r in rooted} | {(k.a, k.b) for k in stacked}
    fresh = [shapes.name(k) for k in joined if (k.a, k.b) not in inside]
    rooted += [RootedLink(k, sigmoid(k.log_odds)) for k in fresh]
    root = _root_of(members, rooted, made, roots)
    sure = roots[root].probability if len(classes) == 1 and root in roots else 1.0 / len(members)
    return Placed(tuple(rooted), tuple(made), root, sure, told, joint, tuple(hidden))


def _kin(core: Sequence[str], studies: Mapping[str, Study]) -> Kinship:
    """What the pairs of one shape say; of two members, nothing but exact evidence directs.

    Copies and merges are no third: whoever can make a model can make those of it.
    """
    members = [studies[i] for i in core]
    kin = kinship(members, {m.id: traits_of(m) for m in members})
    if len(core) == 2 and abs(kin.log_odds(0, 1)) < PAIR_EVIDENCE:
        return replace(kin, signals={}, excluded=np.zeros((2, 2), dtype=np.bool_))
    return kin


def _joined(ids: Sequence[str], descent: Sequence[Link]) -> list[list[str]]:
    """Members of one shape in the groups that links between them join: sources of one stack may be strangers."""
    own = set(ids)
    return connected_components(ids, [(k.a, k.b) for k in descent if k.a in own and k.b in own])


def _joint(kin: Kinship, claims: Mapping[str, Claims]) -> Joint:
    """Every ordered pair and the best tree of one shape, weighed with claims."""
    found = tree_posterior(kin, claims=claim_log_odds(kin.ids, claims))
    probability = {}
    for u, parent in enumerate(kin.ids):
        for v, child in enumerate(kin.ids):
            if u != v:
                forward, belongs = _confidence(found, u, v)
                probability[parent, child] = forward * belongs
    return Joint(probability, tuple((kin.ids[u], kin.ids[v]) for v, u in enumerate(found.parent) if u >= 0))


def _confidence(found: TreePosterior, i: int, j: int) -> tuple[float, float]:
    """Probability that i is the parent given the link, and what makes it that of the link as well."""
    forward, backward = float(found.edge[i, j]), float(found.edge[j, i])
    both = forward + backward
    sure = forward / both if both > 0.0 else 0.5
    return sure, min(1.0, calibrated(max(forward, backward)) / max(sure, 1.0 - sure))


def _told(kin: Kinship) -> dict[tuple[str, str], tuple[tuple[str, float], ...]]:
    return {
        (kin.ids[i], kin.ids[j]): tuple((s.name, s.log_odds) for s in signals)
        for (i, j), signals in kin.signals.items()
    }


def _lookup(descent: Sequence[Link], ask: Ask | None) -> Ask:
    """Links of descent by their ids in order; those that nobody asked for yet are asked for."""
    table = {(k.a, k.b): k for k in descent}

    def link_of(a: str, b: str) -> Link | None:
        link = table.get((a, b)) or (ask(a, b) if ask is not None else None)
        return link if link is not None and link.is_descent else None

    return link_of


def _class_links(
    kin: Kinship, link_of: Ask, roots: dict[str, Root], hidden: list[Hidden], members: Sequence[Study], seed: int
) -> list[RootedLink]:
    """The links of the best tree of one shape with their marginals, and the share of drawn trees that have them."""
    found = tree_posterior(kin)
    hidden += hidden_ancestors(members, [int(p) for p in found.parent])
    rng = np.random.default_rng(seed)
    support = link_support([m.matrices or m.tables for m in members], kin.squared, found, rng)
    top = int(np.argmin(found.parent))
    roots[kin.ids[top]] = Root(kin.ids[top], len(kin.ids), float(found.root[top]))
    rooted = []
    for v, u in enumerate(found.parent):
        if u < 0:
            continue
        i, j = sorted((int(u), v))
        link = link_of(kin.ids[i], kin.ids[j])
        if link is None:
            continue  # joined through others only: no test of its own
        rooted.append(RootedLink(link, *_confidence(found, i, j), None if support is None else float(support[i, j])))
    return rooted


def calibrated(probability: float) -> float:
    """Probability that a link of the best tree is right, from its marginal.

    Marginals of the links that the best tree chose are too modest; the two numbers are fitted on families 0 to 7 of the
    nursery and twins of them.
    """
    p = min(1.0 - _SUREST, max(_SUREST, probability))
    return sigmoid(INTERCEPT + SLOPE * math.log(p / (1.0 - p)))


def _root_of(
    members: Sequence[str], rooted: Sequence[RootedLink], made: Sequence[Made], roots: Mapping[str, Root]
) -> str:
    """The root of the largest class that is nobody's child; else the member with most links that is none; ties by id."""
    children = {m.child for m in made}
    degree: dict[str, int] = defaultdict(int)
    for r in rooted:
        degree[r.link.a] += 1
        degree[r.link.b] += 1
        if not OPEN_BAND[0] <= r.a_is_parent <= OPEN_BAND[1]:
            children.add(r.link.b if r.a_is_parent > 0.5 else r.link.a)
    free = [r for i, r in sorted(roots.items()) if i not in children]
    if free:
        return min(free, key=lambda r: (-r.size, -round(r.probability, 9), r.id)).id
    return min((i for i in members if i not in children), key=lambda i: (-degree[i], i), default=min(members))
