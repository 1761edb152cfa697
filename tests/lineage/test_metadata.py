"""Dates and declared parents: numbers of their own, and nothing else whatever they say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
from crawl.card import moment
from lineage.graph import Edge
from lineage.growing import TreeOptions, tree
from lineage.metadata import (
    DATE_FLOOR,
    DECLARED,
    OTHER_OWNER,
    SAME_OWNER,
    Claims,
    Joint,
    Statement,
    claim_log_odds,
    claim_signals,
    contradictions,
    gathered,
    with_claims,
)
from lineage.searching import find_all
from nulls import ROOT

NURSERY = ROOT / "fixtures" / "nursery"
DAY = datetime(2024, 5, 1, tzinfo=UTC)


def later(days):
    return DAY + timedelta(days=days)


def log_odds(a, b):
    return {s.name: s.log_odds for s in claim_signals(a, b, "a", "b")}


def test_the_earlier_of_two_is_the_likelier_parent_and_more_so_between_owners():
    assert log_odds(Claims("x", created=DAY), Claims("y", created=later(1))) == {"dates": OTHER_OWNER}
    assert log_odds(Claims("x", created=later(1)), Claims("x", created=DAY)) == {"dates": -SAME_OWNER}
    assert log_odds(Claims(None, created=DAY), Claims("y", created=later(1))) == {"dates": SAME_OWNER}


def test_missing_equal_and_floor_dates_say_nothing():
    assert log_odds(Claims("x", created=DAY), Claims("y")) == {}
    assert log_odds(Claims("x", created=DAY), Claims("y", created=DAY)) == {}
    found = gathered([Statement("a", "x", (), DATE_FLOOR), Statement("b", "y", (), DAY)], {})
    assert found["a"].created is None
    assert found["b"].created == DAY


def test_declared_parents_speak_once_and_two_that_name_each_other_do_not():
    assert log_odds(Claims(), Claims(parents=frozenset("a"))) == {"declared-parent": DECLARED}
    assert log_odds(Claims(parents=frozenset("b")), Claims()) == {"declared-parent": -DECLARED}
    assert log_odds(Claims(parents=frozenset("b")), Claims(parents=frozenset("a"))) == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "x", "y"]),
            st.frozensets(st.sampled_from("abcd")),
            st.none() | st.integers(0, 9).map(later),
        ),
        min_size=4,
        max_size=4,
    )
)
def test_log_odds_are_antisymmetric_bounded_and_those_of_a_loop(drawn):
    claims = {i: Claims(owner, parents - {i}, day) for i, (owner, parents, day) in zip("abcd", drawn, strict=True)}
    found = claim_log_odds("abcd", claims)
    assert np.array_equal(found, -found.T)
    assert np.abs(found).max() <= 14.0
    for i, a in enumerate("abcd"):
        for j, b in enumerate("abcd"):
            if i != j:
                assert found[i, j] == sum(s.log_odds for s in claim_signals(claims[a], claims[b], a, b))


def test_a_mirror_counts_with_the_date_of_its_original():
    found = gathered(
        [
            Statement("org/base@1", "org", (), later(0)),
            Statement("mirror/base@1", "mirror", (), later(9)),
            Statement("x/child@1", "x", ("mirror/base",), later(5)),
        ],
        {"org/base@1": "mirror/base@1"},
    )
    assert found["mirror/base@1"] == Claims("org", frozenset(), later(0))
    assert found["x/child@1"].parents == {"mirror/base@1"}


@pytest.mark.parametrize(
    ("declared", "meant"),
    [
        ("org/a", {"org/a@c"}),
        ("hf://ORG/A@main", {"org/a@c"}),
        ("else/b", {"folder/b"}),
        ("else/twice", set()),
        ("nobody", set()),
        ("", set()),
    ],
)
def test_names_mean_whole_ids_first_and_then_the_only_one_with_this_last_part(declared, meant):
    ids = ("org/a@c", "mine/a", "folder/b", "x/twice", "y/twice")
    said = [Statement(i, None, (declared,) if i == "mine/a" else (), None) for i in ids]
    assert gathered(said, {})["mine/a"].parents == meant - {"mine/a"}


def edge(parent, child, direction=0.999):
    return Edge(parent, child, "fine-tune", 0.9, direction, -50.0, "exact")


def test_edges_outside_a_joint_tree_get_their_odds_multiplied():
    claims = {"a": Claims("x", created=DAY), "b": Claims("y", created=later(1))}
    (found,), tree_edges = with_claims([edge("a", "b")], Joint(), claims)
    assert found.probability_with_metadata == pytest.approx(1.0 / (1.0 + np.exp(-np.log(9.0) - 4.0)))
    assert replace(found, probability_with_metadata=None) == edge("a", "b")
    assert [(p, c) for p, c, _ in tree_edges] == [("a", "b")]


def test_claims_that_weights_contradict_are_named():
    claims = {"a": Claims(parents=frozenset("b")), "b": Claims(), "c": Claims(parents=frozenset("a"))}
    found = contradictions([edge("a", "b")], claims, {"a": 0, "b": 0, "c": 1})
    assert found == [
        {"claimed_parent": "a", "claimed_child": "c", "reason": "not-related"},
        {"claimed_parent": "b", "claimed_child": "a", "reason": "direction"},
    ]
    assert contradictions([edge("a", "b", 0.7)], claims, {"a": 0, "b": 0, "c": 0}) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2023-07-18", datetime(2023, 7, 18, tzinfo=UTC)),
        (" 2023-07-18T10:00:00+02:00 ", datetime(2023, 7, 18, 8, tzinfo=UTC)),
        ("2023-07-18T10:00:00.000Z", datetime(2023, 7, 18, 10, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("18 July", None),
        ("9" * 10_000, None),
        (["2023-07-18"], None),
        (None, None),
    ],
)
def test_moments(text, found):
    assert moment(text) == found


MODELS = ("nursery-08-00", "nursery-08-03", "nursery-08-04", "nursery-09-00")


def grown(root, names, cards=None, *, metadata=True):
    for name, model in names.items():
        derive.save(derive.load(NURSERY / model), root / name)
        if cards:
            (root / name / "README.md").write_text(f"---\n{cards[name]}\n---\n")
    document = tree(find_all([str(root)]), TreeOptions(metadata=metadata))
    return document, {k: document[k] for k in ("edges", "components", "unresolved", "level_used")}


def from_weights(part, names):
    """What weights say, in the names of the models."""
    told = {
        (names[e["parent"]], names[e["child"]]): (e["probability"], e["direction_probability"]) for e in part["edges"]
    }
    roots = {frozenset(names[r] for r in c["roots"]) for c in part["components"]}
    open_links = {(frozenset((names[u["a"]], names[u["b"]])), u["reason"]) for u in part["unresolved"]}
    return told, roots, open_links


def test_lying_cards_renaming_and_order_change_nothing_that_comes_from_weights(tmp_path):
    plain = dict(zip("abcd", MODELS, strict=True))
    _, silent = grown(tmp_path / "silent", plain, metadata=False)
    lies = {
        "a": "base_model: org/b\ndate: 2030-01-01",
        "b": "base_model: org/d\nrelease_date: 1999-01-01",
        "c": "base_model: [b, d]\ncreated: never",
        "d": "base_model: a\ndate: 2001-01-01",
    }
    lied, told = grown(tmp_path / "lies", plain, lies)
    moved = dict(zip(("z9", "y", "m-1", "a0"), MODELS, strict=True))
    _, renamed = grown(tmp_path / "renamed", moved)
    assert from_weights(silent, plain) == from_weights(told, plain)
    for mine, other in zip(silent["edges"], told["edges"], strict=True):
        assert mine["probability_with_metadata"] is None
        assert {**other, "probability_with_metadata": None} == mine
    one, two = from_weights(silent, plain), from_weights(renamed, moved)
    assert one[1:] == two[1:]
    assert one[0].keys() == two[0].keys()
    for pair, numbers in one[0].items():
        assert two[0][pair] == pytest.approx(numbers, abs=1e-5)
    assert lied["metadata"]["contradictions"]
    assert {c["reason"] for c in lied["metadata"]["contradictions"]} >= {"not-related"}


def test_true_claims_make_true_edges_surer_and_without_claims_nothing_moves(tmp_path):
    names = dict(zip("abc", MODELS[:3], strict=True))
    dated = {n: f"date: 2024-0{k + 1}-01" + ("\nbase_model: x/a" if k else "") for k, n in enumerate("abc")}
    mute, without = grown(tmp_path / "mute", names)
    for e in without["edges"]:
        assert e["probability_with_metadata"] == pytest.approx(e["probability"], abs=2e-6)
    assert mute["metadata"]["contradictions"] == []
    truthful, with_dates = grown(tmp_path / "dated", names, dated)
    sure = {(e["parent"], e["child"]): e["probability_with_metadata"] for e in truthful["metadata"]["edges"]}
    assert set(sure) == {("a", "b"), ("a", "c")}
    for e in with_dates["edges"]:
        if e["parent"] == "a":
            assert e["probability_with_metadata"] > e["probability"]
