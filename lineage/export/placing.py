"""Heights of marks and bends: as near to their neighbours as the order and the space between them allow."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from lineage.export.layers import Net

_Pull = tuple[int, float, float]

_ROUNDS = 30
_ROUNDS_OF_MANY = 6
_MANY = 20_000
_STRAIGHT = 8.0
"""Weight of a line between two bends: what passes layers should be straight before it is short."""


def placed(
    net: Net,
    order: Sequence[Sequence[int]],
    heights: Sequence[float],
    gap: float,
    ports: Mapping[tuple[int, int], float],
) -> list[float]:
    """Centre of each mark and bend across the layers.

    Parameters
    ----------
    net : Net
    order : sequence of sequence of int
        Of each layer.
    heights : sequence of float
        Of each mark and bend.
    gap : float
        Least free space between two neighbours of a layer.
    ports : mapping of (int, int) to float
        (number of a line, its target) to how far from the centre of the target it ends.

    Returns
    -------
    list of float
        The smallest upper end is 0.

    Notes
    -----
    Layer after layer, forwards and backwards, each mark is drawn to the mean of its neighbours; of all places that
    keep order and space, those of the least sum of squares are taken, exactly (pooling of adjacent violators).
    Cost: linear a round.
    """
    before, after = _pulls(net, ports)
    # who has neighbours on one side only listens to them both ways: left alone, it would stay where others pushed it
    forwards = [b or a for a, b in zip(after, before, strict=True)]
    backwards = [a or b for a, b in zip(after, before, strict=True)]
    y = [0.0] * len(net.layer)
    spaces = []
    for row in order:
        at = 0.0
        offsets = []
        for i, item in enumerate(row):
            at += (heights[row[i - 1]] + heights[item]) / 2.0 + gap if i else 0.0
            offsets.append(at)
            y[item] = at
        spaces.append(offsets)
    many = len(net.layer) > _MANY
    for _ in range(_ROUNDS_OF_MANY if many else _ROUNDS):
        for r in range(len(order)):
            _settle(order[r], spaces[r], forwards, y)
        for r in range(len(order) - 1, -1, -1):
            _settle(order[r], spaces[r], backwards, y)
    both = [[*b, *a] for a, b in zip(after, before, strict=True)]
    for r in range(len(order)):
        _settle(order[r], spaces[r], both, y)
    top = min((y[i] - heights[i] / 2.0 for i in range(len(y))), default=0.0)
    return [value - top for value in y]


def _pulls(net: Net, ports: Mapping[tuple[int, int], float]) -> tuple[list[list[_Pull]], list[list[_Pull]]]:
    """For each mark and bend: (neighbour, where it wants it beside its own centre, weight), backwards and forwards."""
    before: list[list[_Pull]] = [[] for _ in net.layer]
    after: list[list[_Pull]] = [[] for _ in net.layer]
    for number, path in enumerate(net.paths):
        for left, right in pairwise(path):
            weight = _STRAIGHT if left >= net.n_marks and right >= net.n_marks else 1.0
            shift = ports.get((number, right), 0.0)
            before[right].append((left, -shift, weight))
            after[left].append((right, shift, weight))
    return before, after


def _settle(row: Sequence[int], offsets: Sequence[float], pulls: Sequence[Sequence[_Pull]], y: list[float]) -> None:
    """Least squares under order and space, for one layer."""
    blocks: list[tuple[float, float, int]] = []  # weighted sum, weight, number of items
    for item, offset in zip(row, offsets, strict=True):
        near = pulls[item] or [(item, 0.0, 1.0)]  # who has no neighbours wants to stay
        weight = sum(w for _, _, w in near)
        total = sum((y[n] + shift) * w for n, shift, w in near)
        block = (total - offset * weight, weight, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    i = 0
    for total, weight, n in blocks:
        for _ in range(n):
            y[row[i]] = total / weight + offsets[i]
            i += 1
