"""Steps between a parent and a child, through stored bytes: what is replayed, what is left, and what is not claimed."""

import json
from functools import cache

import numpy as np
import pytest

import derive
from disguised import compared
from lineage.peeling import replayed
from nulls import ROOT
from slices import study_of
from weightmark.attacks.pruning import prune_global, prune_random

FIXTURES = ROOT / "fixtures"
CONFIG = json.loads((FIXTURES / "zoo" / "llama-a" / "config.json").read_text())


@cache
def model(name="llama-a"):
    return derive.drop_layers(derive.load(FIXTURES / "zoo" / name), [1, 2, 3])


@cache
def wide():
    """Values of no format but their own."""
    return derive.add_noise(derive.cast(model(), "float32"), 0.05, np.random.default_rng(0))


def trained(w, rel, seed=0):
    """A little training that leaves zeros alone."""
    moved = derive.add_noise(w, rel, np.random.default_rng(seed))
    return {k: np.where(v.astype(np.float64) == 0.0, v, moved[k]).astype(v.dtype) for k, v in w.items()}


def cast(w, *through):
    for name in through:
        w = derive.cast(w, name)
    return w


def rng(seed=0):
    return np.random.default_rng(seed)


MADE = {
    "magnitude": (model, lambda w: derive.prune_magnitude(w, 0.5), ["prune"], "matrix"),
    "one threshold": (model, lambda w: prune_global(w, 0.3), ["prune"], "global"),
    "at random": (model, lambda w: prune_random(w, 0.3, rng()), ["prune"], "random"),
    "two of four": (model, derive.prune_2_4, ["prune"], "2:4"),
    "pruned again": (
        lambda: derive.prune_magnitude(model(), 0.3),
        lambda w: derive.prune_magnitude(w, 0.6),
        ["prune"],
        "matrix",
    ),
    "pruned and cast": (wide, lambda w: cast(derive.prune_2_4(w), "float16"), ["prune", "cast"], "2:4"),
    "pruned and cast twice": (
        wide,
        lambda w: cast(derive.prune_2_4(w), "float16", "bfloat16"),
        ["prune", "cast", "cast"],
        "2:4",
    ),
    "cast": (wide, lambda w: cast(w, "float16"), ["cast"], None),
    "cast twice": (wide, lambda w: cast(w, "float16", "bfloat16"), ["cast", "cast"], None),
    "cast and stored wide": (wide, lambda w: cast(w, "bfloat16", "float32"), ["cast"], None),
    "eight bits": (model, lambda w: cast(w, "float8_e5m2"), ["cast"], None),
    "quantised": (model, lambda w: derive.quantize_rtn(w, 4, 32), ["quantized"], None),
    "pruned and quantised": (
        model,
        lambda w: derive.quantize_rtn(derive.prune_magnitude(w, 0.5), 4, 32),
        ["prune", "quantized"],
        None,
    ),
}


@cache
def answer(case):
    start, make, *_ = MADE[case]
    return compared(start(), make(start()), CONFIG, CONFIG)


@pytest.mark.parametrize("case", MADE)
def test_steps_are_replayed_and_the_source_is_the_parent(case):
    _, _, steps, pattern = MADE[case]
    found = answer(case)
    assert found["verdict"] == "related"
    assert found["relation"]["steps"] == steps
    assert found["relation"]["kind"] == steps[0]
    assert found["direction"]["parent"] == "a"
    assert found["direction"]["probability"] > 0.99
    assert pattern is None or found["relation"]["details"]["pattern"] == pattern


@pytest.mark.parametrize("case", ["magnitude", "cast twice"])
def test_the_order_of_the_models_changes_the_side_alone(case):
    start, make, *_ = MADE[case]
    found = compared(make(start()), start(), CONFIG, CONFIG)
    assert found["relation"] == answer(case)["relation"]
    assert found["direction"]["parent"] == "b"


