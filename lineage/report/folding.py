"""What of a large family is drawn: the models below which most hang, until the lines are used up."""

import heapq
from collections import Counter
from dataclasses import dataclass

from lineage.report.branches import Grove


@dataclass(frozen=True, slots=True)
class Folding:
    """How much of a document is shown.

    Attributes
    ----------
    children : int
        Of one kind below one model; further ones are counted.
    lines : int
        Of the drawing of one family.
    drawn_from : int
        Models of a family that is drawn; smaller ones get a line each.
    listed : int
        Lines of a list of names or of a table.
    drawn : int
        Families drawn at most; further ones get a line each.
    is_full : bool
        Whether every name is asked for.
    """

    children: int
    lines: int
    drawn_from: int
    listed: int
    drawn: int = 8
    is_full: bool = False


EVERYTHING = Folding(10**9, 10**9, 0, 10**9, is_full=True)


_TREES = 3
"""Trees of a family whose uppermost model comes before all else."""


def chosen(grove: Grove, folding: Folding) -> set[str]:
    """Models of one family that are named in its drawing.

    Parameters
    ----------
    grove : Grove
    folding : Folding

    Returns
    -------
    set of str
        With every model those it hangs below. The uppermost of the largest trees are always there; then whoever has
        most below it comes first, as long as there are lines. A line that would count one model names it.

    Notes
    -----
    Cost: O(n log n).
    """
    if folding.is_full:
        return set(grove.top_of)
    above_of = {twig.name: name for name, twigs in grove.below.items() for twig in twigs}
    kind_of = {twig.name: twig.kind for twigs in grove.below.values() for twig in twigs}
    of_kind = Counter((above, kind_of[name]) for name, above in above_of.items())
    hidden = {name: len(twigs) for name, twigs in grove.below.items()}
    first = -(len(grove.weight) ** 2)  # before everything that weighs
    waiting = [(first if i < _TREES else -grove.weight[top], 0, i, top) for i, (top, _) in enumerate(grove.tops)]
    heapq.heapify(waiting)
    named: set[str] = set()
    named_of: Counter[tuple[str, str]] = Counter()
    used = 0
    while waiting:
        _, depth, _, name = heapq.heappop(waiting)
        above = above_of.get(name)
        lines = 1 + (name in grove.below) + (name in grove.also)
        if above is None:
            lines += bool(named)  # a tree after the first is introduced
        else:
            group = above, kind_of[name]
            if named_of[group] >= folding.children and of_kind[group] > folding.children + 1:
                continue
            lines -= hidden[above] == 1  # nothing is left to be counted there
        if named and used + lines > folding.lines:
            continue
        used += lines
        named.add(name)
        if above is not None:
            named_of[above, kind_of[name]] += 1
            hidden[above] -= 1
        below = grove.below.get(name, ())
        for i, twig in enumerate(below):
            heapq.heappush(waiting, (-grove.weight[twig.name], depth + 1, i, twig.name))
    return named
