"""Loops of a walk over rooted trees: how well a tree fits, and one step from a tree to another."""

import math

import numpy as np

from stats.arrays import Float64Array, IntVector
from stats.kernels import kernel

_LEAST = 1e-12


@kernel
def tree_fit(
    parent: IntVector, squared: Float64Array, weight: Float64Array, table: Float64Array, terms: Float64Array
) -> float:
    """Log weight of a tree; `terms` are the temper and the popularity. O(n^2)."""
    n, last = parent.size, table.shape[1] - 1
    plain, steps = 0.0, 0.0
    children = np.zeros(n)
    for v in range(n):
        p = parent[v]
        if p < 0:
            continue
        plain += weight[p, v] + terms[1] * math.log(0.5 + children[p])
        children[p] += 1.0
        steps -= 0.5 * n * math.log(max(squared[p, v], _LEAST))
        for w in range(v):
            q = parent[w]
            if q < 0:
                continue
            size = squared[p, v] * squared[q, w]
            if size > 0.0:
                cosine = 0.5 * (squared[v, q] + squared[p, w] - squared[v, w] - squared[p, q]) / math.sqrt(size)
                kind = 0 if p == q else (1 if p == w or q == v else 2)
                at = int(0.5 * (cosine + 1.0) * last + 0.5)
                steps += table[kind, min(last, max(0, at))]
    return float(plain + terms[0] * steps)


@kernel
def _is_below(parent: IntVector, q: int, v: int) -> bool:
    """Whether q is v or one of its descendants."""
    while q >= 0:
        if q == v:
            return True
        q = parent[q]
    return False


@kernel
def _hang(parent: IntVector, tried: IntVector, v: int, cumulative: Float64Array, at: float) -> float:
    """Hang v below another; log ratio of the chances of the way back and forth, -inf where it cannot be."""
    chances = cumulative[v]
    q, old = 0, parent[v]
    while q < chances.size - 1 and chances[q] <= at:
        q += 1
    if old < 0 or q == old or _is_below(parent, q, v):
        return -np.inf
    tried[v] = q
    back = chances[old] - (chances[old - 1] if old > 0 else 0.0)
    forth = chances[q] - (chances[q - 1] if q > 0 else 0.0)
    return math.log(back) - math.log(forth) if back > 0.0 and forth > 0.0 else -np.inf


@kernel
def _lift(parent: IntVector, tried: IntVector, v: int) -> float:
    """Make v the root: the links above it turn."""
    above, here = -1, v
    while here >= 0:
        tried[here] = above
        above, here = here, parent[here]
    return 0.0 if parent[v] >= 0 else -np.inf


@kernel
def _change(parent: IntVector, tried: IntVector, a: int, b: int) -> float:
    """Two members change places."""
    if b < 0 or a == b:
        return -np.inf
    for x in range(parent.size):
        p = parent[x]
        p = b if p == a else (a if p == b else p)
        tried[b if x == a else (a if x == b else x)] = p
    return 0.0


@kernel
def walk(
    parent: IntVector,
    squared: Float64Array,
    weight: Float64Array,
    table: Float64Array,
    terms: Float64Array,
    cumulative: Float64Array,
    numbers: Float64Array,
    count: Float64Array,
) -> None:
    """Walk from tree to tree; count[p, v] grows by one at each step at which p is the parent of v, [v, v] where v is the root.

    Columns of `numbers` (s, 5), of one step each: which move, which member, which other, whether to accept, all uniform
    in [0, 1); and the heat, 1 once steps are counted. `parent` and `count` are written.
    """
    n = parent.size
    here = tree_fit(parent, squared, weight, table, terms)
    for s in range(len(numbers)):
        move, heat = numbers[s, 0], numbers[s, 4]
        tried, v = parent.copy(), int(numbers[s, 1] * n)
        if move < 0.6:
            ratio = _hang(parent, tried, v, cumulative, numbers[s, 2])
        elif move < 0.7:
            ratio = _lift(parent, tried, v)
        else:
            ratio = _change(parent, tried, v, parent[v] if move < 0.9 else int(numbers[s, 2] * n))
        if ratio > -np.inf:
            there = tree_fit(tried, squared, weight, table, terms)
            if math.log(max(numbers[s, 3], 1e-300)) < heat * (there - here) + ratio:
                parent[:] = tried
                here = there
        if heat >= 1.0:
            for x in range(n):
                count[parent[x] if parent[x] >= 0 else x, x] += 1.0
