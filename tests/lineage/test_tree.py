import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
from lineage.errors import NoModelError, UsageError
from lineage.graph import connected_components
from lineage.growing import TreeOptions, tree
from lineage.infer import Link, copies_of, spanning_tree
from lineage.searching import find_all, read_references
from nulls import ROOT
from program import run

ZOO = ROOT / "fixtures" / "zoo"


def link(a, b, distance, log_odds=0.0):
    return Link(a, b, distance, log_odds, "fine-tune", True, -100.0, "exact")


def _shallow(name):
    """Two layers of four: a quarter of the work on each pair."""
    return derive.drop_layers(derive.load(ZOO / name), [2, 3])


def _family(tmp_path, names, shuffle=None):
    for name in names:
        derive.save(_shallow(name), tmp_path / name)
    refs = find_all([str(tmp_path)])
    if shuffle is not None:
        refs = [refs[i] for i in np.random.default_rng(shuffle).permutation(len(refs))]
    document = tree(refs)
    document["record"].pop("run")
    return document


def test_order_of_inputs_never_matters(tmp_path):
    names = ["llama-a", "llama-a-ft1", "llama-b", "llama-a-ft1-ft"]
    one, two = _family(tmp_path, names), _family(tmp_path, names, shuffle=3)
    assert json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def test_names_do_not_choose_the_tree(tmp_path):
    """The same models under other names give the same links."""
    names = {"llama-a": "zz", "llama-a-ft1": "aa", "llama-a-ft1-ft": "mm", "llama-a-ft2": "bb", "llama-a-cpt": "cc"}
    plain = _family(tmp_path / "x", names)
    for old, new in names.items():
        derive.save(_shallow(old), tmp_path / "y" / new)
    renamed = tree(find_all([str(tmp_path / "y")]))
    back = {v: k for k, v in names.items()}
    pairs, again = ({(e["parent"], e["child"]) for e in d["edges"]} for d in (plain, renamed))
    assert len(pairs) == len(names) - 1
    assert pairs == {(back[a], back[b]) for a, b in again}


def test_duplicates_are_one_node(tmp_path):
    weights = derive.load(ZOO / "llama-a")
    derive.save(weights, tmp_path / "copy-2", shards=3)
    derive.save(weights, tmp_path / "copy-1")
    changed = {k: v.copy() for k, v in weights.items()}
    changed["model.layers.0.mlp.down_proj.weight"][60, 150] += 1
    derive.save(changed, tmp_path / "one-value-off")
    document = tree(find_all([str(tmp_path)]))
    twins = {n["id"]: n["duplicate_of"] for n in document["nodes"]}
    assert twins == {"copy-1": None, "copy-2": "copy-1", "one-value-off": None}
    assert all("copy-2" not in (e["parent"], e["child"]) for e in document["edges"])
    assert document["family_size"] == 1


def test_a_cast_directs_its_neighbourhood(tmp_path):
    """The cast copy hangs below its original, whatever the signals say of the rest."""
    for name in ("llama-a", "llama-a-ft1", "llama-a-ft2"):
        derive.save(_shallow(name), tmp_path / name)
    derive.save(derive.cast(_shallow("llama-a-ft2"), "float16"), tmp_path / "half")
    document = tree(find_all([str(tmp_path)]))
    casts = [(e["parent"], e["child"], e["direction_probability"]) for e in document["edges"] if e["kind"] == "cast"]
    assert casts == [("llama-a-ft2", "half", pytest.approx(1.0, abs=1e-5))]


def test_siblings_are_shown_where_two_children_have_one_parent(tmp_path):
    for dtype in ("bfloat16", "float16"):
        derive.save(derive.cast(derive.load(ZOO / "llama-a-ft2"), dtype), tmp_path / dtype)
    derive.save(derive.load(ZOO / "llama-a-ft2"), tmp_path / "wide")
    document = tree(find_all([str(tmp_path)]))
    assert {(e["parent"], e["child"]) for e in document["edges"]} == {("wide", "bfloat16"), ("wide", "float16")}
    assert [(u["a"], u["b"], u["kind"], u["reason"]) for u in document["unresolved"]] == [
        ("bfloat16", "float16", "sibling", "sibling")
    ]


def test_nothing_readable_is_an_operational_failure(tmp_path):
    done = run("tree", tmp_path / "none")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


