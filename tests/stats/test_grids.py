import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.grids import float_grid, integer_grid, table_grid
from stats.levels import half_steps

SEEDS = st.integers(0, 10_000)
FORMATS = {8: ml_dtypes.bfloat16, 11: np.float16, 24: np.float32}
"""Types by significant bits."""
UNEVEN = np.array([-8.0, -3.0, -1.0, 0.0, 1.0, 2.0, 5.0, 9.0])


def rounded(values, bits):
    return values.astype(FORMATS[bits]).astype(np.float64)


def drawn(seed, levels, bits, *, on=True):
    """One group of 3 to 9 values, on a grid or not, with half a step of its format each."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(3, 10))
    values = rng.choice(levels, size) * (0.2 + rng.random()) if on else rng.normal(size=size)
    stored = rounded(values, bits)
    return stored, half_steps(stored, bits)


def floats(bits, smallest):
    """All floating-point numbers of few bits from 0 to below 1, with their negatives."""
    found, exponent = {0.0}, 0
    while True:
        gap = max(2.0 ** (exponent - bits), smallest)
        found |= {i * gap for i in range(1, math.ceil(2.0**exponent / gap))}
        if gap == smallest:
            return sorted(found | {-f for f in found})
        exponent -= 1


def naive_fit(values, half, candidates, levels):
    """(low, high) of the first candidate for the value farthest out with a scale that all values agree with, exactly."""
    far = int(np.abs(values).argmax())
    for candidate in candidates:
        if candidate * values[far] <= 0.0:
            continue
        ends = [(values[far] + sign * half[far]) / candidate for sign in (-1, 1)]
        parts = [(min(ends), max(ends))]
        for value, error in zip(values, half, strict=True):
            bounds = [sorted(((value - error) / x, (value + error) / x)) for x in levels if x != 0.0]
            meet = {(max(a, lo), min(b, hi)) for a, b in bounds for lo, hi in parts}
            parts = [p for p in meet if p[0] <= p[1]] + (parts if abs(value) <= error else [])
        if parts:
            return min(p[0] for p in parts), max(p[1] for p in parts)
    return None


def naive_surprise(values, half, found, gaps, count):
    """Chances of all values but the one farthest out multiplied, for as many scales as were tried."""
    far, step = int(np.abs(values).argmax()), found.step[0]
    levels = found.levels[0]
    log_luck = sum(
        math.log(min(1.0, 2.0 * half[i] / (step * gap))) for i, gap in enumerate(gaps) if levels[i] != 0.0 and i != far
    )
    scales = (2.0 * half[far] / abs(levels[far])) / max(found.high[0] - found.low[0], 1e-12 * found.high[0])
    return max(0.0, -log_luck - math.log(count) - math.log(max(1.0, scales)))


def agrees(found, values, half, expected):
    """Whether a fit of one group is the expected one, and explains every value."""
    if expected is None:
        assert not found.fits[0]
        assert np.isnan(found.step[0])
        assert not found.levels.any()
        assert found.surprise[0] == 0.0
        return
    assert found.fits[0]
    np.testing.assert_allclose((found.low[0], found.high[0]), expected, rtol=1e-9)
    assert found.step[0] == pytest.approx(0.5 * sum(expected), rel=1e-9)
    assert (np.abs(values - found.levels[0] * found.step[0]) <= half * (1 + 1e-6) + 1e-12).all()


def all_fields(grid):
    return [grid.fits, grid.step, grid.low, grid.high, grid.offset, grid.levels, grid.surprise]


def kinds(groups, half):
    """Every kind of fit."""
    return (
        integer_grid(groups, half, 7),
        integer_grid(groups, half, 15, offset=True),
        table_grid(groups, half, UNEVEN),
        float_grid(groups, half, 3, 2.0**-6),
    )


def many(seed, k=6, g=8):
    """Groups of all sorts, with half steps."""
    rng = np.random.default_rng(seed)
    planted = [rng.integers(-7, 8, g), rng.choice(UNEVEN, g), rng.integers(0, 16, g) + 0.3, rng.normal(size=g)]
    stored = rounded(np.array([planted[i % 4] * (0.2 + rng.random()) for i in range(k)]), 11)
    return stored, half_steps(stored, 11)


# --- naive twins -------------------------------------------------------------------------------------------------
@given(SEEDS, st.sampled_from(list(FORMATS)), st.sampled_from([3, 7, 15]), st.booleans())
def test_multiples_by_trying_every_scale(seed, bits, most, on):
    values, half = drawn(seed, np.arange(-most, most + 1), bits, on=on)
    if values.any():
        found = integer_grid(values[None], half[None], most)
        agrees(found, values, half, naive_fit(values, half, [s * c for c in range(1, most + 1) for s in (1, -1)],
                                              range(-most, most + 1)))  # fmt: skip
        if found.fits[0]:
            expected = naive_surprise(values, half, found, np.ones(values.size), most)
            assert found.surprise[0] == pytest.approx(expected, abs=1e-6)


@given(SEEDS, st.sampled_from([11, 24]), st.booleans())
def test_multiples_above_the_smallest_value(seed, bits, on):
    rng = np.random.default_rng(seed)
    planted = (rng.integers(0, 8, 8) + rng.random()) * (0.2 + rng.random())
    values = rounded(planted if on else rng.normal(size=8), bits)
    half = half_steps(values, bits)
    found = integer_grid(values[None], half[None], 7, offset=True)
    above, loose = values - values.min(), np.full(8, 2.0 * half.max())
    if above.any():
        agrees(found, above, loose, naive_fit(above, loose, range(1, 8), range(8)))
        assert found.offset[0] == values.min()
        assert found.levels.min() == 0.0
        assert not on or found.fits[0]


@given(SEEDS, st.sampled_from(list(FORMATS)), st.booleans())
def test_tables_by_trying_every_scale(seed, bits, on):
    values, half = drawn(seed, UNEVEN, bits, on=on)
    if values.any():
        found = table_grid(values[None], half[None], UNEVEN)
        agrees(found, values, half, naive_fit(values, half, sorted(UNEVEN, key=lambda x: -abs(x)), UNEVEN))
        if found.fits[0]:
            assert set(found.levels[0]) <= set(UNEVEN)
            gaps = [np.gradient(UNEVEN)[list(UNEVEN).index(x)] for x in found.levels[0]]
            expected = naive_surprise(values, half, found, gaps, 7)
            assert found.surprise[0] == pytest.approx(expected, abs=1e-6)


@given(SEEDS, st.sampled_from([11, 24]), st.booleans(), st.sampled_from([(2, 2.0**-4), (3, 2.0**-6), (4, 2.0**-8)]))
def test_floating_point_numbers_by_trying_every_scale(seed, bits, on, numbers):
    levels = floats(*numbers)
    values, half = drawn(seed, levels, bits, on=on)
    if values.any():
        found = float_grid(values[None], half[None], *numbers)
        few = [s * x for x in levels if x >= 0.5 for s in (1, -1)]
        expected = naive_fit(values, half, few, [*levels, 1.0, -1.0])
        assert bool(found.fits[0]) == (expected is not None)
        agrees(found, values, half, expected)


# --- planted scales ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bits", FORMATS)
def test_planted_scales_lie_inside_their_bounds(bits):
    rng = np.random.default_rng(0)
    levels, scale = rng.integers(-7, 8, (100, 32)), 0.1 + rng.random(100)
    levels[:, 0], levels[:, 1] = 7, 1
    values = rounded(levels * scale[:, None], bits)
    found = integer_grid(values, half_steps(values, bits), 15)
    assert found.fits.all()
    assert (found.levels == levels).all()
    assert ((found.low <= scale * (1 + 1e-9)) & (scale <= found.high * (1 + 1e-9))).all()
    assert (found.surprise > 20).all()


def test_the_largest_step_and_the_smallest_scale():
    even = np.array([[2.0, 4.0, -6.0]])
    half = np.full(even.shape, 1e-9)
    assert integer_grid(even, half, 100).step[0] == pytest.approx(2.0)
    table = np.array([-6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    found = table_grid(np.array([[1.0, 2.0, -2.0]]), half, table)
    assert found.step[0] == pytest.approx(1.0)
    assert found.levels.tolist() == [[1.0, 2.0, -2.0]]
    assert table_grid(np.array([[-2.0, -1.0, -3.0]]), half, table).step[0] == pytest.approx(0.5)


def test_a_scale_that_needs_more_levels_than_asked_does_not_fit():
    values = np.array([[1.0, 16.0, -3.0]])
    half = np.full(values.shape, 1e-9)
    assert not integer_grid(values, half, 15).fits[0]
    assert integer_grid(values, half, 16).fits[0]


def test_zeros_fit_anything():
    zeros = np.zeros((2, 4))
    for found in kinds(zeros, zeros + 0.1):
        assert found.fits.all()
        assert np.isnan([found.step, found.low, found.high]).all()
        assert not found.levels.any()
        assert not found.surprise.any()


@pytest.mark.parametrize(("size", "half"), [(4, 0.02), (3, 0.02), (3, 0.003), (3, 0.001)])
def test_chance_fits_are_as_rare_as_their_surprise_says(size, half):
    groups = np.random.default_rng(0).uniform(-1, 1, (20_000, size))
    surprise = integer_grid(groups, np.full(groups.shape, half), 7).surprise
    assert surprise.any()
    for nats in (0.5, 1.0, 3.0, 5.0):
        assert np.mean(surprise >= nats) <= math.exp(-nats)


def test_one_value_alone_is_no_surprise():
    one, two = np.array([[0.3], [-0.7]]), np.array([[0.3, -0.7], [0.1, 0.5]])
    for fit in (integer_grid(one, half_steps(one, 24), 7), integer_grid(two, half_steps(two, 24), 7, offset=True)):
        assert fit.fits.all()
        assert not fit.surprise.any()


# --- invariances -------------------------------------------------------------------------------------------------
@settings(max_examples=20)
@given(SEEDS, st.integers(-100, 100))
def test_units_by_powers_of_two_scale_the_step(seed, power):
    groups, half = many(seed)
    unit = 2.0**power
    for one, two in zip(kinds(groups, half), kinds(groups * unit, half * unit), strict=True):
        scaled = [one.fits, one.step * unit, one.low * unit, one.high * unit, one.offset * unit, one.levels]
        for a, b in zip(scaled, all_fields(two), strict=False):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(two.surprise, one.surprise, rtol=1e-12)


@settings(max_examples=20)
@given(SEEDS, st.permutations(range(6)))
def test_groups_do_not_know_of_one_another(seed, order):
    groups, half = many(seed)
    moved = kinds(groups[list(order)], half[list(order)])
    for one, two in zip(kinds(groups, half), moved, strict=True):
        for a, b in zip(all_fields(one), all_fields(two), strict=True):
            np.testing.assert_allclose(a[list(order)], b, rtol=1e-12)
    for one, two in zip(kinds(groups, half), kinds(groups[:1], half[:1]), strict=True):
        np.testing.assert_array_equal(one.step[0], two.step[0])


@settings(max_examples=20)
@given(SEEDS, st.permutations(range(8)))
def test_order_inside_a_group_does_not_matter(seed, order):
    groups, half = many(seed)
    moved = kinds(groups[:, list(order)], half[:, list(order)])
    for one, two in zip(kinds(groups, half), moved, strict=True):
        np.testing.assert_array_equal(one.fits, two.fits)
        np.testing.assert_array_equal(one.step, two.step)
        np.testing.assert_array_equal(one.levels[:, list(order)], two.levels)


@settings(max_examples=20)
@given(SEEDS)
def test_sign_turns_the_levels_round(seed):
    groups, half = many(seed)
    for fit in (
        lambda x, _: integer_grid(x, half, 7),
        lambda x, _: float_grid(x, half, 3, 2.0**-6),
        lambda x, sign: table_grid(x, half, np.sort(sign * UNEVEN)),
    ):
        one, two = fit(groups, 1), fit(-groups, -1)
        np.testing.assert_array_equal(one.fits, two.fits)
        np.testing.assert_allclose(one.step, two.step, rtol=1e-12)
        np.testing.assert_allclose(one.levels, -two.levels)


def test_a_part_of_a_group_fits_wherever_the_whole_does():
    rng = np.random.default_rng(0)
    groups = rounded(rng.integers(-7, 8, (200, 32)) * rng.random((200, 1)), 8)
    half = half_steps(groups, 8)
    assert integer_grid(groups, half, 15).fits.all()
    assert integer_grid(groups[:, :9], half[:, :9], 15).fits.all()
