"""The trap set: pair builders of known truth, each of which breaks a published tool. Numbers are those of the set.

16, 17 and 22 (merges, adapters, declared parents) belong to commands that do not exist yet.
"""

import json
import shutil
from functools import cache

import numpy as np
import pytest

import derive
import nulls
from crawl import CrawlError, ModelRef
from disguised import HEADS, REWRITES, compared, config, weights
from lineage.comparing import CompareOptions, compare, compare_signed
from lineage.growing import TreeOptions, tree
from nulls import ROOT, signature_of, without_power

ZOO = ROOT / "fixtures" / "zoo"
A = "llama-a"


@without_power()
def answer(first, second, config_a=None, config_b=None):
    return compared(first, second, config_a or config(A), config_b or config(A))


@cache
def plainly(name):
    """The document of the first model and another one, both as they are."""
    return answer(weights(A), weights(name))


def test_01_one_config_and_two_seeds_are_strangers():
    found = plainly("llama-b")
    assert found["verdict"] == "no-evidence"
    assert found["log10_p"] > -2


def test_02_a_config_and_a_tokenizer_without_weights_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(ZOO / A / "config.json", tmp_path / name)
        (tmp_path / name / "tokenizer.json").write_text("{}")
    with pytest.raises(CrawlError, match="no weight file"):
        compare(str(tmp_path / "a"), str(tmp_path / "b"))


def test_03_a_metadata_field_changes_nothing(tmp_path):
    plain = config(A)
    for name, claims in (("a", plain), ("b", {**plain, "_name_or_path": "somebody/else", "hidden_act": "relu"})):
        derive.save(weights(A), tmp_path / name, config=claims)
    assert compare(str(tmp_path / "a"), str(tmp_path / "b"))["verdict"] == "identical"


@pytest.mark.parametrize("rows", [1, 16])
def test_04_extra_vocabulary_rows_leave_the_p_value(rows):
    """Within a factor of ten, for a copy and for strangers."""
    for other in ("llama-a-ft1", "llama-b"):
        grown = derive.extend_vocab(weights(other), rows, np.random.default_rng(rows))
        before, after = plainly(other), answer(weights(A), grown)
        assert before["verdict"] == after["verdict"]
        assert after["log10_p"] == pytest.approx(before["log10_p"], abs=1.0)


@pytest.mark.parametrize(("number", "rewrite"), [(5, "permuted"), (6, "turned"), (7, "rescaled")])
def test_05_to_07_one_rewrite_hides_nothing(number, rewrite):
    child = REWRITES[rewrite](weights("llama-a-ft1"), np.random.default_rng(number))
    found = answer(weights(A), child)
    assert found["verdict"] == "related"
    assert found["log10_p"] < -12


def test_08_all_rewrites_and_new_rows_at_once():
    rng = np.random.default_rng(8)
    child = derive.extend_vocab(REWRITES["all"](weights("llama-a-ft1"), rng), 16, rng)
    found = answer(weights(A), child)
    assert found["verdict"] == "related"
    assert [(e["a"], e["b"]) for e in found["layers"]] == [(i, i) for i in range(4)]


def test_09_strangers_trained_on_strongly_clustered_data_are_strangers():
    """Eight runs on clustered tokens that differ in the seed alone: rows of one cluster resemble each other in all."""
    runs = {n: weights(n) for n in sorted(p.name for p in ZOO.glob("cluster-*"))}
    table = runs["cluster-0"]["model.embed_tokens.weight"].astype(float)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    assert np.sort(np.abs((table @ table.T)[np.triu_indices(64, 1)]))[-200:].mean() > 0.5
    found = list(nulls.natural(runs))
    assert len(found) == 28
    assert {d["verdict"] for d in found} == {"no-evidence"}
    assert min(d["log10_p"] for d in found) > -2


def test_10_one_start_and_other_data_is_a_shared_initialisation():
    found = plainly("llama-s")
    assert found["verdict"] == "related"
    assert found["relation"]["kind"] == "shared-init"
    assert found["relation"]["details"]["retention_ratio"] < 0.6
    assert found["relation"]["details"]["gain_correlation"] < 0.3


def test_11_layers_dropped_repeated_and_reordered_are_mapped():
    for order in ([0, 2, 3], [0, 1, 1, 2, 3], [2, 0, 1, 3]):
        found = answer(weights(A), derive.repeat_layers(weights(A), order))
        assert [e["a"] for e in found["layers"]] == order


def test_12_width_pruned_and_trained_on_is_related():
    child = derive.add_noise(derive.prune_width(weights(A), 90), 0.2, np.random.default_rng(12))
    found = answer(weights(A), child)
    assert found["verdict"] == "related"
    assert found["relation"]["kind"] == "width-prune"


@pytest.mark.parametrize("copy", ["float32", "bfloat16", "int8", "int4"])
def test_13_casts_and_quantised_copies_are_related(copy):
    base = weights("llama-a-ft2")
    made = derive.quantize_rtn(base, int(copy[3:]), 32) if copy.startswith("int") else derive.cast(base, copy)
    found = answer(base, made)
    assert found["verdict"] in {"related", "identical"}
    assert copy == "float32" or found["log10_p"] < -12


