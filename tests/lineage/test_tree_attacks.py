"""Inputs made to turn a family tree: planted ancestors, planted merges, hostile numbers."""

import json
from unittest.mock import patch

import numpy as np
import pytest

import derive
from lineage import making
from lineage.ensemble import Merge, MergeParent, spacing
from lineage.growing import tree
from lineage.kinship import extrapolated
from lineage.searching import find_all
from lineage.study import Study
from nulls import ROOT

ZOO, NURSERY = ROOT / "fixtures" / "zoo", ROOT / "fixtures" / "nursery"


def model(name):
    return derive.drop_layers(derive.load(ZOO / name), [2, 3])


def small(name):
    return derive.load(NURSERY / name)


def grown(tmp_path, models):
    for name, weights in models.items():
        derive.save(weights, tmp_path / name)
    document = tree(find_all([str(tmp_path)]))
    json.dumps(document, allow_nan=False)
    return document


def parents_of(document, child):
    return {e["parent"] for e in document["edges"] if e["child"] == child}


def each(w, change):
    return {k: change(v.astype(np.float64)).astype(np.float32) for k, v in w.items()}


def test_a_planted_source_does_not_make_an_original_the_merge_of_its_child(tmp_path):
    """y = 2 v - s with the low bits chosen so that v is the mean of s and y, rounded: an equation, no origin."""
    rng = np.random.default_rng(0)
    v, s = model("llama-a"), model("llama-a-ft1")
    y = {}
    for k in v:
        x = v[k].astype(np.float64)
        room = 0.49 * spacing(x.ravel(), "BF16").reshape(x.shape) * rng.uniform(-1, 1, x.shape) * (x != 0.0)
        y[k] = (2.0 * (x + room) - s[k].astype(np.float64)).astype(np.float32)
    document = grown(tmp_path, {"v": v, "s": s, "y": y, "s2": model("llama-a-cpt")})
    assert not parents_of(document, "v") & {"s", "y"}
    assert all(e["kind"] != "merge" for e in document["edges"])


def test_an_extrapolated_ancestor_is_not_believed(tmp_path):
    """x = 2 v - s is older than v in every trait: on a straight line traits say nothing."""
    rng = np.random.default_rng(0)
    v, s = model("llama-a"), model("llama-a-ft1")
    x = {
        k: (
            (2.0 * v[k].astype(np.float64) - s[k].astype(np.float64)) * (1 + 2.0**-14 * rng.normal(size=v[k].shape))
        ).astype(np.float32)
        for k in v
    }
    document = grown(tmp_path, {"v": v, "s": s, "x": x})
    assert parents_of(document, "v") == set()


def test_straight_lines_are_found_and_corners_are_not():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.1], [1.0, 3.0]])
    squared = np.sum((points[:, None] - points[None]) ** 2, axis=-1)
    found = extrapolated(squared)
    assert found[:3, :3].sum() == 6
    assert not found[3].any()


def test_scaled_up_rows_of_a_copy_are_no_ancestor(tmp_path):
    """Untouched rows times 1.1 look less decayed, and their rounding says who was made from whom."""
    v, s, t = model("llama-a"), model("llama-a-ft1"), model("llama-a-cpt")
    name = "model.embed_tokens.weight"
    still = np.abs(s[name].astype(np.float64) / v[name].astype(np.float64) - 0.9925).max(axis=1) < 0.02
    thief = {k: x.copy() for k, x in s.items()}
    thief[name][still] = (1.1 * thief[name][still].astype(np.float64)).astype(thief[name].dtype)
    document = grown(tmp_path, {"v": v, "thief": thief, "t": t})
    told = [x["name"] for e in document["edges"] if e["parent"] == "thief" for x in e["evidence"]["signals"]]
    assert int(still.sum()) > 100
    assert "untouched-rows" not in told


