import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stats.matrixtree
from stats.arborescence import minimum_arborescence
from stats.matrixtree import tree_marginals

INF = math.inf


def climbs_to_a_root(parent, v):
    seen = set()
    while v >= 0 and v not in seen:
        seen.add(v)
        v = parent[v]
    return v < 0


def enumerated(theta, rho, *, single_root):
    """Marginals by the list of all trees or forests; None when no tree has a weight."""
    n = len(rho)
    edge, root, weights = np.zeros((n, n)), np.zeros(n), []
    for parent in itertools.product(range(-1, n), repeat=n):
        if any(u == v for v, u in enumerate(parent)) or (single_root and parent.count(-1) != 1):
            continue
        if not all(climbs_to_a_root(parent, v) for v in range(n)):
            continue
        log = sum(rho[v] if u < 0 else theta[u][v] for v, u in enumerate(parent))
        if log > -INF:
            weights.append((log, parent))
    if not weights:
        return None
    top = max(log for log, _ in weights)
    partition = math.fsum(math.exp(log - top) for log, _ in weights)
    for log, parent in weights:
        for v, u in enumerate(parent):
            share = math.exp(log - top) / partition
            if u < 0:
                root[v] += share
            else:
                edge[u, v] += share
    return edge, root, top + math.log(partition)


def draw(rng, n, scale, missing=0.0):
    theta, rho = scale * rng.normal(size=(n, n)), scale * rng.normal(size=n)
    theta[rng.random((n, n)) < missing] = -INF
    rho[rng.random(n) < missing] = -INF
    return theta, rho


@given(st.integers(0, 10_000), st.integers(1, 5), st.booleans(), st.sampled_from([0.0, 0.4]))
def test_equals_enumeration(seed, n, single_root, missing):
    theta, rho = draw(np.random.default_rng(seed), n, 2.0, missing)
    expected = enumerated(theta.tolist(), rho.tolist(), single_root=single_root)
    if expected is None:
        with pytest.raises(ValueError, match=r"no tree|no forest"):
            tree_marginals(theta, rho, single_root=single_root)
        return
    found = tree_marginals(theta, rho, single_root=single_root)
    np.testing.assert_allclose(found.edge, expected[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.root, expected[1], rtol=1e-12, atol=1e-15)
    assert found.log_partition == pytest.approx(expected[2], rel=1e-12, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 4), st.booleans())
def test_tiny_marginals_keep_their_digits(seed, n, single_root):
    theta, rho = draw(np.random.default_rng(seed), n, 60.0)
    expected = enumerated(theta.tolist(), rho.tolist(), single_root=single_root)
    found = tree_marginals(theta, rho, single_root=single_root)
    np.testing.assert_allclose(found.edge, expected[0], rtol=1e-10)
    np.testing.assert_allclose(found.root, expected[1], rtol=1e-10)


@pytest.mark.parametrize("depth", [30.0, 300.0, 600.0])
def test_two_nodes_that_prefer_each_other_to_being_a_root(depth):
    # The Laplacian is singular to every digit of float64.
    found = tree_marginals(np.zeros((2, 2)), [-depth, -depth], single_root=False)
    np.testing.assert_allclose(found.root, [0.5, 0.5], rtol=1e-12)
    np.testing.assert_allclose(found.edge, [[0.0, 0.5], [0.5, 0.0]], rtol=1e-12)


@pytest.mark.parametrize("single_root", [False, True])
def test_columns_sum_to_one(single_root):
    theta, rho = draw(np.random.default_rng(0), 500, 5.0)
    found = tree_marginals(theta, rho, single_root=single_root)
    np.testing.assert_allclose(found.edge.sum(axis=0) + found.root, 1.0, rtol=0.0, atol=1e-9)
    if single_root:
        assert found.root.sum() == pytest.approx(1.0, abs=1e-9)


def test_equals_the_inverse_of_the_laplacian():
    theta, rho = draw(np.random.default_rng(1), 60, 2.0)
    weight, root = np.exp(theta), np.exp(rho)
    np.fill_diagonal(weight, 0.0)
    laplacian = np.diag(weight.sum(axis=0) + root) - weight
    inverse = np.linalg.inv(laplacian)
    found = tree_marginals(theta, rho, single_root=False)
    np.testing.assert_allclose(found.edge, weight * (np.diagonal(inverse) - inverse.T), atol=1e-10)
    np.testing.assert_allclose(found.root, root * np.diagonal(inverse), atol=1e-10)
    assert found.log_partition == pytest.approx(np.linalg.slogdet(laplacian)[1], rel=1e-12)


