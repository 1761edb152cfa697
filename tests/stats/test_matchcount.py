import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import naive
from stats.axes import Axis
from stats.matchcount import log_match_bound, match_count
from stats.tails import log_choose


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(0, 4))
def test_hits_equal_the_oracle(seed, s, more):
    scores = np.random.default_rng(seed).integers(0, 4, size=(s, s + more)).astype(float)
    assert match_count(scores, axis=Axis.HIDDEN).statistic == naive.match_hits(scores.tolist())


@pytest.mark.parametrize(("s", "n"), [(4, 4), (6, 6), (3, 6), (2, 7)])
def test_enumerated_tail_never_exceeds_the_bound(s, n):
    """All labellings of adversarial argmax patterns, non-injective ones included."""
    labellings = np.array(list(itertools.permutations(range(n))))
    for pattern in itertools.islice(itertools.product(range(n), repeat=s), 0, None, 7):
        hits = (labellings[:, pattern] == np.arange(s)).sum(axis=1)
        for f in range(1, s + 1):
            tail = (hits >= f).mean()
            assert math.log(tail) <= log_match_bound(f, s, n) + 1e-12 if tail else True


@pytest.mark.parametrize("k", [1, 2, 3])
def test_e_value_has_mean_at_most_one(k):
    n = 5
    for seed in range(20):
        scores = np.random.default_rng(seed).integers(0, 3, size=(n, n)).astype(float)
        values = [
            math.exp(match_count(scores[:, list(p)], axis=Axis.HIDDEN, k=k).log_evalue)
            for p in itertools.permutations(range(n))
        ]
        assert math.fsum(values) / len(values) <= 1.0 + 1e-9


def test_published_table_of_the_asymmetric_bound():
    """log10 of C(s, F) (n - F)! / n!, cross-checked by hand for n = 11008 and n = 8192."""
    expected = {
        (11008, 2, 2): -8.1,
        (11008, 8, 8): -32.3,
        (11008, 3, 8): -10.4,
        (8192, 8, 64): -21.7,
        (3072, 16, 16): -55.8,
    }
    for (n, hits, s), value in expected.items():
        assert log_match_bound(hits, s, n) / math.log(10) == pytest.approx(value, abs=0.051)


def test_symmetric_bound_is_one_over_factorial():
    assert log_match_bound(16, 16, 16) / math.log(10) == pytest.approx(-13.3, abs=0.05)
    assert log_match_bound(32, 32, 32) / math.log(10) == pytest.approx(-35.4, abs=0.05)


def test_rates_at_n_512():
    """P(F >= 1) and P(F >= 2) for eight queries among 512, 20,000 draws with colliding argmax."""
    rng = np.random.default_rng(0)
    hits = np.array([(rng.permutation(512)[:8] == rng.integers(0, 512, 8)).sum() for _ in range(20_000)])
    assert (hits >= 1).mean() <= math.exp(log_match_bound(1, 8, 512)) * 1.2
    assert (hits >= 2).mean() <= math.exp(log_match_bound(2, 8, 512)) * 3 + 2e-4


def test_ties_abstain():
    assert match_count(np.zeros((6, 6)), axis=Axis.HIDDEN).statistic == 0


def test_dead_units_do_not_walk_in_step():
    """30 % all-zero units in both of two independent models: ties by index would give p < 0.01 in most runs."""
    small = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, 24, 40))
        a[rng.random(24) < 0.3] = 0
        b[rng.random(24) < 0.3] = 0
        norms = [np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-30) for m in (a, b)]
        small += match_count((a / norms[0]) @ (b / norms[1]).T, axis=Axis.HIDDEN).log_pvalue < math.log(0.01)
    assert small <= 12


def test_the_default_k_is_half():
    result = match_count(np.eye(6), axis=Axis.HIDDEN)
    assert result.log_evalue == pytest.approx(math.log(0.5 + 0.5 * math.exp(log_choose(6, 3) + math.lgamma(4))))


@pytest.mark.parametrize("axis", [Axis.TOKEN, Axis.LAYER, Axis.ROTARY, Axis.OUTPUT, Axis.UNKNOWN, Axis.RESIDUAL_FIXED])
def test_refuses_axes_whose_labels_mean_something(axis):
    with pytest.raises(ValueError, match="no label test is valid"):
        match_count(np.eye(4), axis=axis)


def test_refuses_tall_scores():
    with pytest.raises(ValueError, match="taller"):
        match_count(np.zeros((3, 2)), axis=Axis.HIDDEN)
