from dataclasses import replace

import numpy as np
import pytest

from crawl import open_model
from lineage.reading import sign
from lineage.screening import _agreements, _centred, screen
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
    assert strangers.mean() < 0.1


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


def test_the_glance_counts_standard_deviations_of_a_random_order():
    """Against orders drawn in a loop; rows that all point one way spread the sum as much as they do."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=24)
    x, y = (rng.normal(size=(6, 24)) + 2.0 * rng.normal(size=24) for _ in range(2))
    y[2] += common
    a, b = _centred(x), _centred(y)
    drawn = [float(np.sum(a * b[:, rng.permutation(24)])) for _ in range(20_000)]
    ((_, found),) = _agreements([a], [b])
    assert found[0, 0] == pytest.approx(abs(float(np.sum(a * b))) / np.std(drawn), rel=0.03)


def test_values_that_are_no_numbers_stop_no_glance(signatures):
    odd = replace(signatures[1], vectors={k: np.full_like(v, np.nan) for k, v in signatures[1].vectors.items()})
    assert screen([signatures[0], odd], most=0).worth[0, 1]


def test_signs_and_heads_of_values_may_change(signatures):
    """Value dimensions alone, other signs, runs in another order: still worth a test."""
    a = replace(signatures[0], vectors={}, tables={}, blocks=())
    turned = [replace(v, probes=-np.roll(v.probes, 8, axis=1)) for v in a.values]
    assert screen([a, replace(a, values=tuple(turned))], most=0).worth[0, 1]
    strange = replace(signatures[len(KIN)], vectors={}, tables={}, blocks=())
    assert not screen([a, strange], most=0).worth[0, 1]
