"""Links between the shapes of one family: which member was cut, grown or stacked from which member of another shape.

Inside one shape distances speak. Between shapes structure does: it says which side is the child, and so where the tree of
that side's shape begins.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lineage.infer import Link, RootedLink, sigmoid
from lineage.making import Made
from lineage.reshaping import GROUPS, Reshaped, layers_of, reshaped
from lineage.study import Study
from stats.arrays import Float64Array
from stats.layering import SAME, stack_cosines

NEAREST = 4
"""Members of each other shape, nearest first, with which a member is compared; and the pairs compared in a family at most."""
MOST = 512

EXACT = 4e-3
"""Relative change of the shared layers up to which they count as equal: one rounding to eight significant bits."""

HEALED = 2.0
"""Log-odds that the nearest member of a shape is the one its tree begins with, when all of them were trained on since."""

STACKED = 6.0
"""Log-odds that a stack whose layers come from two members, each of which has layers that the stack lacks, is their child:
one event explains it. The other way round the stack was there first and two models kept different parts of it."""

_MOST_SOURCES = 4
_EQUAL = 1.0 - 1e-6


@dataclass(frozen=True, slots=True)
class Bridges:
    """What joins the shapes of a family.

    Attributes
    ----------
    rooted : tuple of RootedLink
        Links inside shapes, turned where structure says with which member a shape begins, and the links between shapes.
    stacks : tuple of Made
        Members stacked from layers of several others.
    named : mapping of (str, str) to Reshaped
        What is known of pairs of unlike shapes, by their ids in order.
    """

    rooted: tuple[RootedLink, ...]
    stacks: tuple[Made, ...] = ()
    named: Mapping[tuple[str, str], Reshaped] = field(default_factory=dict)

    def name(self, link: Link) -> Link:
        """A link with the kind that its structure tells."""
        found = self.named.get((link.a, link.b))
        return link if found is None else named(link, found)


def named(link: Link, found: Reshaped) -> Link:
    """A link with the kind and the numbers of a reshaping of its ends, in their order."""
    sign = 1.0 if found.forward else -1.0
    told = [{"name": "structure", "log_odds": sign * found.log_odds}] if found.log_odds else []
    evidence = {**link.evidence, **found.details, "steps": [found.kind], "signals": told}
    return replace(link, kind=found.kind, log_odds=sign * found.log_odds, evidence=evidence)


def bridged(
    classes: Sequence[Sequence[str]],
    rooted: Sequence[RootedLink],
    links: Sequence[Link],
    studies: Mapping[str, Study],
) -> Bridges:
    """Join the shapes of one family.

    Parameters
    ----------
    classes : sequence of sequence of str
        Members by shape.
    rooted : sequence of RootedLink
        Trees inside shapes.
    links : sequence of Link
        Related pairs.
    studies : mapping of str to Study

    Returns
    -------
    Bridges

    Notes
    -----
    Where shared layers are equal each child hangs below its own parent; where all were trained on since, the nearest pair
    joins two shapes. Cost: `lineage.reshaping.reshaped` for at most 512 pairs.
    """
    if len(classes) < 2:
        return Bridges(tuple(rooted))
    class_of = {i: n for n, ids in enumerate(classes) for i in ids}
    asked = _asked(links, class_of)
    seen = {(k.a, k.b): found for k in asked if (found := reshaped(studies[k.a], studies[k.b])) is not None}
    stacks = _stacks(classes, asked, studies)
    above = _parents(asked, seen, class_of, {m.child for m in stacks})
    entries = {child: HEALED if seen[k.a, k.b].change > EXACT else abs(seen[k.a, k.b].log_odds) for child, k in above}
    entries |= {m.child: m.log_odds for m in stacks}
    turned = _turned(rooted, entries)
    for _, link in above:
        made = named(link, seen[link.a, link.b])
        turned.append(RootedLink(made, sigmoid(made.log_odds)))
    return Bridges(tuple(turned), stacks, seen)


def _asked(links: Sequence[Link], class_of: Mapping[str, int]) -> list[Link]:
    """Links between shapes: the nearest of each member in each other shape."""
    counts: dict[tuple[str, int], int] = defaultdict(int)
    asked: list[Link] = []
    for link in sorted(links, key=lambda k: (k.distance, k.a, k.b)):
        if link.a not in class_of or link.b not in class_of or class_of[link.a] == class_of[link.b]:
            continue
        ends = (link.a, class_of[link.b]), (link.b, class_of[link.a])
        if min(counts[e] for e in ends) < NEAREST and len(asked) < MOST:
            asked.append(link)
            for end in ends:
                counts[end] += 1
    return asked


def _parents(
    asked: Sequence[Link], seen: Mapping[tuple[str, str], Reshaped], class_of: Mapping[str, int], stacks: set[str]
) -> list[tuple[str, Link]]:
    """(child, link) for members with a parent of another shape, the surest first; no shape is its own ancestor."""

    def ends(link: Link) -> tuple[str, str]:
        return (link.a, link.b) if seen[link.a, link.b].forward else (link.b, link.a)

    def badness(link: Link) -> tuple[float, float, str, str]:
        found = seen[link.a, link.b]
        return (0.0 if found.change <= EXACT else found.change, link.distance, link.a, link.b)

    told = sorted((k for k in asked if (k.a, k.b) in seen and seen[k.a, k.b].log_odds > 0.0), key=badness)
    found: dict[str, Link] = {}
    above: dict[int, set[int]] = defaultdict(set)
    for link in told:
        parent, child = ends(link)
        home, source = class_of[child], class_of[parent]
        trained = seen[link.a, link.b].change > EXACT
        if child in found or child in stacks or (trained and above[home]) or _reaches(above, source, home):
            continue
        found[child] = link
        above[home].add(source)
    return sorted(found.items())


def _reaches(above: Mapping[int, set[int]], start: int, goal: int) -> bool:
    """Whether one shape descends from another."""
    stack, seen = [start], {start}
    while stack:
        here = stack.pop()
        if here == goal:
            return True
        fresh = above.get(here, set()) - seen
        seen |= fresh
        stack += sorted(fresh)
    return False


def _turned(rooted: Sequence[RootedLink], entries: Mapping[str, float]) -> list[RootedLink]:
    """Links of which each tree begins with its entry; between two entries the longest link is cut."""
    left = {(r.link.a, r.link.b): r for r in rooted}
    ends = sorted(entries)
    for i, first in enumerate(ends):
        for second in ends[i + 1 :]:
            path = _path(left, first, second)
            if path:
                del left[max(path, key=lambda pair: (left[pair].link.distance, pair))]
    for entry in ends:
        sure = sigmoid(entries[entry])
        for pair, outward in _outward(left, entry):
            item = left[pair]
            own = item.a_is_parent if outward else 1.0 - item.a_is_parent
            forward = max(own, sure)
            left[pair] = replace(item, a_is_parent=forward if outward else 1.0 - forward)
    return list(left.values())


def _outward(left: Mapping[tuple[str, str], RootedLink], start: str) -> list[tuple[tuple[str, str], bool]]:
    """Every link that can be reached from a member, with whether its first end is the nearer one."""
    found, reached, stack = [], {start}, [start]
    while stack:
        here = stack.pop()
        for pair in sorted(left):
            other = pair[1] if pair[0] == here else pair[0] if pair[1] == here else None
            if other is not None and other not in reached:
                found.append((pair, pair[0] == here))
                reached.add(other)
                stack.append(other)
    return found


def _path(left: Mapping[tuple[str, str], RootedLink], start: str, goal: str) -> list[tuple[str, str]]:
    """Links on the way from one member to another; none where there is no way."""
    came: dict[str, tuple[str, tuple[str, str]]] = {}
    for pair, outward in _outward(left, start):
        near, far = pair if outward else (pair[1], pair[0])
        came[far] = near, pair
    path, here = [], goal
    while here in came and here != start:
        here, pair = came[here]
        path.append(pair)
    return path if here == start else []


def _stacks(classes: Sequence[Sequence[str]], asked: Sequence[Link], studies: Mapping[str, Study]) -> tuple[Made, ...]:
    """Members whose layers come from several others of another depth, each of which has layers they lack."""
    near: dict[str, list[str]] = defaultdict(list)
    for link in asked:
        near[link.a].append(link.b)
        near[link.b].append(link.a)
    found = []
    for i in sorted(x for ids in classes for x in ids):
        others = [j for j in near[i] if studies[j].n_layers != studies[i].n_layers][: 2 * NEAREST]
        made = _stack(studies[i], [studies[j] for j in others]) if len(others) > 1 else None
        if made is not None:
            found.append(made)
    children = {m.child for m in found}
    return tuple(m for m in found if not any(p in children for p, _ in m.parents))


def _stack(member: Study, others: Sequence[Study]) -> Made | None:
    cosines = [stack_cosines(layers_of(x), layers_of(member), GROUPS) for x in others]
    best = [max(float(c[:, j].max(initial=-1.0)) for c in cosines) for j in range(member.n_layers)]
    least = _EQUAL if min(best, default=0.0) >= _EQUAL else SAME
    if min(best, default=0.0) < least:
        return None
    layers: list[tuple[str, int] | None] = [None] * member.n_layers
    used: list[int] = []
    while None in layers and len(used) < _MOST_SOURCES:
        gains = [_gain(c, layers, least) for c in cosines]
        top = max(range(len(others)), key=lambda n: (len(gains[n]), -n))
        used.append(top)
        for j in gains[top]:
            layers[j] = others[top].id, int(cosines[top][:, j].argmax())
    if None in layers or len(used) < 2:
        return None
    if any(bool((cosines[n].max(axis=1, initial=-1.0) >= least).all()) for n in used):
        return None  # all of a source is in the stack: it may have been cut from it
    counts = {others[n].id: sum(s is not None and s[0] == others[n].id for s in layers) for n in used}
    parents = tuple((name, round(count / member.n_layers, 4)) for name, count in sorted(counts.items()))
    sources = [{"id": s[0], "layer": s[1]} for s in layers if s is not None]
    details = {"method": "passthrough", "layer_sources": sources, "steps": ["frankenmerge"]}
    return Made(member.id, parents, "frankenmerge", details, STACKED)


def _gain(cosines: Float64Array, layers: Sequence[object], least: float) -> list[int]:
    """Layers still without a source that one member explains."""
    return [j for j, known in enumerate(layers) if known is None and float(cosines[:, j].max(initial=-1.0)) >= least]
