import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
from oracles import naive
from stats.anchored import anchored_scores, anchored_test, anchored_tests
from stats.axes import Axis
from stats.units import UnitFeatures, unit_tests

LN10 = math.log(10)


def _pairs(first, second):
    """Gate signed, up not."""
    return [UnitFeatures(a, b, signed=k == 0) for k, (a, b) in enumerate(zip(first, second, strict=True))]


def _drawn(seed, n, d=32, cosine=0.9):
    rng = np.random.default_rng(seed)
    first, noise = rng.normal(size=(2, 2, d, n))
    return rng, first, cosine * first + math.sqrt(1 - cosine**2) * noise


def _nasty(seed, n, d=8):
    """Unrelated units with heavy tails, clusters, a twin and a dead one."""
    rng = np.random.default_rng(seed)
    made = rng.standard_t(1.5, size=(2, 2, d, n)) + 3.0 * rng.normal(size=(d, 2))[:, np.arange(n) % 2]
    made[0][:, :, 1] = made[0][:, :, 0]
    made[1][:, :, n - 1] = 0.0
    return made


@given(st.integers(0, 10_000), st.integers(4, 7), st.booleans())
def test_scores_equal_the_oracle(seed, n, nasty):
    first, second = _nasty(seed, n) if nasty else _drawn(seed, n, cosine=0.5)[1:]
    found, _ = anchored_scores(_pairs(first, second))
    kin = [naive.kinship([m.T.tolist() for m in side], [True, False]) for side in (first, second)]
    np.testing.assert_allclose(found, naive.anchored_scores(*kin), rtol=1e-6, atol=1e-6)


@given(st.integers(0, 1000), st.integers(4, 24))
def test_the_basis_of_the_rows_is_free(seed, n):
    """Each model in a basis of its own, signs of up rows and sizes of all rows changed: nothing moves."""
    rng, first, second = _drawn(seed, n)
    turn = derive.haar(32, rng)
    turned = np.stack([turn @ m for m in second]) * np.exp(rng.normal(size=(2, 1, n)))
    turned[1] *= rng.choice([-1.0, 1.0], size=n)
    shuffled = first[:, rng.permutation(32)] * rng.choice([-1.0, 1.0], size=32)[:, None]
    one = anchored_test(_pairs(first, second), label_group="h")
    two = anchored_test(_pairs(shuffled, turned), label_group="h")
    assert two.log_evalue == pytest.approx(one.log_evalue, abs=1e-6)
    assert two.statistic == pytest.approx(one.statistic, abs=1e-9)


@given(st.integers(0, 1000))
def test_the_two_models_may_change_places(seed):
    first, second = _drawn(seed, 12)[1:]
    one, two = (anchored_test(_pairs(*p), label_group="h") for p in ((first, second), (second, first)))
    assert two.log_evalue == pytest.approx(one.log_evalue, abs=1e-9)
    assert two.log_pvalue == pytest.approx(one.log_pvalue, abs=1e-9)


@given(st.integers(0, 1000))
def test_relabelling_both_alike_is_another_order_of_reveals(seed):
    rng, first, second = _drawn(seed, 16)
    order = rng.permutation(16)
    one, two = (
        anchored_test(_pairs(*p), label_group="h") for p in ((first, second), (first[..., order], second[..., order]))
    )
    assert min(one.log_evalue, two.log_evalue) > 8 * LN10


@given(st.integers(0, 1000))
def test_later_units_are_no_anchors(seed):
    """What step t may use does not move when the units after t are relabelled: columns move along, and that is all."""
    rng, first, second = _drawn(seed, 10, cosine=0.5)
    t = int(rng.integers(1, 9))
    order = np.concatenate([np.arange(t), t + rng.permutation(10 - t)])
    before, _ = anchored_scores(_pairs(first, second))
    after, _ = anchored_scores(_pairs(first, second[..., order]))
    np.testing.assert_allclose(after[t, t:], before[t, order[t:]], atol=1e-9)
    swapped, _ = anchored_scores(_pairs(first[..., order], second))
    np.testing.assert_allclose(swapped[t:, t], before[order[t:], t], atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "n"), [*itertools.product(["nasty", "alike", "one model twice"], [4, 5]), ("alike", 6)]
)
def test_mean_over_all_labellings_of_either_model_is_at_most_one(n, kind):
    """The promise itself, by enumeration. Alike units are the hard case: there the scores know most."""
    first, second = _nasty(n, n) if kind == "nasty" else _drawn(n, n, d=8)[1:]
    second = first if kind == "one model twice" else second
    orders = [list(p) for p in itertools.permutations(range(n))]
    for results in (
        [anchored_test(_pairs(first, second[..., p]), label_group="h") for p in orders],
        [anchored_test(_pairs(first[..., p], second), label_group="h") for p in orders],
    ):
        assert math.fsum(math.exp(r.log_evalue) for r in results) / len(orders) <= 1.0 + 1e-9


def test_models_of_different_width_are_compared():
    rng, first, _ = _drawn(0, 16)
    wider = np.stack([np.linalg.qr(rng.normal(size=(80, 32)))[0] @ m for m in first])
    assert anchored_test(_pairs(first, wider), label_group="h").log_evalue > 12 * LN10


