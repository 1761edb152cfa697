import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
from oracles import naive
from stats.axes import Axis
from stats.split import align, split_test
from stats.units import UnitFeatures

LN10 = math.log(10)
EVEN, ODD = np.arange(0, 64, 2), np.arange(1, 64, 2)


def _pairs(first, second):
    """Gate signed, up not."""
    return [UnitFeatures(a, b, signed=k == 0) for k, (a, b) in enumerate(zip(first, second, strict=True))]


def _pruned(seed, cosine=0.7, d=64, wide=40, narrow=24):
    """A model, and a narrower one: units pruned, shuffled, up rows flipped, every value changed."""
    rng = np.random.default_rng(seed)
    first, noise = rng.normal(size=(2, 2, d, wide))
    second = (cosine * first + math.sqrt(1 - cosine**2) * noise)[..., rng.permutation(wide)[:narrow]]
    second[1] *= rng.choice([-1.0, 1.0], size=narrow)
    return rng, first, second


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 7))
def test_matches_equal_the_oracle(seed, s_a, s_b):
    """Small integers, so that ties and dead rows are common."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-1, 2, size=(3, s_a)).astype(float), rng.integers(-1, 2, size=(3, s_b)).astype(float)
    levels = [m / np.sqrt(np.mean(m * m, axis=1, keepdims=True).clip(1e-12)) for m in (a, b)]
    scores = [
        [abs(naive.cosine(x, y)) if any(x) and any(y) else -1.0 for y in levels[1].T.tolist()]
        for x in levels[0].T.tolist()
    ]
    scores = [[round(v, 12) for v in row] for row in scores]
    clear = [(i, j) for i, j in naive.mutual_best(scores) if scores[i][j] >= 0.0]
    found = align([UnitFeatures(a, b, signed=False)], max_pairs=99)
    inside = set(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert set(clear) <= inside
    assert all(scores[i][j] >= max(*scores[i], *(r[j] for r in scores)) for i, j in inside)
    assert len(set(found.a.tolist())) == len(set(found.b.tolist())) == len(inside)


def test_every_kept_unit_is_found_with_its_sign():
    _, first, second = _pruned(0, cosine=0.95)
    found = align(_pairs(first, second), max_pairs=99)
    agree = [math.copysign(1.0, first[1][:, i] @ second[1][:, j]) for i, j in zip(found.a, found.b, strict=True)]
    assert found.a.size == 24
    assert np.array_equal(found.signs[1], agree)
    assert np.array_equal(found.signs[0], np.ones(24))


def test_the_largest_margins_are_kept():
    _, first, second = _pruned(1)
    many, few = (align(_pairs(first, second), max_pairs=k) for k in (99, 6))
    assert many.a.size > 6
    assert np.array_equal(few.a, many.a[:6])
    assert few.signs.shape == (2, 6)


def test_dead_and_duplicated_rows_abstain():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(32, 12))
    b = a.copy()
    a[:, 3] = 0.0
    b[:, [3, 4]] = 0.0
    b[:, 6] = b[:, 5]
    found = align([UnitFeatures(a, b)], max_pairs=99)
    assert not {3, 4, 5, 6} & set(found.a.tolist())
    assert not {3, 4, 5, 6} & set(found.b.tolist())
    assert np.array_equal(found.a, found.b)
    assert found.a.size == 8


def test_all_rows_dead_is_untestable():
    with pytest.raises(ValueError, match="only 0 hidden units"):
        split_test([UnitFeatures(np.zeros((64, 9)), np.zeros((64, 5)))], fit=EVEN, held=ODD)


@given(st.integers(0, 1000), st.booleans())
def test_order_signs_and_sizes_of_units_are_free(seed, prune):
    rng, first, second = _pruned(seed, narrow=24 if prune else 40)
    moved = second[..., rng.permutation(second.shape[2])] * 3.0
    moved[1] *= rng.choice([-1.0, 1.0], size=second.shape[2])
    one = split_test(_pairs(first, second), fit=EVEN, held=ODD)
    two = split_test(_pairs(first[..., ::-1], moved), fit=EVEN, held=ODD)
    assert two.log_evalue == pytest.approx(one.log_evalue, abs=1e-6)
    assert two.statistic == pytest.approx(one.statistic, abs=1e-9)


@given(st.integers(0, 1000))
def test_the_two_models_may_change_places(seed):
    _, first, second = _pruned(seed)
    one = split_test(_pairs(first, second), fit=EVEN, held=ODD)
    two = split_test(_pairs(second, first), fit=EVEN, held=ODD)
    assert two.log_evalue == pytest.approx(one.log_evalue, abs=1e-6)


@given(st.integers(0, 1000))
def test_held_dimensions_do_not_move_the_matching(seed):
    """What makes it exact: the same units, in the same order, with the same signs, whatever the held part says."""
    rng, first, second = _pruned(seed, cosine=0.3)
    other = second.copy()
    other[:, ODD] = rng.normal(size=other[:, ODD].shape)
    one, two = (
        align([UnitFeatures(p.a[EVEN], p.b[EVEN], signed=p.signed) for p in _pairs(first, b)], max_pairs=9)
        for b in (second, other)
    )
    assert np.array_equal(one.a, two.a)
    assert np.array_equal(one.b, two.b)
    assert np.array_equal(one.signs, two.signs)


@pytest.mark.parametrize(
    ("kind", "n"),
    [*itertools.product(["unrelated", "nasty", "pruned", "one model twice"], [4, 5]), ("one model twice", 6)],
)
def test_mean_over_all_labellings_of_either_model_is_at_most_one(kind, n):
    """All orders of the held dimensions, in one model and in the other."""
    _, first, second = _pruned(n, cosine=0.0 if kind == "unrelated" else 0.8, d=16 + n, wide=9, narrow=7)
    if kind == "nasty":
        first, second = first**3, second**3
        second[:, 17] *= 30.0
        second[..., 2] = 0.0
        first[..., 4] = first[..., 5]
    second = first if kind == "one model twice" else second
    fit, held = np.arange(16), np.arange(16, 16 + n)
    for side in range(2):
        values = []
        for p in itertools.permutations(range(n)):
            models = [first.copy(), second.copy()]
            models[side][:, held] = models[side][:, held[list(p)]]
            values.append(math.exp(split_test(_pairs(*models), fit=fit, held=held).log_evalue))
        assert math.fsum(values) / len(values) <= 1.0 + 1e-9


def test_power_by_likeness():
    """600 units pruned to 300 and shuffled, 256 dimensions; the floor of 128 labels is 10^-215.6."""
    found = {}
    for cosine in (0.0, 0.3, 0.5):
        _, first, second = _pruned(0, cosine=cosine, d=256, wide=600, narrow=300)
        found[cosine] = (
            split_test(_pairs(first, second), fit=np.arange(128), held=np.arange(128, 256)).log_evalue / LN10
        )
    assert found[0.0] < 0.5
    assert found[0.3] > 100
    assert found[0.5] > 210


def _block(weights, layer, units=slice(None)):
    return [
        weights[f"model.layers.{layer}.mlp.{side}_proj.weight"].astype(np.float64)[units].T for side in ("gate", "up")
    ]


def _halves():
    order = np.random.default_rng(3).permutation(64)
    return {"fit": order[:32], "held": order[32:]}


@pytest.mark.parametrize(("rows", "low"), [(16, 20), (64, 34), (160, 34)])
@pytest.mark.parametrize("child", ["llama-a", "llama-a-ft1", "llama-a-cpt"])
def test_power_floor_on_pruned_and_permuted_descendants(zoo, child, rows, low):
    """160 units pruned to 100, shuffled, rescaled and flipped; the floor of 32 labels is 10^-35.4."""
    rng = np.random.default_rng(0)
    parent = derive.load(zoo / "llama-a")
    disguised = derive.rescale_mlp(derive.permute_hidden(derive.prune_width(derive.load(zoo / child), 100), rng), rng)
    for layer in range(4):
        parts = _pairs(_block(parent, layer, slice(0, rows)), _block(disguised, layer))
        assert split_test(parts, **_halves()).log_evalue > low * LN10


@pytest.mark.parametrize("stranger", ["llama-b", "llama-c", "llama-a-student"])
def test_strangers_stay_below_one(zoo, stranger):
    parent, other = derive.load(zoo / "llama-a"), derive.load(zoo / stranger)
    for layer in range(4):
        parts = _pairs(_block(parent, layer), _block(other, layer))
        assert split_test(parts, **_halves()).log_evalue < 0.5 * LN10


def test_rotated_rows_are_not_found(zoo):
    weights = derive.load(zoo / "llama-a")
    turned = derive.rotate_residual(weights, np.random.default_rng(0))
    parts = _pairs(_block(weights, 1), _block(turned, 1))
    assert split_test(parts, **_halves()).log_evalue < LN10


def test_a_shared_basis_without_a_shared_block_is_found():
    """Two blocks of their own, each grown in the span of one embedding: rejected, so it does not localise."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(12, 64))
    blocks = [np.stack([(rng.normal(size=(200, 12)) @ embedding).T for _ in range(2)]) for _ in range(2)]
    assert split_test(_pairs(*blocks), fit=EVEN, held=ODD).log_evalue > 20 * LN10
    alone = [np.stack([(rng.normal(size=(200, 12)) @ rng.normal(size=(12, 64))).T for _ in range(2)]) for _ in range(2)]
    assert split_test(_pairs(*alone), fit=EVEN, held=ODD).log_evalue < 0.5 * LN10


