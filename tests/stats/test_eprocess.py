import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import naive
from stats.eprocess import cosine_grid, each_eprocess, either_eprocess, gap_grid, permutation_eprocess


@given(st.integers(0, 10_000), st.integers(2, 9), st.sampled_from([cosine_grid(20.0), gap_grid()]))
def test_equals_its_oracle(seed, n, grid):
    rng = np.random.default_rng(seed)
    windows = [rng.standard_t(2, size=(n, n)), rng.normal(size=(2, 5))]
    found = permutation_eprocess(windows, grid=grid)
    expected = naive.eprocess([w.tolist() for w in windows], smallest=grid.smallest, squarings=grid.squarings)
    np.testing.assert_allclose(found.trajectory, expected, rtol=1e-9, atol=1e-7)
    assert found.log_evalue == found.trajectory[-1]


@pytest.mark.parametrize(("n", "scale"), [*itertools.product([2, 3, 5], [0.1, 30.0, 1e4]), (7, 1e4)])
def test_mean_over_all_labellings_is_one(n, scale):
    """The promise itself, by enumeration: heavy tails, huge scores and underflowing weights included."""
    scores = np.random.default_rng(n).standard_t(1.5, size=(n, n)) * scale
    total = [
        math.exp(permutation_eprocess([scores[:, list(p)]], grid=cosine_grid(8.0)).log_evalue)
        for p in itertools.permutations(range(n))
    ]
    assert math.fsum(total) / len(total) == pytest.approx(1.0, abs=1e-9)


def test_mean_is_one_for_wide_windows():
    scores = np.random.default_rng(0).normal(size=(3, 5)) * 5
    total = [
        math.exp(permutation_eprocess([scores[:, list(p)]], grid=cosine_grid(8.0)).log_evalue)
        for p in itertools.permutations(range(5))
    ]
    assert math.fsum(total) / len(total) == pytest.approx(1.0, abs=1e-9)


def test_mean_is_one_with_duplicate_rows():
    scores = np.random.default_rng(0).normal(size=(5, 5))
    scores[:, 3] = scores[:, 1]
    scores[2] = scores[0]
    total = [
        math.exp(permutation_eprocess([scores[:, list(p)]], grid=cosine_grid(50.0)).log_evalue)
        for p in itertools.permutations(range(5))
    ]
    assert math.fsum(total) / len(total) == pytest.approx(1.0, abs=1e-9)


def test_an_uninformative_group_costs_at_most_a_factor_two():
    worst = min(
        permutation_eprocess([np.random.default_rng(s).normal(size=(40, 40))], grid=cosine_grid(1000.0)).log_evalue
        for s in range(50)
    )
    assert worst >= math.log(0.5) - 1e-9


def test_adding_a_constant_to_a_row_changes_nothing():
    scores = np.random.default_rng(1).normal(size=(12, 12))
    shifted = scores + np.arange(12)[:, None]
    one, two = (permutation_eprocess([s], grid=cosine_grid(30.0)).log_evalue for s in (scores, shifted))
    assert one == pytest.approx(two, abs=1e-9)


def test_windows_continue_one_process():
    rng = np.random.default_rng(2)
    windows = [rng.normal(size=(6, 6)) for _ in range(3)]
    whole = permutation_eprocess(windows, grid=cosine_grid(10.0))
    assert whole.n == 18
    assert whole.log_floor == pytest.approx(-3 * math.lgamma(7))
    assert whole.trajectory.size == 18


def test_p_value_is_the_running_maximum_and_respects_the_floor():
    process = permutation_eprocess([np.eye(6) * 50], grid=cosine_grid(64.0))
    assert process.log_pvalue >= process.log_floor
    assert process.log_pvalue == pytest.approx(-process.trajectory.max())


def test_truth_names_the_columns():
    scores = np.eye(5)[[2, 0]] * 9
    right = permutation_eprocess([scores], grid=cosine_grid(64.0), truth=[2, 0]).log_evalue
    wrong = permutation_eprocess([scores], grid=cosine_grid(64.0), truth=[1, 3]).log_evalue
    assert right > 2.0
    assert wrong < 0.0


@pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.full((2, 2), np.nan), np.zeros(3)])
def test_refuses_bad_scores(bad):
    with pytest.raises(ValueError, match="scores"):
        permutation_eprocess([bad], grid=cosine_grid(4.0))


@pytest.mark.parametrize("truth", [[0, 0], [0], [0, 9], [-1, 0]])
def test_refuses_a_truth_that_is_no_labelling(truth):
    with pytest.raises(ValueError, match="truth"):
        permutation_eprocess([np.zeros((2, 3))], grid=cosine_grid(4.0), truth=truth)


