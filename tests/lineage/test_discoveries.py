import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import discoveries
from lineage.discoveries import Discoveries
from stats.combine import ebh

ALPHA = 0.1


def stream(log10_es, alpha=ALPHA):
    """What comes out after each document that goes in."""
    found = Discoveries(len(log10_es), alpha)
    return [
        list(found.add({"at": i, "log10_e": e} if e is not None else {"at": i, "error": {}}))
        for i, e in enumerate(log10_es)
    ]


def flat(batches):
    return [d for batch in batches for d in batch]


evalues = st.lists(st.one_of(st.none(), st.floats(-2.0, 5.0)), min_size=1, max_size=40)


@given(evalues)
def test_the_stream_answers_what_the_whole_file_answers(log10_es):
    given_out = flat(stream(log10_es))
    logs = np.array([-math.inf if e is None else (e - 5e-7) * math.log(10) for e in log10_es])
    expected = ebh(logs, ALPHA).tolist()
    assert [d["at"] for d in given_out] == list(range(len(log10_es)))
    assert [d.get("ebh", {}).get("rejected", False) for d in given_out] == expected


@given(evalues)
def test_waiting_in_a_file_changes_nothing(log10_es):
    whole = flat(stream(log10_es))
    held = discoveries.IN_MEMORY
    try:
        discoveries.IN_MEMORY = 2
        assert flat(stream(log10_es)) == whole
    finally:
        discoveries.IN_MEMORY = held


def test_clear_cases_never_wait():
    """Strangers and relatives as they come: nothing is held at any time."""
    batches = stream([0.1, 53.2, -0.3, None, 40.0, 0.0])
    assert [len(b) for b in batches] == [1] * 6
    assert [d["ebh"]["rejected"] for d in flat(batches) if "ebh" in d] == [False, True, False, True, False]


def test_an_open_line_waits_for_what_decides_it_and_no_longer():
    """10^1.5 among ten pairs at 0.1 needs three larger ones: held until they have come, in order."""
    sizes = [len(b) for b in stream([0.0, 1.5, 0.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0])]
    assert sizes == [1, 0, 0, 0, 0, 5, 1, 1, 1, 1]
    answers = [d["ebh"]["rejected"] for d in flat(stream([0.0, 1.5, 0.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0]))]
    assert answers == [False, True, False, True, True, True, False, False, False, False]


def test_an_open_line_is_let_go_when_nothing_can_save_it():
    sizes = [len(b) for b in stream([1.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])]
    assert sizes.index(next(s for s in sizes if s)) < 9
    assert sum(sizes) == 10


def test_failed_pairs_count_in_the_family_and_carry_no_answer():
    found = flat(stream([None, 1.5]))
    assert "ebh" not in found[0]
    assert found[1]["ebh"] == {"alpha": ALPHA, "family_size": 2, "rejected": True}


def test_a_printed_number_at_the_threshold_is_not_rounded_up():
    assert flat(stream([1.0]))[0]["ebh"]["rejected"] is False
    assert flat(stream([1.000001]))[0]["ebh"]["rejected"] is True


@pytest.mark.parametrize("n", [5_000])
def test_thousands_of_held_documents_keep_their_order_and_content(n):
    """One open line at the head holds all others; they come out of memory and file alike."""
    log10_es = [1.0 + math.log10(n) / 2, *[0.25] * (n - 2), 0.5]
    found = flat(stream(log10_es))
    assert [d["at"] for d in found] == list(range(n))
    assert [d["log10_e"] for d in found] == log10_es
    assert not any(d["ebh"]["rejected"] for d in found)
