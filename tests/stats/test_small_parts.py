import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import naive
from stats.axes import Axis, is_exchangeable, require_exchangeable
from stats.combine import combine_evalues, ebh, family_level, log_floor_of
from stats.distance import PairSums, pair_sums
from stats.eprocess import cosine_grid
from stats.features import balanced, is_placeholder, standardised, unit_cosines, windows_of
from stats.ordering import is_sorted_pair
from stats.power import SIMILARITIES, PlantedGroup, PlantedPart, detectable_cosine
from stats.result import Score, Skipped, TestResult
from stats.tails import log_choose, log_mean_exp, log_tau_tail


def _result(log_e, group="g", floor=-100.0, p=0.0):
    return TestResult(
        method="m",
        null="n",
        statistic=0.0,
        n=4,
        log_pvalue=p,
        log_floor=floor,
        log_evalue=log_e,
        exactness="exact",
        label_group=group,
        scope="s",
    )


# --- results -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("p", [0.1, math.inf, -math.inf, math.nan])
def test_a_p_value_is_finite_and_at_most_one(p):
    with pytest.raises(ValueError, match="log_pvalue"):
        _result(0.0, p=p)


def test_an_exact_p_value_cannot_undercut_its_floor():
    with pytest.raises(ValueError, match="floor"):
        _result(0.0, floor=-5.0, p=-6.0)


def test_an_e_value_is_never_nan():
    with pytest.raises(ValueError, match="NaN"):
        _result(math.nan)


def test_scores_and_skips_carry_no_p_value():
    assert not hasattr(Score(method="cosine", value=0.5, n=3), "log_pvalue")
    assert Skipped(tensor="t", reason="r").reason == "r"


# --- axes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", list(Axis))
def test_every_axis_is_either_allowed_or_refused_with_a_reason(axis):
    if is_exchangeable(axis):
        assert require_exchangeable(axis) is None
    else:
        with pytest.raises(ValueError, match=r": \w+"):
            require_exchangeable(axis)


def test_exchangeable_axes_are_the_known_five():
    assert {a for a in Axis if is_exchangeable(a)} == {Axis.HIDDEN, Axis.RESIDUAL, Axis.VALUE, Axis.HEAD, Axis.EXPERT}


# --- combination -------------------------------------------------------------------------------------------------
def test_groups_multiply_and_members_average():
    results = [
        _result(math.log(4.0), "a"),
        _result(math.log(2.0), "a"),
        _result(math.log(10.0), "b"),
        _result(None, "c"),
    ]
    assert combine_evalues(results) == pytest.approx(math.log(3.0 * 10.0))
    assert combine_evalues([]) == 0.0


def test_floor_is_the_sum_of_the_deepest():
    assert log_floor_of([_result(0.0, "a", -3.0), _result(0.0, "a", -7.0), _result(0.0, "b", -2.0)]) == -9.0


def test_order_of_results_never_matters():
    results = [_result(x, g) for x, g in zip((0.3, 5.0, -2.0, 1.0), "abab", strict=True)]
    assert len({combine_evalues(list(p)) for p in itertools.permutations(results)}) == 1


def test_a_vanished_e_value_is_averaged_not_fatal():
    assert combine_evalues([_result(-math.inf, "a"), _result(math.log(6.0), "a")]) == pytest.approx(math.log(3.0))


def test_ebh_by_hand_and_at_the_edges():
    e = np.log(np.array([50.0, 1.0, 30.0, 0.5]))
    assert ebh(e, 0.1).tolist() == [True, False, True, False]
    assert not ebh(np.log(np.ones(3)), 0.1).any()
    assert ebh(np.zeros(0), 0.1).size == 0
    with pytest.raises(ValueError, match="alpha"):
        ebh(e, 0.0)


def test_ebh_controls_false_discoveries_under_dependence():
    rng = np.random.default_rng(0)
    false = []
    for _ in range(2000):
        common = rng.exponential()
        e = np.log(np.maximum(np.r_[np.full(15, common), 60.0 * np.ones(5)], 1e-9))
        rejected = ebh(e, 0.1)
        false.append(rejected[:15].sum() / max(1, rejected.sum()))
    assert np.mean(false) <= 0.1


def test_family_level():
    assert family_level(1e-6, 4) == 2.5e-7
    with pytest.raises(ValueError, match="family"):
        family_level(1e-6, -1)
    assert family_level(1e-6, 0) == 1e-6


# --- tails -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_tau_law_equals_enumeration(n):
    x = np.arange(n, dtype=float)
    counts = [naive.inversions(p) for p in itertools.permutations(range(n))]
    top = n * (n - 1) // 2
    for p in itertools.permutations(range(n)):
        k = naive.inversions(p)
        extreme = min(k, top - k)
        exact = sum(min(c, top - c) <= extreme for c in counts) / len(counts)
        assert math.exp(log_tau_tail(x, np.array(p, float))) >= exact - 1e-12
        if 2 * extreme < top - 1:
            assert math.exp(log_tau_tail(x, np.array(p, float))) == pytest.approx(exact)


def test_tau_bound_is_valid_for_ties_and_long_axes():
    rng = np.random.default_rng(0)
    long = [log_tau_tail(np.arange(200.0), rng.normal(size=200)) for _ in range(300)]
    assert sum(p < math.log(0.01) for p in long) <= 6
    assert log_tau_tail(np.arange(10.0), np.ones(10)) == 0.0
    assert log_tau_tail(np.arange(2.0), np.arange(2.0)) == 0.0


