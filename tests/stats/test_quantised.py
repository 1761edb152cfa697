from functools import cache
from itertools import product

import ml_dtypes
import numpy as np
import pytest

import quants
from stats.grids import float_grid, integer_grid, table_grid
from stats.levels import half_steps
from stats.quantised import FLOATS, TABLES, find_levels, fit_grid

FORMATS = {
    "bf16": (ml_dtypes.bfloat16, 8, 2.0**-133),
    "fp16": (np.float16, 11, 2.0**-24),
    "fp32": (np.float32, 24, 2.0**-149),
}
"""Type, significant bits, and distance between its smallest numbers."""


@cache
def original():
    return 0.02 * np.random.default_rng(0).standard_t(6, (32, 256))


def stored(values, name):
    return values.astype(FORMATS[name][0]).astype(np.float64)


def symmetric(x, bits, group):
    parts = x.reshape(len(x), -1, group)
    scale = np.abs(parts).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.rint(parts / scale) * scale).reshape(x.shape)


def with_offset(x, bits, group):
    """Steps counted from the smallest value, which is no multiple of them."""
    parts = x.reshape(len(x), -1, group)
    low, high = parts.min(-1, keepdims=True), parts.max(-1, keepdims=True)
    scale = (high - low) / (2**bits - 1)
    return (np.rint((parts - low) / scale) * scale + low).reshape(x.shape)


def from_table(x, name, group):
    parts, table = x.reshape(len(x), -1, group), TABLES[name]
    scale = np.abs(parts).max(-1, keepdims=True)
    return (table[np.abs(parts[..., None] / scale[..., None] - table).argmin(-1)] * scale).reshape(x.shape)


def of_few(x, group):
    """The nearest of five levels that no table has."""
    parts = x.reshape(len(x), -1, group)
    scale = np.abs(parts).max(-1, keepdims=True)
    table = np.array([-1.0, -0.4142, -0.1217, 0.2639, 0.7391])
    return (table[np.abs(parts[..., None] / scale[..., None] - table).argmin(-1)] * scale).reshape(x.shape)


# name: (maker, kind, bits, group, symmetric)
COPIES = {
    "4 bits in 64": (lambda x: symmetric(x, 4, 64), "integer", 4, 64, True),
    "4 bits a row": (lambda x: symmetric(x, 4, 256), "integer", 4, None, True),
    "8 bits a row": (lambda x: symmetric(x, 8, 256), "integer", 8, None, True),
    "3 bits from zero": (lambda x: quants.asymmetric(x, 3, 32), "integer", 3, 32, False),
    "nf4": (lambda x: from_table(x, "nf4", 64), "nf4", 4, 64, None),
    "fp4": (lambda x: from_table(x, "fp4", 32), "fp4", 4, 32, None),
    "e2m1": (lambda x: from_table(x, "e2m1", 32), "e2m1", 4, 32, None),
    "e4m3": (lambda x: quants.fp8(x, 128), "e4m3", 8, 128, None),
    "five levels": (lambda x: of_few(x, 64), "unknown", 3, 64, None),
}


# --- tables ------------------------------------------------------------------------------------------------------
def test_tables_are_those_of_their_formats():
    assert TABLES["nf4"].tolist() == quants.NF4.tolist()
    codes = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    np.testing.assert_array_equal(TABLES["e2m1"], np.unique(codes) / 6.0)
    for table in TABLES.values():
        assert (np.diff(table) > 0.0).all()
        assert np.abs(table).max() == 1.0
        assert 0.0 in table


@pytest.mark.parametrize(("name", "kind"), [("e4m3", ml_dtypes.float8_e4m3fn), ("e5m2", ml_dtypes.float8_e5m2)])
def test_floats_are_those_of_their_formats(name, kind):
    info = ml_dtypes.finfo(kind)
    top = 2.0 ** np.ceil(np.log2(float(info.max)))
    assert FLOATS[name] == (info.nmant + 1, float(info.smallest_subnormal) / top)


# --- one kind ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("bits", "widened"), [(8, 1.125), (11, 1.001), (24, 4.0)])
def test_fits_widen_half_a_step_and_ask_the_grid(bits, widened):
    groups = original()[:16, :32].astype(np.float16).astype(np.float64)
    half = half_steps(groups, bits, 2.0**-24) * widened
    asked = {
        "integer": integer_grid(groups, half, 255),
        "offset": integer_grid(groups, half, 31, offset=True),
        **{name: table_grid(groups, half, table) for name, table in TABLES.items()},
        **{name: float_grid(groups, half, *numbers) for name, numbers in FLOATS.items()},
    }
    for kind, expected in asked.items():
        found = fit_grid(groups, kind, bits, 2.0**-24)
        for field in ("fits", "step", "low", "high", "offset", "levels", "surprise"):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    few = fit_grid(groups, "integer", bits, 2.0**-24, most=9)
    np.testing.assert_array_equal(few.fits, integer_grid(groups, half, 9).fits)


