"""Merges are found with their sources and weights among relatives that are none; what training made is no merge."""

import hashlib
import re
from functools import cache
from itertools import combinations

import numpy as np
import pytest

import derive
from lineage.attributing import which_is_merge
from lineage.making import find_made
from lineage.merging import find_merge
from nulls import ROOT, _code_of
from slices import slices, study_of
from weightmark.attacks import merges

ZOO = ROOT / "fixtures" / "zoo"
FAMILY = ("llama-a", "llama-a-ft1", "llama-a-ft1-ft", "llama-a-cpt", "llama-a-lora")


@cache
def model(name):
    return derive.drop_layers(derive.load(ZOO / name), [1, 2])


@cache
def read(name):
    return slices(model(name))[0]


def candidates(leave=()):
    """The whole family, a stranger and a rounded copy of a sibling: sources are to be told from these."""
    found = {n: read(n) for n in FAMILY if n not in leave}
    found["stranger"] = read("llama-b")
    found["ft2"] = slices(derive.cast(model("llama-a-ft2"), "bfloat16"))[0]
    return found


def answer(weights, leave=()):
    return find_merge(slices(weights)[0], candidates(leave), "BF16")


def told(merge):
    return {p.id: p.coefficient for p in merge.parents}


FT1, FT2 = "llama-a-ft1", "llama-a-ft1-ft"


@pytest.mark.parametrize(
    ("parents", "weights"),
    [
        ((FT1, "llama-a-cpt"), (0.5, 0.5)),
        ((FT1, "llama-a-lora"), (0.7, 0.3)),
        (("llama-a-cpt", FT1, "llama-a-lora"), (0.5, 0.3, 0.2)),
    ],
)
@pytest.mark.parametrize("steps", ["native", "single"])
def test_linear(parents, weights, steps):
    found = answer(merges.merge_weighted([model(p) for p in parents], weights, steps=steps))
    assert found.method in {"linear", "task-arithmetic"}
    assert told(found) == {p: pytest.approx(w, abs=0.005) for p, w in zip(parents, weights, strict=True)}
    assert found.replay_share >= 0.99


def test_slerp():
    found = answer(merges.merge_arc(model(FT1), model("llama-a-cpt"), 0.3))
    assert found.method == "slerp"
    assert told(found) == {FT1: pytest.approx(0.7, abs=0.05), "llama-a-cpt": pytest.approx(0.3, abs=0.05)}


def test_task_arithmetic():
    made = merges.merge_tasks(model("llama-a"), [model(FT1), model("llama-a-cpt")], [0.8, 0.5])
    found = answer(made)
    assert (found.method, found.base) == ("task-arithmetic", "llama-a")
    assert told(found) == {FT1: pytest.approx(0.8, abs=0.01), "llama-a-cpt": pytest.approx(0.5, abs=0.01)}


def test_ties():
    rng = np.random.default_rng(0)
    made = merges.merge_ties(model("llama-a"), [model(FT1), model("llama-a-cpt")], [(0.5, 0.6), (0.5, 0.4)], rng)
    found = answer(made)
    assert found.method == "ties"
    assert told(found).keys() == {FT1, "llama-a-cpt"}
    assert found.base == "llama-a"
    assert found.replay_share >= 0.99


@cache
def one_layer(name, dtype):
    """The first layer of a model, in a number format."""
    whole = derive.cast(derive.drop_layers(model(name), [1]), dtype)
    return {k: v for k, v in whole.items() if "layers.0." in k}


def dropped(settings, dtype, seed=0, **how):
    """(what is said of a merge with dropped entries, of one layer)."""
    parents = (FT1, "llama-a-cpt")[: len(settings)]
    base, *sources = (one_layer(n, dtype) for n in ("llama-a", *parents))
    made = merges.merge_dare(base, sources, settings, np.random.default_rng(seed), **how)
    held = {n: dict(one_layer(n, dtype)) for n in (*FAMILY, "llama-b")}
    name = {"bfloat16": "BF16", "float16": "F16"}[dtype]
    return parents, find_merge(made, held, name)


