"""Eliminating nodes of a weighted graph, and putting them back: no subtraction anywhere."""

from stats.arrays import Float64Array
from stats.kernels import kernel


@kernel
def eliminate(edges: Float64Array, roots: Float64Array, keep: int, counted: float, pivots: Float64Array) -> None:
    """Eliminate nodes m - 1 down to keep of edges (m, m), edges[u, v] the rate from v to its parent u, and roots (m,).

    Column k of an eliminated node is left with the probability of each next node u < k, roots[k] with that of leaving,
    pivots[k] with the total rate; leaving is part of it when `counted` is 1 and not when it is 0. The diagonal is
    overwritten, never read.
    """
    for k in range(edges.shape[0] - 1, keep - 1, -1):
        total = counted * roots[k]
        for u in range(k):
            total += edges[u, k]
        pivots[k] = total
        roots[k] /= total
        for v in range(k):
            roots[v] += roots[k] * edges[k, v]
        for u in range(k):
            step = edges[u, k] / total
            edges[u, k] = step
            if step != 0.0:
                for v in range(k):
                    edges[u, v] += step * edges[k, v]


@kernel
def substitute(edges: Float64Array, roots: Float64Array, keep: int, away: Float64Array) -> None:
    """Fill rows keep and on of away (m, keep): from node k, first step over the nodes below k, whose rows are known."""
    for k in range(keep, edges.shape[0]):
        away[k, :] = roots[k]
        for u in range(k):
            step = edges[u, k]
            if step != 0.0:
                for v in range(keep):
                    away[k, v] += step * away[u, v]
