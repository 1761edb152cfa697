"""How right a tree is: edges, directions, ancestors, roots, parents of merges, and whether probabilities keep their word."""

from itertools import combinations
from unittest.mock import patch

import numpy as np

from lineage.distances import squared_distances
from lineage.infer import OPEN_BAND, Link
from lineage.making import find_made
from lineage.placing import place


def answered(family, claims=None):
    """The placed family; every pair counts as related, which is the part that tests show elsewhere.

    Members made by a formula are looked for once a family, and no support is drawn: neither is what signals change.
    """
    ids = sorted(family.studies)
    squared = squared_distances([family.studies[i].matrices for i in ids])
    links = [
        Link(a, b, float(squared[i, j]), 0.0, "fine-tune", True, -100.0, "exact")
        for (i, a), (j, b) in combinations(enumerate(ids), 2)
    ]
    with patch("lineage.placing.find_made", found_once), patch("lineage.placing.link_support", lambda *_: None):
        return place(ids, links, family.studies, claims)


def found_once(studies, *more):
    """`find_made`, remembered by the very members."""
    key = tuple(id(s) for s in studies)
    if key not in _FOUND:
        _FOUND[key] = (find_made(studies, *more), studies)
    return _FOUND[key][0]


_FOUND = {}


def score(family, placed):
    """Counts of one family, to be added up over many."""
    true = {(p, c) for c, parents in family.parents.items() for p in parents}
    likely, found, stated = [], set(), set()
    for item in placed.links:
        a, b, forward = item.link.a, item.link.b, item.a_is_parent
        pair = (a, b) if forward > 0.5 else (b, a)
        found.add(pair)
        sure = max(forward, 1.0 - forward)
        if not OPEN_BAND[0] <= forward <= OPEN_BAND[1]:
            stated.add(pair)
        likely.append((sure * item.belongs, pair in true, sure, pair in true or pair[::-1] in true))
    merged = {(p, m.child) for m in placed.made if m.kind == "merge" for p, _ in m.parents}
    made = {(p, m.child) for m in placed.made for p, _ in m.parents}
    dated = set(placed.joint.tree) | {e for e in found if e not in placed.joint.probability} | made
    found |= made
    stated |= made
    undirected = {frozenset(e) for e in true}
    above = ancestors(true)
    mine = ancestors(stated)
    roots = {c for c, parents in family.parents.items() if not parents}
    wanted = {(p, c) for p, c in true if family.kinds[c] == "merge"}
    return {
        "true": len(true),
        "found": len(found),
        "undirected": len({frozenset(e) for e in found} & undirected),
        "directed": len(found & true),
        "dated": len(dated),
        "dated_right": len(dated & true),
        "stated": len(stated),
        "stated_links": len({e for e in stated if frozenset(e) in undirected}),
        "stated_right": len(stated & true),
        "ancestry_true": len(above),
        "ancestry_found": len(mine),
        "ancestry_hits": len(above & mine),
        "roots": 1,
        "roots_right": int(placed.root in roots),
        "merge_true": len(wanted),
        "merge_found": len(merged),
        "merge_hits": len(merged & wanted),
    }, likely


def losses(family, placed):
    """Where each member with one true parent hangs: right, or what its place is taken for."""
    above = {c: p[0] for c, p in family.parents.items() if len(p) == 1}
    hung = {}
    for item in placed.links:
        a, b = item.link.a, item.link.b
        hung[b if item.a_is_parent > 0.5 else a] = a if item.a_is_parent > 0.5 else b
    hung |= {m.child: above.get(m.child, "") for m in placed.made if above.get(m.child) in dict(m.parents)}
    counts = dict.fromkeys(PLACES, 0)
    for child, parent in above.items():
        counts[_place_of(child, parent, hung.get(child), above)] += 1
    return counts


PLACES = (
    "the parent",
    "a sibling",
    "the grandparent",
    "a child of its own",
    "a child of a sibling",
    "another",
    "none: the root",
)


def _place_of(child, parent, found, above):
    if found is None:
        return "none: the root"
    grand = above.get(found)
    known = {
        parent: "the parent",
        above.get(parent): "the grandparent",
    }
    if found in known:
        return known[found]
    if grand in (parent, child):
        return "a sibling" if grand == parent else "a child of its own"
    return "a child of a sibling" if grand is not None and above.get(grand) == parent else "another"


def ancestors(edges):
    """Every (ancestor, descendant)."""
    parents = {}
    for p, c in edges:
        parents.setdefault(c, set()).add(p)
    found = set()
    for child, direct in parents.items():
        stack, seen = list(direct), set()
        while stack:
            here = stack.pop()
            if here not in seen:
                seen.add(here)
                found.add((here, child))
                stack += parents.get(here, ())
    return found


def f1(hits, found, true):
    return 2.0 * hits / (found + true) if found + true else 1.0


def calibration(pairs, bins=10):
    """(expected calibration error, Brier score) of (probability, right) pairs."""
    p, y = np.array([x for x, _ in pairs]), np.array([float(r) for _, r in pairs])
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [
        abs(p[which == b].mean() - y[which == b].mean()) * (which == b).mean()
        for b in range(bins)
        if (which == b).any()
    ]
    return float(np.sum(gaps)), float(np.mean((p - y) ** 2))


def total(counts):
    return {k: sum(c[k] for c in counts) for k in counts[0]}


def summary(counts, likely):
    """The numbers of a population."""
    t = total(counts)
    edge = calibration([(p, r) for p, r, _, _ in likely])
    way = [(sure, r) for _, r, sure, linked in likely if linked]
    direction = calibration(way)
    return {
        "families": t["roots"],
        "true edges": t["true"],
        "undirected F1": f1(t["undirected"], t["found"], t["true"]),
        "directed F1": f1(t["directed"], t["found"], t["true"]),
        "directed F1 with dates": f1(t["dated_right"], t["dated"], t["true"]),
        "ancestry F1": f1(t["ancestry_hits"], t["ancestry_found"], t["ancestry_true"]),
        "root right": t["roots_right"] / t["roots"],
        "directions stated right": t["stated_right"] / max(1, t["stated_links"]),
        "undetermined": 1.0 - t["stated"] / max(1, t["found"]),
        "merge parents F1": f1(t["merge_hits"], t["merge_found"], t["merge_true"]),
        "edge ECE": edge[0],
        "edge Brier": edge[1],
        "direction ECE": direction[0],
        "direction Brier": direction[1],
        "in 0.6-0.9": float(np.mean([0.6 <= p <= 0.9 for p, _, _, _ in likely])),
        "links": len(likely),
    }
