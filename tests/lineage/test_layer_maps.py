"""Which layer became which, and what kind of reshaping that was: every layer of every case."""

from functools import cache

import numpy as np
import pytest

import derive
from disguised import HEADS, compared, config, weights
from reshaped import CASES, LLAMA


@cache
def mapped(case):
    """The document of the model and what a case makes of it."""
    return compared(weights(LLAMA), CASES[case][0](weights(LLAMA)), config(LLAMA), config(LLAMA))


@pytest.mark.parametrize("case", CASES)
def test_every_layer_is_mapped_and_the_kind_is_named(case):
    _, expected, kind = CASES[case]
    found = mapped(case)
    blind = case == "dropped and rewritten"  # heads in another order and another depth: the values may miss each other
    assert found["verdict"] in ({"related", "resembles"} if blind else {"related"}), case
    assert [entry["a"] for entry in found["layers"]] == expected
    assert [entry["b"] for entry in found["layers"]] == list(range(len(expected)))
    assert found["relation"]["kind"] == kind


@pytest.mark.parametrize("case", ["dropped", "repeated", "two sources"])
def test_the_map_reads_the_same_way_with_the_models_exchanged(case):
    make, expected, _ = CASES[case]
    found = compared(make(weights(LLAMA)), weights(LLAMA), config(LLAMA), config(LLAMA))
    assert found["verdict"] == "related"
    for entry in found["layers"]:
        sources = [new for new, old in enumerate(expected) if old == entry["b"]]
        assert (entry["a"] in sources) if sources else (entry["a"] is None)


def test_a_shared_table_alone_names_what_was_shared():
    found = mapped("embedding alone")
    assert found["relation"]["details"]["shared"] == ["embed", "unembed"]


def test_layers_carry_exact_evidence_of_their_own():
    found, expected = mapped("two sources"), CASES["two sources"][1]
    for entry, source in zip(found["layers"], expected, strict=True):
        assert entry["rejected"] == (source is not None)
        assert (entry["log10_p"] < -10) == (source is not None)


def test_heads_of_the_right_number_are_needed_to_be_mapped():
    """Without a config the heads are unknown: everything else is still undone."""
    rng = np.random.default_rng(0)
    moved = derive.permute_heads(derive.permute_hidden(weights(LLAMA), rng), rng, **HEADS)
    found = compared(weights(LLAMA), moved, None, None)
    assert found["verdict"] == "related"
    assert "hidden-permutation" in found["disguise"]["transforms"]
    assert "head-permutation" not in found["disguise"]["transforms"]
