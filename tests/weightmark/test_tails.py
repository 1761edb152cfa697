"""Tails against fractions, full enumeration and a library."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_ndtr

from weightmark.tails import log_agreement_tail, log_coin_tail, log_normal_tail, log_sign_tail


@given(st.floats(-30, 300))
def test_normal_tail_against_a_library(t):
    assert log_normal_tail(t) == pytest.approx(float(log_ndtr(-t)), rel=1e-12, abs=1e-15)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=10), st.floats(0, 3))
def test_no_sum_of_signs_exceeds_its_bound(weights, t):
    a = np.array(weights) / np.linalg.norm(weights)
    sums = np.array([np.dot(s, a) for s in itertools.product((-1, 1), repeat=a.size)])
    assert (sums >= t).mean() <= math.exp(log_sign_tail(t)) + 1e-12
    assert log_sign_tail(0.0) == 0.0


@given(st.integers(1, 300), st.data())
def test_coins_against_fractions(n, data):
    heads = data.draw(st.integers(0, n))
    exact = sum((Fraction(math.comb(n, j), 2**n) for j in range(heads, n + 1)), Fraction(0))
    want = math.log(exact.numerator) - math.log(exact.denominator)
    assert log_coin_tail(heads, n) == pytest.approx(want, abs=1e-9)


def test_coins_far_out():
    assert log_coin_tail(4000, 4000) == pytest.approx(-4000 * math.log(2), rel=1e-12)
    assert log_coin_tail(0, 5) == 0.0
    with pytest.raises(ValueError, match="6 heads of 5"):
        log_coin_tail(6, 5)


@pytest.mark.parametrize("fixed", [(0, 1, 2, 3), (1, 1, 0, 2), (3, 2, -1, 0)])
def test_the_bound_holds_over_all_orders_of_two_slots(fixed):
    orders = list(itertools.permutations(range(4)))
    hits = [sum(a == b for a, b in zip(order, fixed, strict=True)) for order in orders]
    totals = np.add.outer(hits, hits).ravel()
    for k in range(1, 9):
        assert (totals >= k).mean() <= math.exp(log_agreement_tail(k, 2)) + 1e-12


def test_agreements_need_many_places():
    assert log_agreement_tail(0, 33) == 0.0
    assert log_agreement_tail(33, 33) == 0.0
    assert log_agreement_tail(100, 33) < math.log(1e-6)
    with pytest.raises(ValueError, match="places"):
        log_agreement_tail(-1, 2)
