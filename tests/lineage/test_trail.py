"""The line of ancestors that a family graph tells: what is told, what stays open, and ancestors that nobody holds."""

import json
import shutil

import jsonschema
import numpy as np
import pytest

import derive
from crawl import open_model
from lineage.graph import Edge, LineageGraph, Node, Unresolved
from lineage.index.entries import entry_of
from lineage.index.store import Store
from lineage.report import trace_text
from lineage.tracing import TraceOptions, trace
from lineage.trail import ancestors_of, parents_of, root_above
from nulls import ROOT


def graph(edges=(), open_links=(), virtual=()):
    names = sorted({n for e in (*edges, *open_links) for n in e[:2]})
    nodes = tuple(Node(n, n, 0, "llama", 1, "F32", virtual=n in virtual) for n in names)
    told = tuple(Edge(a, b, "fine-tune", p, p, -50.0, "exact") for a, b, p in edges)
    left = tuple(Unresolved(a, b, "fine-tune", -50.0, "direction-undetermined") for a, b in open_links)
    return LineageGraph(nodes, told, (), left)


def line(made, name, log_pvalue=lambda _n: -9.0):
    return ancestors_of(made, parents_of(made, name, log_pvalue), log_pvalue)


def test_what_is_told_comes_first_and_multiplies():
    found = line(graph([("r", "p", 0.8), ("p", "q", 0.9), ("m", "q", 0.95)]), "q")
    assert [(a.id, a.hops) for a in found] == [("m", 1), ("p", 1), ("r", 2)]
    assert found[2].probability == pytest.approx(0.72)
    assert root_above(found) == "r"


def test_an_open_link_is_named_also_where_others_descend_from_the_query():
    made = graph([("q", "c", 0.9)], [("b", "q")])
    assert [(a.id, a.probability) for a in line(made, "q")] == [("b", None)]
    assert [(a.id, a.probability) for a in line(made, "c")] == [("q", 0.9), ("b", None)]


def test_above_an_open_link_nothing_open_is_added_and_no_root_is_taken_from_it():
    made = graph([("p", "q", 0.9)], [("p", "x"), ("x", "y")])
    found = line(made, "q")
    assert [a.id for a in found] == ["p", "x"]
    assert root_above(found) == "p"
    assert root_above(line(graph(open_links=[("a", "b")]), "a")) == "b"
    assert root_above(()) is None


def test_of_several_open_links_the_strongest_is_first():
    made = graph(open_links=[("a", "q"), ("q", "z")])
    assert [a.id for a in line(made, "q", {"a": -5.0, "z": -80.0}.__getitem__)] == ["z", "a"]


def test_no_test_is_asked_for_of_an_ancestor_that_nobody_holds():
    made = graph([("r", "~h", 0.9), ("~h", "q", 0.9)], virtual=["~h"])
    found = line(made, "q", {"r": -7.0}.__getitem__)
    assert [(a.id, a.log_pvalue, a.exactness) for a in found] == [("~h", -50.0, "heuristic"), ("r", -7.0, "exact")]


def test_a_trace_among_siblings_names_the_ancestor_that_is_missing(tmp_path):
    """Four children of a base, each with rows of its own, without the base."""
    rng = np.random.default_rng(0)
    source = ROOT / "fixtures" / "nursery" / "nursery-08-00"
    base, table = derive.load(source), "model.embed_tokens.weight"
    with Store.open(tmp_path / "i.db", create=True) as store:
        for k in range(4):
            child = {n: v.astype(np.float64) for n, v in base.items()}
            for n, v in child.items():
                if v.ndim == 2 and n != table:
                    child[n] = v + 0.01 * 2.0**k * v.std() * rng.normal(size=v.shape)
            own = slice(10 * k, 10 * k + 10)
            child[table][own] += 0.1 * child[table].std() * rng.normal(size=child[table][own].shape)
            derive.save({n: v.astype(np.float32) for n, v in child.items()}, tmp_path / f"c{k}")
            shutil.copy(source / "config.json", tmp_path / f"c{k}")
            with open_model(str(tmp_path / f"c{k}")) as opened:
                entry, blobs = entry_of(opened, f"c{k}")
            store.put_model(entry, *blobs)
    traces = [json.loads(json.dumps(trace(f"c{k}", TraceOptions(tmp_path / "i.db")))) for k in range(4)]
    for document in traces:
        jsonschema.validate(document, json.loads((ROOT / "schemas" / "trace-1.json").read_text()))
    named = [[a for a in t["ancestors"] if a["id"].startswith("~")] for t in traces]
    assert any(named)
    assert {a["exactness"] for line in named for a in line} == {"heuristic"}
    assert all(line[0]["id"] in trace_text(t) for t, line in zip(traces, named, strict=True) if line)
