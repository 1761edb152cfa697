import itertools
import math
import subprocess
import sys
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc, chdtrc

from stats.axes import Axis
from stats.combine import combine_evalues, log_floor_of
from stats.published import assignment_spearman, fisher_over_blocks, log_fisher, log_spearman_tail

LN10 = math.log(10.0)


def squared_gaps(n):
    """Sum of squared displacements of every permutation of n, as counts: index is the sum."""
    orders = np.array(list(itertools.permutations(range(n))), dtype=np.int16)
    return np.bincount(np.sum((orders - np.arange(n)) ** 2, axis=1))


def student_series(rho, n):
    """The same tail for even n - 2 from a series of positive terms, in 60 decimal digits.

    With z = 1 - rho^2 the central law is P(0 < T < t) = (rho / 2) sum_{k < (n-2)/2} C(2k, k) (z/4)^k, and the whole
    series sums to 1 / rho: so the tail is the rest of it.
    """
    with localcontext() as context:
        context.prec = 60
        r = Decimal(rho)
        z, k = 1 - r * r, (n - 2) // 2
        term = Decimal(math.comb(2 * k, k)) / Decimal(4) ** k * z**k
        total = Decimal(0)
        while term > total * Decimal(10) ** -40:
            total += term
            k += 1
            term *= z * (2 * k - 1) / (2 * k)
        return float((r / 2 * total).ln())


@pytest.mark.parametrize("n", [4, 10, 50, 512, 11008])
@pytest.mark.parametrize("rho", ["0.05", "0.25", "0.5", "0.9", "0.999"])
def test_tail_equals_a_series_in_sixty_digits(n, rho):
    assert log_spearman_tail(float(rho), n) == pytest.approx(student_series(rho, n), rel=1e-9)


@given(st.integers(3, 400), st.floats(-0.95, 0.95))
def test_tail_equals_the_beta_function_where_that_does_not_underflow(n, rho):
    plain = 0.5 * betainc((n - 2) / 2.0, 0.5, 1.0 - rho * rho)
    expected = plain if rho >= 0 else 1.0 - plain
    if expected > 1e-290:
        assert log_spearman_tail(rho, n) == pytest.approx(math.log(expected), rel=1e-6, abs=1e-6)
    else:
        assert log_spearman_tail(rho, n) < -600.0


def test_tail_at_the_width_of_a_7b_model():
    assert log_spearman_tail(0.5, 11008) / LN10 == pytest.approx(-689.66, abs=0.005)
    assert log_spearman_tail(0.9, 11008) / LN10 == pytest.approx(-3971.4, abs=0.05)
    assert log_spearman_tail(1.0, 11008) == -math.inf
    assert log_spearman_tail(-1.0, 50) == 0.0
    assert log_spearman_tail(0.0, 50) == pytest.approx(math.log(0.5))


@pytest.mark.parametrize("n", [5, 6, 7, 8])
def test_tail_is_near_the_enumerated_one_in_the_bulk(n):
    counts = squared_gaps(n)
    for gaps in np.flatnonzero(counts):
        exact = counts[: gaps + 1].sum() / counts.sum()
        rho = 1 - 6 * int(gaps) / (n * (n * n - 1))
        if 0.05 <= exact <= 0.5:
            assert math.exp(log_spearman_tail(rho, n)) == pytest.approx(exact, rel=0.35)


@pytest.mark.parametrize(("n", "ratio"), [(6, 0.29), (7, 0.16), (8, 0.084), (9, 0.039)])
def test_tail_is_anticonservative_where_rho_is_high(n, ratio):
    """At the second largest rho (one pair of neighbours swapped) and at the largest, where it is nothing at all."""
    counts = squared_gaps(n)
    assert np.flatnonzero(counts)[:2].tolist() == [0, 2]
    exact = counts[:3].sum() / counts.sum()
    assert math.exp(log_spearman_tail(1 - 12 / (n * (n * n - 1)), n)) / exact == pytest.approx(ratio, rel=0.03)
    assert log_spearman_tail(1.0, n) < -math.lgamma(n + 1)


@given(st.lists(st.floats(-40.0, 0.0), min_size=1, max_size=12))
def test_fisher_equals_chi_squared_where_that_does_not_underflow(logs):
    expected = chdtrc(2 * len(logs), -2.0 * math.fsum(logs))
    if expected > 1e-290:
        assert log_fisher(logs) == pytest.approx(math.log(expected), rel=1e-9, abs=1e-12)
    assert log_fisher(logs) >= math.fsum(logs) - 1e-9


