"""Batches of work in threads and processes: the same answers in the same order, and a lost worker is one sentence."""

import os
from dataclasses import replace

import pytest

from lineage.comparing import CompareOptions
from lineage.engines import ENGINES
from lineage.errors import LostWorkerError
from lineage.pairs import compare_pairs, rows_of
from nulls import ROOT

ZOO = ROOT / "fixtures" / "zoo"
PAIRS = [
    (str(ZOO / a), str(ZOO / b))
    for a, b in (("llama-a", "llama-a-ft1"), ("llama-a", "missing"), ("llama-a", "llama-b"), ("gpt2-a", "gpt2-a-ft"))
]


def without_costs(documents):
    """What was said, without seconds and reads."""
    for d in documents:
        if "record" in d:
            d["record"].pop("run", None)
    return documents


def test_threads_give_the_answers_of_one_after_another():
    alone = without_costs(list(compare_pairs(PAIRS, CompareOptions())))
    seen = []
    shared = compare_pairs(
        PAIRS, CompareOptions(), lambda _stage, done, total: seen.append((done, total)), jobs=2, engine="threads"
    )
    assert without_costs(list(shared)) == alone
    assert [("error" in d) for d in alone] == [False, True, False, False]
    assert seen == [(i, 4) for i in range(5)]


def test_processes_answer_and_a_killed_one_is_one_sentence():
    with ENGINES["processes"](1) as workers:
        assert workers.submit(os.getpid).result(60) != os.getpid()
        sent = workers.submit(rows_of, PAIRS[1:2], replace(CompareOptions(), family_size=4))
        (document,) = sent.result(60)
        assert document["error"]["kind"] == "model-not-found"
    with pytest.raises(LostWorkerError, match="was killed"), ENGINES["processes"](1) as workers:
        workers.submit(os._exit, 9).result(60)


def test_interrupts_are_the_business_of_the_sender():
    """A worker that got an interrupt goes on: whoever sends the work ends it."""
    import signal

    with ENGINES["processes"](1) as workers:
        pid = workers.submit(os.getpid).result(60)
        os.kill(pid, signal.SIGINT)
        assert workers.submit(os.getpid).result(60) == pid