def test_14_shards_and_order_give_one_report(tmp_path, monkeypatch):
    """Byte for byte, the run's cost apart; `test_invariance` asks the same of one, two and seven shards."""
    seen = set()
    for shards in (1, 7):
        order = [str(n) for n in np.random.default_rng(shards).permutation(sorted(weights(A)))]
        root = tmp_path / str(shards)
        derive.save(weights(A), root / "a", shards=shards, order=order, config=config(A))
        derive.save(weights("llama-a-cpt"), root / "b", config=config(A))
        monkeypatch.chdir(root)
        document = compare("a", "b")
        document["record"].pop("run")
        seen.add(json.dumps(document, sort_keys=True))
    assert len(seen) == 1


def test_15_a_file_replaced_under_one_path_gives_a_new_answer(tmp_path):
    derive.save(weights(A), tmp_path / "a", config=config(A))
    derive.save(weights("llama-a-ft1"), tmp_path / "b", config=config(A))
    assert compare(str(tmp_path / "a"), str(tmp_path / "b"))["verdict"] == "related"
    derive.save(weights("llama-b"), tmp_path / "b", config=config(A))
    assert compare(str(tmp_path / "a"), str(tmp_path / "b"))["verdict"] == "no-evidence"


def test_18_no_tokenizer_and_no_config_are_needed(tmp_path):
    for name, source in (("a", A), ("b", "llama-a-ft1")):
        derive.save(weights(source), tmp_path / name)
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["model.safetensors"]
    assert compare(str(tmp_path / "a"), str(tmp_path / "b"))["verdict"] == "related"


def _fused(w):
    """Llama-shaped weights under the fused names of Phi-3."""
    out = {}
    for name, values in w.items():
        if name.endswith("q_proj.weight"):
            parts = [w[name.replace("q_proj", f"{x}_proj")] for x in "qkv"]
            out[name.replace("q_proj", "qkv_proj")] = np.concatenate(parts)
        elif name.endswith("gate_proj.weight"):
            up = w[name.replace("gate_proj", "up_proj")]
            out[name.replace("gate_proj", "gate_up_proj")] = np.concatenate([values, up])
        elif not name.endswith(("k_proj.weight", "v_proj.weight", "up_proj.weight")):
            out[name] = values
    return out


@pytest.mark.parametrize("moved", [False, True])
def test_19_experts_are_recognised_in_any_order(moved):
    rng = np.random.default_rng(19)
    base = derive.upcycle_moe(weights(A), 16, rng)
    child = derive.add_noise(derive.permute_experts(base, rng) if moved else base, 0.05, rng)
    a, b = signature_of(base, "a"), signature_of(child, "b")
    assert a.architecture is not None
    assert a.architecture.name == "mixtral"
    found = compare_signed(a, b, CompareOptions())
    assert found["verdict"] == "related"
    row = next(t for t in found["tests"] if t["method"] == "expert-units")
    assert (row["log10_p"] < -6) != moved


def test_19_a_dense_model_and_its_experts_are_related():
    upcycled = derive.upcycle_moe(weights("llama-a-ft1"), 8, np.random.default_rng(20))
    assert (
        compare_signed(signature_of(weights(A), "a"), signature_of(upcycled, "b"), CompareOptions())["verdict"]
        == "related"
    )


def test_19_strangers_made_of_experts_stay_strangers():
    rng = np.random.default_rng(21)
    pair = [signature_of(derive.upcycle_moe(weights(n), 16, rng), n) for n in (A, "llama-b")]
    assert compare_signed(*pair, CompareOptions())["verdict"] == "no-evidence"


@pytest.mark.parametrize("form", ["fused", "prefix"])
def test_19_fused_and_wrapped_models_are_recognised(form):
    child = weights("llama-a-ft1")
    other = (
        _fused(child)
        if form == "fused"
        else {f"model.language_model.{k.removeprefix('model.')}": v for k, v in child.items()}
    )
    a, b = signature_of(weights(A), "a"), signature_of(other, "b")
    assert b.architecture is not None
    found = compare_signed(a, b, CompareOptions())
    assert found["verdict"] == "related"
    assert found["log10_p"] < -100


def test_20_a_stranger_in_a_family_stays_alone(tmp_path):
    """Two layers of each: a quarter of the work on a pair."""
    names = [A, "llama-a-ft1", "llama-a-ft2", "llama-b", "llama-a-student"]
    for n in names:
        derive.save(derive.drop_layers(weights(n), [2, 3]), tmp_path / n)
    document = tree([(n, ModelRef.parse(str(tmp_path / n))) for n in names], TreeOptions())
    sizes = {n["id"]: document["components"][n["component"]]["size"] for n in document["nodes"]}
    assert sizes == {A: 3, "llama-a-ft1": 3, "llama-a-ft2": 3, "llama-b": 1, "llama-a-student": 1}


def test_21_equal_profiles_of_layer_spreads_prove_nothing():
    """Every matrix of a stranger scaled to the spread of its namesake: what intrinsic fingerprints compare is equal."""
    other = derive.in_float(
        weights("llama-b"), lambda k, v: v * (weights(A)[k].astype(float).std() / v.std() if v.std() else 1.0)
    )
    spreads = [float(w["model.layers.2.mlp.up_proj.weight"].astype(float).std()) for w in (weights(A), other)]
    assert spreads[0] == pytest.approx(spreads[1], rel=1e-2)
    assert answer(weights(A), other)["verdict"] == "no-evidence"


def test_the_builders_of_heads_fit_the_fixtures():
    assert config(A)["num_attention_heads"] == HEADS["n_heads"]
    assert nulls.ROOT == ROOT
