from dataclasses import replace

import numpy as np
import pytest

from crawl import open_model
from lineage.reading import sign
from lineage.screening import screen
from nulls import ROOT

FIXTURES = ROOT / "fixtures"
KIN = ("zoo/llama-a", "zoo/llama-a-ft1", "zoo/llama-a-cpt", "zoo/llama-s", "zoo/llama-a-lora")
STRANGERS = ("zoo/llama-b", "zoo/llama-c", "zoo/llama-a-student")


@pytest.fixture(scope="module")
def signatures():
    found = []
    for name in (*KIN, *STRANGERS, "zoo/gpt2-a", "nursery/nursery-00-00"):
        with open_model(str(FIXTURES / name)) as source:
            found.append(sign(source))
    return found


def test_kin_are_worth_a_test_and_most_strangers_are_not(signatures):
    found = screen(signatures, most=0)
    n = len(KIN)
    assert found.worth[:n, :n].all()
    strangers = found.worth[:n, n : n + len(STRANGERS)]
    assert found.comparable[:n, n : n + len(STRANGERS)].all()
    assert strangers.mean() < 0.5


def test_what_cannot_be_looked_at_is_tested(signatures):
    bare = replace(signatures[1], vectors={}, tables={}, blocks=(), values=(), experts=())
    found = screen([signatures[0], bare], most=0)
    assert not found.comparable[0, 1]
    assert found.worth[0, 1]


def test_the_answer_is_symmetric_and_follows_the_order(signatures):
    found = screen(signatures, most=0)
    order = np.random.default_rng(0).permutation(len(signatures))
    turned = screen([signatures[i] for i in order], most=0)
    assert np.array_equal(found.worth, found.worth.T)
    assert np.array_equal(found.worth[np.ix_(order, order)], turned.worth)


def test_every_pair_of_few_is_tested(signatures):
    assert screen(signatures).worth.all()
