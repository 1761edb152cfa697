"""What a picture shows of a document: families of models and the lines between them, without what they imply.

Drawings leave out pairs that lines already tell: children of one parent are linked to each other, and models of two
trees that share a start are linked all to all. A family of thirty would be a ball of wool.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lineage.export.contents import DESCENT, SHARED_INIT, SIBLING, Contents, Link, Model
from lineage.graph import connected_components

Style = Literal["descent", "open", "shared-init", "sibling"]


@dataclass(frozen=True, slots=True)
class Joint:
    """A mark for what models have in common and no model stands for: a start, or a parent.

    Attributes
    ----------
    key : str
        Its name in the drawing; no id.
    style : {"shared-init", "sibling"}
    n_pairs : int
        Links it stands for.
    """

    key: str
    style: Style
    n_pairs: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line between two marks of a family, from left to right.

    Attributes
    ----------
    source, target : str
        Ids of models, or keys of joints.
    style : str
        descent: with an arrow; all others are without.
    link : Link or None
        What it stands for; None from a joint.
    """

    source: str
    target: str
    style: Style
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """What is linked.

    Attributes
    ----------
    models : tuple of Model
        By id, without copies.
    joints : tuple of Joint
    lines : tuple of Line
        Without a round: every line goes from an earlier to a later mark of `order`.
    order : tuple of str
        Ids and keys, roots first.
    n_copies : int
        Identical copies of its models.
    """

    models: tuple[Model, ...]
    joints: tuple[Joint, ...]
    lines: tuple[Line, ...]
    order: tuple[str, ...]
    n_copies: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A document as marks and lines.

    Attributes
    ----------
    families : tuple of Family
        The largest first, then by id.
    alone : tuple of Model
        Models without links.
    copies : mapping of str to tuple of str
        Id to the ids of its identical copies.
    sure_roots : frozenset of str
        Roots of more than one model, more probable than not.
    n_implied : int
        Links not drawn, because lines of the drawing imply them.
    """

    families: tuple[Family, ...]
    alone: tuple[Model, ...]
    copies: Mapping[str, tuple[str, ...]]
    sure_roots: frozenset[str]
    n_implied: int


def drawing_of(contents: Contents) -> Drawing:
    """Families, lines and joints of a document; O(n log n) in models and links.

    Parameters
    ----------
    contents : Contents

    Returns
    -------
    Drawing
    """
    copies: dict[str, list[str]] = defaultdict(list)
    for model in contents.models:
        if model.duplicate_of is not None:
            copies[model.duplicate_of].append(model.id)
    models = {m.id: m for m in contents.models if m.duplicate_of is None}
    links_of: dict[str, list[Link]] = defaultdict(list)
    groups = connected_components(list(models), [(k.a, k.b) for k in contents.links])
    number = {i: group[0] for group in groups for i in group}
    for link in contents.links:
        links_of[number[link.a]].append(link)
    mark = "~" * (1 + max((len(i) - len(i.lstrip("~")) for i in models), default=0))  # no id begins so
    families: list[Family] = []
    n_implied = 0
    for group in groups:
        if len(group) > 1:
            members = [models[i] for i in group]
            made, implied = _family(members, links_of[group[0]], set(contents.roots), copies, f"{mark}{len(families)}.")
            families.append(made)
            n_implied += implied
    linked = {k.source for f in families for k in f.lines}
    return Drawing(
        tuple(sorted(families, key=lambda f: (-len(f.models) - f.n_copies, f.models[0].id))),
        tuple(models[g[0]] for g in groups if len(g) == 1),
        {i: tuple(names) for i, names in copies.items()},
        frozenset(i for i, sure in contents.roots.items() if i in linked and (sure is None or sure > 0.5)),
        n_implied,
    )


def _family(
    models: Sequence[Model],
    links: Sequence[Link],
    roots: set[str],
    copies: Mapping[str, Sequence[str]],
    mark: str,
) -> tuple[Family, int]:
    """One family, and how many of its links are implied by its lines."""
    edges = [k for k in links if k.is_directed]
    open_links = [k for k in links if k.reason not in {DESCENT, SHARED_INIT, SIBLING}]
    order = _order([m.id for m in models], edges, links, roots)
    place = {name: i for i, name in enumerate(order)}
    lines = [Line(k.a, k.b, DESCENT, k) for k in edges]
    for k in open_links:
        first, last = sorted((k.a, k.b), key=place.__getitem__)
        lines.append(Line(first, last, "open", k))
    joined = [(k.a, k.b) for k in (*edges, *open_links)]
    found = [
        *_starts(order, place, joined, [k for k in links if k.reason == SHARED_INIT], roots),
        *_parents(edges, [k for k in links if k.reason == SIBLING]),
    ]
    joints = []
    for i, (style, ends, n_pairs) in enumerate(found):
        joints.append(Joint(f"{mark}{i}", style, n_pairs))
        lines += [Line(joints[-1].key, end, style) for end in sorted(ends, key=place.__getitem__)]
    n_implied = len(links) - len(edges) - len(open_links) - sum(j.n_pairs for j in joints)
    n_copies = sum(len(copies.get(m.id, ())) for m in models)
    keys = tuple(j.key for j in joints)
    return Family(tuple(models), tuple(joints), tuple(lines), (*keys, *order), n_copies), n_implied


def _order(names: Sequence[str], edges: Sequence[Link], links: Sequence[Link], roots: set[str]) -> list[str]:
    """Models so that every parent is before its children and, where that is free, the nearer to a root before.

    A stack walked depth first along the tree of nearness, which visits a model once all its parents are visited.
    """
    depth = _depths(names, links, roots)
    parents: dict[str, int] = defaultdict(int)
    children: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        parents[edge.b] += 1
        children[edge.a].append(edge.b)
    waiting = {i: parents[i] for i in names}
    free = sorted((i for i in names if not waiting[i]), key=lambda i: (depth[i], i))
    made: list[str] = []
    for start in free:
        stack = [start]
        while stack:
            name = stack.pop()
            made.append(name)
            for child in sorted(children[name], reverse=True):
                waiting[child] -= 1
                if waiting[child] == 0:
                    stack.append(child)
    return made


def _depths(names: Sequence[str], links: Iterable[Link], roots: set[str]) -> dict[str, int]:
    """Steps from the nearest root along edges and open links; a family without a root starts at its first model."""
    around: dict[str, list[str]] = defaultdict(list)
    for link in links:
        if link.reason not in {SHARED_INIT, SIBLING}:
            around[link.a].append(link.b)
            around[link.b].append(link.a)
    depth: dict[str, int] = {}
    for start in ([i for i in names if i in roots], *([i] for i in names)):
        layer = [i for i in start if i not in depth]
        depth.update(dict.fromkeys(layer, 0))
        while layer:
            following = []
            for name in layer:
                for other in around[name]:
                    if other not in depth:
                        depth[other] = depth[name] + 1
                        following.append(other)
            layer = following
    return depth


def _starts(
    order: Sequence[str],
    place: Mapping[str, int],
    joined: Sequence[tuple[str, str]],
    links: Sequence[Link],
    roots: set[str],
) -> list[tuple[Style, list[str], int]]:
    """For every set of trees that share a start: the top of each tree, and the number of links between them."""
    part = {i: group[0] for group in connected_components(order, joined) for i in group}
    between = [(part[k.a], part[k.b]) for k in links if part[k.a] != part[k.b]]
    top: dict[str, str] = {}
    for name in sorted(order, key=lambda i: (i not in roots, place[i])):
        top.setdefault(part[name], name)
    made: list[tuple[Style, list[str], int]] = []
    for group in connected_components(sorted({p for pair in between for p in pair}), between):
        inside = set(group)
        made.append((SHARED_INIT, [top[p] for p in group], sum(a in inside for a, _ in between)))
    return made


def _parents(edges: Sequence[Link], links: Sequence[Link]) -> list[tuple[Style, list[str], int]]:
    """For every set of siblings whose parent is not drawn: its members, and the number of links among them."""
    parents: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        parents[edge.b].add(edge.a)
    orphans = [(k.a, k.b) for k in links if parents[k.a].isdisjoint(parents[k.b])]
    made: list[tuple[Style, list[str], int]] = []
    for group in connected_components(sorted({i for pair in orphans for i in pair}), orphans):
        inside = set(group)
        made.append((SIBLING, group, sum(a in inside for a, _ in orphans)))
    return made