def test_power_by_likeness():
    """Sixteen and sixty-four units of 512 dimensions: log10 e at cosines that a plain e-process cannot see in another basis."""
    floors = {(16, 0.9): 12, (16, 0.8): 3, (64, 0.5): 8, (64, 0.7): 40}
    for (n, cosine), low in floors.items():
        rng, first, second = _drawn(n, n, d=512, cosine=cosine)
        turn = derive.haar(512, rng)
        parts = _pairs(first, np.stack([turn @ m for m in second]))
        assert anchored_test(parts, label_group="h").log_evalue > low * LN10
        assert unit_tests(parts, label_group="h")[0].log_evalue < 1.0


def _block(weights, layer, units):
    rows = derive.fold_gains({k: v.astype(np.float64) for k, v in weights.items()})
    return [rows[f"model.layers.{layer}.mlp.{side}_proj.weight"][units].T for side in ("gate", "up")]


@pytest.mark.parametrize(("n", "low", "median"), [(16, 11, 12.5), (64, 88, 88), (160, 284, 284)])
@pytest.mark.parametrize("child", ["llama-a", "llama-a-ft1", "llama-a-cpt"])
def test_power_floor_on_rotated_descendants(zoo, child, n, low, median):
    """Rotated, gains folded, up rows scaled and flipped. The floor of n labels is 13.3, 89.1 and 284.7."""
    rng = np.random.default_rng(0)
    parent = derive.load(zoo / "llama-a")
    disguised = derive.rescale_mlp(derive.rotate_residual(derive.load(zoo / child), rng), rng)
    found = []
    for layer, start in itertools.product(range(4), (0, 60, 120) if n == 16 else (0,)):
        units = slice(start, start + n)
        parts = _pairs(_block(parent, layer, units), _block(disguised, layer, units))
        found.append(anchored_test(parts, label_group="h").log_evalue / LN10)
    assert min(found) > low
    assert np.median(found) > median


@pytest.mark.parametrize("stranger", ["llama-b", "llama-c", "llama-a-student"])
def test_strangers_stay_below_one(zoo, stranger):
    parent, other = derive.load(zoo / "llama-a"), derive.load(zoo / stranger)
    for layer in range(4):
        parts = _pairs(*(_block(w, layer, slice(0, 64)) for w in (parent, other)))
        result = anchored_test(parts, label_group="h")
        assert -0.31 * LN10 < result.log_evalue < 0.5 * LN10
        assert abs(result.statistic) < 0.1


def test_permuted_units_are_not_found(zoo):
    """The page says so: labels are what is tested."""
    weights = derive.load(zoo / "llama-a")
    moved = derive.permute_hidden(weights, np.random.default_rng(0))
    parts = _pairs(*(_block(w, 1, slice(0, 160)) for w in (weights, moved)))
    assert anchored_test(parts, label_group="h").log_evalue < LN10


def test_the_result_carries_its_labels():
    first, second = _drawn(0, 16)[1:]
    result = anchored_test(_pairs(first, second), label_group="hidden:3", scope="layer 3")
    assert (result.method, result.label_group, result.scope) == ("hidden-units-anchored", "hidden:3", "layer 3")
    assert result.n == 16
    assert result.log_floor == pytest.approx(-math.lgamma(17))
    assert result.log_floor <= result.log_pvalue < -12 * LN10
    assert 0.5 < result.statistic < 0.9


def test_refuses_what_it_cannot_test():
    first, second = _drawn(0, 8)[1:]
    with pytest.raises(ValueError, match="no label test"):
        anchored_test(_pairs(first, second), axis=Axis.SHARED_EXPERT, label_group="h")
    with pytest.raises(ValueError, match="nothing was read"):
        anchored_test([], label_group="h")
    with pytest.raises(ValueError, match="same units"):
        anchored_test(_pairs(first, second[..., :6]), label_group="h")
    with pytest.raises(ValueError, match="one shape"):
        anchored_test([UnitFeatures(first[0], second[0]), UnitFeatures(first[1, :9], second[1])], label_group="h")
    with pytest.raises(ValueError, match="at least"):
        anchored_test(_pairs(first[..., :3], second[..., :3]), label_group="h")
    with pytest.raises(ValueError, match="NaN"):
        anchored_test(_pairs(first * np.nan, second), label_group="h")


@pytest.mark.parametrize("constant", [np.zeros((8, 6)), np.ones((8, 6)), np.eye(8)[:, :6]])
def test_equal_inner_products_are_untestable(constant):
    with pytest.raises(ValueError, match="untestable"):
        anchored_test([UnitFeatures(constant, np.random.default_rng(0).normal(size=(8, 6)))], label_group="h")


def test_plain_numpy_and_the_compiled_loop_have_the_same_bits():
    from stats.anchored import _add_anchors
    from stats.kernels.anchor import anchored

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 24, 24))
    plain, compiled = rng.normal(size=(1, 24, 24)).repeat(2, axis=0)
    _add_anchors(a[None], b[None], plain[None])
    anchored(a, b, compiled)
    assert np.array_equal(plain, compiled)


def test_many_pairs_at_once_give_what_each_gives_alone():
    rng = np.random.default_rng(3)
    blocks = [rng.normal(size=(2, 20, n)) for n in (12, 12, 12, 9)]
    blocks[1][:] = blocks[0] + rng.normal(size=blocks[0].shape)
    blocks.append(np.ones((2, 20, 12)))  # units all alike: refused
    cells = [_pairs(x, y) for x in blocks for y in blocks]
    found = anchored_tests(cells, label_group="h")
    for parts, result in zip(cells, found, strict=True):
        try:
            alone = anchored_test(parts, label_group="h")
        except ValueError:
            alone = None
        assert result == alone
    assert 10 <= sum(r is not None for r in found) < len(found)