def test_log_mean_exp_is_stable_and_handles_nothing():
    assert log_mean_exp(np.array([1000.0, 1000.0])) == pytest.approx(1000.0)
    assert log_mean_exp(np.array([-math.inf, -math.inf])) == -math.inf
    assert log_choose(3, 5) == -math.inf


# --- sorted units ------------------------------------------------------------------------------------------------
def test_sorted_in_both_is_skipped_in_one_is_not():
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.random(16)), np.sort(rng.random(16))[::-1]
    assert is_sorted_pair(a, b)
    assert not is_sorted_pair(a, rng.permutation(b))
    assert not is_sorted_pair(np.arange(4.0), np.arange(4.0))


def test_random_orders_are_hardly_ever_called_sorted():
    rng = np.random.default_rng(1)
    ramp = np.arange(16.0)
    assert sum(is_sorted_pair(ramp, rng.permutation(ramp)) for _ in range(3000)) <= 3


# --- features and distances --------------------------------------------------------------------------------------
@given(st.integers(0, 1000))
def test_cosines_equal_the_oracle(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(7, 4)), rng.normal(size=(7, 5))
    a[:, 1] = 0
    expected = [[naive.cosine(a[:, i].tolist(), b[:, j].tolist()) for j in range(5)] for i in range(4)]
    np.testing.assert_allclose(unit_cosines(a, b), expected, atol=1e-12)


@given(st.integers(0, 1000), st.booleans())
def test_balancing_commutes_with_relabelling(seed, centre):
    rng = np.random.default_rng(seed)
    x, order = rng.normal(size=(6, 9)), rng.permutation(9)
    np.testing.assert_allclose(
        balanced(x[:, order], centre_units=centre), balanced(x, centre_units=centre)[:, order], atol=1e-12
    )


def test_placeholders_and_standardising():
    assert is_placeholder(np.ones(64))
    assert is_placeholder(np.repeat([1.0, 2.0], 32))
    assert not is_placeholder(np.arange(64.0))
    assert np.all(standardised(np.ones(5)) == 0.0)
    assert np.isfinite(standardised(np.r_[np.zeros(9), 5.0])).all()


def test_windows_tile_the_axis():
    assert [(w.start, w.stop) for w in windows_of(600, 256)] == [(0, 256), (256, 512), (512, 600)]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50), st.integers(0, 99))
def test_pair_sums_equal_the_oracle(values, seed):
    other = np.random.default_rng(seed).choice(values, size=len(values))
    found = pair_sums(np.array(values), other)
    expected = naive.pair_sums(values, other.tolist())
    assert (found.aa, found.bb, found.ab, found.dd) == pytest.approx(expected[:4], rel=1e-9, abs=1e-6)
    assert (found.equal, found.n) == (expected[4], len(values))


def test_pair_sums_add_over_slices_and_read_like_numbers():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10_000))
    whole, parts = pair_sums(a, b), pair_sums(a[:4096], b[:4096]) + pair_sums(a[4096:], b[4096:])
    assert whole.dd == pytest.approx(parts.dd, rel=1e-12)
    assert whole.cosine == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-12)
    assert pair_sums(a, a).relative_change == 0.0
    assert PairSums().cosine == 0.0
    assert PairSums().relative_change == math.inf
    assert PairSums().unchanged_share == 0.0
    with pytest.raises(ValueError, match="shape"):
        pair_sums(a, b[:5])


# --- power -------------------------------------------------------------------------------------------------------
def _group(d, s, rng, share=1):
    a, b = rng.normal(size=(2, d, s))
    return PlantedGroup((PlantedPart(unit_cosines(a, b), unit_cosines(b, b)),), cosine_grid(float(d)), share)


def test_detectable_similarity_falls_with_more_features_and_holds_when_planted():
    rng = np.random.default_rng(0)
    few = detectable_cosine([_group(32, 64, rng)], 6 * math.log(10), np.random.default_rng(0))
    many = detectable_cosine([_group(512, 64, rng)], 6 * math.log(10), np.random.default_rng(0))
    assert few is not None
    assert many is not None
    assert many < few
    from stats.eprocess import permutation_eprocess

    found = 0
    for _ in range(40):
        a, noise = rng.normal(size=(2, 512, 64))
        b = many * a + math.sqrt(1 - many**2) * noise
        found += permutation_eprocess([unit_cosines(a, b)], grid=cosine_grid(512.0)).log_evalue >= 6 * math.log(10)
    assert found >= 34


def test_nothing_detectable_when_the_labels_cannot_reach_the_level():
    rng = np.random.default_rng(0)
    assert detectable_cosine([_group(64, 4, rng)], 6 * math.log(10), rng) is None
    assert detectable_cosine([], 1.0, rng) is None
    assert tuple(sorted(SIMILARITIES)) == SIMILARITIES


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (64, 256, 256), (4096, 16, 16)])
def test_products_have_the_bits_of_the_compiled_loop(shape, monkeypatch):
    from stats.features import products

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=shape[:2]), rng.normal(size=(shape[0], shape[2]))
    plain = products(a, b)
    monkeypatch.setattr("stats.features._EINSUM_LIMIT", 0)
    assert np.array_equal(plain, products(a, b))
