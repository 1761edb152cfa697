"""Everything rewritten and the embedding replaced: no test and no token is left, what units are among themselves is."""

from functools import cache

import numpy as np
import pytest

import derive
from disguised import REWRITES, compared, config, weights
from nulls import without_power

KIN = ("llama-a", "llama-a-ft1", "llama-a-ft1-ft", "llama-a-lora")


@cache
@without_power()
def answer(a, b, donor, rewrite):
    rng = np.random.default_rng([*a.encode(), *b.encode(), *rewrite.encode()])
    changed = REWRITES[rewrite](derive.swap_embedding(weights(b), weights(donor)), rng)
    return compared(weights(a), changed, config(a), config(b))


def row_of(found):
    return next(t for t in found["tests"] if t["method"] == "unit-agreement")


@pytest.mark.parametrize("rewrite", ["all", "all and noise"])
@pytest.mark.parametrize("name", KIN)
def test_kin_resemble_and_what_was_done_is_named(name, rewrite):
    found = answer("llama-a", name, "llama-b", rewrite)
    assert found["verdict"] == "resembles"
    assert found["exactness"] == "calibrated"
    assert "inner products" in row_of(found)["scope"]
    assert row_of(found)["statistic"] > 0.45
    assert row_of(found)["log10_e"] is None
    assert [(e["a"], e["b"]) for e in found["layers"]] == [(i, i) for i in range(4)]
    assert found["relation"]["kind"] == "embedding-swap"
    assert {"hidden-permutation", "residual-rotation", "rescale", "sign"} <= set(found["disguise"]["transforms"])


@pytest.mark.parametrize("donor", ["llama-a", "llama-c"])
def test_strangers_are_not_accused_not_even_with_the_embedding_of_the_other(donor):
    for a, b in (
        ("llama-a", "llama-b"),
        ("llama-a", "llama-a-student"),
        ("llama-c", "llama-b"),
        ("llama-b", "llama-a-cpt"),
    ):
        found = answer(a, b, donor, "all and noise")
        assert found["verdict"] == "no-evidence", (a, b)
        assert row_of(found)["statistic"] < 0.05


def test_long_training_hides_it():
    """The gap of this reading: after continued pre-training profiles no longer agree."""
    assert answer("llama-a", "llama-a-cpt", "llama-b", "all")["verdict"] == "no-evidence"
