import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.mixing import (
    BlockGram,
    Mixture,
    block_gram,
    checked_columns,
    explained_share,
    fit_each,
    least_squares,
    residual_of,
    solve,
)

SEEDS = st.integers(0, 10_000)


def drawn(seed, k=3, n=60, noise=0.5):
    """A target and k correlated columns it is partly made of."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(k, n)) + 0.7 * rng.normal(size=n)
    return np.vstack([rng.normal(size=k) @ columns + noise * rng.normal(size=n), columns])


def naive_products(values, block):
    m, n = values.shape
    out = []
    for start in range(0, n, block):
        stop = min(n, start + block)
        out.append([[math.fsum(values[i, start:stop] * values[j, start:stop]) for j in range(m)] for i in range(m)])
    return np.array(out)


def naive_fit(values, columns, *, affine=False):
    """Coefficients and sum of squares left by numpy on the elements themselves."""
    target, chosen = values[0], values[list(columns)]
    if affine:
        head = np.linalg.lstsq((chosen[:-1] - chosen[-1]).T, target - chosen[-1], rcond=None)[0]
        found = np.append(head, 1.0 - head.sum())
    else:
        found = np.linalg.lstsq(chosen.T, target, rcond=None)[0]
    return found, float(np.sum((target - found @ chosen) ** 2))


def naive_errors(values, columns, block, *, affine=False):
    """Delete-one-block jackknife by fitting the elements that stay."""
    n = values.shape[1]
    starts = range(0, n, block)
    fits = []
    for start in starts:
        stays = np.array([not start <= i < start + block for i in range(n)])
        fits.append(naive_fit(values[:, stays], columns, affine=affine)[0])
    b, mean = len(fits), sum(fits) / len(fits)
    return np.sqrt((b - 1) / b * sum((f - mean) ** 2 for f in fits))


def same(one, two, rtol=1e-7):
    assert one.columns == two.columns
    for name in ("coefficients", "errors", "residual", "explained"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=rtol, atol=1e-9)


# --- inner products ----------------------------------------------------------------------------------------------
@given(SEEDS, st.integers(1, 4), st.integers(1, 40), st.integers(1, 50))
def test_products_are_sums_over_blocks(seed, m, n, block):
    values = np.random.default_rng(seed).normal(size=(m, n))
    found = block_gram(values, block=block)
    np.testing.assert_allclose(found.products, naive_products(values, block), rtol=1e-12, atol=1e-13)
    assert found.sizes.tolist() == [min(block, n - s) for s in range(0, n, block)]
    assert found.n == n
    np.testing.assert_allclose(found.total, values @ values.T, rtol=1e-12, atol=1e-12)
    assert (found.products == found.products.transpose(0, 2, 1)).all()


@given(SEEDS, st.integers(1, 5))
def test_sums_of_grams_hold_both_sets_of_blocks(seed, whole):
    values = drawn(seed)
    both = block_gram(values[:, : 10 * whole], block=10) + block_gram(values[:, 10 * whole :], block=10)
    one = block_gram(values, block=10)
    assert (both.products == one.products).all()
    assert (both.sizes == one.sizes).all()


@given(SEEDS, st.integers(1, 5))
def test_combined_products_are_those_of_the_combinations(seed, r):
    values = drawn(seed)
    mix = np.random.default_rng(seed + 1).normal(size=(r, 4))
    found = block_gram(values, block=17).combined(mix)
    np.testing.assert_allclose(found.products, naive_products(mix @ values, 17), rtol=1e-9, atol=1e-9)
    assert found.n == values.shape[1]


@pytest.mark.parametrize(
    "bad", [np.zeros(3), np.zeros((2, 0)), np.zeros((0, 2)), np.array([[1.0, np.nan]]), np.array([[1.0, np.inf]])]
)
def test_what_is_no_finite_matrix_has_no_products(bad):
    with pytest.raises(ValueError, match="columns"):
        block_gram(bad)


@pytest.mark.parametrize("block", [0, -4])
def test_a_block_needs_elements(block):
    with pytest.raises(ValueError, match="block needs elements"):
        block_gram(np.ones((2, 3)), block=block)


def test_combinations_must_speak_of_all_columns():
    with pytest.raises(ValueError, match="combine 2 columns"):
        block_gram(np.ones((2, 3))).combined([[1.0, 0.0, 0.0]])


# --- least squares -----------------------------------------------------------------------------------------------
@given(SEEDS, st.integers(1, 5), st.booleans())
def test_least_squares_is_what_numpy_finds_on_the_elements(seed, k, affine):
    values, columns = drawn(seed, k), tuple(range(1, k + 1))
    found = least_squares(block_gram(values, block=12), columns, sum_to_one=affine)
    coefficients, residual = naive_fit(values, columns, affine=affine)
    np.testing.assert_allclose(found.coefficients, coefficients, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.errors, naive_errors(values, columns, 12, affine=affine), rtol=1e-6, atol=1e-8)
    assert found.residual == pytest.approx(residual, rel=1e-8)
    whole = np.sum((values[0] - affine * values[k]) ** 2)
    assert found.explained == pytest.approx(1.0 - residual / whole, abs=1e-9)


@settings(max_examples=20)
@given(SEEDS, st.permutations([1, 2, 3, 4]), st.booleans())
def test_order_of_columns_moves_the_answer_along(seed, order, affine):
    gram = block_gram(drawn(seed, 4), block=10)
    one = least_squares(gram, (1, 2, 3, 4), sum_to_one=affine)
    two = least_squares(gram, order, sum_to_one=affine)
    places = [c - 1 for c in order]
    np.testing.assert_allclose(two.coefficients, one.coefficients[places], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(two.errors, one.errors[places], rtol=1e-6, atol=1e-8)
    assert two.residual == pytest.approx(one.residual, rel=1e-8)


@settings(max_examples=20)
@given(SEEDS, st.permutations(range(6)), st.booleans())
def test_order_of_blocks_does_not_matter(seed, order, affine):
    gram = block_gram(drawn(seed), block=10)
    moved = BlockGram(gram.products[list(order)], gram.sizes[list(order)])
    one, two = (least_squares(g, (1, 2, 3), sum_to_one=affine) for g in (moved, gram))
    assert one.columns == two.columns
    same(one, two)


@given(SEEDS, st.integers(-60, 60), st.lists(st.integers(-60, 60), min_size=3, max_size=3))
def test_units_by_powers_of_two_are_exact(seed, whole, each):
    values = drawn(seed)
    units = 2.0 ** np.array([whole, *each])
    one = least_squares(block_gram(values, block=10), (1, 2, 3))
    two = least_squares(block_gram(values * units[:, None], block=10), (1, 2, 3))
    np.testing.assert_allclose(two.coefficients, one.coefficients * units[0] / units[1:], rtol=1e-12)
    np.testing.assert_allclose(two.errors, one.errors * units[0] / units[1:], rtol=1e-12)
    assert two.residual == pytest.approx(one.residual * units[0] ** 2, rel=1e-12)
    np.testing.assert_allclose(two.z, one.z, rtol=1e-12)


@given(SEEDS, st.integers(-60, 60))
def test_a_common_power_of_two_does_not_matter_where_shares_sum_to_one(seed, power):
    values = drawn(seed)
    one = least_squares(block_gram(values, block=10), (1, 2, 3), sum_to_one=True)
    two = least_squares(block_gram(values * 2.0**power, block=10), (1, 2, 3), sum_to_one=True)
    assert (two.coefficients == one.coefficients).all()
    assert (two.errors == one.errors).all()
    assert two.explained == one.explained


@given(SEEDS)
def test_shares_of_a_merge_ignore_what_all_models_have_in_common(seed):
    rng = np.random.default_rng(seed)
    models, base = rng.normal(size=(3, 60)), rng.normal(size=60)
    merge = np.array([0.5, 0.2, 0.3]) @ models
    for common in (0.0, base):
        found = least_squares(block_gram(np.vstack([merge, models]) + common, block=10), (1, 2, 3), sum_to_one=True)
        np.testing.assert_allclose(found.coefficients, [0.5, 0.2, 0.3], rtol=1e-9)
        assert math.fsum(found.coefficients) == pytest.approx(1.0, abs=1e-15)


def test_one_column_with_a_share_of_one():
    values = drawn(0)
    found = least_squares(block_gram(values), (2,), sum_to_one=True)
    assert (found.coefficients.tolist(), found.errors.tolist(), found.explained) == ([1.0], [0.0], 0.0)
    assert found.residual == pytest.approx(np.sum((values[0] - values[2]) ** 2))
    copied = least_squares(block_gram(values[[2, 1, 2]]), (2,), sum_to_one=True)
    assert (copied.residual, copied.explained) == (0.0, 1.0)


def test_copies_share_a_coefficient():
    values = drawn(1, 2, noise=0.0)
    one = least_squares(block_gram(values, block=10), (1, 2))
    two = least_squares(block_gram(values[[0, 1, 1, 2]], block=10), (1, 2, 3))
    np.testing.assert_allclose(two.coefficients[:2].sum(), one.coefficients[0], rtol=1e-6)
    np.testing.assert_allclose(two.coefficients[:2], one.coefficients[0] / 2, rtol=1e-3)
    assert two.explained == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("block", "known"), [(60, False), (30, False), (20, True)])
def test_errors_need_three_blocks(block, known):
    gram = block_gram(drawn(2), block=block)
    for affine in (False, True):
        found = least_squares(gram, (1, 2, 3), sum_to_one=affine)
        assert np.isfinite(found.errors).all() == known
        assert (found.z != 0.0).all() == known


def test_errors_are_of_the_size_of_the_spread():
    rng = np.random.default_rng(0)
    off = []
    for _ in range(300):
        column = rng.normal(size=400)
        found = least_squares(block_gram([0.3 * column + rng.normal(size=400), column], block=20), (1,))
        off.append((found.coefficients[0] - 0.3) / found.errors[0])
    assert 0.9 < np.std(off) < 1.15


def test_z_where_there_is_no_coefficient_or_no_error():
    found = Mixture((1, 2, 3), np.array([0.0, 2.0, -8.0]), np.array([0.0, 0.5, 0.0]), 0.0, 1.0)
    assert found.z.tolist() == [0.0, 4.0, -math.inf]


def test_an_exact_multiple_in_equal_blocks_has_a_z_beyond_all_numbers():
    part = np.tile(np.random.default_rng(0).normal(size=64), 4)
    found = least_squares(block_gram(np.vstack([8.0 * part, part]), block=64), (1,))
    assert found.errors[0] == 0.0
    assert found.z[0] == math.inf


def test_a_target_of_zeros_is_explained_by_nothing_at_all():
    values = drawn(3)
    values[0] = 0.0
    found = least_squares(block_gram(values, block=10), (1, 2, 3))
    assert (found.coefficients.tolist(), found.residual, found.explained) == ([0.0] * 3, 0.0, 1.0)


def test_a_column_of_zeros_gets_nothing():
    values = drawn(4)
    values[2] = 0.0
    found = least_squares(block_gram(values, block=10), (1, 2, 3))
    np.testing.assert_allclose(found.coefficients[[0, 2]], naive_fit(values, (1, 3))[0], rtol=1e-8)
    assert found.coefficients[1] == 0.0


@pytest.mark.parametrize("columns", [(), (0,), (4,), (1, 1), (-1,), (1, 5)])
@pytest.mark.parametrize("ask", [checked_columns, least_squares])
def test_columns_are_named_once_and_exist(ask, columns):
    with pytest.raises(ValueError, match="distinct and lie in 1 to 3"):
        ask(block_gram(drawn(0)), columns)


def test_checked_columns_are_plain_numbers_in_their_order():
    assert checked_columns(block_gram(drawn(0)), np.array([3, 1])) == (3, 1)


# --- each block, and the small parts -----------------------------------------------------------------------------
@settings(max_examples=20)
@given(SEEDS, st.permutations(range(4)))
def test_every_block_is_fitted_by_itself(seed, order):
    values = drawn(seed)
    gram = block_gram(values, block=15)
    coefficients, left = fit_each(gram)
    for i in range(4):
        expected, residual = naive_fit(values[:, 15 * i : 15 * i + 15], (1, 2, 3))
        np.testing.assert_allclose(coefficients[i], expected, rtol=1e-6, atol=1e-8)
        assert left[i] == pytest.approx(residual, rel=1e-7)
    moved = fit_each(BlockGram(gram.products[list(order)], gram.sizes[list(order)]))
    assert (moved[0] == coefficients[list(order)]).all()
    assert (moved[1] == left[list(order)]).all()


def test_fewer_elements_than_columns_leave_nothing():
    values = drawn(5, 3, n=6)
    _, left = fit_each(block_gram(values, block=2))
    assert (left <= 1e-9 * np.sum(values[0] ** 2)).all()


@given(SEEDS, st.integers(1, 5))
def test_solve_is_the_solution(seed, k):
    rng = np.random.default_rng(seed)
    root, moment = rng.normal(size=(4, k, k + 8)), rng.normal(size=(4, k))
    inner = root @ root.transpose(0, 2, 1)
    found = solve(inner, moment)
    for i in range(4):
        np.testing.assert_allclose(found[i], np.linalg.solve(inner[i], moment[i]), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found[i], solve(inner[i], moment[i]), rtol=1e-12)


@given(SEEDS, st.integers(1, 4))
def test_what_any_combination_leaves(seed, k):
    values = drawn(seed, k)
    coefficients = np.random.default_rng(seed).normal(size=k)
    expected = sum((t - sum(c * x for c, x in zip(coefficients, row, strict=True))) ** 2 for t, *row in values.T)
    assert residual_of(block_gram(values).total, coefficients) == pytest.approx(expected, rel=1e-9)


def test_nothing_left_is_never_negative():
    values = np.random.default_rng(0).normal(size=(4, 50))
    values[0] = values[1:].sum(axis=0)
    assert 0.0 <= residual_of(block_gram(values).total, np.ones(3)) < 1e-12


def test_explained_shares():
    assert explained_share(1.0, 4.0) == 0.75
    assert explained_share(0.0, 0.0) == 1.0