@pytest.mark.parametrize(
    ("settings", "dtype", "how"),
    [
        ([(0.1, 0.83), (0.9, 0.47)], "bfloat16", {}),
        ([(0.37, 0.83), (0.63, 0.47)], "float16", {"signs": True}),
        ([(0.9, 0.83), (0.3, 0.47)], "float16", {"by_norm": True}),
        ([(0.5, 0.83)], "bfloat16", {"steps": "double"}),
    ],
)
def test_of_dropped_entries_density_and_weight_are_told(settings, dtype, how):
    """Densities within 0.03 and weights within 0.02, at weights nobody would guess."""
    parents, found = dropped(settings, dtype, **how)
    assert found.method == ("dare-ties" if how.get("signs") else "dare")
    assert found.base == "llama-a"
    assert found.parameters["densities"] == {
        p: pytest.approx(density, abs=0.03) for p, (density, _) in zip(parents, settings, strict=True)
    }
    assert told(found) == {p: pytest.approx(weight, abs=0.02) for p, (_, weight) in zip(parents, settings, strict=True)}


def test_a_tree_tells_what_was_kept():
    base, *sources = (model(n) for n in ("llama-a", FT1, "llama-a-cpt"))
    made = merges.merge_dare(base, sources, [(0.5, 0.6), (0.3, 0.4)], np.random.default_rng(0))
    named = {"base": base, "one": sources[0], "other": sources[1], "child": made}
    (found,) = find_made([study_of(w, n) for n, w in named.items()])
    assert (found.child, found.details["method"], found.details["base"]) == ("child", "dare", "base")
    assert found.details["density"] == {"one": 0.5, "other": 0.3}


def test_layers_of_several():
    found = answer(merges.merge_layers([model(FT1), model("llama-a-cpt")], [0, 1]))
    assert found.method == "passthrough"
    assert told(found).keys() == {FT1, "llama-a-cpt"}


@pytest.mark.parametrize("child", FAMILY)
def test_what_training_made_is_no_merge(child):
    found = find_merge(read(child), candidates(leave=(child,)), "BF16")
    assert found is None or found.method is None


def test_a_missing_source_is_not_invented():
    made = merges.merge_weighted([model(FT1), model("llama-a-cpt")], [0.5, 0.5])
    found = answer(made, leave=(FT1,))
    assert found is None or found.method is None or "llama-a-cpt" in told(found)
    assert found is None or not {"stranger"} & told(found).keys()


def test_the_merge_carries_the_rounding():
    made = slices(merges.merge_weighted([model(FT1), model("llama-a-cpt")], [0.7, 0.3]))[0]
    found = which_is_merge(read(FT1), read("llama-a-cpt"), made, "BF16")
    assert found.child == "c"
    assert found.log_odds == pytest.approx(14.0)


def test_the_order_of_candidates_changes_nothing():
    made = slices(merges.merge_weighted([model(FT1), model("llama-a-cpt")], [0.7, 0.3]))[0]
    whole = candidates()
    turned = dict(reversed(list(whole.items())))
    assert find_merge(made, whole, "BF16") == find_merge(made, turned, "BF16")


def test_no_pair_of_the_family_is_enough_to_explain_a_third():
    for a, b in combinations(("llama-a", FT1, "llama-a-lora"), 2):
        found = find_merge(read("llama-a-cpt"), {a: read(a), b: read(b)}, "BF16")
        assert found is None or found.method is None


def test_the_committed_table_of_dropped_entries_is_of_this_code_and_within_what_was_asked():
    page = (ROOT / "docs" / "methods" / "dropped-measured.md").read_text()
    code = ("lineage/dropcases.py", "lineage/dropping.py", "stats/masking.py", "tests/calibration/merges.py")
    digest = hashlib.sha256("".join(_code_of(ROOT / p) for p in code).encode()).hexdigest()[:16]
    assert digest in page, "the code changed: run tests/calibration/merges.py and commit its page"
    density, weight = re.search(r"a density \*\*(\S+)\*\* .* a weight\s+\*\*(\S+)\*\*", page).groups()
    seen, cases = map(int, re.search(r"- (\d+) of (\d+) found", page).groups())
    assert (float(density) <= 0.03, float(weight) <= 0.02) == (True, True)
    assert cases >= 50
    assert seen >= 0.9 * cases
