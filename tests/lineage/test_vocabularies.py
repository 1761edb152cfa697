"""Other ids for the same strings: a closer look joins the rows of two embeddings by what their tokenizers say."""

import json

import numpy as np
import pytest

import derive
from disguised import REWRITES, compared, config, weights
from lineage.body import Body
from lineage.budget import LIMITS, Limits
from lineage.tokens import shared_rows
from nulls import opened, without_power

N = 256
WORDS = [f"w{i}" for i in range(N)]
SAMPLED = Limits(whole=0)


def tokenizer(order):
    """The file of a model whose row `i` is word `order[i]`."""
    vocab = {WORDS[word]: row for row, word in enumerate(order)}
    return {"tokenizer.json": json.dumps({"model": {"type": "BPE", "vocab": vocab}, "added_tokens": []}).encode()}


def reordered(w, order):
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    return {k: v[order] if k in tables else v for k, v in w.items()}


ORDER = np.random.default_rng(7).permutation(N)
PLAIN, MOVED = tokenizer(range(N)), tokenizer(ORDER)


@without_power()
def answer(name, base="llama-a", limits=LIMITS, files=(PLAIN, MOVED)):
    changed = derive.add_noise(
        reordered(REWRITES["all"](weights(name), np.random.default_rng(3)), ORDER), 0.02, np.random.default_rng(4)
    )
    return compared(weights(base), changed, config(base), config(name), limits=limits, files=files)


def row_of(found):
    return next(t for t in found["tests"] if t["method"] == "unit-agreement")


@pytest.mark.parametrize("limits", [LIMITS, SAMPLED], ids=["whole", "sampled"])
@pytest.mark.parametrize("name", ["llama-a-ft1", "llama-a-cpt"])
def test_rows_are_joined_by_their_strings(name, limits):
    found = answer(name, limits=limits)
    assert found["verdict"] in {"related", "resembles"}
    assert row_of(found)["statistic"] > 0.9
    assert "rotation" in row_of(found)["scope"]
    assert "residual-rotation" in found["disguise"]["transforms"]
    assert [(e["a"], e["b"]) for e in found["layers"]] == [(i, i) for i in range(4)]


@pytest.mark.parametrize("limits", [LIMITS, SAMPLED], ids=["whole", "sampled"])
def test_without_strings_the_same_model_is_not_found(limits):
    found = answer("llama-a-cpt", limits=limits, files=(None, None))
    assert found["verdict"] == "no-evidence"
    assert row_of(found)["statistic"] < 0.05


@pytest.mark.parametrize("limits", [LIMITS, SAMPLED], ids=["whole", "sampled"])
def test_strangers_stay_strangers_when_their_strings_are_joined(limits):
    for name in ("llama-b", "llama-a-student"):
        found = answer(name, limits=limits)
        assert found["verdict"] == "no-evidence"
        assert row_of(found)["statistic"] < 0.05


def test_a_copy_with_other_ids_and_another_order_of_units_keeps_its_tables():
    """Compared by string the tables are equal; compared by row they would be foreign."""
    rng = np.random.default_rng(0)
    moved = reordered(derive.permute_hidden(weights("llama-a"), rng), ORDER)
    found = compared(weights("llama-a"), moved, config("llama-a"), config("llama-a"), files=(PLAIN, MOVED))
    assert found["verdict"] == "related"
    assert found["relation"]["kind"] == "identical"
    assert found["disguise"]["agreement_after"]["exactness"] == "bits"
    blind = compared(weights("llama-a"), moved, config("llama-a"), config("llama-a"))
    assert blind["relation"]["kind"] != "identical"


def test_a_malformed_tokenizer_is_said_and_rows_are_taken_as_they_are():
    for bad in (b"{", b'{"model": {"vocab": {"a": -1}}}'):
        found = answer("llama-a-ft1", files=(PLAIN, {"tokenizer.json": bad}))
        reasons = [s["reason"] for s in found["skipped"] if s["tensor"] == "tokenizer.json"]
        assert len(reasons) == 1
        assert "row by row" in reasons[0]


def pairs(first, second):
    w = weights("llama-a")
    with opened(w, "a", None, first) as a, opened(w, "b", None, second) as b:
        return shared_rows(*(Body(m, m.architecture) for m in (a, b)))


def test_equal_tokenizers_few_strings_and_foreign_rows():
    same = pairs(PLAIN, PLAIN)
    assert not same.joined
    assert same.whole
    few = {"tokenizer.json": json.dumps({"model": {"vocab": {f"w{i}": i + 1 for i in range(9)}}}).encode()}
    assert not pairs(PLAIN, few).joined
    far = {"tokenizer.json": json.dumps({"model": {"vocab": {f"w{i}": i + 100 for i in range(N)}}}).encode()}
    found = pairs(PLAIN, far)
    assert found.joined
    assert not found.whole
    assert found.a.size == N - 100  # rows beyond the table are no rows
    assert np.array_equal(found.b, found.a + 100)


def test_spaces_are_one_space_and_joining_is_right():
    spaced = {"tokenizer.json": json.dumps({"model": {"vocab": {f"\u2581w{i}": N - 1 - i for i in range(N)}}}).encode()}
    marked = {"tokenizer.json": json.dumps({"model": {"vocab": {f"\u0120w{i}": i for i in range(N)}}}).encode()}
    found = pairs(spaced, marked)
    assert found.joined
    assert found.whole
    assert np.array_equal(found.b, N - 1 - found.a)
    found = pairs(PLAIN, MOVED)
    assert np.array_equal(ORDER[found.b], found.a)
