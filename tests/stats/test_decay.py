import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.decay import row_decay

BITS = {"bfloat16": 8, "float16": 11, "float32": 24}


def stored(x, name):
    kind = getattr(ml_dtypes, name, None) or np.dtype(name)
    return x.astype(np.float32).astype(kind).astype(np.float64)


def tables(seed, ratio, source="bfloat16", target="bfloat16", rows=48, touched=24, d=32):
    rng = np.random.default_rng(seed)
    a = stored(rng.normal(size=(rows, d)), source)
    b = a * ratio
    b[:touched] += 0.05 * rng.normal(size=(touched, d))
    return a, stored(b, target)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.7, 0.985), st.sampled_from(sorted(BITS)), st.sampled_from(sorted(BITS)))
def test_the_ratio_is_found_and_rounding_replayed(seed, ratio, source, target):
    a, b = tables(seed, ratio, source, target)
    found = row_decay(a, b, bits_a=BITS[source], bits_b=BITS[target])
    assert found.rows == 24
    assert found.touched == 24
    assert found.ratio == pytest.approx(ratio, rel=3e-3)
    assert found.match_share >= 0.995  # the smallest numbers of a format are coarser than its bits say


def test_another_source_is_told_by_its_rounding():
    """Two children of one parent: the rows of one are no rounded multiple of those of the other."""
    a, b = tables(1, 0.93)
    c = stored(a * 0.8, "bfloat16")
    c[:24] += 0.1
    sibling = row_decay(b, c, bits_a=8, bits_b=8)
    assert row_decay(a, c, bits_a=8, bits_b=8).match_share >= 0.999
    assert sibling.match_share < 0.95


def test_swapping_inverts():
    a, b = tables(2, 0.9)
    one, two = row_decay(a, b, bits_a=8, bits_b=8), row_decay(b, a, bits_a=8, bits_b=8)
    assert two.ratio == pytest.approx(1.0 / one.ratio, rel=2e-3)
    assert (one.match_share, one.reverse_share) == (two.reverse_share, two.match_share)


def test_powers_of_two_and_the_order_of_rows_change_nothing():
    a, b = tables(3, 0.95)
    order = np.random.default_rng(0).permutation(len(a))
    one, two = row_decay(a, b, bits_a=8, bits_b=8), row_decay(4 * a[order], 4 * b[order], bits_a=8, bits_b=8)
    assert (one.rows, one.match_share) == (two.rows, two.match_share)
    assert one.ratio == pytest.approx(two.ratio, rel=1e-9)


def test_the_share_is_that_of_a_search():
    """Naive oracle: every ratio of a fine grid, every value."""
    a, b = tables(4, 0.87)
    found = row_decay(a, b, bits_a=8, bits_b=8)
    x, y = a[24:], b[24:]
    shares = [np.mean(stored(x * r, "bfloat16") == y) for r in np.linspace(0.869, 0.871, 801)]
    assert found.match_share == pytest.approx(max(shares), abs=5e-3)


def test_unrelated_rows_and_few_rows_give_nothing():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 40, 32))
    assert row_decay(a, b, bits_a=8, bits_b=8) is None
    assert row_decay(a[:8], 0.9 * a[:8], bits_a=8, bits_b=8) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value):
    a = np.ones((20, 4))
    a[0, 0] = value
    with pytest.raises(ValueError, match="finite"):
        row_decay(a, np.ones((20, 4)), bits_a=8, bits_b=8)
