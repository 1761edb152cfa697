import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quants
from stats.levels import GROUPS, Knee, distinct_counts, grid_share, half_steps, in_groups, knee

SEEDS = st.integers(0, 10_000)
FORMATS = {
    "bf16": (ml_dtypes.bfloat16, 8, 2.0**-133),
    "fp16": (np.float16, 11, 2.0**-24),
    "fp32": (np.float32, 24, 2.0**-149),
}
"""Type, significant bits, and distance between its smallest numbers."""
LENGTHS = (32, 64, 128, 256, 1024)


def few(seed, m=5, n=48, kinds=6):
    """Rows of few values."""
    return np.random.default_rng(seed).integers(-kinds, kinds + 1, (m, n)) * 0.37


def cast(values, name):
    return values.astype(FORMATS[name][0]).astype(np.float64)


def symmetric(x, bits, group):
    """Codes -(2^(bits-1) - 1) and up, the largest magnitude of a group at the end."""
    parts = x.reshape(len(x), -1, group)
    scale = np.abs(parts).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.rint(parts / scale) * scale).reshape(x.shape)


def asymmetric(x, bits, group):
    """Codes 0 .. 2^bits - 1 from the smallest to the largest value of a group, zero among them."""
    parts, top = x.reshape(len(x), -1, group), 2**bits - 1
    low, high = np.minimum(parts.min(-1, keepdims=True), 0), np.maximum(parts.max(-1, keepdims=True), 0)
    scale = (high - low) / top
    zero = np.rint(-low / scale)
    return ((np.clip(np.rint(parts / scale) + zero, 0, top) - zero) * scale).reshape(x.shape)


def heavy(seed=0):
    """Student's t with six degrees of freedom, as bf16 stores it."""
    return cast(np.random.default_rng(seed).standard_t(6, (256, 1024)) * 0.02, "bf16")


# name: (maker, counts by length, knee); counts of the bf16 copy of the first draw
TABLE = {
    "original": (lambda w: w, (32, 64, 128, 244, 743), None),
    "int4 g128 asym": (lambda w: asymmetric(w, 4, 128), (15, 16, 16, 31, 112), (128, 4)),
    "int4 g128 sym": (lambda w: symmetric(w, 4, 128), (14, 15, 15, 29, 99), (128, 4)),
    "int4 g32": (lambda w: symmetric(w, 4, 32), (15, 28, 50, 91, 289), (32, 4)),
    "int3 g64": (lambda w: asymmetric(w, 3, 64), (8, 8, 15, 29, 110), (64, 3)),
    "nf4 g64": (lambda w: quants.nf4(w, 64), (16, 16, 31, 61, 216), (64, 4)),
    "int8 per row": (lambda w: symmetric(w, 8, 1024), (32, 57, 87, 123, 177), None),
}
# Other draws, and finer formats, which tell values of different groups apart that bf16 makes equal.
TOLERANCE = {32: 0.08, 64: 0.08, 128: 0.08, 256: 0.08, 1024: 0.12}


# --- distinct values ---------------------------------------------------------------------------------------------
@given(SEEDS, st.integers(1, 6), st.integers(1, 70), st.sets(st.integers(1, 80), max_size=4))
def test_counts_are_those_of_unique(seed, m, n, groups):
    values = few(seed, m, n)
    found = distinct_counts(values, groups=tuple(groups))
    assert list(found) == sorted({g for g in groups if g <= n} | {n})
    for g, count in found.items():
        parts = [row[s : s + g] for row in values for s in range(0, n - g + 1, g)]
        assert count == max(np.unique(p).size for p in parts)


@given(SEEDS, st.integers(-60, 60), st.sampled_from([-1.0, 1.0]))
def test_units_sign_and_order_of_rows_do_not_matter_to_counts(seed, power, sign):
    values = few(seed)
    counts = distinct_counts(values)
    assert distinct_counts(values * sign * 2.0**power) == counts
    assert distinct_counts(np.random.default_rng(seed).permutation(values)) == counts


@settings(max_examples=20)
@given(SEEDS, st.permutations(range(16)), st.permutations(range(3)))
def test_order_inside_groups_and_of_groups_does_not_matter_to_counts(seed, inside, order):
    values = few(seed)
    moved = values.reshape(5, 3, 16)[:, list(order)][:, :, list(inside)].reshape(5, 48)
    found, counts = distinct_counts(moved), distinct_counts(values)
    assert (found[16], found[48]) == (counts[16], counts[48])


@given(SEEDS)
def test_longer_groups_hold_more_and_at_most_twice_as_many(seed):
    counts = distinct_counts(few(seed, 4, 256, 40))
    assert list(counts) == list(GROUPS)
    for group in GROUPS[1:]:
        assert counts[group // 2] <= counts[group] <= 2 * counts[group // 2]


def test_zeros_of_both_signs_are_one_value():
    assert distinct_counts([[0.0, -0.0, 1.0, 5e-324]], groups=(2,)) == {2: 2, 4: 3}


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((0, 4)), np.array([[1.0, np.nan]]), np.array([[np.inf, 1.0]])])
def test_counts_need_a_finite_matrix(bad):
    with pytest.raises(ValueError, match="matrix"):
        distinct_counts(bad)


@pytest.mark.parametrize("name", TABLE)
def test_counts_of_quantised_copies(name):
    make, expected, at = TABLE[name]
    for seed, formats in ((0, FORMATS), (1, ("bf16",))):
        copy = make(heavy(seed))
        for stored in formats:
            counts = distinct_counts(cast(copy, stored))
            for group, want in zip(LENGTHS, expected, strict=True):
                assert counts[group] == pytest.approx(want, rel=TOLERANCE[group]), (stored, seed, group)
            found = knee(counts, row=1024)
            assert (found and (found.group, found.bits)) == at


