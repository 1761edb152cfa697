"""The code of payloads against its definition in loops, and what it corrects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import spread
from stats import code
from weightmark.payload import LENGTH, codeword, decoded

CHECKS = spread.parity_checks(code.SHIFTS)


def rank(rows):
    """Rank over GF(2), rows as whole numbers."""
    found = []
    for row in rows:
        left = row
        for pivot in found:
            left = min(left, left ^ pivot)
        if left:
            found.append(left)
    return len(found)


def test_the_checks_are_those_of_the_design():
    assert [set(row) for row in code.parity_checks().tolist()] == CHECKS
    assert rank([sum(1 << c for c in row) for row in CHECKS]) == 382 == code.LENGTH - code.BITS
    assert spread.girth(CHECKS) == 10


@given(st.binary(max_size=LENGTH))
def test_every_code_word_meets_every_check_and_is_read_back(payload):
    word = codeword(payload)
    assert set(np.unique(word)) <= {-1.0, 1.0}
    assert all(sum(word[c] < 0 for c in check) % 2 == 0 for check in CHECKS)
    for unit in (1.0, 1e-30, 1e30):
        assert decoded(unit * word) == payload.ljust(LENGTH, b"\0")


def test_a_code_word_that_no_later_version_may_change():
    assert np.packbits(codeword(b"owner") < 0).tobytes().hex() == (
        "d3371e3c788a27b9ef7b29175e522585571b046e77d9edc68d3c2d4cfba010ae39f1a3c7c753ca7f6247045ba5f19f97bdddb995c8"
        "000000000000000003aabc"
    )


def test_free_places_hold_the_payload_and_its_checksum():
    free = [i for i in range(code.LENGTH) if i in set(code._systematic()[0].tolist())]
    bits = "".join("1" if s < 0 else "0" for s in codeword(b"owner")[free])
    body = b"owner".ljust(LENGTH, b"\0")
    assert bits == f"{int.from_bytes(body, 'big'):0112b}{spread.crc(body):016b}00"
    assert spread.crc(b"123456789") == 0x29B1


def test_erased_symbols_are_filled_in():
    rng = np.random.default_rng(0)
    word = codeword(b"erasures")
    for _ in range(50):
        soft = word.copy()
        soft[rng.choice(512, 230, replace=False)] = 0.0
        assert decoded(soft) == b"erasures".ljust(LENGTH, b"\0")


def errors(t, frames, seed):
    """Frames of so many whose payload is not read from soft values of this total strength, and those read wrongly."""
    rng, lost, wrong = np.random.default_rng(seed), 0, 0
    for _ in range(frames):
        payload = rng.bytes(LENGTH)
        soft = codeword(payload) * t / np.sqrt(512) + rng.standard_normal(512)
        found = decoded(soft)
        lost += found != payload
        wrong += found is not None and found != payload
    return lost, wrong


def test_payloads_are_read_from_a_statistic_of_23_on():
    """Fewer than one in a hundred lost: 1,000 frames with at most 18 lost would come by chance once in a hundred at 0.01."""
    lost, wrong = errors(23.0, 1000, 1)
    assert lost < 10
    assert wrong == 0
    assert errors(26.0, 300, 2) == (0, 0)


def test_noise_spells_nothing():
    """No code word fits, or its checksum does not: 2^-16 of what decodes at all."""
    lost, wrong = errors(0.0, 300, 3)
    assert (lost, wrong) == (300, 0)
    assert decoded(np.zeros(512)) is None


@pytest.mark.parametrize("soft", [np.zeros(511), np.full(512, np.nan), np.full(512, np.inf), np.zeros((512, 1))])
def test_what_is_no_frame_is_refused(soft):
    with pytest.raises(ValueError, match="512 finite"):
        code.decode(soft)


@pytest.mark.parametrize("bits", [np.zeros(129, np.uint8), np.full(130, 2, np.uint8)])
def test_what_is_no_message_is_refused(bits):
    with pytest.raises(ValueError, match="130 bits"):
        code.encode(bits)
    with pytest.raises(ValueError, match="at most 14"):
        codeword(bytes(15))
