"""Payloads written down after a look at the suspect: how far they carry, and that p counts them."""

import itertools
import math

import numpy as np
import pytest

import wrongkeys
from weightmark.choices import log_choices, statistic_needed
from weightmark.keys import LONGEST_PAYLOAD
from weightmark.payload import LENGTH, codeword
from weightmark.schemes import dss
from weightmark.tails import log_sign_tail


def suited_payload(soft):
    """The 14 bytes whose code word follows the most reliable symbols: ordered statistics, order 0 with single flips."""
    zero = codeword(b"")
    rows = np.array(
        [codeword((1 << (8 * LENGTH - 1 - i)).to_bytes(LENGTH, "big")) * zero < 0 for i in range(8 * LENGTH)],
        dtype=bool,
    )
    combined = np.concatenate([rows, np.eye(8 * LENGTH, dtype=bool)], axis=1)
    basis = []
    for column in np.argsort(-np.abs(soft)):
        free = np.flatnonzero(combined[len(basis) :, column]) + len(basis)
        if free.size:
            combined[[len(basis), free[0]]] = combined[[free[0], len(basis)]]
            others = np.flatnonzero(combined[:, column])
            combined[others[others != len(basis)]] ^= combined[len(basis)]
            basis.append(column)
        if len(basis) == 8 * LENGTH:
            break
    wanted = (np.sign(soft[basis]) != zero[basis]).astype(int)
    tried = [wanted, *(wanted ^ np.eye(len(wanted), dtype=int)[i] for i in range(len(wanted)))]
    words = [(t @ combined.astype(int)) % 2 for t in tried]
    best = max(words, key=lambda w: float(soft @ (zero * (1 - 2 * w[: soft.size]))))
    return np.packbits(best[soft.size :].astype(np.uint8)).tobytes()


def test_a_payload_that_suits_an_innocent_model_reads_as_a_mark_and_is_counted():
    """Nobody marked these weights: the payload alone, written down afterwards, makes p < 10^-10 under a drawn key."""
    matrix = wrongkeys.matrix("unmarked", rows=64)
    sums = dss.scanned(matrix, 0, wrongkeys.ROLE, wrongkeys.key(5))
    payload = suited_payload(sums.soft)
    bare = log_sign_tail(sums.statistic(codeword(payload)))
    assert bare < -10 * math.log(10)
    assert bare + log_choices(payload) > 0.0
    assert log_sign_tail(sums.statistic(codeword(b""))) > math.log(1e-4)


def test_all_payloads_together_cost_one():
    """The union bound: the shares of all payloads sum to at most the level."""
    total = math.exp(-log_choices(b"")) + sum(
        math.exp(8 * n * math.log(2) - log_choices(bytes(n))) for n in range(1, LONGEST_PAYLOAD + 1)
    )
    assert total == pytest.approx(1.0)


def test_payloads_of_one_length_cost_alike_and_longer_ones_more():
    costs = [log_choices(bytes([7] * n)) for n in range(LONGEST_PAYLOAD + 1)]
    assert all(a < b for a, b in itertools.pairwise(costs))
    assert log_choices(b"owner") == log_choices(bytes(5))


@pytest.mark.parametrize("payload", [b"", b"owner", bytes(14)])
@pytest.mark.parametrize("level", [1e-6, 2.0**-128])
def test_what_is_needed_is_just_enough(payload, level):
    needed = statistic_needed(math.log(level), payload)
    assert log_sign_tail(needed * (1 + 1e-9)) + log_choices(payload) <= math.log(level)
    assert log_sign_tail(needed * (1 - 1e-6)) + log_choices(payload) > math.log(level)
