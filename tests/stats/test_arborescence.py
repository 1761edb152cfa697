import itertools
import math
import time

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.arborescence import minimum_arborescence

INF = math.inf


def total(cost, parent, root_cost=None):
    """Cost of a parent vector."""
    roots = np.zeros(len(parent)) if root_cost is None else root_cost
    return math.fsum(roots[v] if u < 0 else cost[u][v] for v, u in enumerate(parent))


def is_forest(parent):
    """Whether every node leads up to a root."""
    for v in range(len(parent)):
        steps, here = 0, v
        while here >= 0 and steps <= len(parent):
            here, steps = parent[here], steps + 1
        if here >= 0:
            return False
    return True


def best(cost, *, root=None, root_cost=None, single_root=True):
    """Least total over all parent vectors; inf where there is none."""
    n = len(cost)
    found = INF
    for parent in itertools.product(range(-1, n), repeat=n):
        roots = [v for v, u in enumerate(parent) if u < 0]
        if any(u == v for v, u in enumerate(parent)) or not is_forest(parent):
            continue
        if (root is not None and roots != [root]) or (single_root and len(roots) != 1):
            continue
        found = min(found, total(cost, parent, root_cost))
    return found


def draw(rng, n, kind):
    """Costs with ties, without, or in nested groups that are cheap inside: cycles within cycles."""
    cost = rng.integers(0, 5, size=(n, n)).astype(float) if kind == "ties" else rng.normal(size=(n, n))
    if kind == "nested":
        level = np.array([[(a ^ b).bit_length() for b in range(n)] for a in range(n)])
        cost = 3.0**level * (1.0 + 0.2 * rng.random((n, n)))
    cost[rng.random((n, n)) < rng.choice([0.0, 0.4])] = INF
    return cost


def from_networkx(cost):
    n = len(cost)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n))
    arcs = ((u, v) for u in range(n) for v in range(n) if u != v and cost[u, v] < INF)
    graph.add_edges_from((u, v, {"weight": cost[u, v]}) for u, v in arcs)
    try:
        return nx.minimum_spanning_arborescence(graph).size("weight")
    except nx.NetworkXException:
        return None


def found_or_none(*args, **kwargs):
    try:
        return minimum_arborescence(*args, **kwargs)
    except ValueError as error:
        assert "no arborescence" in str(error)  # noqa: PT017 - both outcomes are compared
        return None


@pytest.mark.parametrize("kind", ["ties", "plain", "nested"])
def test_equals_networkx_in_total_cost(kind):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cost = draw(rng, int(rng.integers(2, 17)), kind)
        parent, expected = found_or_none(cost), from_networkx(cost)
        assert (parent is None) == (expected is None)
        if parent is not None:
            assert is_forest(parent.tolist())
            assert np.count_nonzero(parent < 0) == 1
            assert total(cost, parent) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from(["ties", "plain", "nested"]))
def test_equals_all_arborescences_of_few_nodes(seed, n, kind):
    rng = np.random.default_rng(seed)
    cost = draw(rng, n, kind)
    roots = np.where(rng.random(n) < 0.3, INF, rng.normal(size=n))
    root = int(rng.integers(n))
    for ours, theirs in (
        ({}, {}),
        ({"root": root}, {"root": root}),
        ({"root_cost": roots}, {"root_cost": roots, "single_root": False}),
        ({"root_cost": roots, "single_root": True}, {"root_cost": roots}),
    ):
        parent, expected = found_or_none(cost, **ours), best(cost.tolist(), **theirs)
        assert (parent is None) == (expected == INF)
        if parent is not None:
            assert total(cost, parent, theirs.get("root_cost")) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_relabelling_relabels_the_parents(seed, n):
    rng = np.random.default_rng(seed)
    cost, order = rng.normal(size=(n, n)), rng.permutation(n)
    parent, moved = minimum_arborescence(cost), minimum_arborescence(cost[np.ix_(order, order)])
    expected = [-1 if u < 0 else int(np.flatnonzero(order == u)[0]) for u in parent[order]]
    assert moved.tolist() == expected


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_a_constant_on_a_column_and_its_root_cost_changes_nothing(seed, n):
    rng = np.random.default_rng(seed)
    cost, roots, shift = rng.normal(size=(n, n)), rng.normal(size=n), rng.normal(size=n)
    one = minimum_arborescence(cost, root_cost=roots)
    assert minimum_arborescence(cost + shift, root_cost=roots + shift).tolist() == one.tolist()


def test_ties_go_to_the_smallest_parent_and_to_parents_before_roots():
    assert minimum_arborescence(np.zeros((4, 4)), 2).tolist() == [2, 0, -1, 0]
    assert minimum_arborescence(np.zeros((3, 3)), root_cost=np.zeros(3)).tolist().count(-1) == 1


def test_a_super_node_is_opened_by_the_node_its_arc_ends_in():
    # 1 and 2 form a cycle, both with 3 another; the root enters at 2, inside the inner cycle.
    cost = np.full((4, 4), INF)
    cost[1, 2] = cost[2, 1] = 1.0
    cost[3, 1], cost[2, 3] = 2.0, 2.0
    cost[0, 2], cost[0, 3] = 10.0, 30.0
    assert minimum_arborescence(cost, 0).tolist() == [-1, 2, 0, 2]


def test_dense_graphs_are_fast():
    n = 300
    rng = np.random.default_rng(0)
    place = np.arange(n)
    for cost in (rng.normal(size=(n, n)), abs(place[:, None] - place) + 0.1 * rng.random((n, n))):
        start = time.perf_counter()
        parent = minimum_arborescence(cost)
        assert time.perf_counter() - start < 3.0
        assert is_forest(parent.tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.0, INF], [INF, 0.0]],), "not every node"),
        (([[0.0, INF], [INF, 0.0]], 0), r"no arc leads to the nodes \[1\]"),
        (([[0.0, math.nan], [0.0, 0.0]],), "NaN"),
        (([[0.0, -INF], [0.0, 0.0]],), "infinity"),
        ((np.zeros((2, 3)),), "square"),
        ((np.zeros((0, 0)),), "square"),
        ((np.zeros((2, 2)), 2), "root must be a node"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        minimum_arborescence(*arguments)


def test_refuses_root_costs_that_do_not_fit():
    with pytest.raises(ValueError, match="shape"):
        minimum_arborescence(np.zeros((2, 2)), root_cost=np.zeros(3))
    with pytest.raises(ValueError, match="without root_cost"):
        minimum_arborescence(np.zeros((2, 2)), 0, root_cost=np.zeros(2))
