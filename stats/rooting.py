"""Rooting a given tree from the direction evidence on its edges: every root in one pass down and one pass up."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, IntVector, as_vector

Arc: TypeAlias = tuple[int, int, float]
"""A neighbour, the number of the edge to it, and the log-odds that this edge leads to it."""


@dataclass(frozen=True, slots=True)
class RootPosterior:
    """Where the root of a tree is.

    Attributes
    ----------
    log_root : (n,) float64
        Natural log probability of every node as the root.
    log_forward, log_backward : (n - 1,) float64
        Natural log probabilities that the first, and that the second end of an edge is the parent. Each is summed for
        itself, so both keep their digits however near one of them is to certainty.
    """

    log_root: Float64Array
    log_forward: Float64Array
    log_backward: Float64Array

    @property
    def root(self) -> Float64Array:
        """Probability of every node as the root."""
        return np.exp(self.log_root)

    @property
    def forward(self) -> Float64Array:
        """Probability that the first end of an edge is the parent of the second."""
        return np.exp(self.log_forward)


def root_posterior(edges: ArrayLike, log_odds: ArrayLike, root_log_prior: ArrayLike) -> RootPosterior:
    """Posterior of the root and of every edge's direction on a given tree.

    Parameters
    ----------
    edges : (n - 1, 2) array_like of int
        Pairs of nodes 0 to n - 1 that form a tree.
    log_odds : (n - 1,) array_like
        Natural log of the odds that the first end of an edge is the parent, from the evidence on this edge alone.
        Finite.
    root_log_prior : (n,) array_like
        Natural log weight of every node as the root, up to a constant; -inf where a node cannot be.

    Returns
    -------
    RootPosterior

    Raises
    ------
    ValueError
        The edges are no tree over the nodes, a value is NaN or log-odds are not finite, or no node can be the root.

    Notes
    -----
    Null: none. A root orients every edge away from itself, so a tree has n orientations, not 2^(n - 1). The posterior
    of a root is proportional to its prior times, over all edges, the probability of the direction it gives them; two
    neighbours differ by exactly the log-odds of the edge between them. Sums along paths carry their rounding error
    along, so log-odds of any size may meet. Swapping the ends of an edge with the sign of its log-odds, relabelling,
    and a constant on the prior change nothing. Cost: O(n), no recursion.

    Examples
    --------
    >>> found = root_posterior([[0, 1], [1, 2]], [0.0, 2.0], np.zeros(3))
    >>> print(f"node 1 is the parent of node 2: {found.forward[1]:.3f}")
    node 1 is the parent of node 2: 0.937
    """
    prior = np.array(root_log_prior, dtype=np.float64)
    odds = as_vector(log_odds, "log_odds", min_size=0)
    if prior.ndim != 1 or not (prior < np.inf).all() or not (prior > -np.inf).any():
        raise ValueError("root_log_prior must be a vector of numbers or -inf, one of them finite")
    pairs = _pairs(edges, odds.size, prior.size)
    around = _around(pairs, odds, prior.size)
    order, above = _from_first(around)
    scores = _scores(order, above, prior)
    inside = scores.copy()
    for v in reversed(order[1:]):
        inside[above[v][0]] = _add(inside[above[v][0]], inside[v])
    outside = _outside(order, above, around, scores, inside)
    total = inside[order[0]]
    forward, backward = np.empty(odds.size), np.empty(odds.size)
    for v in order[1:]:
        edge = above[v][1]
        near, far = (backward, forward) if pairs[edge, 0] == above[v][0] else (forward, backward)
        near[edge], far[edge] = inside[v] - total, outside[v] - total
    return RootPosterior(np.array(scores) - total, np.minimum(forward, 0.0), np.minimum(backward, 0.0))


def _pairs(edges: ArrayLike, m: int, n: int) -> IntVector:
    pairs = np.array(edges).reshape(-1, 2) if np.size(edges) == 0 else np.array(edges)
    if pairs.ndim != 2 or pairs.shape != (n - 1, 2) or m != n - 1:
        raise ValueError(f"a tree of {n} nodes has {n - 1} edges and as many log-odds, got {pairs.shape} and {m}")
    if pairs.size and (not np.issubdtype(pairs.dtype, np.integer) or pairs.min() < 0 or pairs.max() >= n):
        raise ValueError(f"edges must join nodes 0 to {n - 1}")
    return pairs.astype(np.int64)


def _around(pairs: IntVector, odds: Float64Array, n: int) -> list[list[Arc]]:
    """Neighbours of every node."""
    around: list[list[Arc]] = [[] for _ in range(n)]
    for edge, ((u, v), toward) in enumerate(zip(pairs.tolist(), odds.tolist(), strict=True)):
        around[u].append((v, edge, toward))
        around[v].append((u, edge, -toward))
    return around


def _from_first(around: list[list[Arc]]) -> tuple[list[int], list[Arc]]:
    """Nodes from node 0 outwards, and for each the arc from the node above: (that node, edge, log-odds towards here)."""
    above: list[Arc] = [(-1, -1, 0.0)] * len(around)
    order = [0]
    for u in order:
        for v, edge, toward in around[u]:
            if edge != above[u][1]:
                above[v] = (u, edge, toward)
                order.append(v)
        if len(order) > len(around):
            break
    if sorted(order) != list(range(len(around))):
        raise ValueError("edges must form one tree over all nodes")
    return order, above


def _scores(order: list[int], above: list[Arc], prior: Float64Array) -> list[float]:
    """Log posterior of every root, relative to the largest: the edge towards a node turns when the root moves there."""
    sums = [(0.0, 0.0)] * len(order)
    for v in order[1:]:
        sums[v] = _plus(sums[above[v][0]], -above[v][2])
    weighed = [_plus(s, p) if p > -math.inf else (-math.inf, 0.0) for s, p in zip(sums, prior.tolist(), strict=True)]
    high, low = max(weighed)
    return [-math.inf if h == -math.inf else (h - high) + (rest - low) for h, rest in weighed]


def _outside(
    order: list[int], above: list[Arc], around: list[list[Arc]], scores: list[float], inside: list[float]
) -> list[float]:
    """Log of the sum over all nodes that are not behind a node, its siblings gathered from the left and the right."""
    outside = [-math.inf] * len(order)
    for u in order:
        behind = [v for v, edge, _ in around[u] if edge != above[u][1]]
        for row in (behind, behind[::-1]):
            total = _add(outside[u], scores[u]) if row is behind else -math.inf
            for v in row:
                outside[v] = _add(outside[v], total)
                total = _add(total, inside[v])
    return outside


def _plus(number: tuple[float, float], term: float) -> tuple[float, float]:
    """A sum and the rounding error it carries (Knuth's two-sum), the error renormalised into it."""
    high, low = number
    total = high + term
    back = total - high
    low += (high - (total - back)) + (term - back)
    return total + low, low - ((total + low) - total)


def _add(x: float, y: float) -> float:
    """Log of exp(x) + exp(y)."""
    high, low = max(x, y), min(x, y)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
