"""Adapters in a comparison: a base is no test, two adapters are one, and what is sorted or has no units is left out."""

import json
import math
from functools import cache

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import adapters
import derive
from lineage.comparing import CompareOptions, compare
from lineage.pairs import compare_pairs
from lineage.report import compare_text
from nulls import ROOT
from program import run

ZOO = ROOT / "fixtures" / "zoo"
SCHEMA = Draft202012Validator(json.loads((ROOT / "schemas" / "compare-1.json").read_text()))


@cache
def base(name="llama-a"):
    return derive.load(ZOO / name)


def adapter(seed, rank=8):
    return adapters.lora_adapter(base(), rank, np.random.default_rng(seed))


def saved(folder, weights, declared="org/llama-a"):
    derive.save(weights, folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_bytes(adapters.adapter_config(8, 16, declared))
    return str(folder)


def moved(weights, seed, *, of_a=0.0, of_b=0.0):
    """An adapter trained from another: so much of A and of B is new, relative to its size."""
    rng = np.random.default_rng(seed)
    share = {"lora_A": of_a, "lora_B": of_b}
    return {
        k: (v + share[k.split(".")[-2]] * v.std() * rng.standard_normal(v.shape)).astype(np.float32)
        for k, v in weights.items()
    }


def pair(tmp_path, one, other):
    return compare(saved(tmp_path / "one", one), saved(tmp_path / "other", other))


@pytest.mark.parametrize("turned", [False, True])
def test_an_adapter_alone_is_no_evidence_for_its_base(tmp_path, turned):
    names = (str(ZOO / "llama-a"), saved(tmp_path / "adapter", adapter(0)))
    found = compare(*(names[::-1] if turned else names))
    assert (found["verdict"], found["relation"], found["log10_p"]) == ("untestable", None, 0.0)
    SCHEMA.validate(found)
    assert (found["adapters"]["fits"], found["adapters"]["names_the_other"]) == (True, True)
    side = found["adapters"]["a" if turned else "b"]
    assert (side["rank"], side["targets"], side["declared"]) == (8, ["q_proj", "v_proj"], ["org/llama-a"])
    text = " ".join(compare_text(found).split())
    assert "is an adapter and holds no copy of its base" in text
    assert "a claim, no evidence" in text
    assert "It fits by names and shapes, as it would every model of this architecture." in text


def test_a_base_of_other_shapes_does_not_fit(tmp_path):
    found = compare(str(ZOO / "gpt2-a"), saved(tmp_path / "adapter", adapter(0), "x/y"))
    assert found["verdict"] == "untestable"
    assert (found["adapters"]["fits"], found["adapters"]["names_the_other"]) == (False, False)
    assert "It does not fit" in compare_text(found)


def test_the_command_ends_as_the_contract_says(tmp_path):
    names = (str(ZOO / "llama-a"), saved(tmp_path / "adapter", adapter(0)))
    done = run("compare", *names, "--require", "related", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["verdict"] == "untestable"


@pytest.mark.parametrize(("of_a", "of_b"), [(0.3, 30.0), (0.5, 0.5), (30.0, 0.3)])
def test_adapters_of_one_start_are_related(tmp_path, of_a, of_b):
    found = pair(tmp_path, adapter(0), moved(adapter(0), 1, of_a=of_a, of_b=of_b))
    SCHEMA.validate(found)
    assert found["verdict"] == "related"
    assert found["log10_p"] < -20
    assert (found["relation"]["kind"], found["direction"]["parent"]) == ("related", None)
    assert found["tests"][0]["method"] == "adapter-units"
    assert "common initialisation" in " ".join(compare_text(found).split())


def test_equal_adapters_are_identical(tmp_path):
    assert pair(tmp_path, adapter(0), adapter(0))["verdict"] == "identical"


def test_strangers_are_not_called_related(tmp_path):
    """Of 60 pairs none reaches 0.01 and the mean e-value is at most 1 within its error."""
    mine = saved(tmp_path / "mine", adapter(1000))
    others = [saved(tmp_path / str(i), adapter(i)) for i in range(60)]
    documents = list(compare_pairs([(mine, o) for o in others], CompareOptions()))
    assert {d["verdict"] for d in documents} == {"no-evidence"}
    assert min(d["log10_p"] for d in documents) > -2
    e = [10 ** d["tests"][0]["log10_e"] for d in documents]
    assert np.mean(e) <= 1 + 3 * np.std(e) / math.sqrt(len(e))


def test_adapters_cut_out_by_singular_values_are_sorted_and_skipped(tmp_path):
    def cut(name):
        made = {}
        for key, values in base(name).items():
            if key.endswith(("q_proj.weight", "v_proj.weight")):
                u, s, v = np.linalg.svd(values.astype(np.float64) - base()[key].astype(np.float64), full_matrices=False)
                path = f"base_model.model.{key.removesuffix('.weight')}"
                made[f"{path}.lora_A.weight"] = (np.sqrt(s[:8, None]) * v[:8]).astype(np.float32)
                made[f"{path}.lora_B.weight"] = (u[:, :8] * np.sqrt(s[:8])).astype(np.float32)
        return made

    found = pair(tmp_path, cut("llama-a-ft1"), cut("llama-a-cpt"))
    assert found["verdict"] == "untestable"
    assert any("sorted units" in s["reason"] for s in found["skipped"])


@pytest.mark.parametrize("ranks", [(1, 1), (4, 8)])
def test_single_units_and_other_ranks_share_no_labels(tmp_path, ranks):
    found = pair(tmp_path, adapter(0, ranks[0]), adapter(1, ranks[1]))
    assert found["verdict"] == "untestable"
    assert any("0 of 8 modules" in s["reason"] for s in found["skipped"])


def test_one_order_of_units_in_both_changes_nothing(tmp_path):
    other = moved(adapter(0), 1, of_a=0.5, of_b=0.5)
    order = np.random.default_rng(2).permutation(8)
    turn = lambda w: {k: v[order] if "lora_A" in k else v[:, order] for k, v in w.items()}  # noqa: E731
    plain = pair(tmp_path / "plain", adapter(0), other)
    turned = pair(tmp_path / "turned", turn(adapter(0)), turn(other))
    assert turned["verdict"] == plain["verdict"] == "related"
    assert turned["tests"][0]["statistic"] == pytest.approx(plain["tests"][0]["statistic"], abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_hostile_values_are_left_out(tmp_path, value):
    found = pair(tmp_path, adapter(0), {k: np.full_like(v, value) for k, v in adapter(1).items()})
    assert found["verdict"] == "untestable"
    assert found["log10_p"] == 0.0
    assert "UNTESTABLE" in compare_text(found)
