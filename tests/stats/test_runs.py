import itertools
import math
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import naive
from stats.axes import Axis
from stats.eprocess import cosine_grid, either_eprocess, square_evalues
from stats.runs import run_groups, run_test
from stats.units import UnitFeatures


def _grid(a, b, *, run=4, signed=False):
    """Two lists of layers, (k, s) each, as a grid with one way of looking."""
    return [[[[UnitFeatures(x, y, signed=signed)]] for y in b] for x in a]


def _test(a, b, run, **options):
    return run_test(_grid(a, b), run=run, axis=Axis.VALUE, label_group="values", method="value-units", **options)


def test_square_evalues_are_those_of_each_window_alone():
    windows = np.random.default_rng(0).standard_t(2, size=(5, 6, 6))
    found = square_evalues(windows, grid=cosine_grid(30.0))
    alone = [either_eprocess([w], grid=cosine_grid(30.0)).log_evalue for w in windows]
    np.testing.assert_allclose(found, alone, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="square"):
        square_evalues(windows[:, :5], grid=cosine_grid(30.0))


@contextmanager
def apart():
    """Every run a group of its own, also runs of three units, which no copy could be told from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stats.runs.run_groups", lambda layers, run: tuple(range(sum(v.shape[1] // run for v in layers))))
        yield


@given(st.integers(0, 1000))
def test_equals_its_oracle(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 2, 5, 6))
    a[0] += 0.5 * b[0]
    with apart():
        found = _test(list(a), list(b), run=3)
    cells = {}
    for i, j in itertools.product(range(2), repeat=2):
        scores = naive.balanced_cosines(a[i].tolist(), b[j].tolist())
        for r, s in itertools.product(range(2), repeat=2):
            window = np.array([[abs(scores[3 * r + x][3 * s + y]) for y in range(3)] for x in range(3)])
            cells[i, j, r, s] = math.exp(either_eprocess([window], grid=cosine_grid(5.0)).log_evalue)
    sides = []
    for flip in (False, True):
        product = 1.0
        for j, s in itertools.product(range(2), repeat=2):
            mean = sum(
                0.25 * cells[(j, i, s, r) if flip else (i, j, r, s)] for i, r in itertools.product(range(2), repeat=2)
            )
            product *= 0.9 + 0.1 * mean
        sides.append(product)
    assert found.log_evalue == pytest.approx(math.log(0.9 + 0.1 / 2.0 * min(sides)), rel=1e-6)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("kind", ["random", "one hub", "equal units", "the other one"])
@pytest.mark.parametrize(("layers", "runs"), [(1, 3), (2, 1)])
def test_mean_over_all_labellings_inside_runs_is_at_most_one(layers, runs, kind, side):
    """All labellings of three runs of three units in one layer, or of one run in each of two, whatever the other side is.

    No run is joined with another: what joining may cost is not spent, and the mean is at most 0.9 + 0.1 / 2.
    """
    rng = np.random.default_rng(1)
    n = 3 * runs
    honest, drawn, noise = rng.normal(size=(3, layers, 4, n))
    other = {
        "random": drawn,
        "one hub": np.where(np.arange(n) == 1, 50.0, 0.01) * noise,
        "equal units": np.ones((layers, 4, n)) * np.arange(4)[:, None],
        "the other one": honest,
    }[kind]
    total = []
    for orders in itertools.product(itertools.permutations(range(3)), repeat=layers * runs):
        shifted = np.array(orders).reshape(layers, runs, 3) + 3 * np.arange(runs)[:, None]
        moved = [m[:, order] for m, order in zip(honest, shifted.reshape(layers, n), strict=True)]
        pair = (moved, other[:1]) if side == "a" else (other[:1], moved)
        with apart():
            total.append(math.exp(_test(*pair, run=3).log_evalue))
    assert math.fsum(total) / len(total) <= 0.95 + 1e-9


def test_runs_that_share_labels_are_one_group():
    """Heads stored several times, also of other signs and under noise, tied layers, and runs too poor to be told apart."""
    rng = np.random.default_rng(7)
    head, other = rng.normal(size=(2, 64, 8))
    assert run_groups([np.concatenate([head, other, -head], axis=1), other], run=8) == (0, 1, 0, 1)
    noisy = [head + 0.3 * rng.normal(size=(64, 8)) for _ in range(3)]
    assert run_groups([np.concatenate(noisy, axis=1)], run=8) == (0, 0, 0)
    poor = np.where(np.arange(8) < 3, head, 0.0)
    assert run_groups([poor, poor], run=8) == (0, 0)
    strangers = [rng.normal(size=(64, 64)) for _ in range(2)]
    assert len(set(run_groups(strangers, run=8))) == 16


def test_a_head_stored_eight_times_has_mean_at_most_one():
    """All labellings of six units that eight copies share, the partner being the model itself."""
    head = np.random.default_rng(8).normal(size=(12, 6))
    total = []
    for p in itertools.permutations(range(6)):
        pair = [np.tile(head, 4)], [np.tile(head[:, list(p)], 4)]
        total.append(math.exp(_test(*pair, run=6).log_evalue))
    assert math.fsum(total) / len(total) <= 1.0 + 1e-9


def test_signs_scales_and_another_order_of_runs_are_seen_through():
    rng = np.random.default_rng(2)
    layers = [rng.normal(size=(64, 32)) for _ in range(2)]
    moved = []
    for values in layers:
        order = np.concatenate([np.arange(8 * i, 8 * i + 8) for i in rng.permutation(4)])
        moved.append(values[:, order] * rng.choice([-1.0, 1.0], 32) * np.exp(rng.normal(size=32)))
    plain, rewritten = _test(layers, layers, run=8), _test(layers, moved, run=8)
    assert plain.log_pvalue < -40
    assert rewritten.log_pvalue < -20
    exchanged = _test(layers, layers[::-1], run=8, same_depth=False)
    assert exchanged.log_pvalue < -20


def test_silence_costs_next_to_nothing():
    rng = np.random.default_rng(3)
    found = _test([rng.normal(size=(64, 64)) for _ in range(2)], [rng.normal(size=(64, 64)) for _ in range(2)], run=8)
    assert math.log(0.9) <= found.log_evalue < math.log(2.0)


def test_refusals():
    x = np.ones((4, 6))
    with pytest.raises(ValueError, match="no label test"):
        run_test(_grid([x], [x]), run=3, axis=Axis.ROTARY, label_group="g", method="m")
    with pytest.raises(ValueError, match="empty"):
        run_test([], run=3, axis=Axis.VALUE, label_group="g", method="m")
    with pytest.raises(ValueError, match="whole number"):
        _test([x], [x], run=4)
