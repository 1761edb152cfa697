import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.quartets import contract_short, neighbour_joining, pendant_lengths, quartet_scores


def draw(rng, n, *, hidden=False):
    """A tree with steps of 1 to 3, its distances between observed nodes, and its edges; inner nodes may be hidden."""
    above = [int(rng.integers(i)) for i in range(1, n)]
    step = rng.uniform(1.0, 3.0, size=n - 1)
    edges = [(u, v) for v, u in enumerate(above, start=1)]
    far = np.zeros((n, n))
    for v, u in enumerate(above, start=1):
        far[v, :v] = far[:v, v] = far[u, :v] + step[v - 1]
    degree = np.bincount(np.array(edges).ravel(), minlength=n)
    seen = np.flatnonzero((degree < 3) | (rng.random(n) < 0.3)) if hidden else np.arange(n)
    return far[np.ix_(seen, seen)], edges, seen.tolist(), step


def splits(edges, lengths, observed):
    """What every edge separates: the observed side without the first model, and the edge's length."""
    found = {}
    for k, (u, v) in enumerate(edges):
        side, waiting = {v}, [v]
        while waiting:
            here = waiting.pop()
            for j, pair in enumerate(edges):
                if j != k and here in pair and (there := sum(pair) - here) not in side:
                    side.add(there)
                    waiting.append(there)
        inside = frozenset(observed.index(i) for i in side if i in observed)
        inside = frozenset(range(len(observed))) - inside if 0 in inside else inside
        found[inside] = lengths[k]
        assert u not in side
    return found


def naive_score(d, quartet):
    a, b, c, e = quartet
    low, mid, top = sorted([d[a][b] + d[c][e], d[a][c] + d[b][e], d[a][e] + d[b][c]])
    return 0.0 if top - low <= 1e-12 * top else (top - mid) / (top - low)


def cloud(rng, n):
    points = rng.normal(size=(n, 6))
    d = np.sum((points[:, None] - points) ** 2, axis=2)
    return (d + d.T) / 2


@given(st.integers(0, 10_000), st.integers(2, 25), st.booleans())
def test_additive_distances_give_back_their_tree(seed, n, hidden):
    far, edges, seen, step = draw(np.random.default_rng(seed), n, hidden=hidden)
    whole = neighbour_joining(far)
    found = contract_short(whole)
    expected = splits(edges, step.tolist(), seen)
    got = splits(found.edges.tolist(), found.lengths.tolist(), list(range(len(seen))))
    assert got.keys() == expected.keys()
    assert all(got[s] == pytest.approx(expected[s]) for s in got)
    assert found.n_nodes == n
    assert len(whole.edges) == max(1, 2 * len(seen) - 3)


@given(st.integers(0, 10_000), st.integers(3, 15))
def test_relabelling_relabels_the_joined_tree(seed, n):
    rng = np.random.default_rng(seed)
    d, order = cloud(rng, n), rng.permutation(n)
    one, moved = neighbour_joining(d), neighbour_joining(d[np.ix_(order, order)])
    original = splits(one.edges.tolist(), one.lengths.tolist(), list(range(n)))
    back = splits(moved.edges.tolist(), moved.lengths.tolist(), np.argsort(order).tolist())
    assert original.keys() == back.keys()
    assert all(original[s] == pytest.approx(back[s], abs=1e-9) for s in original)


def test_a_model_close_to_where_paths_meet_becomes_inner_and_two_never_become_one():
    # Children at 3 from a parent that lies 0.2 off the point where they meet.
    d = np.full((5, 5), 6.0)
    d[0, :] = d[:, 0] = 3.2
    np.fill_diagonal(d, 0.0)
    assert contract_short(neighbour_joining(d)).edges.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4]]
    d[0, 1] = d[1, 0] = 0.3
    d[1, 2:] = d[2:, 1] = 3.1
    found = contract_short(neighbour_joining(d))
    assert found.n_nodes == 5
    assert [0, 1] in found.edges.tolist()


def test_one_and_two_models():
    assert neighbour_joining([[0.0]]).edges.shape == (0, 2)
    assert contract_short(neighbour_joining([[0.0]])).n_nodes == 1
    two = neighbour_joining([[0.0, 2.0], [2.0, 0.0]])
    assert (two.edges.tolist(), two.lengths.tolist(), two.n_nodes) == ([[0, 1]], [2.0], 2)