def test_power_table():
    """Hidden-like features, n = 512 units, d = 1024: log10 e grows with the cosine as published simulations of this process do."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(1024, 512))
    noise = rng.normal(size=(1024, 512))
    found = {}
    for cosine in (0.0, 0.02, 0.05, 0.1):
        other = cosine * base + math.sqrt(1 - cosine**2) * noise
        unit = [m / np.linalg.norm(m, axis=0) for m in (base, other)]
        found[cosine] = permutation_eprocess([unit[0].T @ unit[1]], grid=cosine_grid(1024.0)).log_evalue / math.log(10)
    assert found[0.0] <= 0.5
    assert 15 < found[0.02] < 40
    assert 240 < found[0.05] < 350
    assert 700 < found[0.1] < 950


def _means(scores, grid):
    """Mean e-value over all labellings of the columns, and over all labellings of the rows."""
    orders = [list(p) for p in itertools.permutations(range(scores.shape[0]))]
    return [
        math.fsum(math.exp(either_eprocess([part], grid=grid).log_evalue) for part in parts) / len(orders)
        for parts in ([scores[:, p] for p in orders], [scores[p] for p in orders])
    ]


@pytest.mark.parametrize("seed", range(8))
def test_either_models_labels_suffice(seed):
    """Mean at most 1 when the columns are relabelled and when the rows are, hubs and tails included."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_t(1.5, size=(5, 5))
    if seed % 2:
        scores[:, 0] += 8.0
        scores[2] += 5.0
    assert max(_means(scores, cosine_grid(32.0))) <= 1.0 + 1e-9


def test_one_process_alone_needs_the_candidates_to_be_random():
    """A hub at the index of the first query: relabelled rows give the plain process a mean far above 1."""
    scores = np.zeros((5, 5))
    scores[:, 0] = 1.0
    orders = [list(p) for p in itertools.permutations(range(5))]
    plain = (
        math.fsum(math.exp(permutation_eprocess([scores[p]], grid=cosine_grid(32.0)).log_evalue) for p in orders) / 120
    )
    assert plain > 1.5
    assert max(_means(scores, cosine_grid(32.0))) <= 1.0 + 1e-9


def test_either_refuses_wide_windows():
    with pytest.raises(ValueError, match="square"):
        either_eprocess([np.zeros((2, 3))], grid=cosine_grid(4.0))


@pytest.mark.parametrize("grid", [cosine_grid(20.0), gap_grid()])
@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (5, 40), (64, 64)])
def test_the_compiled_loop_and_plain_numpy_agree(grid, shape):
    from stats.eprocess import N_BETAS, _reveal_all
    from stats.kernels.reveal import reveal

    scores = np.random.default_rng(0).standard_t(2, size=shape) * 3
    plain, compiled = np.empty((1, shape[0], N_BETAS)), np.empty((shape[0], N_BETAS))
    _reveal_all(scores[None], grid, plain)
    reveal(scores, grid.smallest, grid.squarings, compiled)
    np.testing.assert_allclose(plain[0], compiled, rtol=1e-10, atol=1e-9)


def test_a_wide_window_is_the_same_either_way(monkeypatch):
    scores = np.random.default_rng(1).normal(size=(30, 90))
    small = permutation_eprocess([scores], grid=cosine_grid(20.0), truth=list(range(5, 35)))
    monkeypatch.setattr("stats.eprocess._BATCH", 100)
    large = permutation_eprocess([scores], grid=cosine_grid(20.0), truth=list(range(5, 35)))
    np.testing.assert_allclose(small.trajectory, large.trajectory, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("grid", [cosine_grid(30.0), gap_grid()])
@pytest.mark.parametrize(("count", "n"), [(1, 1), (5, 16), (70, 64), (2, 600)])
def test_many_windows_at_once_give_what_each_gives_alone(grid, count, n):
    windows = np.random.default_rng(count).normal(size=(count, n, n))
    for window, found in zip(windows, each_eprocess(windows, grid=grid), strict=True):
        alone = either_eprocess([window], grid=grid)
        assert (found.log_evalue, found.log_floor, found.n) == (alone.log_evalue, alone.log_floor, alone.n)
        assert np.array_equal(found.trajectory, alone.trajectory)


def test_many_windows_are_checked():
    for bad in (np.zeros((2, 3)), np.zeros((1, 2, 3)), np.full((1, 2, 2), np.nan)):
        with pytest.raises(ValueError, match="square"):
            each_eprocess(bad, grid=gap_grid())
