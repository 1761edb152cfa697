"""Rooted trees over points, drawn in proportion to how well the lengths and the angles of their steps fit.

In a tree of vectors every member but the root is its parent plus a step. The squared distances of n members are as many
numbers as the n - 1 lengths of the steps and the cosines between each two of them, whatever the tree, and the change of
variables from the former to the latter is a power of the lengths. So a density of lengths and cosines, given which
steps leave the same member and which follow each other, is a density of the distances, and trees can be compared.
"""

from dataclasses import dataclass

import numpy as np

from stats.arrays import Float64Array, IntVector
from stats.kernels.treewalk import tree_fit, walk

BINS = 401
"""Places between -1 and 1 at which log densities of cosines are held."""

STEPS, FEWEST = 1000, 20_000
WALKS = 3
"""Steps of a walk for each member, of a walk at least, and walks: shares of the walks differ by up to 0.05."""

_HEATING = 0.25
_COLDEST = 0.1
_NEAREST = 1e-9
_ANYWHERE = 0.1


@dataclass(frozen=True, slots=True)
class WalkedTrees:
    """Marginals of trees drawn.

    Attributes
    ----------
    edge : (n, n) float64
        [u, v]: share of the trees in which u is the parent of v; 0 on the diagonal.
    root : (n,) float64
        Share of the trees of which a member is the root; with its column of `edge` it sums to 1.
    spread : float
        Largest difference of such a share between one walk and all.
    """

    edge: Float64Array
    root: Float64Array
    spread: float


def normal_table(means: Float64Array, spreads: Float64Array, *, share: float, wide: float) -> Float64Array:
    """Log densities of cosines: normal ones, mixed with a wide one around 0 so that no cosine excludes a tree.

    Parameters
    ----------
    means, spreads : (k,) float64
    share, wide : float
        Share and standard deviation of the wide part.

    Returns
    -------
    (k, BINS) float64
    """
    at = np.linspace(-1.0, 1.0, BINS)

    def bell(mean: Float64Array, spread: Float64Array) -> Float64Array:
        z = (at[None] - mean[:, None]) / spread[:, None]
        return np.asarray(np.exp(-0.5 * z * z) / (spread[:, None] * np.sqrt(2.0 * np.pi)))

    broad = bell(np.zeros(1), np.array([wide]))
    return np.asarray(np.log((1.0 - share) * bell(means, spreads) + share * broad))


def log_fit(
    parent: IntVector,
    squared: Float64Array,
    weight: Float64Array,
    table: Float64Array,
    *,
    temper: float,
    popularity: float,
) -> float:
    """Log weight of one rooted tree, up to a constant that all trees share.

    Parameters
    ----------
    parent : (n,) int64
        Parent of each member, -1 for the root.
    squared : (n, n) float64
        Squared distances, symmetric and finite.
    weight : (n, n) float64
        [u, v]: further log weight of the link u -> v.
    table : (3, BINS) float64
        Log densities of the cosine of two steps from one member, of a step and one that follows it, and of other two.
    temper : float
        Power of the density of the distances; below 1 because the cosines of one tree are not independent.
    popularity : float
        Power of one half plus the number of children a member has already, for each further child.

    Returns
    -------
    float

    Notes
    -----
    temper * (sum over pairs of steps of the log density of their cosine - n/2 sum over steps of log d2), plus the weights
    of the links. With m = n - 1 steps the Gram matrix of the steps has the entries l_i l_j c_ij, and its density is that of
    cosines and of log lengths, the latter flat, times the product of all l_i^-(m + 1). Cost: O(n^2).
    """
    terms = np.array([temper, popularity])
    return float(
        np.asarray(
            tree_fit(
                np.asarray(parent, dtype=np.int64),
                squared,
                np.where(np.eye(len(squared)) > 0, 0.0, weight),
                table,
                terms,
            )
        )
    )


def walked_trees(
    squared: Float64Array,
    weight: Float64Array,
    table: Float64Array,
    start: IntVector,
    rng: np.random.Generator,
    *,
    temper: float,
    popularity: float,
) -> WalkedTrees:
    """Marginals of trees weighed by `log_fit`, by a Metropolis walk from tree to tree.

    Parameters
    ----------
    squared, weight, table, temper, popularity
        See `log_fit`.
    start : (n,) int64
        The tree each walk begins with; it is forgotten while the first quarter of the steps warms up.
    rng : numpy.random.Generator

    Returns
    -------
    WalkedTrees

    Raises
    ------
    ValueError
        A distance is not finite.

    Notes
    -----
    A step hangs a member below another one, mostly a near one, makes another member the root, or lets two members change
    places. Members are put in the order of their sums of distances first, so their order tells nothing. One tree is added to
    each count, spread evenly, so no share is 0. Cost: O(n^2) for each of the steps.
    """
    if not np.isfinite(squared).all():
        msg = "trees are walked on finite distances only"
        raise ValueError(msg)
    n = len(squared)
    order = np.argsort(squared.sum(axis=1), kind="stable")
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    near = np.ascontiguousarray(squared[np.ix_(order, order)])
    links = np.ascontiguousarray(np.where(np.eye(n) > 0, 0.0, weight[np.ix_(order, order)]))
    first = np.array([place[p] if p >= 0 else -1 for p in start[order]], dtype=np.int64)
    terms, cumulative = np.array([temper, popularity]), np.cumsum(_chances(near), axis=1)
    counts = np.zeros((WALKS, n, n))
    for count in counts:
        numbers = rng.random((max(STEPS * n, FEWEST), 5))
        warm = int(_HEATING * len(numbers))
        numbers[:, 4] = 1.0
        numbers[:warm, 4] = np.linspace(_COLDEST, 1.0, warm, endpoint=False)
        walk(first.copy(), near, links, table, terms, cumulative, numbers, count)
    shares = counts[:, place][:, :, place]
    shares = (shares + 1.0 / n) / (shares.sum(axis=1, keepdims=True) + 1.0)
    share = shares.mean(axis=0)
    root = np.diag(share).copy()
    edge = share - np.diag(root)
    return WalkedTrees(edge, root, float(np.max(np.abs(shares - share))))


def _chances(squared: Float64Array) -> Float64Array:
    """Chance of each other member to be tried as the parent of one, by row: the nearer the more, and each a little."""
    n = len(squared)
    chance = 1.0 / np.maximum(squared, _NEAREST)
    np.fill_diagonal(chance, 0.0)
    chance = (1.0 - _ANYWHERE) * chance / chance.sum(axis=1, keepdims=True) + _ANYWHERE / (n - 1)
    np.fill_diagonal(chance, 0.0)
    return np.asarray(chance / chance.sum(axis=1, keepdims=True))
