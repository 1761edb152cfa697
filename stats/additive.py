"""How well squared distances add along a tree, and what updates of low rank look like. Describes, never tests."""

import numpy as np

from stats.arrays import Float64Array


def step_cosines(squared: Float64Array) -> Float64Array:
    """Cosines between the steps of a minimum spanning tree that meet in a point.

    Parameters
    ----------
    squared : (n, n) float64
        Squared distances, symmetric and finite.

    Returns
    -------
    (k,) float64
        For each point and each two of its neighbours a and c in the tree: the cosine of a - b and c - b, from the three
        distances. 0 where distances add along the tree; steps of length 0 are left out.

    Notes
    -----
    Null: none. Where steps are orthogonal, squared distances add along paths, every pair that is no link of the tree is
    farther apart than each link between the two, and the minimum spanning tree is the tree. Cost: O(n^2) and the angles.
    """
    parent = _spanning(squared)
    beside: list[list[int]] = [[] for _ in parent]
    for child, other in enumerate(parent):
        if other >= 0:
            beside[child].append(int(other))
            beside[int(other)].append(child)
    found = []
    for b, near in enumerate(beside):
        for i, a in enumerate(near):
            for c in near[:i]:
                size = float(np.sqrt(squared[a, b] * squared[b, c]))
                if size > 0.0:
                    found.append((squared[a, b] + squared[b, c] - squared[a, c]) / (2.0 * size))
    return np.array(found, dtype=np.float64)


def _spanning(squared: Float64Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    """Parent of each point in a minimum spanning tree grown from point 0; -1 for that one. Ties by number."""
    n = len(squared)
    parent, near = np.full(n, -1, dtype=np.int64), np.full(n, np.inf)
    left = np.ones(n, dtype=np.bool_)
    here = 0
    for _ in range(n - 1):
        left[here] = False
        closer = left & (squared[here] < near)
        near[closer], parent[closer] = squared[here][closer], here
        here = int(np.argmin(np.where(left, near, np.inf)))
    return parent


def participation(matrix: Float64Array) -> float:
    """Share of its dimensions that a matrix makes use of: (sum of s^2)^2 over the sum of s^4, over min(m, n).

    Parameters
    ----------
    matrix : (m, n) float64
        Finite.

    Returns
    -------
    float
        In [1 / min(m, n), 1]; 0 for a matrix of zeros. At most r / min(m, n) for a matrix of rank r.

    Notes
    -----
    Null: none. Without a decomposition: s are singular values, and both sums are traces. Cost: O(m n min(m, n)).
    """
    narrow = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    gram = narrow @ narrow.T
    square = float(np.sum(gram * gram))
    return float(np.trace(gram)) ** 2 / (square * len(gram)) if square > 0.0 else 0.0


def orthogonal_growth(a: Float64Array, b: Float64Array) -> float:
    """Growth of the squared norm from a to b over the squared norm of their difference.

    Parameters
    ----------
    a, b : (m, n) float64

    Returns
    -------
    float
        1 where b is a plus something orthogonal to it, -1 where a is b plus something orthogonal, 0 where both are as
        far from a third; 0 for equal arrays. Antisymmetric.

    Notes
    -----
    Null: none. |b|^2 - |a|^2 = |b - a|^2 + 2 <a, b - a>. Cost: O(m n).
    """
    gap = float(np.sum(np.square(b - a)))
    return float(np.sum(b * b) - np.sum(a * a)) / gap if gap > 0.0 else 0.0
