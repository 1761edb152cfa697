import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.scaling import scaled_rounding

SEEDS = st.integers(0, 10_000)


def planted(seed, m=40, n=50, spread=0.3):
    """A matrix in steps, scales of its rows and columns, and the codes that rounding gives."""
    rng = np.random.default_rng(seed)
    matrix = 4.0 * rng.normal(size=(m, n))
    rows, columns = np.exp(0.1 * rng.normal(size=m)), np.exp(spread * rng.normal(size=n))
    return matrix, rows, columns, np.rint(matrix * rows[:, None] * columns)


def everything(matrix):
    return np.ones(matrix.shape, dtype=np.bool_)


def naive_scales(matrix, codes, asked, slack):
    """Least squares and middles of bounds by turns, one scale after the other."""
    m, n = matrix.shape
    rows, columns = [1.0] * m, [1.0] * n
    cells = [(i, j) for i in range(m) for j in range(n) if asked[i, j] and matrix[i, j] != 0.0]

    def square(at, other):
        top, under = [0.0] * len(at[0]), [0.0] * len(at[0])
        for place, i, j in at[1]:
            part = other(i, j) * matrix[i, j]
            top[place] += codes[i, j] * part
            under[place] += part**2
        return [t / max(u, 1e-300) for t, u in zip(top, under, strict=True)]

    def middle(at, other):
        low, high = [-np.inf] * len(at[0]), [np.inf] * len(at[0])
        for place, i, j in at[1]:
            part, room = other(i, j) * matrix[i, j], 0.5 + slack * abs(codes[i, j])
            if part != 0.0:
                ends = sorted((codes[i, j] + s * room) / part for s in (-1, 1))
                low[place], high[place] = max(low[place], ends[0]), min(high[place], ends[1])
        both = zip(low, high, strict=True)
        return [0.5 * (a + b) if np.isfinite(a) and np.isfinite(b) else 1.0 for a, b in both]

    for step in [square] * 8 + [middle] * 12:
        columns = step((columns, [(j, i, j) for i, j in cells]), lambda i, _, now=rows: now[i])
        rows = step((rows, [(i, i, j) for i, j in cells]), lambda _, j, now=columns: now[j])
    refused = [
        abs(matrix[i, j] * rows[i] * columns[j] - codes[i, j]) > 0.5 + slack * abs(codes[i, j])
        for i in range(m)
        for j in range(n)
        if asked[i, j]
    ]
    return rows, columns, np.mean(refused) if refused else 1.0


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 7), st.integers(1, 7), st.sampled_from([0.0, 0.01]), st.booleans())
def test_scales_by_loops(seed, m, n, slack, other):
    matrix, _, _, codes = planted(seed, m, n)
    rng = np.random.default_rng(seed + 1)
    asked = rng.random((m, n)) < 0.8
    if other:
        codes = rng.permutation(codes.ravel()).reshape(m, n)
    matrix[rng.random((m, n)) < 0.1] = 0.0
    found = scaled_rounding(matrix, codes, asked, slack)
    rows, columns, refused = naive_scales(matrix, codes, asked, slack)
    if not other:  # bounds that contradict one another leave scales that rounding moves
        np.testing.assert_allclose(found.rows, rows, rtol=1e-8)
        np.testing.assert_allclose(found.columns, columns, rtol=1e-8)
    assert found.refused == pytest.approx(refused, abs=1.01 / max(1, asked.sum()))


@pytest.mark.parametrize("seed", range(4))
def test_planted_scales_come_out(seed):
    matrix, rows, columns, codes = planted(seed)
    found = scaled_rounding(matrix, codes, everything(matrix), 0.0)
    assert found.refused == 0.0
    factor = np.exp(np.mean(np.log(found.columns / columns)))
    np.testing.assert_allclose(found.columns / factor, columns, rtol=0.05)
    np.testing.assert_allclose(found.rows * factor, rows, rtol=0.05)
    assert found.spread == pytest.approx(np.std(np.log(columns)), abs=0.01)
    assert (np.rint(matrix * found.rows[:, None] * found.columns) == codes).all()


def test_codes_that_nothing_scaled_have_no_spread():
    matrix, _, _, _ = planted(0)
    found = scaled_rounding(matrix, np.rint(matrix), everything(matrix), 0.0)
    assert found.refused == 0.0
    assert found.spread < 0.01


@pytest.mark.parametrize(("noise", "least"), [(0.03, 0.02), (0.3, 0.5), (None, 0.95)])
def test_codes_of_another_matrix_are_refused(noise, least):
    matrix, _, _, codes = planted(0, 60, 80)
    rng = np.random.default_rng(1)
    other = 4.0 * rng.normal(size=matrix.shape) if noise is None else matrix + noise * rng.normal(size=matrix.shape)
    assert scaled_rounding(other, codes, everything(matrix), 0.0).refused > least


def test_codes_that_were_not_asked_do_not_count():
    matrix, _, _, codes = planted(2)
    cut = np.clip(codes, -3, 3)
    asked = np.abs(codes) < 3
    assert scaled_rounding(matrix, cut, asked, 0.0).refused == 0.0
    assert scaled_rounding(matrix, cut, everything(matrix), 0.0).refused > 0.1


def test_nothing_asked_is_nothing_shown():
    matrix, _, _, codes = planted(0, 5, 6)
    found = scaled_rounding(matrix, codes, ~everything(matrix), 0.0)
    assert found.refused == 1.0
    assert (found.rows == 1.0).all()
    assert (found.columns == 1.0).all()


@given(SEEDS, st.lists(st.integers(-20, 20), min_size=6, max_size=6))
def test_columns_by_powers_of_two_move_into_their_scales(seed, powers):
    matrix, _, _, codes = planted(seed, 5, 6)
    units = 2.0 ** np.array(powers)
    one = scaled_rounding(matrix, codes, everything(matrix), 0.0)
    two = scaled_rounding(matrix * units, codes, everything(matrix), 0.0)
    np.testing.assert_array_equal(two.rows, one.rows)
    np.testing.assert_array_equal(two.columns, one.columns / units)
    assert two.refused == one.refused


@settings(max_examples=20)
@given(SEEDS, st.permutations(range(5)), st.permutations(range(6)))
def test_order_of_rows_and_columns_does_not_matter(seed, rows, columns):
    matrix, _, _, codes = planted(seed, 5, 6)
    at = np.ix_(list(rows), list(columns))
    one = scaled_rounding(matrix, codes, everything(matrix), 0.0)
    two = scaled_rounding(matrix[at], codes[at], everything(matrix), 0.0)
    np.testing.assert_allclose(two.rows, one.rows[list(rows)], rtol=1e-9)
    np.testing.assert_allclose(two.columns, one.columns[list(columns)], rtol=1e-9)
    assert two.spread == pytest.approx(one.spread, rel=1e-7)


@given(SEEDS)
def test_sign_does_not_matter(seed):
    matrix, _, _, codes = planted(seed, 5, 6)
    one = scaled_rounding(matrix, codes, everything(matrix), 0.0)
    two = scaled_rounding(-matrix, -codes, everything(matrix), 0.0)
    np.testing.assert_array_equal(two.columns, one.columns)
    np.testing.assert_array_equal(two.rows, one.rows)


@pytest.mark.parametrize("bad", [np.zeros((3, 5)), np.zeros(4), np.full((3, 4), np.nan), np.full((3, 4), np.inf)])
def test_matrix_and_codes_are_finite_and_of_one_shape(bad):
    good = np.ones((3, 4))
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match=r"shape|matrix|infinite"):
            scaled_rounding(*pair, everything(good), 0.0)