def test_fisher_goes_on_where_chi_squared_is_zero():
    assert chdtrc(16, 2.0 * 8 * 1000) == 0.0
    assert -8000.0 < log_fisher([-1000.0] * 8) < -7900.0
    assert log_fisher([0.0, 0.0]) == 0.0
    assert log_fisher([-3.0]) == pytest.approx(-3.0)


def _pair(seed, n=48, d=32, cosine=0.0):
    rng = np.random.default_rng(seed)
    a, noise = rng.normal(size=(2, n, d))
    return a, cosine * a + math.sqrt(1 - cosine**2) * noise


def _found(a, b, seed=0):
    return assignment_spearman(a, b, rng=np.random.default_rng(seed))


def test_independent_blocks_are_not_extreme():
    values = [math.exp(_found(*_pair(seed)).log_pvalue) for seed in range(200)]
    assert 4 <= sum(p < 0.05 for p in values) <= 22
    assert 70 <= sum(p < 0.5 for p in values) <= 130


def test_related_blocks_are_clamped_and_say_so():
    found = _found(*_pair(0, cosine=0.95))
    assert found.statistic == 1.0
    assert found.log_pvalue == found.log_floor == pytest.approx(-math.lgamma(49))
    assert "clamped at 1/n!" in found.scope
    assert found.exactness == "asymptotic"
    assert "approximation" in found.null
    assert "1/n!" in found.null
    weak = _found(*_pair(0, cosine=0.3))
    assert weak.log_floor < weak.log_pvalue < 0.0
    assert "clamped" not in weak.scope
    both = fisher_over_blocks([found, weak])
    assert "clamped" in both.scope
    assert both.log_pvalue > both.log_floor
    assert "clamped" not in fisher_over_blocks([weak]).scope


def test_it_can_never_enter_a_combination():
    found = [_found(*_pair(0, cosine=0.95)), fisher_over_blocks([_found(*_pair(0, cosine=0.95))])]
    assert {r.log_evalue for r in found} == {None}
    assert combine_evalues(found) == 0.0
    assert log_floor_of(found) == 0.0


def test_dead_units_do_not_walk_in_step():
    """30 % all-zero rows in both of two independent models: solved in index order they give p < 0.01 in most runs."""
    small = 0
    for seed in range(150):
        a, b = _pair(seed)
        rng = np.random.default_rng([seed, 1])
        a[rng.random(48) < 0.3] = 0
        b[rng.random(48) < 0.3] = 0
        found = _found(a, b, seed)
        assert found.n == np.count_nonzero(a.any(axis=1) & b.any(axis=1))
        small += found.log_pvalue < math.log(0.01)
    assert small <= 6


def test_equal_rows_do_not_walk_in_step():
    """Half of the rows are one and the same: every matching among them is as good, and only a shuffle is fair."""
    small = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, 2])
        a, b = _pair(seed)
        for rows in (a, b):
            rows[rng.permutation(48)[:24]] = rows[0]
        small += _found(a, b, seed).log_pvalue < math.log(0.01)
    assert small <= 5


def test_the_shuffle_does_not_matter_without_ties():
    a, b = _pair(3, cosine=0.3)
    assert len({_found(a, b, seed).statistic for seed in range(5)}) == 1


def test_slabs_do_not_move_a_bit(monkeypatch):
    import stats.published as module

    a, b = _pair(4)
    whole = module._cosines(a, b)
    monkeypatch.setattr(module, "_SLAB", 100)
    assert np.array_equal(whole, module._cosines(a, b))


def test_refusals():
    a, b = _pair(0)
    with pytest.raises(ValueError, match="no label test is valid"):
        assignment_spearman(a, b, rng=np.random.default_rng(0), axis=Axis.TOKEN)
    with pytest.raises(ValueError, match="at least 10 units"):
        _found(a[:9], b[:9])
    with pytest.raises(ValueError, match="one shape"):
        _found(a, b[:, :5])
    with pytest.raises(ValueError, match="empty"):
        fisher_over_blocks([])


def test_without_scipy_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['scipy'] = sys.modules['scipy.optimize'] = None\n"
        "import numpy as np; from stats import assignment_spearman\n"
        "try: assignment_spearman(np.eye(12), np.eye(12), rng=np.random.default_rng(0))\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "lineage-forensics[published]" in done.stdout
