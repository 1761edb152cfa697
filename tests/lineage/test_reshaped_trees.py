"""Trees over shapes: what was cut, grown or stacked hangs below what it was made from, and what only looks like it does not."""

from functools import cache

import numpy as np
import pytest

import derive
from lineage.growing import tree
from lineage.reshaping import reshaped
from lineage.searching import find_all
from nulls import ROOT
from slices import study_of

ZOO = ROOT / "fixtures" / "zoo"


@cache
def model(name="llama-a"):
    return derive.drop_layers(derive.load(ZOO / name), [3])


def tuned(w, rel=0.05, seed=0):
    return derive.add_noise(w, rel, np.random.default_rng(seed))


def rng(seed=0):
    return np.random.default_rng(seed)


def grown(tmp_path, models):
    for name, weights in models.items():
        derive.save(weights, tmp_path / name)
    return tree(find_all([str(tmp_path)]))


def edges_of(document):
    return {(e["parent"], e["child"]): e["kind"] for e in document["edges"]}


def test_every_child_of_another_shape_hangs_below_its_own_parent(tmp_path):
    v, s, t = model(), model("llama-a-ft1"), model("llama-a-cpt")
    cut, wide = derive.drop_layers(s, [1]), derive.extend_vocab(t, 16, rng())
    models = {
        "v": v,
        "s": s,
        "t": t,
        "cut": cut,
        "cut-tuned": tuned(cut),
        "narrow": derive.prune_width(v, 100),
        "tall": derive.repeat_layers(t, [0, 1, 2, 1, 2]),
        "vocabulary": wide,
        "experts": derive.upcycle_moe(s, 3, rng()),
    }
    found = edges_of(grown(tmp_path, models))
    assert found == {
        ("v", "s"): "fine-tune",
        ("v", "t"): "continued-pretraining",
        ("s", "cut"): "depth-prune",
        ("cut", "cut-tuned"): "fine-tune",
        ("v", "narrow"): "width-prune",
        ("t", "tall"): "depth-upscale",
        ("t", "vocabulary"): "vocab-change",
        ("s", "experts"): "moe-upcycle",
    }


def test_a_stack_of_siblings_and_one_of_strangers_have_both_parents(tmp_path):
    v, s, t, b = model(), model("llama-a-ft1"), model("llama-a-cpt"), model("llama-b")
    kin = derive.stack(s, t, [(0, 0), (0, 1), (1, 1), (1, 2)])
    mixed = derive.stack(v, b, [(0, 0), (0, 1), (1, 1), (1, 2)])
    found = edges_of(grown(tmp_path, {"v": v, "s": s, "t": t, "b": b, "kin": kin, "mixed": mixed}))
    assert {p for p, c in found if c == "kin"} == {"s", "t"}
    assert {p for p, c in found if c == "mixed"} == {"v", "b"}
    assert {k for (_, c), k in found.items() if c in ("kin", "mixed")} == {"frankenmerge"}


def test_names_and_order_change_nothing(tmp_path):
    models = {"z": model(), "m": derive.drop_layers(model(), [0]), "a": tuned(derive.drop_layers(model(), [0]))}
    assert edges_of(grown(tmp_path / "one", models)) == {("z", "m"): "depth-prune", ("m", "a"): "fine-tune"}
    other = {"a": models["z"], "z": models["m"], "m": models["a"]}
    assert edges_of(grown(tmp_path / "two", other)) == {("a", "z"): "depth-prune", ("z", "m"): "fine-tune"}


def between(first, second):
    return reshaped(study_of(first, "a"), study_of(second, "b"))


def trimmed(w, n):
    return {k: v[:-n] if "embed" in k or "lm_head" in k else v for k, v in w.items()}


def test_a_trimmed_vocabulary_is_told_from_a_grown_one():
    w = trimmed(model(), 128)  # what is left was seen in training, its end too
    cut, more = between(w, trimmed(w, 16)), between(w, derive.extend_vocab(w, 16, rng()))
    assert cut is not None
    assert more is not None
    assert (cut.kind, cut.forward, cut.details["further_rows"]) == ("vocab-change", True, "as the others")
    assert (more.kind, more.forward, more.details["further_rows"]) == ("vocab-change", True, "near the mean")
    assert 0.0 < cut.log_odds < more.log_odds
    healed = between(w, tuned(trimmed(w, 16)))
    assert healed is not None
    assert healed.log_odds == 0.0


def test_reserved_tokens_at_the_end_tell_no_direction():
    found = between(model(), trimmed(model(), 16))
    assert found is not None
    assert (found.kind, found.log_odds) == ("vocab-change", 0.0)


def test_another_table_is_no_grown_vocabulary():
    donor = derive.extend_vocab(model("llama-b"), 16, rng())
    found = between(model(), derive.swap_embedding(model(), donor))
    assert found is not None
    assert (found.kind, found.log_odds) == ("embedding-swap", 0.0)


def test_a_stranger_with_a_borrowed_layer_was_not_cut_from_the_lender():
    """Half of the layers are the other's: neither whole nor cut."""
    mixed = derive.stack(model(), model("llama-b"), [(0, 0), (1, 1)])
    found = between(model(), mixed)
    assert found is None or found.log_odds == 0.0


def test_unlike_layers_between_equal_ones_are_no_repeats():
    """Growth by foreign layers is not told from a cut: it is called one, and never surer than that."""
    grown_ = derive.stack(model(), model("llama-b"), [(0, 0), (1, 1), (0, 1), (0, 2)])
    found = between(model(), grown_)
    assert found is not None
    assert (found.kind, found.forward) == ("depth-prune", False)
    assert found.log_odds <= 8.0


@pytest.mark.parametrize("make", [lambda w: derive.drop_layers(w, [1]), lambda w: derive.prune_width(w, 100)])
def test_strangers_of_other_shapes_have_no_relation(make):
    assert between(model(), make(model("llama-b"))) is None


def test_experts_of_another_model_are_no_upcycling():
    found = between(model(), derive.upcycle_moe(model("llama-b"), 3, rng()))
    assert found is None
    equal = between(model(), derive.upcycle_moe(model(), 3, rng(), noise=0.0))
    assert equal is not None
    assert equal.details["experts_equal"]


def test_parts_of_another_origin_in_one_shape_name_the_kind(tmp_path):
    v, b = model(), model("llama-b")
    head = {k: b[k] if "lm_head" in k else x for k, x in v.items()}
    models = {
        "v": v,
        "s": model("llama-a-ft1"),
        "t": model("llama-a-cpt"),
        "table": tuned(derive.swap_embedding(v, b)),
        "head": tuned(head, 0.04, 1),
        "half": tuned(derive.stack(v, tuned(b, 0.3, 5), [(0, 0), (0, 1), (1, 2)]), 0.06, 2),
        "twice": tuned(derive.repeat_layers(v, [0, 1, 1]), 0.03, 3),
    }
    found = grown(tmp_path, models)
    kinds = {frozenset((x["a"], x["b"])): x["kind"] for x in found["unresolved"] if x["reason"] != "sibling"}
    kinds |= {frozenset((e["parent"], e["child"])): e["kind"] for e in found["edges"]}
    told = {name: {k for pair, k in kinds.items() if name in pair} for name in ("table", "head", "half", "twice")}
    assert "embedding-swap" in told["table"]
    assert "head-swap" in told["head"]
    assert "partial-copy" in told["half"]
    assert "frankenmerge" in told["twice"]
