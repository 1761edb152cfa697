import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import naive
from stats.passing import KINDS, Moments, Pass, PassKernel, PassTotal, decoded, one_pass, pivot_of

TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
NARROW = {"BF16", "F16"}


def stored(values, name):
    """Stored bits, and what they mean."""
    held = np.ascontiguousarray(values).astype(TYPES[name])
    return np.frombuffer(held.tobytes(), np.uint8), held.astype(np.float64)


def drawn(seed, n, *, scale=0.02, change=0.1):
    rng = np.random.default_rng(seed)
    a = scale * rng.standard_t(5, n)
    return a, np.where(rng.random(n) < 0.3, a, a + change * scale * rng.normal(size=n))


def check(found, x, y, tolerance):
    """Against the definitions; odd moments are compared with the size of what they add up."""
    for expected, got in zip(naive.pair_sums(x.tolist(), y.tolist()), _sums(found), strict=True):
        assert got == pytest.approx(expected, rel=tolerance, abs=tolerance * math.sqrt(found.sums.aa * found.sums.bb))
    assert found.sums.equal == int(np.sum(x == y))
    assert found.sums.dd == pytest.approx(float(np.sum((x - y) ** 2)), rel=tolerance)
    assert found.largest == pytest.approx(float(np.abs(x - y).max()), rel=tolerance)
    for values, moments in ((x, found.a), (y, found.b), (y - x, found.difference)):
        mean, variance, skewness, kurtosis = naive.power_sums(values.tolist())
        spread = math.sqrt(variance)
        assert moments.mean == pytest.approx(mean, abs=tolerance * (spread + abs(mean)))
        assert moments.variance == pytest.approx(variance, rel=tolerance)
        if skewness is not None:
            assert moments.skewness == pytest.approx(skewness, abs=10 * tolerance * kurtosis)
            assert moments.kurtosis == pytest.approx(kurtosis, rel=10 * tolerance)


def _sums(found):
    s = found.sums
    return s.aa, s.bb, s.ab, s.dd, s.equal


@pytest.mark.parametrize("left", sorted(KINDS))
@pytest.mark.parametrize("right", sorted(KINDS))
@pytest.mark.parametrize("n", [1, 127, 4096, 9001])
def test_equals_its_oracle(left, right, n):
    a, b = drawn(n, n)
    (bits_a, x), (bits_b, y) = stored(a, left), stored(b, right)
    check(one_pass(bits_a, bits_b, left, right), x, y, 1e-6 if {left, right} <= NARROW else 1e-11)


@given(st.integers(0, 1000), st.integers(-100, 100), st.sampled_from(sorted(KINDS)))
def test_any_scale_is_summed_right(seed, exponent, name):
    """Where fourth powers leave the range of float32, float64 takes over."""
    a, b = drawn(seed, 700, scale=2.0 ** (exponent if name != "F16" else exponent / 10))
    (bits_a, x), (bits_b, y) = stored(a, name), stored(b, name)
    check(one_pass(bits_a, bits_b, name, name), x, y, 1e-6 if name in NARROW else 1e-11)


@pytest.mark.parametrize("name", sorted(NARROW))
def test_the_error_of_float32_lanes_is_bounded(name):
    """A million values: far below the promise of 2e-5."""
    a, b = drawn(0, 1 << 20)
    (bits_a, x), (bits_b, y) = stored(a, name), stored(b, name)
    found = one_pass(bits_a, bits_b, name, name)
    for got, values in ((found.sums.aa, x * x), (found.sums.bb, y * y), (found.sums.dd, (x - y) ** 2)):
        assert got == pytest.approx(math.fsum(values.tolist()), rel=1e-7)
    assert found.a.m4 == pytest.approx(float(np.sum((x - x.mean()) ** 4)), rel=1e-6)


def test_gains_far_from_zero_keep_their_moments():
    rng = np.random.default_rng(0)
    a = 1.0 + 1e-4 * rng.standard_t(5, 3000)
    b = a + 1e-6 * rng.normal(size=3000)
    for name in ("F32", "F64"):
        (bits_a, x), (bits_b, y) = stored(a, name), stored(b, name)
        check(one_pass(bits_a, bits_b, name, name, centred=True), x, y, 1e-9)


def test_a_constant_has_no_shape():
    bits, _ = stored(np.full(300, 0.7), "F32")
    found = one_pass(bits, bits, "F32", "F32", centred=True)
    assert found.a.kurtosis is None
    assert found.a.skewness is None
    assert found.kurtosis_change is None
    assert found.difference == Moments(300)