@given(st.integers(0, 10_000), st.integers(4, 9))
def test_scores_equal_a_loop_over_quartets(seed, n):
    d = cloud(np.random.default_rng(seed), n)
    quartets = list(combinations(range(n), 4))
    scores = [naive_score(d.tolist(), q) for q in quartets]
    found = quartet_scores(d, np.random.default_rng(0))
    assert found.n == len(quartets)
    assert found.mean == pytest.approx(math.fsum(scores) / len(scores))
    assert found.percentile_90 == pytest.approx(np.quantile(scores, 0.9))
    for v in range(n):
        own = [s for s, q in zip(scores, quartets, strict=True) if v in q]
        assert found.member_mean[v] == pytest.approx(math.fsum(own) / len(own))


@given(st.integers(0, 10_000), st.integers(4, 12))
def test_scores_do_not_see_labels_scale_or_a_pendant(seed, n):
    rng = np.random.default_rng(seed)
    d, order = cloud(rng, n), rng.permutation(n)
    one = quartet_scores(d, rng)
    moved = quartet_scores(d[np.ix_(order, order)], rng)
    np.testing.assert_allclose(moved.member_mean, one.member_mean[order], atol=1e-9)
    longer = 3.0 * d
    longer[0, 1:] += 2.0
    longer[1:, 0] += 2.0
    assert quartet_scores(longer, rng).mean == pytest.approx(one.mean, abs=1e-9)


def test_trees_and_stars_score_nothing_and_a_merge_stands_out():
    rng = np.random.default_rng(0)
    far, *_ = draw(rng, 20)
    assert quartet_scores(far, rng).percentile_90 == pytest.approx(0.0, abs=1e-9)
    star = 2.0 * (1.0 - np.eye(6))
    assert quartet_scores(star, rng).mean == 0.0
    points = np.eye(8) * np.sqrt(3.0)
    points[1], points[3] = points[0] + points[1], points[2] + points[3]
    points = np.vstack([points, 0.5 * (points[1] + points[3])])
    merged = quartet_scores(np.sum((points[:, None] - points) ** 2, axis=2), rng)
    assert int(merged.member_mean.argmax()) == 8
    assert merged.mean > 0.05


def test_a_sample_of_quartets_is_that_of_its_generator_and_near_the_whole():
    d = cloud(np.random.default_rng(0), 41)
    one, same = (quartet_scores(d, np.random.default_rng(5)) for _ in range(2))
    other = quartet_scores(d, np.random.default_rng(6))
    assert one.n == 10_000
    assert (one.mean, one.percentile_90) == (same.mean, same.percentile_90)
    assert one.mean != other.mean
    whole = quartet_scores(d[:40, :40], np.random.default_rng(0))
    assert one.mean == pytest.approx(whole.mean, abs=0.03)


def test_quartets_drawn_have_four_different_models_each_equally_often():
    from stats.quartets import _drawn

    rows = _drawn(50, np.random.default_rng(0))
    assert all(len(set(row)) == 4 for row in rows.tolist())
    count = np.bincount(rows.ravel(), minlength=50)
    assert abs(count - 800.0).max() < 6.0 * math.sqrt(800.0)


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_pendants_equal_a_loop_over_pairs_of_neighbours(seed, n):
    rng = np.random.default_rng(seed)
    d, (_, edges, _, _) = cloud(rng, n), draw(rng, n)
    found = pendant_lengths(d, edges)
    for v in range(n):
        near = [sum(e) - v for e in edges if v in e]
        arms = [(d[v, a] + d[v, b] - d[a, b]) / 2 for a, b in combinations(near, 2)]
        assert found[v] == pytest.approx(np.mean(arms)) if arms else math.isnan(found[v])


def test_observed_ancestors_have_no_pendant_and_correlated_children_one_of_their_cosine():
    far, edges, *_ = draw(np.random.default_rng(0), 20)
    found = pendant_lengths(far, edges)
    assert np.nanmax(abs(found)) < 1e-9
    one, cosine = 2.0, 0.3
    d = np.array([[0.0, one, one], [one, 0.0, 2 * one * (1 - cosine)], [one, 2 * one * (1 - cosine), 0.0]])
    assert pendant_lengths(d, [[0, 1], [0, 2]])[0] == pytest.approx(cosine * one)


@pytest.mark.parametrize(
    ("d", "message"),
    [
        (np.zeros((4, 5)), "symmetric"),
        (np.arange(16.0).reshape(4, 4), "symmetric"),
        (np.ones((4, 4)), "zero diagonal"),
        (np.full((4, 4), math.inf), "infinite"),
        (np.zeros((3, 3)), "at least 4"),
    ],
)
def test_refuses(d, message):
    with pytest.raises(ValueError, match=message):
        quartet_scores(d, np.random.default_rng(0))


def test_refuses_edges_outside():
    with pytest.raises(ValueError, match="two different nodes"):
        pendant_lengths(np.zeros((2, 2)), [[0, 2]])
    with pytest.raises(ValueError, match="two different nodes"):
        pendant_lengths(np.zeros((2, 2)), [[1, 1]])
