"""Whether squared distances come from a tree, and which: quartets, pendant lengths and neighbour joining."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.arrays import Float64Array, IntVector, as_matrix

_ALL = 40
"""Largest number of models of which every quartet is looked at: 91,390."""

_SAMPLED = 10_000
"""Quartets drawn where there are more models."""

_ROUNDING = 1e-12
"""Sums that differ by less, relative to the largest, are equal: a star."""

_SHORT = 0.35
"""Edges below this share of a typical one are no step of their own: updates of one family have cosines up to 0.35."""


@dataclass(frozen=True, slots=True)
class QuartetScores:
    """How far quartets are from trees: 0 a tree or a star, 1 a box.

    Attributes
    ----------
    mean, percentile_90 : float
        Over the quartets looked at.
    member_mean : (n,) float64
        Over the quartets that hold a model; a model far above the others may be a merge. NaN where none was drawn.
    n : int
        Quartets looked at.
    """

    mean: float
    percentile_90: float
    member_mean: Float64Array
    n: int


@dataclass(frozen=True, slots=True)
class UnrootedTree:
    """A tree over models and hidden points.

    Attributes
    ----------
    edges : (m, 2) int64
        Ends, smaller first, in order. Numbers below `n_observed` are models, the others hidden points.
    lengths : (m,) float64
        In the unit of the distances; negative ones mean that the distances fit no tree there.
    n_observed : int
        Models.
    n_nodes : int
        Models and hidden points.
    """

    edges: NDArray[np.int64]
    lengths: Float64Array
    n_observed: int
    n_nodes: int


def quartet_scores(squared: ArrayLike, rng: np.random.Generator) -> QuartetScores:
    """Departure of quartets from additivity.

    Parameters
    ----------
    squared : (n, n) array_like, n >= 4
        Squared distances: symmetric, zero diagonal.
    rng : numpy.random.Generator
        Draws 10,000 quartets when n > 40; otherwise all are looked at and nothing is drawn.

    Returns
    -------
    QuartetScores

    Raises
    ------
    ValueError
        Not a finite symmetric matrix with a zero diagonal, or fewer than four models.

    Notes
    -----
    Null: none. Of the three sums of opposite distances S1 >= S2 >= S3 of a quartet the two largest are equal on a tree
    (Buneman 1971); the score is (S1 - S2)/(S1 - S3), and 0 for three equal sums (Holland et al. 2002,
    doi 10.1093/oxfordjournals.molbev.a004030). Invariant to relabelling (when all are looked at), to scale, and to a
    constant added to all distances of one model. Cost: O(n^4) up to 40 models, then constant.

    Examples
    --------
    >>> place = np.array([0.0, 1.0, 3.0, 7.0, 8.0])
    >>> found = quartet_scores(abs(place[:, None] - place), np.random.default_rng(0))
    >>> print(f"{found.n} quartets of points on a line, mean score {found.mean:.1f}")
    5 quartets of points on a line, mean score 0.0
    """
    d = _distances(squared, 4)
    n = d.shape[0]
    a, b, c, e = (np.array(list(combinations(range(n), 4))) if n <= _ALL else _drawn(n, rng)).T
    sums = np.sort(np.stack([d[a, b] + d[c, e], d[a, c] + d[b, e], d[a, e] + d[b, c]]), axis=0)
    spread = sums[2] - sums[0]
    is_star = spread <= _ROUNDING * np.abs(sums[2])
    score = np.where(is_star, 0.0, (sums[2] - sums[1]) / np.where(is_star, 1.0, spread))
    total, count = np.zeros(n), np.zeros(n)
    for member in (a, b, c, e):
        total += np.bincount(member, weights=score, minlength=n)
        count += np.bincount(member, minlength=n)
    return QuartetScores(
        mean=float(np.mean(score)),
        percentile_90=float(np.quantile(score, 0.9)),
        member_mean=np.where(count > 0, total / np.maximum(count, 1.0), np.nan),
        n=int(score.size),
    )


def pendant_lengths(squared: ArrayLike, edges: ArrayLike) -> Float64Array:
    """How far each inner node of a tree lies from the place where its neighbours' paths meet.

    Parameters
    ----------
    squared : (n, n) array_like
        Squared distances: symmetric, zero diagonal.
    edges : (m, 2) array_like of int
        Edges between the n nodes.

    Returns
    -------
    (n,) float64
        Mean of (d(v, a) + d(v, b) - d(a, b))/2 over the pairs of neighbours a, b; NaN for nodes with fewer than two.
        Near 0: the node is the ancestor it stands for. Near a typical edge: the ancestor is hidden, the node its child.

    Raises
    ------
    ValueError
        Not a finite symmetric matrix with a zero diagonal, or edges that do not join its nodes.

    Notes
    -----
    Each term is the inner product of the steps from v to a and to b: children whose updates have a cosine of 0.3 give
    three tenths of an edge where nothing is hidden. Null: none. Cost: O(sum of squared degrees).
    """
    d = _distances(squared, 1)
    n = d.shape[0]
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n or (pairs[:, 0] == pairs[:, 1]).any()):
        raise ValueError(f"edges must join two different nodes each, 0 to {n - 1}")
    linked = np.zeros((n, n), dtype=np.bool_)
    linked[pairs[:, 0], pairs[:, 1]] = linked[pairs[:, 1], pairs[:, 0]] = True
    found = np.full(n, np.nan)
    for v in range(n):
        near = np.flatnonzero(linked[v])
        if near.size > 1:
            among = d[np.ix_(near, near)]
            found[v] = (np.sum(d[v, near]) - np.sum(among) / (2 * (near.size - 1))) / near.size
    return found


def neighbour_joining(squared: ArrayLike) -> UnrootedTree:
    """The tree of least balanced length found by joining neighbours, all models at its tips.

    Parameters
    ----------
    squared : (n, n) array_like
        Squared distances: symmetric, zero diagonal.

    Returns
    -------
    UnrootedTree
        Every hidden point has three neighbours; `contract_short` makes models inner nodes.

    Raises
    ------
    ValueError
        Not a finite symmetric matrix with a zero diagonal.

    Notes
    -----
    Null: none. Recovers the tree and its lengths from exactly additive distances. Equal choices fall to the smallest
    index; relabelling changes nothing but that. Cost: O(n^3) time, O(n^2) memory.

    References
    ----------
    Saitou and Nei 1987, doi 10.1093/oxfordjournals.molbev.a040454; the criterion in the form of Studier and Keppler
    1988, doi 10.1093/oxfordjournals.molbev.a040527.

    Examples
    --------
    >>> place = np.array([0.0, 1.0, 3.0, 7.0])
    >>> line = contract_short(neighbour_joining(abs(place[:, None] - place)))
    >>> print(f"edges {line.edges.tolist()}, hidden points {line.n_nodes - line.n_observed}")
    edges [[0, 1], [1, 2], [2, 3]], hidden points 0
    """
    d = _distances(squared, 1).copy()
    n = d.shape[0]
    names = np.arange(n)
    joined: list[tuple[int, int, float]] = []
    for fresh in range(n, 2 * n - 3):
        names, d, pair = _join(names, d, fresh)
        joined += pair
    if names.size == 3:
        centre = max(n, 2 * n - 3)
        joined += [(int(names[i]), centre, _half(d[i, j], d[i, k], d[j, k])) for i, j, k in _CORNERS]
    elif n == 2:
        joined.append((0, 1, float(d[0, 1])))
    return _tree(joined, n, max(n, 2 * n - 2))


def contract_short(tree: UnrootedTree, *, share: float = _SHORT) -> UnrootedTree:
    """The tree with its short edges drawn together, so that models stand for the inner points they lie at.

    Parameters
    ----------
    tree : UnrootedTree
        Of `neighbour_joining`.
    share : float
        Edges below this share of the typical edge are short: the median of the n - 1 longest, as many as a tree
        without hidden points has.

    Returns
    -------
    UnrootedTree
        Hidden points renumbered from n on. Remaining lengths are unchanged.

    Notes
    -----
    Shortest first, and never two models into one. Edges between hidden points are drawn together too: a point of many
    children is otherwise a chain of points an accident of rounding apart. Cost: O(n log n).
    """
    n = tree.n_observed
    if not tree.lengths.size:
        return tree
    bound = share * float(np.median(np.sort(tree.lengths)[-(n - 1) :]))
    group = list(range(tree.n_nodes))

    def found(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    edges = [(length, u, v) for (u, v), length in zip(tree.edges.tolist(), tree.lengths.tolist(), strict=True)]
    for _, u, v in sorted(e for e in edges if e[0] < bound):
        low, high = sorted((found(u), found(v)))
        if high >= n:
            group[high] = low
    kept = sorted({found(i) for i in range(tree.n_nodes)} | set(range(n)))
    number = {old: new for new, old in enumerate(kept)}
    left = [(number[found(u)], number[found(v)], length) for length, u, v in edges if found(u) != found(v)]
    return _tree(left, n, len(kept))


_CORNERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))


def _half(near: float, other: float, opposite: float) -> float:
    """Length of the arm of a corner of a triangle."""
    return 0.5 * (float(near) + float(other) - float(opposite))


def _join(
    names: IntVector, d: Float64Array, fresh: int
) -> tuple[IntVector, Float64Array, list[tuple[int, int, float]]]:
    """One step: the best pair becomes the point `fresh` in the place of its first member, the last fills the second's."""
    m = names.size
    away = d.sum(axis=1) / (m - 2)
    criterion = d - away[:, None]
    criterion -= away
    criterion.flat[:: m + 1] = np.inf
    i, j = sorted(divmod(int(criterion.argmin()), m))
    length = 0.5 * float(d[i, j] + away[i] - away[j])
    pair = [(int(names[i]), fresh, length), (int(names[j]), fresh, float(d[i, j]) - length)]
    arm = 0.5 * (d[i] + d[j] - d[i, j])
    arm[i] = arm[j] = 0.0
    d[i, :] = d[:, i] = arm
    d[j, :] = d[:, j] = d[m - 1, :]
    d[j, j] = 0.0
    names[i], names[j] = fresh, names[m - 1]
    return names[: m - 1], d[: m - 1, : m - 1], pair


def _tree(joined: list[tuple[int, int, float]], n: int, n_nodes: int) -> UnrootedTree:
    ordered = sorted((min(u, v), max(u, v), length) for u, v, length in joined)
    edges = np.array([(u, v) for u, v, _ in ordered], dtype=np.int64).reshape(-1, 2)
    return UnrootedTree(edges, np.array([length for _, _, length in ordered]), n, n_nodes)


def _drawn(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sets of four different numbers below n: each is drawn among those left, then moved past the earlier ones."""
    rows = np.stack([rng.integers(0, n - k, size=_SAMPLED) for k in range(4)], axis=1)
    for k in range(1, 4):
        for earlier in np.sort(rows[:, :k], axis=1).T:
            rows[:, k] += rows[:, k] >= earlier
    return rows


def _distances(squared: ArrayLike, least: int) -> Float64Array:
    d = as_matrix(squared, "squared", min_rows=least, min_columns=least)
    if d.shape[0] != d.shape[1] or not np.array_equal(d, d.T) or np.diagonal(d).any():
        raise ValueError(f"squared must be symmetric with a zero diagonal, got shape {d.shape}")
    return d