def test_zero_has_no_norm():
    zero, one = (stored(np.full(300, v), "BF16")[0] for v in (0.0, 1.0))
    found = one_pass(zero, one, "BF16", "BF16")
    assert found.norm_growth is None
    assert found.sums.cosine == 0.0
    assert found.sums.equal == 0
    assert one_pass(zero, zero, "BF16", "BF16").sums.equal == 300


@pytest.mark.parametrize("name", sorted(KINDS))
def test_identical_values(name):
    bits, x = stored(drawn(1, 5000)[0], name)
    found = one_pass(bits, bits, name, name)
    assert (found.sums.dd, found.largest, found.sums.unchanged_share) == (0.0, 0.0, 1.0)
    assert found.sums.cosine == pytest.approx(1.0, abs=1e-15)
    assert found.sums.relative_change == 0.0
    assert (found.norm_growth, found.kurtosis_change) == (0.0, 0.0)
    assert found.a == found.b
    assert found.sums.n == x.size


@given(st.integers(0, 1000), st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS)))
def test_swapping_the_sides_swaps_the_answer(seed, left, right):
    a, b = drawn(seed, 5000)
    bits_a, bits_b = stored(a, left)[0], stored(b, right)[0]
    one, two = one_pass(bits_a, bits_b, left, right), one_pass(bits_b, bits_a, right, left)
    assert (one.a, one.b, one.largest) == (two.b, two.a, two.largest)
    assert (one.sums.ab, one.sums.dd, one.sums.equal) == (two.sums.ab, two.sums.dd, two.sums.equal)
    assert (one.difference.mean, one.difference.m3) == (-two.difference.mean, -two.difference.m3)
    assert (one.difference.m2, one.difference.m4) == (two.difference.m2, two.difference.m4)


@given(st.integers(0, 1000), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_any_cut_into_whole_chunks_gives_the_same_bits(seed, cuts):
    a, b = drawn(seed, 4096 * 7 + 99)
    bits_a, bits_b = stored(a, "BF16")[0], stored(b, "F32")[0]
    kernel, total, at = PassKernel(), PassTotal(), 0
    while at < a.size:
        stop = min(a.size, at + 4096 * cuts[at % len(cuts)])
        total.add(kernel.rows(bits_a[2 * at : 2 * stop], bits_b[4 * at : 4 * stop], ("BF16", "F32")), stop - at)
        at = stop
    assert total.finish() == one_pass(bits_a, bits_b, "BF16", "F32")


@given(st.integers(0, 1000), st.integers(1, 400))
def test_passes_over_parts_add_up(seed, cut):
    a, b = drawn(seed, 500)
    (bits_a, x), (bits_b, y) = stored(a, "F64"), stored(b, "F64")
    parts = [one_pass(bits_a[i], bits_b[i], "F64", "F64") for i in (slice(0, 8 * cut), slice(8 * cut, None))]
    check(parts[0] + parts[1], x, y, 1e-11)
    assert parts[0] + Pass() == parts[0]


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("centred", [False, True])
def test_values_that_are_not_finite_are_noticed(name, bad, centred):
    values = drawn(0, 5000)[0]
    clean = stored(values, name)[0]
    values[4321] = bad
    for pair in ((stored(values, name)[0], clean), (clean, stored(values, name)[0])):
        assert not one_pass(*pair, name, name, centred=centred).is_finite
    assert one_pass(clean, clean, name, name, centred=centred).is_finite


def test_a_first_chunk_that_is_not_finite_gives_no_pivot():
    assert pivot_of(stored(np.array([1.0, math.nan]), "F32")[0], "F32") == 0.0
    assert pivot_of(stored(np.array([1.0, 2.0]), "F32")[0], "F32") == 1.5


@pytest.mark.parametrize("name", sorted(NARROW))
def test_every_code_is_decoded_exactly(name):
    codes = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        expected = codes.view(TYPES[name]).astype(np.float64)
    finite = np.isfinite(expected)
    found = decoded(codes.view(np.uint8), name)
    np.testing.assert_array_equal(found[finite], expected[finite])
    assert not np.isfinite(found[~finite]).any()


def test_read_only_bits_are_welcome():
    bits = stored(drawn(0, 100)[0], "F32")[0]
    assert not bits.flags.writeable
    assert one_pass(bits, bits.copy(), "F32", "F32").sums.n == 100


def test_refuses_other_lengths():
    with pytest.raises(ValueError, match="same elements"):
        one_pass(np.zeros(4, np.uint8), np.zeros(8, np.uint8), "F32", "F32")