def test_the_result_carries_the_residual_labels():
    _, first, second = _pruned(0)
    result = split_test(_pairs(first, second), fit=EVEN, held=ODD, window=16, scope="layers 1 and 2")
    assert (result.method, result.label_group, result.scope) == ("split", "residual", "layers 1 and 2")
    assert result.n == 32
    assert result.log_floor == pytest.approx(-2 * math.lgamma(17))
    assert result.log_pvalue < -10 * LN10


def test_refuses_what_it_cannot_test():
    _, first, second = _pruned(0)
    parts = _pairs(first, second)
    with pytest.raises(ValueError, match="position table"):
        split_test(parts, fit=EVEN, held=ODD, axis=Axis.RESIDUAL_FIXED)
    with pytest.raises(ValueError, match="nothing was read"):
        split_test([], fit=EVEN, held=ODD)
    with pytest.raises(ValueError, match="widths differ"):
        split_test(_pairs(first, second[:, :32]), fit=EVEN, held=ODD)
    with pytest.raises(ValueError, match="one shape"):
        split_test([parts[0], UnitFeatures(first[1], second[1][:, :9])], fit=EVEN, held=ODD)
    with pytest.raises(ValueError, match="NaN"):
        split_test(_pairs(first, second * np.nan), fit=EVEN, held=ODD)
    with pytest.raises(ValueError, match="only 3 hidden units match"):
        split_test(_pairs(first[..., :3], first[..., :3]), fit=EVEN, held=ODD)


@pytest.mark.parametrize("held", [EVEN, [1, 1], [1, 64], [-1, 1], [1], [[1, 3]], [1, 3, 4]])
def test_refuses_sets_that_overlap_or_leave_the_stream(held):
    _, first, second = _pruned(0)
    with pytest.raises(ValueError, match="fit and held"):
        split_test(_pairs(first, second), fit=EVEN, held=held)
