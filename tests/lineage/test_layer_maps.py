"""Which layer became which, and what kind of reshaping that was: every layer of every case."""

from functools import cache

import numpy as np
import pytest

import derive
from disguised import HEADS, compared, config, everything, weights

LLAMA = "llama-a"


def _tuned(w, seed=0):
    """What a brief fine-tune leaves: a change of a tenth."""
    return derive.add_noise(w, 0.1, np.random.default_rng(seed))


def _relearned(w):
    """A reshaped model on which training went on."""
    return _tuned(w, 3)


CASES = {
    "dropped": (lambda w: derive.drop_layers(w, [1]), [0, 2, 3], "depth-prune"),
    "dropped at both ends": (lambda w: derive.drop_layers(w, [0, 3]), [1, 2], "depth-prune"),
    "dropped and tuned": (lambda w: _tuned(derive.drop_layers(w, [2])), [0, 1, 3], "depth-prune"),
    "repeated": (lambda w: derive.repeat_layers(w, [0, 1, 2, 1, 2, 3]), [0, 1, 2, 1, 2, 3], "depth-upscale"),
    "repeated and tuned": (
        lambda w: _tuned(derive.repeat_layers(w, [0, 1, 2, 3, 1, 2, 3])),
        [0, 1, 2, 3, 1, 2, 3],
        "depth-upscale",
    ),
    "reordered": (lambda w: derive.repeat_layers(w, [0, 2, 1, 3]), [0, 2, 1, 3], "related"),
    "reordered and tuned": (lambda w: _tuned(derive.repeat_layers(w, [3, 0, 1, 2])), [3, 0, 1, 2], "related"),
    "one layer twice": (lambda w: derive.repeat_layers(w, [0, 1, 1, 3]), [0, 1, 1, 3], "frankenmerge"),
    "two sources": (
        lambda w: derive.stack(w, weights("llama-b"), [(0, 0), (0, 1), (1, 2), (1, 3)]),
        [0, 1, None, None],
        "partial-copy",
    ),
    "two sources, in turns, tuned": (
        lambda w: _tuned(derive.stack(w, weights("llama-c"), [(1, 0), (0, 1), (1, 2), (0, 3)])),
        [None, 1, None, 3],
        "partial-copy",
    ),
    "width pruned": (lambda w: derive.prune_width(w, 100), [0, 1, 2, 3], "width-prune"),
    "width pruned and tuned": (lambda w: _tuned(derive.prune_width(w, 80)), [0, 1, 2, 3], "width-prune"),
    "vocabulary grown": (
        lambda w: derive.extend_vocab(w, 16, np.random.default_rng(0)),
        [0, 1, 2, 3],
        "vocab-change",
    ),
    "foreign embedding": (lambda w: derive.swap_embedding(w, weights("llama-b")), [0, 1, 2, 3], "embedding-swap"),
    "embedding alone": (lambda w: derive.swap_embedding(weights("llama-b"), w), [None] * 4, "partial-copy"),
    "dropped and rewritten": (
        lambda w: everything(derive.drop_layers(w, [1]), np.random.default_rng(5)),
        [0, 2, 3],
        "depth-prune",
    ),
    "width pruned and permuted": (
        lambda w: derive.permute_hidden(derive.prune_width(w, 100), np.random.default_rng(6)),
        [0, 1, 2, 3],
        "width-prune",
    ),
}


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
