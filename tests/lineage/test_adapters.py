"""Adapters as files of their own: merges that are proved, and bases that are not."""

from functools import cache

import numpy as np
import pytest

import adapters
import derive
from lineage.growing import tree
from lineage.searching import find_all
from nulls import ROOT

ZOO = ROOT / "fixtures" / "zoo"


@cache
def model(name="llama-a"):
    return derive.drop_layers(derive.load(ZOO / name), [2, 3])


@cache
def adapter(seed=0, rank=4):
    return adapters.lora_adapter(model(), rank, np.random.default_rng(seed))


def grown(tmp_path, models, loose):
    for name, weights in models.items():
        derive.save(weights, tmp_path / name)
    for name, weights in loose.items():
        derive.save(weights, tmp_path / name)
        (tmp_path / name / "model.safetensors").rename(tmp_path / name / "adapter_model.safetensors")
        (tmp_path / name / "adapter_config.json").write_bytes(adapters.adapter_config(4, 8, "somebody/else"))
    return tree(find_all([str(tmp_path)]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_merge_is_proved_and_directs_its_link(tmp_path, dtype):
    base = derive.cast(model(), dtype)
    merged = adapters.merge_adapter(base, adapter(), 2.0)
    found = grown(tmp_path, {"base": base, "merged": merged}, {"adapter": adapter()})
    (entry,) = found["adapters"]
    assert (entry["rank"], entry["targets"], entry["compatible_with"]) == (4, ["q_proj", "v_proj"], ["base", "merged"])
    assert [(m["base"], m["merged"]) for m in entry["merged"]] == [("base", "merged")]
    assert abs(entry["merged"][0]["scale"] - 2.0) < 0.01
    edges = {(e["parent"], e["child"]): e for e in found["edges"]}
    assert set(edges) == {("base", "merged"), ("adapter", "merged")}
    assert all(e["kind"] == "lora-merge" for e in edges.values())
    assert len({n["component"] for n in found["nodes"]}) == 1
    assert [c["size"] for c in found["components"]] == [3]
    assert not found["unresolved"]


def test_without_a_merge_an_adapter_is_compatible_and_no_more(tmp_path):
    models = {"a": model(), "tuned": model("llama-a-ft1"), "stranger": model("llama-b")}
    found = grown(tmp_path, models, {"adapter": adapter()})
    (entry,) = found["adapters"]
    assert entry["compatible_with"] == ["a", "stranger", "tuned"]
    assert entry["base"] is None
    assert entry["merged"] == []
    assert "compatible with 3" in entry["reason"]
    assert all("adapter" not in (e["parent"], e["child"]) for e in found["edges"])


def test_another_adapter_of_the_same_form_was_not_merged(tmp_path):
    merged = adapters.merge_adapter(model(), adapter(), 1.0)
    found = grown(tmp_path, {"base": model(), "merged": merged}, {"other": adapter(1), "narrow": adapter(2, 1)})
    assert [e["merged"] for e in found["adapters"]] == [[], []]
    assert {n["id"]: n["component"] for n in found["nodes"]}["other"] not in {
        n["component"] for n in found["nodes"] if n["id"] in ("base", "merged")
    }


def test_adapters_of_other_shapes_fit_nothing(tmp_path):
    wrong = {k: v[:, :-1] if "lora_A" in k else v for k, v in adapter().items()}
    odd = {k: v for k, v in adapter().items() if "lora_A" in k}
    hostile = {k: np.full_like(v, np.nan) for k, v in adapter().items()}
    models = {"base": model(), "merged": adapters.merge_adapter(model(), adapter())}
    found = grown(tmp_path, models, {"wrong": wrong, "odd": odd, "hostile": hostile})
    told = {e["id"]: e for e in found["adapters"]}
    assert set(told) == {"wrong", "hostile"}
    assert told["wrong"]["compatible_with"] == []
    assert told["hostile"]["merged"] == []
