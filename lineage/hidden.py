"""Ancestors that are not among the inputs: three models each changed rows that the two others share.

A row of a table that no data touched stays what it was up to decay. Of three models the one in the middle of their tree has
no rows of its own that the two others share; where each of the three has some, the middle is a fourth. If every input lacks
such rows too, the middle is not among the inputs. Sizes of updates do not enter: a light sibling cannot imitate this.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from lineage.graph import Edge
from lineage.inherited import same_rows
from lineage.study import Study

FEWEST_ROWS = 4
"""Rows that two of three models share and the third lacks, from which the third is not in the middle."""

NEIGHBOURS = 8
"""Neighbours of one model that are looked at, in threes with it."""

Rows: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Hidden:
    """An inferred ancestor.

    Attributes
    ----------
    children : tuple of str
        Ids, sorted.
    parent : str or None
        Of the ancestor, where it has one among the inputs.
    rows : int
        Fewest rows of its own that any of three children has.
    """

    children: tuple[str, ...]
    parent: str | None
    rows: int

    @property
    def id(self) -> str:
        """`~` and a digest of the children."""
        return "~" + hashlib.sha256("\n".join(self.children).encode()).hexdigest()[:16]


def hidden_ancestors(members: Sequence[Study], parent: Sequence[int]) -> tuple[Hidden, ...]:
    """Places of a tree whose middle is missing.

    Parameters
    ----------
    members : sequence of Study
        n of one shape, merges and copies left out.
    parent : sequence of int
        Of each in the tree of the inputs, -1 for its root.

    Returns
    -------
    tuple of Hidden
        No model is the child of two. Where the model it was found at has further links of its own it becomes the parent of
        the missing one; where all its links cross the missing one, it becomes a child: rows tell no direction.

    Notes
    -----
    Null: none; a count. Cost: for each member with two neighbours, at most 28 threes, each compared with all n.
    """
    found: list[Hidden] = []
    taken: set[int] = set()
    for v in range(len(members)):
        above = int(parent[v])
        below = [u for u, p in enumerate(parent) if p == v]
        near = [u for u in ([above] if above >= 0 else []) + below if u not in taken][:NEIGHBOURS]
        if len(near) < 2 or v in taken:
            continue
        far, fewest = _across(v, near, members)
        if len(far) < 2:
            continue
        is_between = above in far
        has_others = not is_between and (above >= 0 or len(far) < len(below))
        top = above if is_between else v if has_others else -1
        children = {v, *far} - {top}
        taken |= children
        names = tuple(sorted(members[u].id for u in children))
        found.append(Hidden(names, members[top].id if top >= 0 else None, fewest))
    return tuple(found)


def _across(v: int, near: Sequence[int], members: Sequence[Study]) -> tuple[set[int], int]:
    """Neighbours that a missing middle separates from v, and the fewest rows of its own any of the threes has."""
    group = [v, *near]
    same = same_rows([members[i] for i in group], members)
    far: set[int] = set()
    fewest = 0
    for a, b in combinations(range(1, len(group)), 2):
        own = _own_rows(same, group, (0, a, b))
        if min(own) < FEWEST_ROWS or _is_observed(same, group, (0, a, b)):
            continue
        far |= {group[a], group[b]}
        fewest = min(own) if not fewest else min(fewest, *own)
    return far, fewest


def _own_rows(same: Rows, group: Sequence[int], three: tuple[int, int, int]) -> list[int]:
    """For each of three: how many rows the two others share and it lacks."""
    counts = []
    for x in three:
        y, z = (i for i in three if i != x)
        counts.append(int(np.sum(same[:, y, group[z]] & ~same[:, x, group[y]] & ~same[:, x, group[z]])))
    return counts


def _is_observed(same: Rows, group: Sequence[int], three: tuple[int, int, int]) -> bool:
    """Whether some model holds nearly all rows that any two of the three share: it is their middle."""
    held = np.zeros(same.shape[::2], dtype=np.bool_)
    shared = np.zeros(len(same), dtype=np.bool_)
    for y, z in combinations(three, 2):
        pair = same[:, y, group[z]]
        shared |= pair
        held |= same[:, y, :] & pair[:, None]
    lacking = int(shared.sum()) - held.sum(axis=0)
    return bool((lacking < FEWEST_ROWS).any())


def with_hidden(edges: Sequence[Edge], hidden: Sequence[Hidden]) -> list[Edge]:
    """Edges with inferred ancestors in place: links between their children are replaced by links to them."""
    found = list(edges)
    for h in hidden:
        inside = [e for e in found if e.child in h.children and e.parent in (*h.children, h.parent)]
        if not inside:
            continue
        weakest = min(inside, key=lambda e: (e.probability, e.parent, e.child))
        evidence: dict[str, Any] = {"signals": [], "own_rows": h.rows}
        link = replace(
            weakest, kind="related", log_pvalue=0.0, exactness="heuristic", coefficient=None, evidence=evidence
        )
        found = [e for e in found if e not in inside]
        found += [replace(link, parent=h.id, child=c) for c in h.children]
        if h.parent is not None:
            found.append(replace(link, parent=h.parent, child=h.id))
    return found


def virtual_of(edges: Sequence[Edge]) -> list[tuple[str, str]]:
    """Ids of inferred ancestors that have edges, each with its smallest child."""
    children: dict[str, str] = {}
    for e in edges:
        if e.parent.startswith("~") and "own_rows" in e.evidence:
            children[e.parent] = min(e.child, children.get(e.parent, e.child))
    return sorted(children.items())


def root_above(root: str, edges: Sequence[Edge]) -> str:
    """The root, or the inferred ancestor above it."""
    above = [e.parent for e in edges if e.child == root and "own_rows" in e.evidence]
    return above[0] if above else root
