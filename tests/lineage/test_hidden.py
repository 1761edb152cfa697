"""Ancestors that are not among the inputs: inferred where rows prove a middle that nobody holds, and nowhere else."""

import json

import jsonschema
import numpy as np
import pytest

import derive
import groves
from lineage.graph import Edge
from lineage.growing import tree
from lineage.hidden import Hidden, hidden_ancestors, with_hidden
from lineage.kinship import kinship
from lineage.posterior import tree_posterior
from lineage.searching import find_all
from lineage.signals import traits_of
from nulls import ROOT

SEEDS = range(60, 62)


def flagged(studies):
    members = [studies[i] for i in sorted(studies)]
    found = tree_posterior(kinship(members, {m.id: traits_of(m) for m in members}))
    return hidden_ancestors(members, [int(p) for p in found.parent])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_ancestor_is_inferred_at_its_place_and_a_complete_family_has_none(seed):
    studies, parents = groves.grove(seed)
    assert flagged(studies) == ()
    rest, gone, children = groves.short(studies, parents, seed)
    around = {*children, parents[gone]} - {None}
    found = flagged(rest)
    assert any(len({*h.children, h.parent} & around) >= 2 for h in found)
    assert all(len({*h.children, h.parent} & around) >= 2 for h in found)


def test_without_tables_nothing_is_inferred():
    studies, parents = groves.grove(60)
    rest, _, _ = groves.short(studies, parents, 60)
    for s in rest.values():
        s.tables.clear()
    assert flagged(rest) == ()


def edge(parent, child, probability=0.9):
    return Edge(parent, child, "fine-tune", probability, 0.99, -50.0, "exact", evidence={"signals": []})


def test_links_across_a_missing_ancestor_lead_through_it():
    h = Hidden(("a", "b"), "p", 7)
    found = with_hidden([edge("p", "a"), edge("a", "b", 0.8), edge("b", "z")], [h])
    assert {(e.parent, e.child) for e in found} == {("p", h.id), (h.id, "a"), (h.id, "b"), ("b", "z")}
    assert {e.exactness for e in found if h.id in (e.parent, e.child)} == {"heuristic"}
    assert with_hidden([edge("x", "y")], [h]) == [edge("x", "y")]


def test_a_document_holds_the_inferred_ancestor(tmp_path):
    """Four children of a base, each with rows of its own, with the base and without it."""
    rng = np.random.default_rng(0)
    base = derive.load(ROOT / "fixtures" / "nursery" / "nursery-08-00")
    table = "model.embed_tokens.weight"
    for k in range(4):
        child = {n: v.astype(np.float64) for n, v in base.items()}
        for n, v in child.items():
            if v.ndim == 2 and n != table:
                child[n] = v + 0.01 * 2.0**k * v.std() * rng.normal(size=v.shape)
        own = slice(10 * k, 10 * k + 10)
        child[table][own] += 0.1 * child[table].std() * rng.normal(size=child[table][own].shape)
        derive.save({n: v.astype(np.float32) for n, v in child.items()}, tmp_path / "short" / f"c{k}")
    derive.save(base, tmp_path / "base" / "b")
    short = tree(find_all([str(tmp_path / "short")]))
    jsonschema.validate(short, json.loads((ROOT / "schemas" / "tree-1.json").read_text()))
    (hidden,) = [n["id"] for n in short["nodes"] if n["virtual"]]
    assert short["components"][0]["hidden_ancestor"] == hidden
    assert short["components"][0]["size"] == 4
    assert {e["child"] for e in short["edges"] if e["parent"] == hidden}
    whole = tree(find_all([str(tmp_path / "short"), str(tmp_path / "base")]))
    assert not any(n["virtual"] for n in whole["nodes"])
    assert whole["components"][0]["hidden_ancestor"] is None