def test_a_copy_of_ones_own_is_no_third_model(tmp_path):
    """Two models stay undirected when one of them brings its own rounded or quantised copy."""
    v, s = model("llama-a"), model("llama-a-ft2")
    document = grown(tmp_path, {"v": v, "s": s, "copy": derive.cast(s, "float16"), "q": derive.quantize_rtn(v, 4, 32)})
    assert {(e["parent"], e["child"]) for e in document["edges"]} == {("s", "copy"), ("v", "q")}
    assert any({u["a"], u["b"]} == {"v", "s"} for u in document["unresolved"])


@pytest.mark.parametrize("factor", [1e-155, 1e100, 1e160, 1e200, 1e300])
def test_extreme_matrices_of_one_member_stop_nobody(tmp_path, factor):
    evil = {k: v.astype(np.float64) for k, v in small("nursery-00-01").items()}
    evil["model.layers.0.mlp.down_proj.weight"] *= factor
    names = {n: small(f"nursery-00-0{n[-1]}") for n in ("m0", "m1", "m2", "m4")}
    document = grown(tmp_path, {**names, "evil": evil})
    assert {n["id"] for n in document["nodes"]} == {*names, "evil"}
    assert {e["child"] for e in document["edges"]} >= {"m2", "m4"}


def test_a_member_that_lost_a_layer_is_not_the_root(tmp_path):
    names = {"v": "llama-a", "s": "llama-a-ft1", "t": "llama-a-cpt", "u": "llama-a-lora"}
    models = {k: derive.load(ZOO / n) for k, n in names.items()}
    models["cut"] = derive.drop_layers(models["u"], [3])
    document = grown(tmp_path, models)
    assert document["components"][0]["roots"] == ["v"]


def test_no_root_has_a_parent_and_no_edge_is_a_sibling(tmp_path):
    v, s, t = model("llama-a"), model("llama-a-ft1"), model("llama-a-cpt")
    merged = derive.merge_linear([s, v], [0.7, 0.3])
    document = grown(tmp_path, {"v": v, "s": s, "t": t, "m": merged})
    children = {e["child"] for e in document["edges"]}
    assert not children & {r for c in document["components"] for r in c["roots"]}
    joined = {frozenset((e["parent"], e["child"])) for e in document["edges"]}
    assert not joined & {frozenset((u["a"], u["b"])) for u in document["unresolved"]}


def test_edits_of_single_values_are_neither_adapters_nor_training(tmp_path):
    rng = np.random.default_rng(0)
    base = small("nursery-00-00")
    copies = {}
    for i in range(4):
        w = {k: v.copy() for k, v in base.items()}
        for v in w.values():
            v.reshape(-1)[int(rng.integers(v.size))] += 1
        copies[f"c{i}"] = w
    document = grown(tmp_path, copies)
    assert all(e["kind"] != "lora-merge" for e in document["edges"])
    assert all(e["evidence"]["signals"] == [] for e in document["edges"])


def test_answers_that_go_round_are_not_all_believed():
    """Four members each explained by the next: what is settled first makes the last answer stale."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(8, 8))
    names = ("j", "k", "l", "m", "z1", "z2")
    members = [
        Study(n, "F32", {"0.attn.q": "F32"}, {"0.attn.q": base + 0.01 * rng.normal(size=(8, 8))}, {}, {}, 1, 0, 0)
        for n in names
    ]
    wanted = {"m": ("j", 0.999), "k": ("l", 0.998), "l": ("m", 0.997), "j": ("k", 0.990)}
    known = {id(m.matrices): m.id for m in members}

    def answer(child, others, _dtype):
        source, share = wanted.get(known[id(child)], (None, 0.0))
        if source not in others:
            return None
        return Merge("linear", (MergeParent(source, 0.5), MergeParent("z1", 0.5)), None, share, 0.99)

    with patch.object(making, "find_merge", answer), patch.object(making, "explained_share", lambda _s, _i: 1.0):
        found = making._merges(members)
    for start in found:
        seen, here = set(), start
        while here in found:
            assert here not in seen
            seen.add(here)
            here = found[here].parents[0][0]
