"""The order inside each layer: few crossings, by barycentres and by changing places."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from lineage.export.layers import Net

_SWEEPS = 16
_SWEEPS_OF_MANY = 4
_MANY = 4_000
"""Marks and bends from which sweeps are fewer and neighbours no longer change places one by one."""


def ordered(net: Net) -> list[list[int]]:
    """Marks and bends of each layer, in order.

    Parameters
    ----------
    net : Net

    Returns
    -------
    list of list of int
        Without a crossing where the lines are a forest; otherwise the best of some sweeps. The same net always gives
        the same order.

    Notes
    -----
    Cost: O(m log m) a sweep for m marks, bends and lines.
    """
    best = _by_depth(net)
    fewest = n_crossings(net, best)
    order = [list(row) for row in best]
    is_many = len(net.layer) > _MANY
    for sweep in range(_SWEEPS_OF_MANY if is_many else _SWEEPS):
        if fewest == 0:
            break
        _sweep(net, order, forward=sweep % 2 == 0)
        if not is_many:
            _change_places(net, order)
        found = n_crossings(net, order)
        if found < fewest:
            best, fewest = [list(row) for row in order], found
    return best


def n_crossings(net: Net, order: Sequence[Sequence[int]]) -> int:
    """How often lines cross, counted between every two layers.

    Parameters
    ----------
    net : Net
    order : sequence of sequence of int

    Returns
    -------
    int
    """
    total = 0
    for row, following in pairwise(order):
        place = {item: i for i, item in enumerate(following)}
        total += _inversions([p for item in row for p in sorted(place[t] for t in net.after[item])], len(following))
    return total


def _inversions(places: Sequence[int], n: int) -> int:
    """Pairs in the wrong order, with a tree of counts: O(k log n)."""
    counts = [0] * (n + 1)
    total = 0
    for seen, place in enumerate(places):
        at, not_after = place + 1, 0
        while at > 0:
            not_after += counts[at]
            at -= at & -at
        total += seen - not_after
        at = place + 1
        while at <= n:
            counts[at] += 1
            at += at & -at
    return total


def _by_depth(net: Net) -> list[list[int]]:
    """Depth first from the sources: trees come out without a crossing."""
    order: list[list[int]] = [[] for _ in range(net.n_layers)]
    seen = [False] * len(net.layer)
    for start in range(net.n_marks):
        if net.before[start]:
            continue
        stack = [start]
        while stack:
            item = stack.pop()
            if seen[item]:
                continue
            seen[item] = True
            order[net.layer[item]].append(item)
            stack.extend(reversed(net.after[item]))
    return order


def _sweep(net: Net, order: list[list[int]], *, forward: bool) -> None:
    """Sort every layer by the mean place of neighbours; who has none keeps its place."""
    rows = range(1, len(order)) if forward else range(len(order) - 2, -1, -1)
    neighbours = net.before if forward else net.after
    for r in rows:
        place = {item: float(i) for i, item in enumerate(order[r - 1 if forward else r + 1])}
        wanted = {}
        for i, item in enumerate(order[r]):
            near = neighbours[item]
            wanted[item] = sum(place[n] for n in near) / len(near) if near else float(i)
        order[r].sort(key=wanted.__getitem__)


def _change_places(net: Net, order: list[list[int]]) -> None:
    """Let neighbours change places while that takes a crossing away; every change does, so it ends."""
    for _ in range(_SWEEPS):
        is_changed = False
        for r, row in enumerate(order):
            left = {item: i for i, item in enumerate(order[r - 1])} if r else {}
            right = {item: i for i, item in enumerate(order[r + 1])} if r + 1 < len(order) else {}
            for i in range(len(row) - 1):
                a, b = row[i], row[i + 1]
                gain = 0
                for near, place in ((net.before, left), (net.after, right)):
                    gain += _saved([place[n] for n in near[a]], [place[n] for n in near[b]])
                if gain > 0:
                    row[i], row[i + 1] = b, a
                    is_changed = True
        if not is_changed:
            return


def _saved(ours: list[int], theirs: list[int]) -> int:
    """Crossings of two bundles as they are, less those once their sources change places."""
    theirs.sort()
    return sum(bisect_left(theirs, x) + bisect_right(theirs, x) - len(theirs) for x in ours)
