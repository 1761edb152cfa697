"""Marks in layers: every line leads to a later layer, and a line that passes layers gets a bend in each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lineage.errors import UndrawableError

MOST_BENDS = 300_000
"""Of one family: a picture with more of them is a black square."""


@dataclass(frozen=True, slots=True)
class Net:
    """Marks and bends of one family, by number: marks first, then bends.

    Attributes
    ----------
    n_marks : int
    layer : tuple of int
        Of each mark and bend.
    paths : tuple of tuple of int
        One a line: its source, its bends, its target.
    before, after : tuple of tuple of int
        Neighbours of each in the layer before and after, one a line.
    """

    n_marks: int
    layer: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]

    @property
    def n_layers(self) -> int:
        """How many layers there are."""
        return max(self.layer, default=-1) + 1


def layered(n_marks: int, lines: Sequence[tuple[int, int]]) -> Net:
    """Layers by longest paths; a mark that nothing leads to stands just before the first it leads to.

    Parameters
    ----------
    n_marks : int
    lines : sequence of (int, int)
        Source and target; the source has the smaller number.

    Returns
    -------
    Net

    Raises
    ------
    UndrawableError
        The lines pass more than `MOST_BENDS` layers.

    Notes
    -----
    Cost: linear in marks, lines and bends.
    """
    layer = _longest_paths(n_marks, lines)
    n_bends = sum(layer[b] - layer[a] - 1 for a, b in lines)
    if n_bends > MOST_BENDS:
        raise UndrawableError(
            f"the lines of a family pass {n_bends:,} layers, and at most {MOST_BENDS:,} are drawn",
            where="svg",
            hint="take graphml or gexf",
        )
    before: list[list[int]] = [[] for _ in range(n_marks + n_bends)]
    after: list[list[int]] = [[] for _ in range(n_marks + n_bends)]
    paths = []
    for a, b in lines:
        bends = range(len(layer), len(layer) + layer[b] - layer[a] - 1)
        layer.extend(range(layer[a] + 1, layer[b]))
        path = (a, *bends, b)
        for left, right in pairwise(path):
            after[left].append(right)
            before[right].append(left)
        paths.append(path)
    return Net(n_marks, tuple(layer), tuple(paths), tuple(map(tuple, before)), tuple(map(tuple, after)))


def _longest_paths(n_marks: int, lines: Sequence[tuple[int, int]]) -> list[int]:
    targets: list[list[int]] = [[] for _ in range(n_marks)]
    is_entered = [False] * n_marks
    for a, b in lines:
        targets[a].append(b)
        is_entered[b] = True
    layer = [0] * n_marks
    for mark in range(n_marks):
        for target in targets[mark]:
            layer[target] = max(layer[target], layer[mark] + 1)
    for mark in range(n_marks):
        if targets[mark] and not is_entered[mark]:
            layer[mark] = min(layer[t] for t in targets[mark]) - 1
    return layer