@pytest.mark.parametrize("kind", ["unknown", "int4", ""])
def test_a_kind_without_levels_is_refused(kind):
    with pytest.raises(ValueError, match="no levels of kind"):
        fit_grid(np.ones((2, 4)), kind, 8)


# --- planted copies ----------------------------------------------------------------------------------------------
# Five levels of any kind are multiples of some step as coarsely as bf16 stores them.
@pytest.mark.parametrize(
    ("name", "form"), [p for p in product(COPIES, ("bf16", "fp32")) if p != ("five levels", "bf16")]
)
def test_planted_levels_come_out(name, form):
    make, kind, bits, group, centred = COPIES[name]
    found = find_levels(stored(make(original()), form), *FORMATS[form][1:])
    assert found is not None
    assert (found.kind, found.bits, found.group, found.axis) == (kind, bits, group, "inputs")
    assert found.symmetric is centred
    assert (found.surprise > 0.5) == (kind != "unknown")


@pytest.mark.parametrize("form", ["fp16", "fp32"])
def test_steps_above_the_smallest_value_come_out(form):
    found = find_levels(stored(with_offset(original(), 4, 64), form), *FORMATS[form][1:])
    assert found is not None
    assert (found.kind, found.bits, found.group, found.symmetric) == ("offset", 4, 64, False)


@pytest.mark.parametrize("form", FORMATS)
def test_values_of_no_grid_have_no_levels(form):
    for seed in range(2):
        values = np.random.default_rng(seed).standard_t(6, (64, 256)) * 0.02
        assert find_levels(stored(values, form), *FORMATS[form][1:]) is None


@pytest.mark.parametrize("name", ["4 bits in 64", "nf4", "five levels"])
def test_transposition_turns_the_axis(name):
    make, kind, bits, group, _ = COPIES[name]
    found = find_levels(stored(make(original()), "fp16").T, 11)
    assert found is not None
    assert (found.kind, found.bits, found.group, found.axis) == (kind, bits, group, "outputs")


@pytest.mark.parametrize("name", ["e2m1", "e4m3", "five levels"])
def test_units_and_order_of_rows_do_not_matter(name):
    values = stored(COPIES[name][0](original()), "fp16")
    one = find_levels(values, *FORMATS["fp16"][1:])
    assert find_levels(values * 2.0**30, 11, 2.0**6) == one
    two = find_levels(np.random.default_rng(1).permutation(values), *FORMATS["fp16"][1:])
    assert two is not None
    assert (two.kind, two.bits, two.group, two.symmetric) == (one.kind, one.bits, one.group, one.symmetric)


@pytest.mark.parametrize("shape", [(64, 1), (1, 64), (2, 768), (64, 2), (3, 300)])
def test_narrow_matrices_do_not_fit_because_they_are_narrow(shape):
    values = stored(np.random.default_rng(0).normal(size=shape), "fp32")
    assert find_levels(values, *FORMATS["fp32"][1:]) is None


def test_too_few_groups_show_nothing():
    values = symmetric(original()[:6, :16], 4, 16)
    assert find_levels(values[:5], 53) is None
    assert find_levels(values, 53).kind == "integer"
    assert find_levels(np.zeros((64, 64)), 8) is None


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((0, 4)), np.array([[1.0, np.nan]]), np.array([[np.inf, 1.0]])])
def test_levels_are_those_of_a_finite_matrix(bad):
    with pytest.raises(ValueError, match="matrix"):
        find_levels(bad, 8)


@pytest.mark.parametrize("n_values", [4, 8, 16])
@pytest.mark.parametrize("bits", [8, 11, 24])
def test_a_table_of_its_own_is_no_grid_of_many_bits(n_values, bits):
    rng = np.random.default_rng(n_values)
    table = rng.normal(size=n_values)
    rounded = {8: ml_dtypes.bfloat16, 11: np.float16, 24: np.float32}[bits]
    matrix = (table[rng.integers(0, n_values, (64, 512))] * np.exp(0.3 * rng.normal(size=(64, 1)))).astype(rounded)
    found = find_levels(matrix.astype(np.float64), bits)
    assert found is not None
    assert (found.kind, found.bits) == ("unknown", (n_values - 1).bit_length())


def test_the_few_values_of_a_pruned_row_are_no_table():
    rng = np.random.default_rng(0)
    matrix = np.where(rng.random((64, 512)) < 0.97, 0.0, rng.normal(size=(64, 512))).astype(np.float32)
    assert find_levels(matrix.astype(np.float64), 24) is None
