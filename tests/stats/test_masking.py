from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.masking import mask_levels, mask_mixture, ratio_peak


def dropped(seed, densities, scales, n=20_000, noise=0.05):
    rng = np.random.default_rng(seed)
    columns = rng.standard_t(5, size=(len(densities), n))
    kept = rng.random(columns.shape) < np.array(densities)[:, None]
    target = np.sum(np.array(scales)[:, None] * kept * columns, axis=0)
    return target + noise * rng.normal(size=n), columns, np.full(n, noise)


@given(st.integers(0, 50), st.integers(1, 4))
def test_levels_are_all_sums_of_kept_columns(seed, k):
    rng = np.random.default_rng(seed)
    columns, scales = rng.normal(size=(k, 3)), rng.normal(size=k)
    found = mask_levels(columns, scales)
    for bits in product((0, 1), repeat=k):
        row = sum(b << i for i, b in enumerate(bits))
        expected = [sum(b * s * c[j] for b, s, c in zip(bits, scales, columns, strict=True)) for j in range(3)]
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("densities", "weights"),
    [((0.5, 0.3), (0.6, 0.4)), ((0.2, 0.7), (0.5, 0.5)), ((0.4,), (1.0,)), ((0.3, 0.5, 0.6), (0.4, 0.3, 0.3))],
)
def test_densities_and_scales_come_out(densities, weights):
    scales = [w / p for w, p in zip(weights, densities, strict=True)]
    target, columns, noise = dropped(0, densities, scales)
    start = np.array(scales) * 1.01
    found = mask_mixture(target, columns, noise, densities=np.full(len(scales), 0.5), scales=start)
    np.testing.assert_allclose(found.densities, densities, atol=0.02)
    np.testing.assert_allclose(found.scales, scales, rtol=0.005)


@given(st.integers(0, 20), st.floats(0.1, 10.0))
def test_units_do_not_matter_to_densities(seed, unit):
    target, columns, noise = dropped(seed, (0.5, 0.3), (1.2, 1.3), n=1000)
    start = {"densities": [0.5, 0.5], "scales": [1.2, 1.3]}
    plain = mask_mixture(target, columns, noise, **start)
    other = mask_mixture(unit * target, unit * columns, unit * noise, **start)
    np.testing.assert_allclose(other.densities, plain.densities, atol=1e-4)
    np.testing.assert_allclose(other.scales, plain.scales, rtol=1e-4)


def test_columns_may_change_places():
    target, columns, noise = dropped(4, (0.5, 0.3), (1.2, 1.3), n=4000)
    one = mask_mixture(target, columns, noise, densities=[0.5, 0.5], scales=[1.2, 1.3])
    two = mask_mixture(target, columns[::-1], noise, densities=[0.5, 0.5], scales=[1.3, 1.2])
    np.testing.assert_allclose(one.densities, two.densities[::-1], atol=1e-4)


def test_a_common_factor_is_a_peak():
    target, columns, noise = dropped(1, (0.5, 0.3), (1.2, 1.3), noise=0.01)
    for column, scale in zip(columns, (1.2, 1.3), strict=True):
        found = ratio_peak(target, column, noise)
        assert found.ratio == pytest.approx(scale, abs=0.02)
        assert found.share > 0.05
        assert found.z > 20


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.9, 0.97])
def test_correlated_columns_without_a_common_factor_have_none(cosine):
    rng = np.random.default_rng(2)
    column, other = rng.standard_t(5, size=(2, 40_000))
    target = cosine * column + np.sqrt(1 - cosine**2) * other
    found = ratio_peak(target, column, np.full(column.size, 0.01))
    assert found.share < 0.02 or found.z < 20


@given(st.integers(0, 50), st.floats(0.1, 10.0))
def test_units_do_not_matter_to_a_peak(seed, unit):
    target, columns, noise = dropped(seed, (0.5,), (1.3,), n=2000, noise=0.01)
    plain = ratio_peak(target, columns[0], noise)
    other = ratio_peak(unit * target, unit * columns[0], unit * noise)
    assert other.ratio == pytest.approx(plain.ratio, abs=1e-6)
    assert other.n == pytest.approx(plain.n, abs=2)


def test_small_columns_and_small_ratios_say_nothing():
    still = np.ones(100)
    assert ratio_peak(np.ones(100), still, still).n == 0
    assert ratio_peak(0.01 * np.ones(100), still, 0.01 * still).ratio == 0.0
    assert ratio_peak(np.zeros(100), still, 0.01 * still).n == 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="positive noise"):
        mask_mixture(np.ones(5), np.ones((1, 5)), np.zeros(5), densities=[0.5], scales=[1.0])
    with pytest.raises(ValueError, match="one scale"):
        mask_levels(np.ones((2, 5)), [1.0])
    with pytest.raises(ValueError, match="at most 4"):
        mask_levels(np.ones((5, 5)), np.ones(5))