LEFT = {
    "tuned, then quantised": (lambda: derive.quantize_rtn(model("llama-a-ft1"), 4, 32), ["fine-tune", "quantized"]),
    "tuned, then pruned": (lambda: derive.prune_magnitude(model("llama-a-ft1"), 0.5), ["fine-tune", "prune"]),
    "pruned, then tuned": (lambda: trained(derive.prune_magnitude(model(), 0.5), 0.05), ["prune", "fine-tune"]),
    "tuned, with entries lost": (lambda: prune_random(model("llama-a-ft1"), 0.2, rng()), ["fine-tune", "prune"]),
    "adapter, then cast": (lambda: cast(model("llama-a-lora"), "float8_e4m3fn"), ["lora-merge", "cast"]),
    "adapter": (lambda: model("llama-a-lora"), ["lora-merge"]),
    "tuned": (lambda: model("llama-a-ft1"), ["fine-tune"]),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_lies_below_the_outermost_step_is_typed(case):
    make, steps = LEFT[case]
    found = compared(model(), make(), CONFIG, CONFIG)
    assert found["relation"]["steps"] == steps
    assert found["relation"]["kind"] == steps[0]


@pytest.mark.parametrize("bits", [4, 8])
def test_what_was_trained_a_little_from_a_quantised_model_is_its_child(bits):
    """It rounds to the codes of its parent, which would make it the source; its differences are too small for that."""
    quantised = derive.quantize_rtn(model(), bits, 32)
    found = compared(derive.add_noise(quantised, 0.003, rng()), quantised, CONFIG, CONFIG)
    assert found["relation"]["kind"] == "fine-tune"
    assert found["direction"]["parent"] == (
        None if bits == 8 else "b"
    )  # the steps of eight bits are as small as the change


def test_what_was_trained_a_little_from_a_narrow_format_is_its_child():
    old = model()
    new = {
        k: (v.astype(np.float64) * (1 + 2.0**-14 * rng().uniform(-1, 1, v.shape))).astype(np.float32)
        for k, v in old.items()
    }
    found = compared(new, old, CONFIG, CONFIG)
    assert found["relation"]["kind"] == "fine-tune"
    assert found["direction"]["parent"] == "b"


def test_dense_training_of_a_sparse_model_is_no_source_of_it():
    sparse = prune_global(model(), 0.5)
    found = compared(sparse, derive.add_noise(sparse, 0.02, rng()), CONFIG, CONFIG)
    assert "prune" not in found["relation"]["steps"]
    assert found["direction"]["parent"] is None


def test_two_masks_that_do_not_lie_in_one_another_are_siblings():
    found = compared(prune_random(model(), 0.3, rng(1)), prune_random(model(), 0.3, rng(2)), CONFIG, CONFIG)
    assert found["relation"]["kind"] == "sibling"
    assert found["direction"]["parent"] is None


def test_a_few_entries_set_to_zero_are_no_pruning():
    found = compared(model(), prune_random(model(), 0.01, rng()), CONFIG, CONFIG)
    assert "prune" not in found["relation"]["steps"]


def test_a_pruned_stranger_stays_a_stranger():
    found = compared(model(), derive.prune_magnitude(model("llama-b"), 0.5), CONFIG, CONFIG)
    assert found["verdict"] == "no-evidence"
    assert found["relation"] is None


def test_no_trained_pair_was_pruned_cast_or_quantised():
    """Every edge of two families, both ways: training alone leaves none of these."""
    truth = json.loads((FIXTURES / "nursery" / "truth.json").read_text())["models"]
    pairs = [(m["parents"][0], m["id"]) for m in truth if m["parents"] and m["family"] in (1, 9)]
    studies = {i: study_of(derive.load(FIXTURES / "nursery" / i), i) for i in {x for pair in pairs for x in pair}}
    for parent, child in pairs:
        found = [replayed(studies[x], studies[y]) for x, y in ((parent, child), (child, parent))]
        assert all(f is None or f.kind == "lora-merge" for f in found), (parent, child)
