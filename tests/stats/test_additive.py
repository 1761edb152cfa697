"""Distances that add along a tree, and updates of low rank: against loops, libraries and planted cases."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.additive import orthogonal_growth, participation, step_cosines

SEEDS = st.integers(0, 10_000)


def tree_of_points(rng, n, dims, *, common=0.0):
    """Points of a random walk along a random tree, and its links; steps share a direction in part."""
    shared = rng.standard_normal(dims)
    points, links = [rng.standard_normal(dims)], []
    for i in range(1, n):
        parent = int(rng.integers(i))
        step = np.sqrt(1.0 - common) * rng.standard_normal(dims) + np.sqrt(common) * shared
        points.append(points[parent] + 10.0 ** rng.uniform(-1.0, 1.0) * step)
        links.append((parent, i))
    return np.array(points), links


def squared_of(points):
    return np.square(points[:, None] - points[None]).sum(axis=2)


@given(SEEDS, st.integers(3, 9))
def test_cosines_are_those_of_the_steps_of_the_minimum_spanning_tree(seed, n):
    points, _ = tree_of_points(np.random.default_rng(seed), n, 4)
    graph = nx.Graph()
    squared = squared_of(points)
    graph.add_weighted_edges_from((i, j, squared[i, j]) for i, j in itertools.combinations(range(n), 2))
    tree = nx.minimum_spanning_tree(graph)
    expected = []
    for b in tree:
        for a, c in itertools.combinations(tree[b], 2):
            x, y = points[a] - points[b], points[c] - points[b]
            expected.append(x @ y / np.sqrt((x @ x) * (y @ y)))
    np.testing.assert_allclose(np.sort(step_cosines(squared)), np.sort(expected), atol=1e-9)
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_allclose(np.sort(step_cosines(squared[np.ix_(order, order)])), np.sort(expected), atol=1e-9)


def test_orthogonal_steps_add_and_common_ones_do_not():
    rng = np.random.default_rng(1)
    apart = [np.mean(step_cosines(squared_of(tree_of_points(rng, 12, 4000)[0])) ** 2) for _ in range(20)]
    alike = [np.mean(step_cosines(squared_of(tree_of_points(rng, 12, 4000, common=0.3)[0])) ** 2) for _ in range(20)]
    assert max(apart) < 0.002
    assert min(alike) > 0.01


def test_small_cases_have_no_angle():
    assert step_cosines(np.zeros((1, 1))).size == 0
    assert step_cosines(np.array([[0.0, 1.0], [1.0, 0.0]])).size == 0
    assert step_cosines(np.zeros((4, 4))).size == 0


@given(SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_participation_against_singular_values(seed, m, n):
    x = np.random.default_rng(seed).standard_normal((m, n))
    s = np.linalg.svd(x, compute_uv=False) ** 2
    assert participation(x) == pytest.approx(s.sum() ** 2 / np.sum(s**2) / min(m, n))
    assert participation(x.T) == pytest.approx(participation(x))
    assert 1.0 / min(m, n) - 1e-9 <= participation(x) <= 1.0 + 1e-9


@given(SEEDS, st.integers(1, 5))
def test_a_product_of_low_rank_uses_few_dimensions(seed, rank):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, rank)) @ rng.standard_normal((rank, 60))
    assert participation(x) <= rank / 40 + 1e-9
    assert participation(np.zeros((3, 4))) == 0.0


@given(SEEDS)
def test_growth_is_one_from_the_parent_and_minus_one_from_the_child(seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((64, 64))
    b = a + 0.3 * rng.standard_normal((64, 3)) @ rng.standard_normal((3, 64))
    assert orthogonal_growth(a, b) == pytest.approx(1.0, abs=0.5)
    assert orthogonal_growth(b, a) == -orthogonal_growth(a, b)
    assert orthogonal_growth(a, a) == 0.0
    c = a + 0.3 * rng.standard_normal((64, 3)) @ rng.standard_normal((3, 64))
    assert abs(orthogonal_growth(b, c)) < 0.9
