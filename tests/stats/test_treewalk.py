"""Trees weighed by lengths and angles of their steps: against vectors, against all trees, and whatever order comes in."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.treewalk import BINS, log_fit, normal_table, walked_trees

TABLE = normal_table(np.array([0.34, 0.08, 0.07]), np.array([0.21, 0.27, 0.15]), share=0.1, wide=0.4)
SEEDS = st.integers(0, 10_000)


def rooted_trees(n):
    """Parents of every rooted tree on n members."""
    for parent in itertools.product(range(-1, n), repeat=n):
        if parent.count(-1) == 1 and all(reaches_root(parent, v) for v in range(n)):
            yield np.array(parent)


def reaches_root(parent, v):
    for _ in parent:
        v = parent[v]
        if v < 0:
            return True
    return False


def naive_fit(points, parent, weight, temper, popularity):
    """From the vectors themselves, step by step."""
    n = len(points)
    steps = {v: points[v] - points[p] for v, p in enumerate(parent) if p >= 0}
    total = -0.5 * n * sum(np.log(s @ s) for s in steps.values())
    for v, w in itertools.combinations(steps, 2):
        cosine = steps[v] @ steps[w] / np.sqrt((steps[v] @ steps[v]) * (steps[w] @ steps[w]))
        kind = 0 if parent[v] == parent[w] else 1 if parent[v] == w or parent[w] == v else 2
        total += TABLE[kind, int(np.floor((cosine + 1.0) / 2.0 * (BINS - 1) + 0.5))]
    rest = sum(weight[parent[v], v] for v in steps)
    for u in range(n):
        rest += popularity * sum(np.log(0.5 + j) for j in range(sum(p == u for p in parent)))
    return temper * total + rest


def squared_of(points):
    return np.square(points[:, None] - points[None]).sum(axis=2)


def drawn(seed, n, dims=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, dims)), 0.3 * rng.standard_normal((n, n))


@given(SEEDS, st.integers(2, 8))
def test_the_fit_is_that_of_the_steps(seed, n):
    points, weight = drawn(seed, n)
    parent = np.array([-1, *(np.random.default_rng(seed).integers(0, v) for v in range(1, n))])
    expected = naive_fit(points, parent, weight, 0.4, 0.75)
    assert log_fit(parent, squared_of(points), weight, TABLE, temper=0.4, popularity=0.75) == pytest.approx(expected)


@given(SEEDS, st.floats(1e-3, 1e3))
def test_a_scale_moves_all_trees_alike(seed, scale):
    points, weight = drawn(seed, 5)
    squared = squared_of(points)
    trees = [np.array([-1, 0, 0, 1, 2]), np.array([1, 2, -1, 2, 3])]
    fits = [
        [log_fit(t, s, weight, TABLE, temper=0.5, popularity=0.7) for t in trees] for s in (squared, squared * scale)
    ]
    assert fits[1][0] - fits[0][0] == pytest.approx(fits[1][1] - fits[0][1], abs=1e-6)


def test_lengths_and_cosines_are_coordinates_of_the_distances():
    """The Jacobian of the Gram matrix of the steps by log lengths and cosines, up to the cosines' own density: by differences."""
    rng = np.random.default_rng(3)
    points = rng.standard_normal((4, 6))

    def gram(x):
        length, cosine = np.exp(x[:3]), np.eye(3)
        cosine[np.triu_indices(3, 1)] = x[3:]
        cosine = cosine + cosine.T - np.eye(3)
        return (length[:, None] * cosine * length)[np.triu_indices(3)]

    steps = points[1:] - points[0]
    size = np.linalg.norm(steps, axis=1)
    cosine = (steps @ steps.T / np.outer(size, size))[np.triu_indices(3, 1)]
    x = np.concatenate([np.log(size), cosine])
    jacobian = np.stack([(gram(x + h) - gram(x - h)) / 2e-6 for h in 1e-6 * np.eye(6)])
    log_det = np.linalg.slogdet(jacobian)[1]
    assert log_det == pytest.approx(3 * np.log(2.0) + 4 * np.log(size).sum(), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_shares_equal_the_sum_over_all_trees(seed):
    points, weight = drawn(seed, 4)
    squared = squared_of(points)
    trees = list(rooted_trees(4))
    assert len(trees) == 4**3
    fits = np.array([log_fit(t, squared, weight, TABLE, temper=0.5, popularity=0.75) for t in trees])
    chance = np.exp(fits - fits.max())
    chance /= chance.sum()
    edge, root = np.zeros((4, 4)), np.zeros(4)
    for t, c in zip(trees, chance, strict=True):
        for v, p in enumerate(t):
            if p < 0:
                root[v] += c
            else:
                edge[p, v] += c
    found = walked_trees(squared, weight, TABLE, trees[0], np.random.default_rng(0), temper=0.5, popularity=0.75)
    np.testing.assert_allclose(found.edge, edge, atol=0.04)
    np.testing.assert_allclose(found.root, root, atol=0.04)
    np.testing.assert_allclose(found.edge.sum(axis=0) + found.root, 1.0, atol=1e-12)
    assert found.spread < 0.1


def grown(seed, n=9, dims=4000):
    """Steps of unequal size, those from one member alike, in a known tree."""
    rng = np.random.default_rng(seed)
    parent = [-1, 0, 0, 0, 1, 1, 1, 2, 2]
    common = rng.standard_normal((n, dims))
    points = [rng.standard_normal(dims)]
    for v in range(1, n):
        step = np.sqrt(0.7) * rng.standard_normal(dims) + np.sqrt(0.3) * common[parent[v]]
        points.append(points[parent[v]] + rng.choice([0.3, 1.0, 3.0]) * step)
    return np.array(points), np.array(parent)


def whole(squared):
    """The complete graph of the members."""
    graph = nx.Graph()
    graph.add_weighted_edges_from((i, j, squared[i, j]) for i, j in itertools.combinations(range(len(squared)), 2))
    return graph


def test_steps_alike_show_their_parent_where_distances_mislead():
    right = near = 0
    for seed in range(8):
        points, parent = grown(seed)
        squared = squared_of(points)
        found = walked_trees(
            squared,
            np.zeros((9, 9)),
            TABLE,
            np.array([-1, *[0] * 8]),
            np.random.default_rng(0),
            temper=1.0,
            popularity=0.75,
        )
        linked = found.edge + found.edge.T
        links = {frozenset((v, int(p))) for v, p in enumerate(parent) if p >= 0}
        right += sum(linked[tuple(k)] > 0.5 for k in links)
        near += sum(frozenset(k) in links for k in nx.minimum_spanning_tree(whole(squared)).edges)
    assert right >= near + 6


@pytest.mark.parametrize("seed", range(3))
def test_order_of_members_does_not_matter(seed):
    points, _ = grown(seed % 5)
    squared, weight = squared_of(points), np.zeros((9, 9))
    order = np.random.default_rng(seed).permutation(9)
    start = np.array([-1, *[0] * 8])
    turned = np.full(9, np.flatnonzero(order == 0)[0])
    turned[turned[0]] = -1
    one = walked_trees(squared, weight, TABLE, start, np.random.default_rng(1), temper=0.4, popularity=0.75)
    two = walked_trees(
        squared[np.ix_(order, order)], weight, TABLE, turned, np.random.default_rng(1), temper=0.4, popularity=0.75
    )
    np.testing.assert_allclose(two.edge, one.edge[np.ix_(order, order)], atol=0.05)


def test_densities_are_densities():
    at = np.linspace(-1.0, 1.0, BINS)
    assert np.exp(TABLE).sum(axis=1) * (at[1] - at[0]) == pytest.approx(1.0, abs=0.02)
    assert TABLE[1, 200] == pytest.approx(
        np.log((0.9 * np.exp(-0.5 * (0.08 / 0.27) ** 2) / 0.27 + 0.1 / 0.4) / np.sqrt(2.0 * np.pi))
    )


def test_infinite_distances_are_refused():
    with pytest.raises(ValueError, match="finite"):
        walked_trees(
            np.full((6, 6), np.inf),
            np.zeros((6, 6)),
            TABLE,
            np.array([-1] + [0] * 5),
            np.random.default_rng(0),
            temper=0.5,
            popularity=0.5,
        )
