import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.matrixtree import tree_marginals
from stats.rooting import root_posterior


def reached(start, edges):
    seen, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        for pair in edges:
            if here in pair:
                there = pair[0] + pair[1] - here
                if there not in seen:
                    seen.add(there)
                    waiting.append(there)
    return seen


def by_roots(edges, odds, prior):
    """Every root for itself, its score an exact fraction."""
    scores = []
    for root in range(len(prior)):
        score = Fraction(prior[root]) if prior[root] > -math.inf else None
        for k, (a, _) in enumerate(edges):
            away = root in reached(a, edges[:k] + edges[k + 1 :])
            score = None if score is None else score + Fraction(odds[k]) / (2 if away else -2)
        scores.append(score)
    top = max(s for s in scores if s is not None)
    weights = [0.0 if s is None else math.exp(float(s - top)) for s in scores]
    total = math.fsum(weights)
    forward = [
        math.fsum(weights[r] for r in reached(a, edges[:k] + edges[k + 1 :])) / total for k, (a, _) in enumerate(edges)
    ]
    return np.array([w / total for w in weights]), np.array(forward)


def draw(rng, n):
    edges = [(int(rng.integers(i)), i) for i in range(1, n)]
    order = rng.permutation(n)
    return [(int(order[u]), int(order[v]))[:: 1 if rng.random() < 0.5 else -1] for u, v in edges]


@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([(0, 1), (-3, 17)]))
def test_equals_every_root_for_itself(seed, n, exponents):
    rng = np.random.default_rng(seed)
    edges = draw(rng, n)
    odds = (rng.normal(size=n - 1) * 10.0 ** rng.integers(*exponents, size=n - 1)).tolist()
    prior = np.where(rng.random(n) < 0.2, -math.inf, 3.0 * rng.normal(size=n))
    prior[rng.integers(n)] = 0.0
    found = root_posterior(edges, odds, prior)
    root, forward = by_roots(edges, odds, prior.tolist())
    np.testing.assert_allclose(found.root, root, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.forward, forward, rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.exp(found.log_backward), 1.0 - forward, rtol=0, atol=1e-13)


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_equals_the_marginals_over_trees_when_there_is_one_tree(seed, n):
    rng = np.random.default_rng(seed)
    edges, odds, prior = draw(rng, n), 3.0 * rng.normal(size=n - 1), rng.normal(size=n)
    theta = np.full((n, n), -math.inf)
    for (u, v), toward in zip(edges, odds, strict=True):
        theta[u, v], theta[v, u] = 0.5 * toward, -0.5 * toward
    one, found = tree_marginals(theta, prior, single_root=True), root_posterior(edges, odds, prior)
    np.testing.assert_allclose(found.root, one.root, rtol=1e-11)
    np.testing.assert_allclose(found.forward, [one.edge[u, v] for u, v in edges], rtol=1e-11)


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_swapped_ends_relabelling_and_a_constant_change_nothing(seed, n):
    rng = np.random.default_rng(seed)
    edges, odds, prior, order = draw(rng, n), rng.normal(size=n - 1), rng.normal(size=n), rng.permutation(n)
    found = root_posterior(edges, odds, prior)
    swapped = root_posterior([(v, u) for u, v in edges], -odds, prior + 7.0)
    np.testing.assert_allclose(swapped.log_backward, found.log_forward, atol=1e-12)
    back = np.argsort(order)
    moved = root_posterior([(int(back[u]), int(back[v])) for u, v in edges], odds, prior[order])
    np.testing.assert_allclose(moved.log_root, found.log_root[order], atol=1e-12)
    np.testing.assert_allclose(moved.log_forward, found.log_forward, atol=1e-12)


def test_certainty_keeps_the_digits_of_the_other_side():
    found = root_posterior([[0, 1], [1, 2]], [800.0, 2.0], np.zeros(3))
    assert found.log_forward[0] == 0.0
    assert found.log_backward[0] == pytest.approx(-800.0 + math.log1p(math.exp(-2.0)))


def test_evidence_that_cancels_on_a_path_leaves_what_remains():
    found = root_posterior([[0, 1], [1, 2], [2, 3]], [-1e17, 1.0, 1e17], np.zeros(4))
    assert found.root[1] == pytest.approx(1.0 / (1.0 + math.exp(-1.0)))


def test_long_paths_need_no_recursion():
    n = 20_000
    found = root_posterior(np.column_stack([np.arange(n - 1), np.arange(1, n)]), np.zeros(n - 1), np.zeros(n))
    np.testing.assert_allclose(found.forward, np.arange(1, n) / n, rtol=1e-10)


@pytest.mark.parametrize(
    ("edges", "odds", "prior", "message"),
    [
        ([[0, 1]], [0.0], np.zeros(3), "2 edges"),
        ([[0, 1], [0, 1]], [0.0, 0.0], np.zeros(3), "one tree"),
        ([[0, 1], [2, 2]], [0.0, 0.0], np.zeros(3), "one tree"),
        ([[0, 0]], [0.0], np.zeros(2), "one tree"),
        ([[0, 2]], [0.0], np.zeros(2), "nodes 0 to 1"),
        ([[0.0, 1.0]], [0.0], np.zeros(2), "nodes 0 to 1"),
        ([[0, 1]], [math.inf], np.zeros(2), "infinite"),
        ([[0, 1]], [0.0], [math.nan, 0.0], "root_log_prior"),
        ([[0, 1]], [0.0], [-math.inf, -math.inf], "root_log_prior"),
    ],
)
def test_refuses(edges, odds, prior, message):
    with pytest.raises(ValueError, match=message):
        root_posterior(edges, odds, prior)
