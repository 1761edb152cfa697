import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.rank import delta_rank, singular_values


@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 20), st.integers(-60, 60))
def test_singular_values_equal_those_of_a_library(seed, rows, columns, exponent):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)) * 2.0**exponent
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(singular_values(matrix), expected, rtol=0, atol=1e-13 * expected[0])


@pytest.mark.parametrize("shape", [(64, 160), (128, 128), (3, 128)])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_low_rank_matrices_have_small_remaining_values(shape, rank):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    found = singular_values(matrix)
    np.testing.assert_allclose(found, np.linalg.svd(matrix, compute_uv=False), rtol=0, atol=1e-12 * (1 + found[0]))


@pytest.mark.parametrize("rank", [1, 4, 16, 64])
def test_a_rounded_update_shows_its_rank(rank):
    rng = np.random.default_rng(rank)
    base = rng.normal(size=(128, 128)).astype(ml_dtypes.bfloat16).astype(float)
    changed = base + 0.05 * rng.normal(size=(128, rank)) @ rng.normal(size=(rank, 128))
    found = delta_rank(base, changed.astype(ml_dtypes.bfloat16).astype(float), bits_a=8, bits_b=8)
    assert found.rank == rank
    assert 0.5 * rank < found.effective < 2.5 * rank + 1


@pytest.mark.parametrize("seed", range(20))
def test_rounding_alone_and_white_noise_have_no_rank(seed):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(96, 64)) * np.exp(rng.normal(size=(96, 1)))
    rounded = base.astype(ml_dtypes.bfloat16).astype(float)
    assert delta_rank(base, rounded, bits_a=53, bits_b=8).rank == 0
    assert delta_rank(base, base + rng.normal(size=base.shape)).rank == 0


def test_no_change_has_no_rank():
    base = np.random.default_rng(0).normal(size=(8, 8))
    found = delta_rank(base, base, bits_a=8, bits_b=8)
    assert (found.rank, found.effective, found.shape) == (0, 0.0, (8, 8))


def test_the_sides_may_be_swapped():
    a, b = np.random.default_rng(0).normal(size=(2, 20, 30))
    assert delta_rank(a, b, bits_a=8, bits_b=11) == delta_rank(b, a, bits_a=11, bits_b=8)


@pytest.mark.parametrize("bad", [np.full((8, 8), np.nan), np.zeros((8, 7)), np.zeros(8)])
def test_refuses_bad_matrices(bad):
    with pytest.raises(ValueError, match=r"NaN|shape|matrix"):
        delta_rank(np.zeros((8, 8)), bad)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("rank", [1, 8])
@pytest.mark.parametrize("size", [0.003, 0.03])
def test_below_a_low_rank_is_a_gap(dtype, rank, size):
    """Of an update of rank 1 that is as small as rounding, a second singular value is above the edges, before the gap none."""
    rng = np.random.default_rng(rank)
    base = rng.normal(size=(128, 192)).astype(dtype).astype(float)
    step = rng.normal(size=(128, rank)) @ rng.normal(size=(rank, 192))
    child = (base + step * (size * np.linalg.norm(base) / np.linalg.norm(step))).astype(dtype).astype(float)
    bits = {ml_dtypes.bfloat16: 8, np.float16: 11}[dtype]
    found = delta_rank(base, child, bits_a=bits, bits_b=bits)
    assert found.low == rank <= found.rank
    assert found.gap > 3.0


@pytest.mark.parametrize("fall", [0.4, 0.8])
def test_singular_values_that_only_fall_have_no_wide_gap(fall):
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 96)))[0] for n in (96, 128))
    base = rng.normal(size=(96, 128))
    found = delta_rank(base, base + (left * np.arange(1, 97) ** -fall) @ right.T)
    assert found.rank > 0
    assert found.gap < 2.0


def test_the_gap_of_an_exact_update_is_wide():
    step = np.outer(np.arange(1.0, 9.0), np.ones(8))
    found = delta_rank(np.zeros((8, 8)), step)
    assert (found.rank, found.low) == (1, 1)
    assert found.gap > 1e6