def test_a_cast_is_directed(tmp_path):
    derive.save(derive.load(ZOO / "llama-a-ft2"), tmp_path / "wide")
    derive.save(derive.cast(derive.load(ZOO / "llama-a-ft2"), "bfloat16"), tmp_path / "narrow")
    document = tree(find_all([str(tmp_path)]))
    (edge,) = document["edges"]
    assert (edge["parent"], edge["child"], edge["kind"]) == ("wide", "narrow", "cast")
    assert edge["direction_probability"] > 0.999
    assert document["components"][0]["roots"] == ["wide"]


def test_two_dense_models_stay_undirected(tmp_path):
    document = _family(tmp_path, ["llama-a", "llama-a-ft1"])
    assert document["edges"] == []
    (open_link,) = document["unresolved"]
    assert open_link["reason"] == "direction-undetermined"


def test_broken_models_are_skipped_with_the_reason_and_the_rest_goes_on(tmp_path):
    derive.save(derive.load(ZOO / "micro-00"), tmp_path / "good")
    bad = derive.save(derive.load(ZOO / "micro-01"), tmp_path / "bad") / "model.safetensors"
    bad.write_bytes(bad.read_bytes()[:5000])
    document = tree(find_all([str(tmp_path)]))
    assert [n["id"] for n in document["nodes"]] == ["good"]
    assert document["skipped"][0]["ref"] == "bad"
    assert "model.safetensors" in document["skipped"][0]["reason"]


def test_ids_and_references(tmp_path):
    derive.save(derive.load(ZOO / "micro-00"), tmp_path / "x" / "m")
    derive.save(derive.load(ZOO / "micro-01"), tmp_path / "y" / "m")
    assert [i for i, _ in find_all([str(tmp_path)])] == ["x/m", "y/m"]
    both = [i for i, _ in find_all([str(tmp_path / "x"), str(tmp_path / "y")])]
    assert both == [f"{tmp_path}/x/m", f"{tmp_path}/y/m"]
    file = tmp_path / "x" / "m" / "model.safetensors"
    assert find_all([str(file), str(tmp_path / "y")])[0][0] == str(file)
    (tmp_path / "list").write_text(f"# one\n\n{tmp_path}/x\n")
    assert read_references(str(tmp_path / "list")) == [f"{tmp_path}/x"]
    with pytest.raises(UsageError, match="cannot be read"):
        read_references(str(tmp_path / "none"))
    (tmp_path / "void").mkdir()
    with pytest.raises(NoModelError, match="no model"):
        find_all([str(tmp_path / "void")])
    with pytest.raises(UsageError, match="carry this id"):
        tree([("a", None), ("a", None)])
    with pytest.raises(NoModelError):
        tree([])


# --- inference on measured links ---------------------------------------------------------------------------------
def test_copies_hang_below_their_source():
    cast = Link("b", "half", 0.01, 14.0, "cast", True, -100.0, "exact")
    back = Link("half", "other", 0.01, 0.0, "cast", True, -100.0, "exact")
    assert copies_of([cast, link("a", "b", 0.2)]) == {"half": cast}
    assert copies_of([cast, back])["half"] == cast


def test_a_spanning_tree_keeps_what_is_there():
    links = [link("a", "b", 3.0), link("b", "c", 1.0), link("a", "c", 2.0)]
    assert spanning_tree(["a", "b", "c"], links) == [links[2], links[1]]
    assert spanning_tree(["a", "b", "c"], links, [links[0]]) == [links[0], links[1]]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=15))
def test_components_equal_a_flood_fill(pairs):
    ids = [str(i) for i in range(10)]
    found = connected_components(ids, [(str(a), str(b)) for a, b in pairs])
    around = {i: {i} for i in ids}
    for _ in ids:
        for a, b in pairs:
            merged = around[str(a)] | around[str(b)]
            for i in merged:
                around[i] = merged
    assert sorted({tuple(sorted(v)) for v in around.values()}) == [tuple(c) for c in found]


# --- drawings ----------------------------------------------------------------------------------------------------
def test_the_command_draws_and_writes(tmp_path):
    path = tmp_path / "g.json"
    done = run("tree", *(ZOO / n for n in ("llama-a", "llama-a-ft1", "llama-b")), "-o", f"json={path}")
    assert done.returncode == 0
    assert "Family 1, 2 models" in done.stdout
    assert len(json.loads(path.read_text())["nodes"]) == 3


def test_options_reach_the_document():
    document = tree(find_all([str(ZOO / "micro-00"), str(ZOO / "micro-01")]), TreeOptions(alpha=0.01, seed=5))
    assert document["alpha"] == 0.01
    assert document["record"]["seed"] == 5
