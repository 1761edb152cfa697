"""Rules behind masks against loops, and what none of them explains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.pruning import find_pattern


def values(seed=0, shape=(48, 64)):
    return np.random.default_rng(seed).normal(size=shape)


def smallest_of(x, few, many):
    gone = np.zeros(x.shape, dtype=bool)
    for i in range(x.shape[0]):
        for j in range(0, x.shape[1], many):
            order = sorted(range(j, j + many), key=lambda k: abs(x[i, k]))
            gone[i, order[:few]] = True
    return gone


def below(x, share):
    return np.abs(x) <= np.quantile(np.abs(x), share)


@pytest.mark.parametrize(("few", "many"), [(2, 4), (1, 4), (4, 8), (3, 4)])
def test_few_of_many_neighbours(few, many):
    x = values()
    found = find_pattern([x], [smallest_of(x, few, many)])
    assert (found.name, found.by_size) == (f"{few}:{many}", True)
    assert find_pattern(
        [np.roll(x, 1, axis=1)[:, 3:]], [np.roll(smallest_of(x, few, many), 1, axis=1)[:, 3:]]
    ).name == (f"{few}:{many}")


def test_any_two_of_four_are_two_of_four_but_no_function_of_size():
    gone = smallest_of(values(1), 2, 4)
    found = find_pattern([values(2)], [gone])
    assert (found.name, found.by_size) == ("2:4", False)


def test_thresholds():
    x, y = values(0), 3.0 * values(1)
    assert find_pattern([x, y], [np.abs(x) < 0.7, np.abs(y) < 0.7]).name == "global"
    assert find_pattern([x, y], [below(x, 0.4), below(y, 0.4)]).name == "matrix"
    scaled = x * np.exp(np.random.default_rng(3).normal(size=(48, 1)))
    rows = np.stack([below(row, 0.5) for row in scaled])
    assert find_pattern([scaled], [rows]).name == "row"


def test_units_and_chance():
    x, gone = values(), np.zeros((48, 64), dtype=bool)
    gone[[3, 5]] = True
    gone[:, 7] = True
    assert find_pattern([x], [gone]).name == "units"
    chance = find_pattern([values(0, (200, 200))], [np.random.default_rng(5).random((200, 200)) < 0.3])
    assert (chance.name, chance.by_size) == ("random", False)


def test_sizes_times_input_norms_are_none_of_these():
    x = values(0, (200, 200))
    score = np.abs(x) * np.exp(np.random.default_rng(1).normal(size=(1, 200)))
    found = find_pattern([x], [score < np.median(score)])
    assert (found.name, found.by_size) == ("unknown", False)
    assert found.auc > 0.6


@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_the_share_of_pairs_in_order_is_that_of_a_loop(seed, levels):
    rng = np.random.default_rng(seed)
    x, gone = rng.integers(1, levels, (5, 6)).astype(float), rng.random((5, 6)) < 0.4
    gone[0, 0], gone[4, 5] = True, False
    kept, left = np.abs(x[~gone]), np.abs(x[gone])
    wins = sum((k > g) + 0.5 * (k == g) for k in kept for g in left)
    assert np.isclose(find_pattern([x], [gone]).auc, wins / (kept.size * left.size))


@given(st.integers(0, 2**32 - 1))
def test_a_common_factor_and_signs_change_nothing(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(16, 16))
    gone = below(x, 0.5)
    signs = rng.choice([-1.0, 1.0], x.shape)
    assert find_pattern([x], [gone]) == find_pattern([4.0 * x * signs], [gone])


def test_nothing_or_everything_gone_is_an_error():
    x = values()
    for gone in ([np.zeros(x.shape, bool)], [np.ones(x.shape, bool)], [], [np.zeros((2, 2), bool)]):
        with pytest.raises(ValueError, match=r"."):
            find_pattern([x], gone)
