"""Sums of carriers and keyed rounding against loops; sums add up whatever the split."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import spread
from stats.carriers import BLOCK, SYMBOLS, Carried, carried, scales
from stats.dither import GRIDS, change, rounded, shifted

FORMATS = {
    "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip


def drawn(rng, m, n):
    """(rows, packed signs, symbols, signs as numbers)."""
    bits = rng.integers(0, 2, (m, -(-n // 8) * 8), dtype=np.uint8)
    symbols = rng.integers(0, SYMBOLS, (m, -(-n // BLOCK)))
    rows = rng.standard_t(4, (m, n)) * rng.lognormal(0, 1, (m, 1))
    return rows, np.packbits(bits, axis=1, bitorder="little"), symbols, 2.0 * bits[:, :n] - 1.0


@given(m=st.integers(1, 6), n=st.integers(1, 200), seed=st.integers(0, 1 << 30))
def test_the_statistic_against_loops(m, n, seed):
    rng = np.random.default_rng(seed)
    rows, packed, symbols, signs = drawn(rng, m, n)
    code = rng.choice([-1.0, 1.0], SYMBOLS)
    seen = carried(rows, packed, symbols, clip=4.0)
    wanted = spread.statistic(rows.tolist(), signs.tolist(), symbols.tolist(), code.tolist())
    assert seen.statistic(code) == pytest.approx(wanted, abs=1e-4)
    assert seen.n == m * n
    assert seen.counts.sum() == np.count_nonzero(rows)


@given(cut=st.integers(1, 11), seed=st.integers(0, 1 << 30))
def test_any_split_of_rows_adds_up_to_the_same_numbers(cut, seed):
    rows, packed, symbols, _ = drawn(np.random.default_rng(seed), 12, 130)
    whole = carried(rows, packed, symbols, clip=4.0)
    parts = [carried(rows[s], packed[s], symbols[s], clip=4.0) for s in (slice(0, cut), slice(cut, 12))]
    for both in (parts[0] + parts[1], parts[1] + parts[0], Carried.none() + whole):
        assert all(np.array_equal(getattr(both, f), getattr(whole, f)) for f in ("sums", "high", "low", "counts"))


def test_stored_bits_of_bfloat16_give_the_sums_of_their_values():
    rows, packed, symbols, _ = drawn(np.random.default_rng(1), 9, 333)
    held = rows.astype(ml_dtypes.bfloat16)
    held[3] = 0
    held[4, :3] = np.nan, np.inf, -np.inf
    a = carried(held.view(np.uint16), packed, symbols, clip=4.0)
    b = carried(held.astype(np.float32), packed, symbols, clip=4.0)
    assert all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("sums", "high", "low", "counts"))


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**60, 1e-3, 7.0])
def test_scaling_a_row_changes_nothing_that_matters(factor):
    rows, packed, symbols, _ = drawn(np.random.default_rng(2), 5, 256)
    code = np.ones(SYMBOLS)
    moved = carried(rows * factor, packed, symbols, clip=4.0).statistic(code)
    assert moved == pytest.approx(carried(rows, packed, symbols, clip=4.0).statistic(code), abs=1e-3)


def test_numbers_that_are_none_and_sizes_without_bounds_are_survived():
    rows, packed, symbols, _ = drawn(np.random.default_rng(3), 6, 64)
    rows[0], rows[1], rows[2] = np.nan, 0.0, np.inf
    rows[3], rows[4, 0], rows[5] = 1e300, np.nan, 5e-324
    seen = carried(rows, packed, symbols, clip=4.0)
    assert np.isfinite(seen.soft).all()
    assert abs(seen.statistic(np.ones(SYMBOLS))) < 10
    assert carried(np.zeros((6, 64)), packed, symbols, clip=4.0).n == 0
    assert Carried.none().statistic(np.ones(SYMBOLS)) == 0.0


def test_sums_of_the_largest_model_fit():
    """Squares stay below 2^63 up to 2^46 weights at the largest clip: counted apart, in multiples of 2^32 and the rest."""
    each = (16.0 * 2**17) ** 2
    assert each * 64 < 2**53
    assert (each * 2**46) / 2**32 < 2**63


def test_shapes_that_do_not_fit_are_refused():
    rows, packed, symbols, _ = drawn(np.random.default_rng(4), 3, 128)
    for bad in (
        (rows, packed[:2], symbols, {}),
        (rows, packed[:, :15], symbols, {}),
        (rows, packed, symbols[:, :1], {}),
        (rows, packed, symbols + SYMBOLS, {}),
        (rows, packed, symbols - SYMBOLS, {}),
        (rows, packed, symbols, {"clip": 0.0}),
        (rows, packed, symbols, {"clip": 17.0}),
        (rows, packed, symbols, {"scale": np.ones(2)}),
        (rows.astype(np.int32), packed, symbols, {}),
    ):
        with pytest.raises(ValueError, match="carried"):
            carried(*bad[:3], **({"clip": 4.0} | bad[3]))


def test_scales_are_root_mean_squares():
    rows = np.random.default_rng(5).standard_normal((20, 77))
    assert scales(rows) == pytest.approx(
        [math.sqrt(math.fsum(x * x for x in r) / 77) for r in rows.tolist()], rel=1e-14
    )


@given(
    st.sampled_from(sorted(FORMATS)),
    st.floats(-300, 300).filter(lambda x: x == 0.0 or abs(x) > 1e-30),
    st.integers(0, 65535),
)
def test_rounding_goes_to_a_neighbour_by_the_draw(name, value, draw):
    grid = GRIDS[name]
    seen = rounded(np.array([[value]]), np.array([[draw]], np.uint16), grid)[0, 0]
    low, high, share = spread.neighbours(value, grid.bits, grid.lowest)
    assert seen == math.copysign(high if share + draw / 65536 >= 1.0 else low, value)
    assert float(FORMATS[name](seen)) == seen


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_rounding_keeps_means_and_what_the_format_holds(name):
    draws = np.random.default_rng(6).integers(0, 65536, (1, 40_000), dtype=np.uint16)
    for value in (1.0009765, -0.3, 5.1, 2.0**-7 * 1.3):
        seen = rounded(np.full((1, 40_000), value), draws, GRIDS[name])
        step = np.ptp(seen)
        assert seen.mean() == pytest.approx(value, abs=5 * step / 2 / 200 + 1e-12)
    held = np.random.default_rng(7).standard_normal((1, 40_000)).astype(FORMATS[name]).astype(np.float64)
    assert np.array_equal(rounded(held, draws, GRIDS[name]), held)


def test_what_leaves_the_range_is_told():
    for grid in GRIDS.values():
        seen = rounded(np.array([[grid.largest * 1.5, -grid.largest * 4]]), np.full((1, 2), 65535, np.uint16), grid)
        assert np.isnan(seen).all()


def test_shifts_against_loops():
    rng = np.random.default_rng(8)
    rows, packed, symbols, signs = drawn(rng, 4, 150)
    steps, scale = rng.standard_normal(SYMBOLS), np.array([1.0, 0.0, 2.0, 3.0])
    seen = shifted(rows, scale, packed, symbols, steps)
    for r in range(4):
        for i in range(150):
            assert seen[r, i] == rows[r, i] + signs[r, i] * steps[symbols[r, i // BLOCK]] * scale[r]


def test_changes_against_loops():
    rng = np.random.default_rng(9)
    before = rng.standard_normal((5, 40))
    before[0, :4] = 0.0
    after = before + rng.choice([0.0, 0.1], before.shape)
    after[1, 0] = np.nan
    d = np.where(np.isfinite(after), after - before, 0.0)
    kept = np.isfinite(after)
    own = (before * before * kept).sum(axis=1)
    ulp = np.where((before != 0) & kept, 2.0 ** (np.floor(np.log2(np.abs(np.where(before == 0, 1, before)))) - 7), 0.0)
    wanted = [200, np.count_nonzero(d), own.sum(), (d * d).sum(), (ulp**2).sum() / 12]
    wanted += [np.count_nonzero(d[before == 0]), abs(d).max(), np.sqrt((d * d).sum(axis=1) / own).max()]
    assert change(before, after, 8) == pytest.approx(wanted)
