import math
from itertools import combinations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stats.triplets
from stats.triplets import distance_centre, odd_counts, pair_equal_blocks, triplet_centre

BF16 = ml_dtypes.bfloat16


def naive_odd(arrays, triple, rows):
    """Counts of one triple by block of rows, element by element."""
    tables = [np.asarray(arrays[i]).astype(float) for i in triple]
    tables = [t.reshape(1, -1) if t.ndim < 2 else t.reshape(len(t), -1) for t in tables]
    found = []
    for start in range(0, len(tables[0]), rows):
        counts = [0, 0, 0]
        for x, y, z in zip(*(t[start : start + rows].ravel().tolist() for t in tables), strict=True):
            counts[0] += y == z != x
            counts[1] += x == z != y
            counts[2] += x == y != z
        found.append(counts)
    return found


def draw(rng, models, shape, dtype):
    """Models that agree in many elements, zeros of both signs among them."""
    base = rng.normal(size=shape)
    base[rng.random(shape) < 0.2] = 0.0
    values = [np.where(rng.random(shape) < 0.4, rng.integers(-2, 3, size=shape), base) for _ in range(models)]
    values = [np.where((v == 0.0) & (rng.random(shape) < 0.5), -0.0, v) for v in values]
    return [v.astype(dtype) for v in values]


def family(rng, rel, cosine, dtype, *, chain, shape=(400, 500)):
    """A model between two others: child and grandchild, or a parent and two children."""
    base = (0.02 * rng.normal(size=shape)).astype(dtype).astype(float)
    first = rng.normal(size=shape)
    second = cosine * first + math.sqrt(1.0 - cosine * cosine) * rng.normal(size=shape)
    one = (base + 0.02 * rel * first).astype(dtype)
    if chain:
        return base.astype(dtype), one, (one.astype(float) + 0.02 * rel * second).astype(dtype)
    return one, base.astype(dtype), (base + 0.02 * rel * second).astype(dtype)


def squared_distance(a, b):
    return float(np.sum((a.astype(float) - b.astype(float)) ** 2))


@given(
    st.integers(0, 10_000),
    st.sampled_from([np.float16, BF16, np.float32, ml_dtypes.float8_e4m3fn, np.float64]),
    st.sampled_from([(70,), (1, 9), (17, 5), (33, 2, 3)]),
    st.integers(1, 20),
)
def test_counts_equal_a_count_of_elements(seed, dtype, shape, rows):
    arrays = draw(np.random.default_rng(seed), 4, shape, dtype)
    triples = [*combinations(range(4), 3), (2, 0, 3)]
    found = odd_counts(arrays, triples, block_rows=rows)
    for t, triple in enumerate(triples):
        assert found.odd[t].tolist() == naive_odd(arrays, triple, rows)
    assert found.size.sum() == arrays[0].size
    equal = pair_equal_blocks(arrays, [(0, 2), (3, 1)], block_rows=rows)
    assert equal.sum(axis=1).tolist() == [
        np.count_nonzero(arrays[i].astype(float) == arrays[j].astype(float)) for i, j in ((0, 2), (3, 1))
    ]


def test_counts_are_the_same_in_small_chunks(monkeypatch):
    arrays = draw(np.random.default_rng(0), 5, (100, 30), np.float16)
    triples = list(combinations(range(5), 3))
    whole = odd_counts(arrays, triples, block_rows=3)
    monkeypatch.setattr(stats.triplets, "_CHUNK_BYTES", 1000)
    parts = odd_counts(arrays, triples, block_rows=3)
    assert np.array_equal(parts.odd, whole.odd)
    assert np.array_equal(parts.size, whole.size)


def test_blocks_of_tensors_are_joined():
    one = odd_counts(draw(np.random.default_rng(0), 3, (20, 4), np.float16), [(0, 1, 2)])
    two = odd_counts(draw(np.random.default_rng(1), 3, (50,), np.float32), [(0, 1, 2)])
    both = one + two
    assert both.size.tolist() == [64, 16, 50]
    assert both.odd.sum(axis=1).tolist() == (one.odd.sum(axis=1) + two.odd.sum(axis=1)).tolist()


def test_codes_are_compared_as_they_are():
    codes = np.arange(12, dtype=np.int8).reshape(3, 4)
    found = odd_counts([codes, codes + np.int8(1), codes], [(0, 1, 2)])
    assert found.odd.tolist() == [[[0, 12, 0]]]


def test_the_middle_is_found_from_small_to_large_updates():
    right = accepted = asked = 0
    for seed in range(2):
        for dtype in (BF16, np.float16):
            for cosine in (0.0, 0.3, -0.35):
                for rel in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1):
                    models = family(np.random.default_rng(seed), rel, cosine, dtype, chain=seed == 0)
                    counts = odd_counts(models, [(0, 1, 2)])
                    found = triplet_centre(counts.odd[0], counts.size)
                    assert found.centre in {1, None}
                    right += found.smallest == 1
                    accepted += found.centre == 1
                    asked += 1
    assert right >= 0.99 * asked
    assert accepted >= 0.7 * asked


def test_the_smallest_count_lies_opposite_the_least_equal_pair():
    for seed in range(20):
        arrays = draw(np.random.default_rng(seed), 3, (64, 9), np.float16)
        equal = pair_equal_blocks(arrays, [(1, 2), (0, 2), (0, 1)]).sum(axis=1)
        counts = odd_counts(arrays, [(0, 1, 2)])
        total = counts.odd[0].sum(axis=0)
        assert (total - total[0]).tolist() == (equal - equal[0]).tolist()
        assert triplet_centre(counts.odd[0], counts.size).smallest == int(equal.argmin())


