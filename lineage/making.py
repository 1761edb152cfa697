"""Members of a family that were made by a formula: quantised and pruned copies, and merges of other members.

They are found first and taken out: rounding noise and averages sit between their sources and everything else, and would
bend any tree of distances. Each carries the rounding of its own making, which tells the direction exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crawl.casts import SIGNIFICANT_BITS
from lineage.distances import squared_distances
from lineage.ensemble import Merge
from lineage.merging import find_merge
from lineage.peeling import Grids, has_zeros, is_on_grid, made_steps
from lineage.relation import LOG_ODDS_CAP
from lineage.stored import Arrays, narrowest
from lineage.study import Study
from stats.arrays import Float64Array

NEAREST = 8
"""Members nearest to a quantised one that are asked whether they are its source."""

MOST_ASKED = 64
"""Members nearest to another one of which a merge may have been made: its fit looks at the nearest 16 of them."""

LEAST_EXPLAINED = 0.2
"""Share of a member's distance from its nearest that others must explain for a merge to be looked for: 0.3 and more are
left of the sparsest of DARE (arXiv 2311.03099) in use, the methods without chance leave 0.8 and more."""

FEWEST = 3
"""Members of one shape from which one can be a merge of two others."""


@dataclass(frozen=True, slots=True)
class Made:
    """A member made from others by a formula.

    Attributes
    ----------
    child : str
    parents : tuple of (str, float or None)
        Ids and, in a merge, coefficients.
    kind : str
        `quantized`, `prune` or `merge`, `frankenmerge` where whole layers were taken.
    details : mapping
        Method and what was replayed.
    log_odds : float
        Of each direction, natural.
    belongs : float
        Probability of these parents: one over the number of members that give this one as exactly.
    """

    child: str
    parents: tuple[tuple[str, float | None], ...]
    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)
    log_odds: float = LOG_ODDS_CAP
    belongs: float = 1.0


def find_made(members: Sequence[Study]) -> tuple[Made, ...]:
    """Members of one shape that were quantised, pruned or merged from others among them.

    Parameters
    ----------
    members : sequence of Study
        Of one shape class.

    Returns
    -------
    tuple of Made
        By child; no member is its own ancestor.

    Notes
    -----
    Sources stored in a finer format than the child are left out: see `_sources`. Cost: for a
    member on a grid, a comparison with its 8 nearest; for each other one a fit over its 16 nearest.
    """
    squared = squared_distances([m.matrices for m in members])
    found: dict[str, Made] = {}
    for i, member in enumerate(members):
        near = sorted((j for j in range(len(members)) if j != i), key=lambda j: (squared[i, j], members[j].id))
        made = _copied(member, [members[j] for j in near[:NEAREST]])
        if made is not None:
            found[member.id] = made
    plain = [m for m in members if m.id not in found]
    found |= _merges(plain) if len(plain) >= FEWEST else {}
    return tuple(found[k] for k in sorted(found))


def _merges(members: Sequence[Study]) -> dict[str, Made]:
    """Merges among members, the best replayed first; no source is explained by what was made from it."""
    squared = squared_distances([m.matrices for m in members])
    open_ones = {m.id: m for i, m in enumerate(members) if explained_share(squared, i) >= LEAST_EXPLAINED}
    coarse = _sources(members, squared, open_ones)
    found: dict[str, Made] = {}
    answers: dict[str, Merge | None] = {}
    while open_ones:
        for i in sorted(open_ones.keys() - answers.keys()):
            others = {m.id: m.matrices for m in coarse[i] if not _descends(found, m.id, i)}
            answers[i] = find_merge(open_ones[i].matrices, others, open_ones[i].dtype)
        good = {i: m for i, m in answers.items() if m is not None and m.method is not None}
        if not good:
            return found
        best = min(good, key=lambda i: (-good[i].replay_share, i))
        made = _merged(open_ones[best], good[best])
        if any(_descends(found, source, best) for source, _ in made.parents):
            del answers[best]  # one of its sources has been settled below it since
            continue
        found[best] = made
        del open_ones[best]
        sources = {i for i, _ in found[best].parents}
        # A source may have been explained by what has just been shown to be its child.
        answers = {i: a for i, a in answers.items() if i in open_ones and i not in sources and not _uses(a, best)}
    return found


def _sources(members: Sequence[Study], squared: Float64Array, children: Mapping[str, Study]) -> dict[str, list[Study]]:
    """What each child may have been merged from: its nearest, but for those with low bits that its merge cannot hold.

    Such bits can be chosen so that any model comes out as the merge of a model made up and a child of its own; a replay
    then proves an equation and no direction. Bits of one format leave no such room.
    """
    bits = [significant_bits(m.matrices, m.dtype) for m in members]
    found = {}
    for i, child in enumerate(members):
        if child.id in children:
            near = sorted((j for j in range(len(members)) if j != i), key=lambda j: (squared[i, j], members[j].id))
            found[child.id] = [members[j] for j in sorted(near[:MOST_ASKED]) if bits[j] <= bits[i]]
    return found


def significant_bits(arrays: Arrays, dtype: str) -> int:
    """Bits of the coarsest format that holds all values."""
    return SIGNIFICANT_BITS.get(narrowest(arrays, dtype), 53)


def _uses(merge: Merge | None, name: str) -> bool:
    return merge is not None and (merge.base == name or any(p.id == name for p in merge.parents))


def _descends(found: Mapping[str, Made], start: str, ancestor: str) -> bool:
    """Whether following parents of made members leads from `start` to an ancestor."""
    stack, seen = [start], set()
    while stack:
        here = stack.pop()
        if here in found and here not in seen:
            seen.add(here)
            sources = [i for i, _ in found[here].parents]
            if ancestor in sources:
                return True
            stack += sources
    return False


def explained_share(squared: Float64Array, i: int) -> float:
    """Share of the squared distance of i from its nearest that the affine span of its 8 nearest explains.

    Notes
    -----
    From distances alone: with y = x_i - x_0 and columns x_j - x_0, inner products are (|a|^2 + |b|^2 - |a - b|^2) / 2.
    """
    order = [j for j in np.argsort(squared[i], kind="stable") if j != i][:NEAREST]
    first, rest = order[0], order[1:]
    if squared[i, first] <= 0.0 or not rest:
        return 0.0
    to_first = squared[first]
    gram = 0.5 * (to_first[rest][:, None] + to_first[rest][None, :] - squared[np.ix_(rest, rest)])
    target = 0.5 * (to_first[rest] + squared[i, first] - squared[i, rest])
    if not (np.isfinite(gram).all() and np.isfinite(target).all()):
        return 0.0
    solved = np.linalg.lstsq(gram, target, rcond=1e-10)[0]
    return float(solved @ target / squared[i, first])


def _copied(member: Study, near: Sequence[Study]) -> Made | None:
    """The nearest of the members from which steps give this one; how many of them do is part of the answer."""
    grids: Grids | None = {} if is_on_grid(member) else None
    if grids is None and not has_zeros(member):
        return None
    found = [(other.id, made) for other in near if (made := made_steps(other, member, grids)) is not None]
    if not found:
        return None
    source, steps = found[0]
    details = {"steps": list(steps.steps), **steps.details}
    if len(found) > 1:
        details["as_well"] = sorted(i for i, _ in found[1:])
    return Made(member.id, ((source, None),), steps.kind, details, steps.log_odds, 1.0 / len(found))


def _merged(member: Study, merge: Merge) -> Made:
    whole = merge.method == "passthrough"
    parents = tuple((p.id, round(p.coefficient, 4)) for p in merge.parents)
    if merge.base is not None and merge.base not in {i for i, _ in parents}:
        parents = (*parents, (merge.base, round(1.0 - sum(c or 0.0 for _, c in parents), 4)))
    details: dict[str, Any] = {
        "method": merge.method,
        "base": merge.base,
        "replay_share": round(merge.replay_share, 6),
        "explained": round(merge.explained, 6),
    }
    if "densities" in merge.parameters:
        details["density"] = dict(merge.parameters["densities"])
    return Made(member.id, parents, "frankenmerge" if whole else "merge", details)