def test_counts_of_one_draw_to_the_last_value():
    w = heavy()
    for name in ("original", "int4 g128 asym", "int4 g32", "int8 per row"):
        make, expected, _ = TABLE[name]
        assert tuple(distinct_counts(cast(make(w), "bf16"), groups=LENGTHS).values()) == expected


# --- knee --------------------------------------------------------------------------------------------------------
def naive_knee(counts, row):
    for g in sorted(counts):
        half, double = counts.get(g // 2), counts.get(2 * g)
        if double is None and row >= 2 * g:
            double = counts.get(row)
        if g != row and half and double and counts[g] / half <= 1.35 and double / counts[g] >= 1.6:
            return g, counts[g]
    return None


@given(st.lists(st.integers(1, 300), min_size=6, max_size=6), st.integers(1, 6), st.sampled_from([256, 300, 512, 1024]))
def test_knee_by_its_two_ratios(counts, length, row):
    table = dict(zip(GROUPS[: length - 1], sorted(counts), strict=False))
    table[row] = max(counts)
    found = knee(table, row=row)
    assert (found and (found.group, found.values)) == naive_knee(table, row)


@pytest.mark.parametrize(
    ("counts", "row", "expected"),
    [
        ({16: 14, 32: 16, 64: 31, 128: 60}, 128, Knee(group=32, values=16)),
        ({16: 15, 32: 31, 64: 60, 128: 110}, 128, None),  # at most 32 values in 32, but nothing stays
        ({16: 16, 32: 16, 64: 16, 128: 16}, 128, None),
        ({16: 14, 32: 16, 48: 30}, 48, None),  # a row shorter than two groups shows no doubling
        ({16: 8, 32: 8, 96: 16}, 96, Knee(group=32, values=8)),  # the row stands in
        ({16: 8, 64: 8, 128: 16}, 128, None),
        ({16: 14, 32: 16}, 32, None),
        ({}, 10, None),
    ],
)
def test_knees_by_hand(counts, row, expected):
    assert knee(counts, row=row) == expected


def test_bits_tell_all_values_apart():
    for values in range(1, 300):
        bits = Knee(group=32, values=values).bits
        assert bits == max(1, math.ceil(math.log2(values)))


# --- groups, steps, shares ---------------------------------------------------------------------------------------
@given(SEEDS, st.integers(1, 5), st.integers(1, 20), st.integers(1, 24))
def test_groups_run_along_rows(seed, m, n, group):
    values = np.random.default_rng(seed).normal(size=(m, n))
    expected = [list(row[s : s + group]) for row in values for s in range(0, n - group + 1, group)]
    found = in_groups(values, group)
    assert found.shape == (len(expected), group)
    assert found.flags.c_contiguous
    assert found.tolist() == expected


@pytest.mark.parametrize("name", FORMATS)
@given(st.data())
def test_half_steps_are_those_of_the_format(name, data):
    kind, bits, smallest = FORMATS[name]
    top = float(ml_dtypes.finfo(kind).max)
    drawn = data.draw(st.lists(st.floats(-top / 4, top / 4) | st.floats(-smallest * 64, smallest * 64), min_size=1))
    values = np.array(drawn, dtype=np.float64)
    stored = values.astype(kind)
    following = np.nextafter(np.abs(stored), np.array(np.inf, dtype=kind)).astype(np.float64)
    half = half_steps(stored.astype(np.float64), bits, smallest)
    assert (half == (following - np.abs(stored.astype(np.float64))) / 2).all()
    assert (np.abs(values - stored.astype(np.float64)) <= half).all()


@given(SEEDS, st.integers(1, 24), st.integers(-80, 80))
def test_half_steps_grow_with_the_unit(seed, bits, power):
    values = np.random.default_rng(seed).normal(size=(3, 4))
    unit = 2.0**power
    assert (half_steps(values * unit, bits, 1e-3 * unit) == unit * half_steps(values, bits, 1e-3)).all()
    assert (half_steps(-values, bits) == half_steps(values, bits)).all()


def test_zero_has_the_smallest_step():
    assert half_steps(np.zeros(2), 8).tolist() == [0.0, 0.0]
    assert half_steps(np.zeros(2), 8, 0.5).tolist() == [0.25, 0.25]


def significant(value):
    """Bits from the first to the last one that is set."""
    top = abs(Fraction(value).numerator)
    return (top // (top & -top)).bit_length()


NUMBERS = st.floats(-6e4, 6e4, width=16) | st.floats(-1e6, 1e6).filter(lambda x: x == 0.0 or abs(x) > 1e-250)
"""None so small that a power of two takes bits from it."""


@given(st.lists(NUMBERS, max_size=12), st.integers(1, 53))
def test_share_on_a_grid_by_exact_fractions(values, bits):
    kept = [v for v in values if v != 0.0]
    expected = np.mean([significant(v) <= bits for v in kept]) if kept else 1.0
    assert grid_share(values, bits) == pytest.approx(expected)
    assert grid_share(np.array(values) * -(2.0**-9), bits) == pytest.approx(expected)
    assert grid_share(values[::-1], bits) == grid_share(values, bits)


def test_share_on_a_grid_by_chance():
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float16).astype(np.float64)
    normal = values[np.abs(values) > 2.0**-14]
    assert grid_share(normal, 11) == 1.0
    assert grid_share(normal, 8) == pytest.approx(2.0**-3, rel=0.03)
    assert grid_share(np.zeros((2, 3)), 8) == 1.0
