import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.axes import Axis
from stats.residual import column_test, gain_test
from stats.units import UnitFeatures, unit_processes, unit_scores, unit_tests

LN10 = math.log(10)


def _gains(seed, d=64, k=3):
    return 1 + 0.1 * np.random.default_rng(seed).normal(size=(k, d))


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-3, 3))
def test_gains_ignore_affine_changes(seed, scale, shift):
    a, b = _gains(seed), _gains(seed) + 0.02 * _gains(seed + 1)
    assert gain_test(a, b * scale + shift).log_evalue == pytest.approx(gain_test(a, b).log_evalue, rel=1e-6, abs=1e-6)


@given(st.integers(0, 1000))
def test_relabelling_both_alike_changes_only_the_order_of_reveals(seed):
    """Inside one window a common relabelling is another reveal order of the same evidence: both must be strong."""
    order = np.random.default_rng(seed).permutation(64)
    a, b = _gains(seed), _gains(seed) + 0.01 * _gains(seed + 1)
    one, two = gain_test(a, b), gain_test(a[:, order], b[:, order])
    assert one.log_evalue > 20 * LN10
    assert two.log_evalue > 20 * LN10


def test_gain_power_by_noise():
    rng = np.random.default_rng(0)
    a = 0.4 + 0.04 * rng.normal(size=(1, 4096))
    found = [gain_test(a, a + noise * rng.normal(size=a.shape)).log_evalue / LN10 for noise in (0.0, 0.004, 0.02, 0.08)]
    assert found[0] > 5000
    assert 2000 < found[1] < found[0]
    assert 500 < found[2] < found[1]
    assert 40 < found[3] < found[2]
    independent = gain_test(a, 0.4 + 0.04 * rng.normal(size=a.shape))
    assert independent.log_evalue <= 0.5


def test_constant_gains_are_untestable():
    with pytest.raises(ValueError, match="untestable"):
        gain_test(np.ones((2, 64)), _gains(0, k=2))


def test_one_constant_row_does_not_hide_the_others():
    a = np.vstack([np.ones(64), _gains(0)])
    assert gain_test(a, a).log_evalue > 50 * LN10


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_columns_ignore_scale(seed, scale):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 16, 32))
    assert column_test(a, b * scale).log_evalue == pytest.approx(column_test(a, b).log_evalue, abs=1e-6)


def test_columns_find_a_faint_likeness():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 64, 4096))
    result = column_test(a, 0.05 * a + math.sqrt(1 - 0.05**2) * noise)
    assert result.log_evalue > 60 * LN10
    assert result.statistic == pytest.approx(0.05, abs=0.01)


def test_columns_shrug_at_an_outlier_token():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 64, 256))
    a[7] *= 1000
    b = 0.5 * a + noise
    b[7] = 1000 * noise[7]
    assert column_test(a, b).log_evalue > 40 * LN10


@pytest.mark.parametrize("test", [gain_test, column_test])
def test_token_axis_cannot_be_permuted(test):
    with pytest.raises(ValueError, match="token identity"):
        test(np.random.default_rng(0).normal(size=(8, 32)), np.zeros((8, 32)), axis=Axis.TOKEN)


def test_fixed_position_models_are_refused():
    with pytest.raises(ValueError, match="position table"):
        column_test(np.zeros((8, 32)), np.zeros((8, 32)), axis=Axis.RESIDUAL_FIXED)


@pytest.mark.parametrize("bad", [np.full((8, 32), np.nan), np.zeros((8, 31)), np.zeros((2, 32))])
def test_columns_refuse_bad_arrays(bad):
    with pytest.raises(ValueError, match=r"NaN|shape|at least"):
        column_test(np.zeros((8, 32)) if bad.shape[0] == 8 else np.zeros((2, 32)), bad)


@pytest.mark.parametrize("test", [gain_test, column_test])
@pytest.mark.parametrize("seed", range(4))
def test_mean_over_all_labellings_of_either_model_is_at_most_one(test, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_t(2, size=(2, 6, 5))
    b[:, 0] *= 20
    orders = [list(p) for p in itertools.permutations(range(5))]
    for means in ([test(a, b[:, p]) for p in orders], [test(a[:, p], b) for p in orders]):
        assert math.fsum(math.exp(r.log_evalue) for r in means) / len(means) <= 1.0 + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_mean_over_all_labellings_of_hidden_units_is_at_most_one(seed):
    rng = np.random.default_rng(seed)
    gate, up, other = rng.standard_t(2, size=(3, 8, 5))
    orders = [list(p) for p in itertools.permutations(range(5))]
    for flip in (False, True):
        values = []
        for p in orders:
            x, y = (gate[:, p], up[:, p]) if flip else (gate, up)
            z, w = (other, gate) if flip else (other[:, p], gate[:, p])
            process, count = unit_tests([UnitFeatures(x, z), UnitFeatures(y, w, signed=False)], label_group="h")
            values.append((math.exp(process.log_evalue), math.exp(count.log_evalue)))
        assert math.fsum(v[0] for v in values) / len(values) <= 1.0 + 1e-9
        assert math.fsum(v[1] for v in values) / len(values) <= 1.0 + 1e-9


def _parts(seed, noise, *, signs=None, d=256, s=16):
    rng = np.random.default_rng(seed)
    gate, up = rng.normal(size=(2, d, s))
    flips = rng.choice([-1.0, 1.0], size=s) if signs is None else signs
    return [
        UnitFeatures(gate, gate + noise * rng.normal(size=(d, s))),
        UnitFeatures(up, (up + noise * rng.normal(size=(d, s))) * flips, signed=False),
    ]


def test_units_survive_sign_flips_and_scales():
    process, count = unit_tests(_parts(0, 1.0), label_group="h")
    assert process.log_evalue > 9 * LN10
    assert count.statistic == 16


@given(st.integers(0, 500), st.lists(st.floats(0.01, 100), min_size=16, max_size=16))
def test_unit_scales_cancel_in_cosines_of_one_feature_set(seed, scales):
    """Cosines are free of a unit's own scale once features are balanced by hand."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, 16))
    x -= x.mean(axis=1, keepdims=True)
    from stats.features import unit_cosines

    one, two = unit_cosines(x, x), unit_cosines(x, x * np.array(scales))
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_unit_scores_refuse_nothing_and_wrong_axes():
    with pytest.raises(ValueError, match="nothing was read"):
        unit_scores([])
    with pytest.raises(ValueError, match="no label test"):
        unit_scores(_parts(0, 1.0), axis=Axis.SHARED_EXPERT)


def test_dead_units_score_zero():
    parts = _parts(0, 0.5)
    parts[0].a[:, 3] = parts[0].a.mean(axis=1)
    scores, n = unit_scores(parts)
    assert np.isfinite(scores).all()
    assert n == 256


def test_many_pairs_at_once_give_what_each_gives_alone():
    """Arrays that stand in several pairs, pairs of other sizes and other features between them."""
    cells = [_parts(i % 3, 1.0, d=d, s=s) for i, (d, s) in enumerate([(64, 16), (64, 16), (64, 9), (32, 16), (64, 16)])]
    cells += [[UnitFeatures(x.a, y.b) for x, y in zip(cells[0], cells[1], strict=True)], cells[4][:1]]
    found = unit_processes(cells, label_group="h", scope="layer 1")
    for parts, (result, scores) in zip(cells, found, strict=True):
        assert result == unit_tests(parts, label_group="h", scope="layer 1")[0]
        assert np.array_equal(scores, unit_scores(parts)[0])