def test_a_few_large_elements_stepping_back_fool_distances_and_not_counts():
    rng = np.random.default_rng(0)
    base = (0.02 * rng.normal(size=(400, 250))).astype(BF16).astype(float)
    few = np.where(rng.random(base.shape) < 0.01, 0.02, 0.0)
    first = (base + few + 1e-4 * rng.normal(size=base.shape)).astype(BF16)
    second = (first.astype(float) - 0.4 * few + 1e-4 * rng.normal(size=base.shape)).astype(BF16)
    start = base.astype(BF16)
    pairs = ((start, first), (start, second), (first, second))
    assert distance_centre(*(squared_distance(a, b) for a, b in pairs)).centre == 2
    counts = odd_counts([start, first, second], [(0, 1, 2)])
    assert triplet_centre(counts.odd[0], counts.size).centre == 1


def test_a_smaller_step_back_in_every_element_misleads_counts_as_it_does_distances():
    start, first, far = family(np.random.default_rng(0), 3e-3, -0.7, BF16, chain=True, shape=(400, 250))
    second = (first.astype(float) + 0.4 * (far.astype(float) - first.astype(float))).astype(BF16)
    pairs = ((start, first), (start, second), (first, second))
    counts = odd_counts([start, first, second], [(0, 1, 2)])
    assert distance_centre(*(squared_distance(a, b) for a, b in pairs)).centre == 2
    assert triplet_centre(counts.odd[0], counts.size).centre == 2


def test_three_children_of_an_absent_parent_have_no_centre():
    rng = np.random.default_rng(0)
    base = 0.02 * rng.normal(size=(400, 250))
    children = [(base + 1e-4 * rng.normal(size=base.shape)).astype(BF16) for _ in range(3)]
    counts = odd_counts(children, [(0, 1, 2)])
    found = triplet_centre(counts.odd[0], counts.size)
    assert found.centre is None
    assert found.ratio > 0.95


def test_the_standard_error_is_that_of_the_blocks_or_of_the_elements():
    size = np.full(10, 100)
    same = triplet_centre(np.tile([1, 9, 30], (10, 1)), size)
    assert (same.centre, same.smallest, same.counts) == (0, 0, (10, 90, 300))
    assert same.z == pytest.approx(80.0 / math.sqrt(100.0))
    one_block = np.zeros((10, 3), dtype=int)
    one_block[0] = [10, 90, 0]
    one_block[:, 2] = 30
    lumped = triplet_centre(one_block, 2 * size)
    assert lumped.z == pytest.approx(80.0 / math.sqrt(10 / 9 * (72.0**2 + 9 * 8.0**2)))
    assert lumped.centre is None


@given(st.integers(0, 10_000))
def test_the_order_of_models_and_of_blocks_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    odd, size = rng.integers(0, 30, size=(12, 3)), rng.integers(90, 200, size=12)
    one, order, blocks = triplet_centre(odd, size), rng.permutation(3), rng.permutation(12)
    moved = triplet_centre(odd[blocks][:, order], size[blocks])
    assert moved.z == pytest.approx(one.z)
    assert moved.ratio == one.ratio
    assert moved.centre == (None if one.centre is None else order.tolist().index(one.centre))


def test_few_blocks_and_equal_counts_name_no_centre():
    assert triplet_centre(np.tile([0, 50, 60], (7, 1)), np.full(7, 200)).centre is None
    nothing = triplet_centre(np.zeros((9, 3), dtype=int), np.full(9, 200))
    assert (nothing.centre, nothing.z, nothing.ratio, nothing.smallest) == (None, 0.0, 1.0, 0)


@given(st.integers(0, 10_000))
def test_the_middle_of_orthogonal_steps_by_distance(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.uniform(0.1, 5.0, size=2)
    found = distance_centre(first, first + second, second)
    assert found.centre == 1
    np.testing.assert_allclose(found.pendant, [first, 0.0, second], atol=1e-12)


@pytest.mark.parametrize(
    ("arrays", "triple", "message"),
    [
        ([np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 3))], (0, 1, 2), "one shape"),
        ([np.zeros(2), np.zeros(2), np.zeros(2, dtype=np.float16)], (0, 1, 2), "one dtype"),
        ([np.zeros(2), np.zeros(2), np.array([0.0, math.nan])], (0, 1, 2), "NaN"),
        ([np.zeros((0, 2))] * 3, (0, 1, 2), "elements"),
        ([np.zeros(2)] * 3, (0, 1, 1), "three different"),
        ([np.zeros(2)] * 3, (0, 1, 3), "three different"),
    ],
)
def test_refuses_arrays(arrays, triple, message):
    with pytest.raises(ValueError, match=message):
        odd_counts(arrays, [triple])


def test_refuses_counts_and_distances_that_cannot_be():
    with pytest.raises(ValueError, match="more odd elements"):
        triplet_centre([[5, 5, 5]], [14])
    with pytest.raises(ValueError, match=r"\(b, 3\)"):
        triplet_centre([[5, 5]], [14])
    with pytest.raises(ValueError, match="pairs"):
        pair_equal_blocks([np.zeros(2)], [(0, 1)])
    with pytest.raises(ValueError, match="not negative"):
        distance_centre(1.0, -1.0, 1.0)
