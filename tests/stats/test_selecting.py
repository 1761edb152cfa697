import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erfc

from stats.mixing import BlockGram, block_gram, least_squares
from stats.selecting import benjamini_hochberg, nonnegative_least_squares, pursuit, two_sided

SEEDS = st.integers(0, 10_000)
PVALUES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.02, 0.03, 1.0])), max_size=12)


def drawn(seed, k=4, n=60, noise=0.5):
    """A target and k correlated columns, some of which it is made of with a minus sign."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(k, n)) + rng.choice([0.0, 1.0]) * rng.normal(size=n)
    return np.vstack([rng.normal(size=k) @ columns + noise * rng.normal(size=n), columns])


def naive_left(values, columns, block):
    """Sum of squares left when every block has coefficients of its own."""
    total = 0.0
    for start in range(0, values.shape[1], block):
        target, chosen = values[0, start : start + block], values[list(columns), start : start + block]
        found = np.linalg.lstsq(chosen.T, target, rcond=None)[0] if columns else np.zeros(0)
        total += float(np.sum((target - found @ chosen) ** 2))
    return total


def naive_nonnegative(values):
    """The best of all subsets whose plain least squares has no negative coefficient."""
    k = len(values) - 1
    best, answer = float(np.sum(values[0] ** 2)), np.zeros(k)
    for size in range(1, k + 1):
        for subset in combinations(range(k), size):
            chosen = values[1:][list(subset)]
            found = np.linalg.lstsq(chosen.T, values[0], rcond=None)[0]
            left = float(np.sum((values[0] - found @ chosen) ** 2))
            if (found >= 0.0).all() and left < best:
                best, answer = left, np.zeros(k)
                answer[list(subset)] = found
    return answer, best


def naive_pursuit(values, columns, block, *, start=(), most, enough=0.0):
    chosen, left = [], list(columns)
    residual = naive_left(values, start, block)
    while left and len(chosen) < most and residual > enough:
        scores = [naive_left(values, [*start, *chosen, c], block) for c in left]
        residual = min(scores)
        chosen.append(left.pop(scores.index(residual)))
    return tuple(chosen)


# --- coefficients of zero or more --------------------------------------------------------------------------------
@given(SEEDS, st.integers(1, 5))
def test_nonnegative_is_the_best_of_all_subsets(seed, k):
    values = drawn(seed, k)
    gram = block_gram(values, block=12)
    found = nonnegative_least_squares(gram, range(1, k + 1))
    coefficients, residual = naive_nonnegative(values)
    np.testing.assert_allclose(found.coefficients, coefficients, rtol=1e-7, atol=1e-8)
    assert found.residual == pytest.approx(residual, rel=1e-8)
    assert found.explained == pytest.approx(1.0 - residual / np.sum(values[0] ** 2), abs=1e-9)
    kept = [int(i) + 1 for i in np.flatnonzero(coefficients)]
    if kept:
        np.testing.assert_allclose(found.errors[coefficients > 0], least_squares(gram, kept).errors, rtol=1e-9)
    assert (found.errors[coefficients == 0.0] == 0.0).all()
    assert (found.z[coefficients == 0.0] == 0.0).all()


@settings(max_examples=20)
@given(SEEDS, st.permutations([1, 2, 3, 4]), st.permutations(range(6)))
def test_order_of_candidates_and_blocks_does_not_matter(seed, order, blocks):
    gram = block_gram(drawn(seed), block=10)
    moved = BlockGram(gram.products[list(blocks)], gram.sizes[list(blocks)])
    one = nonnegative_least_squares(gram, (1, 2, 3, 4))
    two = nonnegative_least_squares(moved, order)
    places = [c - 1 for c in order]
    assert two.columns == tuple(order)
    np.testing.assert_allclose(two.coefficients, one.coefficients[places], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(two.errors, one.errors[places], rtol=1e-6, atol=1e-9)


@given(SEEDS, st.integers(-50, 50), st.integers(-50, 50))
def test_units_by_powers_of_two_do_not_matter_to_shares(seed, target, columns):
    values = drawn(seed)
    units = 2.0 ** np.array([target, *[columns] * 4])
    one = nonnegative_least_squares(block_gram(values, block=10), (1, 2, 3, 4))
    two = nonnegative_least_squares(block_gram(values * units[:, None], block=10), (1, 2, 3, 4))
    np.testing.assert_allclose(two.coefficients, one.coefficients * 2.0 ** (target - columns), rtol=1e-9)
    assert two.explained == pytest.approx(one.explained, abs=1e-12)


@given(SEEDS, st.lists(st.integers(-8, 8), min_size=4, max_size=4))
def test_columns_may_have_units_of_their_own(seed, powers):
    values = drawn(seed)
    units = 2.0 ** np.array([0, *powers])
    one = nonnegative_least_squares(block_gram(values, block=10), (1, 2, 3, 4))
    two = nonnegative_least_squares(block_gram(values * units[:, None], block=10), (1, 2, 3, 4))
    np.testing.assert_allclose(two.coefficients, one.coefficients / units[1:], rtol=1e-7, atol=1e-9)


def test_a_target_against_all_columns_keeps_none():
    columns = np.abs(np.random.default_rng(0).normal(size=(3, 40)))
    found = nonnegative_least_squares(block_gram(np.vstack([-columns.sum(axis=0), columns]), block=10), (1, 2, 3))
    assert (found.coefficients.tolist(), found.errors.tolist()) == ([0.0] * 3, [0.0] * 3)
    assert found.explained == 0.0


def test_a_copy_of_a_column_changes_no_fit():
    values = drawn(6, 3)
    one = nonnegative_least_squares(block_gram(values, block=10), (1, 2, 3))
    two = nonnegative_least_squares(block_gram(values[[0, 1, 1, 2, 3]], block=10), (1, 2, 3, 4))
    assert two.residual == pytest.approx(one.residual, rel=1e-9)
    assert two.coefficients[:2].sum() == pytest.approx(one.coefficients[0], rel=1e-6)


@pytest.mark.parametrize("columns", [(), (0,), (5,), (2, 2)])
def test_candidates_are_named_once_and_exist(columns):
    gram = block_gram(drawn(0))
    with pytest.raises(ValueError, match="distinct and lie in 1 to 4"):
        nonnegative_least_squares(gram, columns)
    with pytest.raises(ValueError, match="distinct and lie in 1 to 4"):
        pursuit(gram, columns, most=2)


# --- one at a time -----------------------------------------------------------------------------------------------
@settings(max_examples=20)
@given(SEEDS, st.integers(0, 4), st.sampled_from([12, 20, 60]), st.booleans())
def test_pursuit_tries_every_column_at_every_step(seed, most, block, started):
    values = drawn(seed, 5)
    start = (5,) if started else ()
    found = pursuit(block_gram(values, block=block), (1, 2, 3, 4), start=start, most=most)
    assert found == naive_pursuit(values, (1, 2, 3, 4), block, start=start, most=most)


@settings(max_examples=20)
@given(SEEDS, st.permutations([1, 2, 3, 4]), st.permutations(range(4)), st.integers(-30, 30))
def test_pursuit_ignores_order_and_units(seed, order, blocks, power):
    values = drawn(seed)
    gram = block_gram(values * 2.0 ** np.array([[power], [3], [0], [-3], [7]]), block=15)
    moved = BlockGram(gram.products[list(blocks)], gram.sizes[list(blocks)])
    assert pursuit(moved, order, most=3) == pursuit(block_gram(values, block=15), (1, 2, 3, 4), most=3)


def test_pursuit_finds_what_the_target_is_made_of_and_stops_there():
    columns = np.random.default_rng(0).normal(size=(6, 200))
    values = np.vstack([3.0 * columns[4] - 0.5 * columns[1], columns])
    gram = block_gram(values, block=50)
    assert pursuit(gram, range(1, 7), most=6, enough=1e-6) == (5, 2)
    assert pursuit(gram, range(1, 7), start=(5,), most=6, enough=1e-6) == (2,)
    assert pursuit(gram, range(1, 7), most=1) == (5,)
    assert pursuit(gram, range(1, 7), most=0) == ()
    assert pursuit(gram, range(1, 7), most=6, enough=float(gram.total[0, 0])) == ()


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_ties_go_to_the_earlier_candidate(order):
    values = drawn(7, 1)
    assert pursuit(block_gram(values[[0, 1, 1]], block=20), order, most=1) == order[:1]


# --- discoveries -------------------------------------------------------------------------------------------------
@given(PVALUES, st.floats(0.01, 0.99))
def test_step_up_rule_by_brute_force(pvalues, alpha):
    n = len(pvalues)
    k = max((k for k in range(1, n + 1) if sorted(pvalues)[k - 1] <= alpha * k / n), default=0)
    limit = sorted(pvalues)[k - 1] if k else -1.0
    assert benjamini_hochberg(pvalues, alpha).tolist() == [p <= limit for p in pvalues]


@given(PVALUES, st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_discoveries_move_with_their_p_values(pvalues, alpha, random):
    order = list(range(len(pvalues)))
    random.shuffle(order)
    found = benjamini_hochberg(pvalues, alpha)
    assert benjamini_hochberg([pvalues[i] for i in order], alpha).tolist() == [bool(found[i]) for i in order]


def test_false_discoveries_come_at_the_level_times_the_share_of_true_nulls():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(2000):
        found = benjamini_hochberg(np.append(rng.random(16), np.full(4, 1e-4)), 0.2)
        shares.append(found[:16].sum() / max(1, found.sum()))
    assert np.mean(shares) == pytest.approx(0.2 * 0.8, abs=0.015)


@pytest.mark.parametrize(
    ("pvalues", "alpha"),
    [([0.5], 0.0), ([0.5], 1.0), ([0.5], math.nan), ([-0.1], 0.1), ([1.1], 0.1), ([math.nan], 0.1), ([[0.5]], 0.1)],
)
def test_levels_and_p_values_lie_where_they_may(pvalues, alpha):
    with pytest.raises(ValueError, match="p-values in"):
        benjamini_hochberg(pvalues, alpha)


@given(st.lists(st.floats(-36, 36), min_size=1, max_size=10))
def test_two_sided_tails(z):
    found = two_sided(z)
    np.testing.assert_allclose(found, erfc(np.abs(z) / np.sqrt(2.0)), rtol=1e-12)
    assert (found == two_sided(-np.array(z))).all()


def test_two_sided_by_table():
    np.testing.assert_allclose(two_sided([0.0, 1.0, 1.959963984540054, math.inf]), [1, 0.31731050786291415, 0.05, 0])
    assert two_sided(0.0).shape == (1,)