@pytest.mark.parametrize("single_root", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_compiled_and_plain_loops_agree(n, single_root, monkeypatch):
    theta, rho = draw(np.random.default_rng(n), n, 20.0)
    plain = tree_marginals(theta, rho, single_root=single_root)
    monkeypatch.setattr(stats.matrixtree, "_LARGE", 0)
    compiled = tree_marginals(theta, rho, single_root=single_root)
    np.testing.assert_allclose(compiled.edge, plain.edge, rtol=1e-11)
    np.testing.assert_allclose(compiled.root, plain.root, rtol=1e-11)
    assert compiled.log_partition == pytest.approx(plain.log_partition, rel=1e-12, abs=1e-11)


@given(st.integers(0, 10_000), st.integers(2, 20), st.booleans())
def test_relabelling_relabels_the_marginals(seed, n, single_root):
    rng = np.random.default_rng(seed)
    theta, rho = draw(rng, n, 4.0)
    order = rng.permutation(n)
    one = tree_marginals(theta, rho, single_root=single_root)
    moved = tree_marginals(theta[np.ix_(order, order)], rho[order], single_root=single_root)
    np.testing.assert_allclose(moved.edge, one.edge[np.ix_(order, order)], rtol=1e-11)
    np.testing.assert_allclose(moved.root, one.root[order], rtol=1e-11)
    assert moved.log_partition == pytest.approx(one.log_partition, rel=1e-11, abs=1e-11)


@given(st.integers(0, 10_000), st.integers(2, 20), st.booleans())
def test_a_constant_on_a_column_and_its_root_moves_the_partition_alone(seed, n, single_root):
    rng = np.random.default_rng(seed)
    theta, rho = draw(rng, n, 4.0)
    shift = 300.0 * rng.normal(size=n)
    one = tree_marginals(theta, rho, single_root=single_root)
    moved = tree_marginals(theta + shift, rho + shift, single_root=single_root)
    np.testing.assert_allclose(moved.edge, one.edge, rtol=1e-10)
    assert moved.log_partition == pytest.approx(one.log_partition + math.fsum(shift), rel=1e-11, abs=1e-9)


def test_one_root_does_not_see_a_constant_on_all_root_weights():
    theta, rho = draw(np.random.default_rng(2), 8, 3.0)
    one, moved = (tree_marginals(theta, rho + shift, single_root=True) for shift in (0.0, 5000.0))
    np.testing.assert_allclose(moved.edge, one.edge, rtol=1e-11)
    assert moved.log_partition == pytest.approx(one.log_partition + 5000.0)


@pytest.mark.parametrize("single_root", [False, True])
def test_any_range_of_weights_gives_numbers(single_root):
    theta, rho = draw(np.random.default_rng(3), 40, 1e5, 0.2)
    found = tree_marginals(theta, rho, single_root=single_root)
    np.testing.assert_allclose(found.edge.sum(axis=0) + found.root, 1.0, atol=1e-12)
    assert not found.edge[theta == -INF].any()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("single_root", [False, True])
def test_strong_weights_leave_the_best_tree(seed, single_root):
    theta, rho = draw(np.random.default_rng(seed), 12, 60.0)
    parent = minimum_arborescence(-theta, root_cost=-rho, single_root=single_root)
    found = tree_marginals(theta, rho, single_root=single_root)
    pairs = [(rho[v], found.root[v]) if u < 0 else (theta[u, v], found.edge[u, v]) for v, u in enumerate(parent)]
    share = math.exp(math.fsum(log for log, _ in pairs) - found.log_partition)
    assert 0.4 < share <= min(p for _, p in pairs) + 1e-9
    assert np.mean([p for _, p in pairs]) > 0.9


@pytest.mark.parametrize(
    ("theta", "rho", "message"),
    [
        (np.zeros((2, 3)), np.zeros(2), "square"),
        (np.zeros((0, 0)), np.zeros(0), "square"),
        (np.zeros((2, 2)), np.zeros(3), "shape"),
        ([[0.0, INF], [0.0, 0.0]], np.zeros(2), "infinity"),
        (np.zeros((2, 2)), [0.0, math.nan], "NaN"),
        (np.zeros((2, 2)), [-INF, -INF], "no forest"),
    ],
)
def test_refuses(theta, rho, message):
    with pytest.raises(ValueError, match=message):
        tree_marginals(theta, rho, single_root=False)
