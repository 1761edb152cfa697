"""Families with members made by formulas, trees of distances, and what their answers rest on."""

from dataclasses import replace

import numpy as np
import pytest

import derive
from lineage.distances import squared_distances
from lineage.growing import tree
from lineage.kinship import Kinship
from lineage.making import explained_share
from lineage.posterior import tree_posterior
from lineage.relation import Signal
from lineage.searching import find_all
from lineage.signals import Traits, decay_signal, weak_signals
from nulls import ROOT
from stats.decay import row_decay

ZOO = ROOT / "fixtures" / "zoo"


def model(name):
    return derive.drop_layers(derive.load(ZOO / name), [2, 3])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A family with a merge, a spherical merge and a quantised copy among trained members."""
    root = tmp_path_factory.mktemp("mixed")
    a, ft1, ft2, cpt = (model(n) for n in ("llama-a", "llama-a-ft1", "llama-a-ft2", "llama-a-cpt"))
    ft2 = derive.cast(ft2, "bfloat16")
    made = {
        "a": a,
        "ft1": ft1,
        "ft2": ft2,
        "cpt": cpt,
        "soup": derive.merge_linear([ft1, ft2], [0.7, 0.3]),
        "round": derive.merge_slerp(ft1, cpt, 0.3),
        "int4": derive.quantize_rtn(ft2, 4, 32),
    }
    for name, weights in made.items():
        derive.save(weights, root / name)
    return tree(find_all([str(root)]))


def edges(document, kind=None):
    return {(e["parent"], e["child"]): e for e in document["edges"] if kind is None or e["kind"] == kind}


def test_merges_have_their_parents_and_coefficients(mixed):
    found = {pair: e["coefficient"] for pair, e in edges(mixed, "merge").items()}
    soup = {k: v for k, v in found.items() if k[1] == "soup"}
    assert soup == {("ft1", "soup"): pytest.approx(0.7, abs=0.05), ("ft2", "soup"): pytest.approx(0.3, abs=0.05)}
    assert {k for k in found if k[1] == "round"} == {("ft1", "round"), ("cpt", "round")}


def test_a_quantised_copy_hangs_below_its_source(mixed):
    found = edges(mixed, "quantized")
    assert set(found) == {("ft2", "int4")}
    assert found["ft2", "int4"]["evidence"]["bits"] == 4
    assert found["ft2", "int4"]["direction_probability"] > 0.999


def test_trained_members_keep_their_tree(mixed):
    assert {("a", "ft1"), ("a", "ft2"), ("a", "cpt")} <= set(edges(mixed))
    assert len(mixed["edges"]) == 3 + 2 + 2 + 1
    assert mixed["components"][0]["roots"] == ["a"]


def test_cards_do_not_choose_edges(tmp_path):
    """A lying card changes `declared` and nothing else."""
    for name in ("llama-a", "llama-a-ft1", "llama-a-ft1-ft"):
        derive.save(model(name), tmp_path / name)
    plain = tree(find_all([str(tmp_path)]))
    (tmp_path / "llama-a" / "README.md").write_text("---\nbase_model: org/llama-a-ft1-ft\n---\n")
    lied = tree(find_all([str(tmp_path)]))
    assert plain["edges"] == lied["edges"]
    assert plain["unresolved"] == lied["unresolved"]
    assert any(n["declared"] for n in lied["nodes"])


def kin(squared, signals=None, excluded=None):
    n = len(squared)
    return Kinship(
        tuple("abcdefgh"[:n]),
        np.asarray(squared, dtype=np.float64),
        signals or {},
        np.zeros((n, n), dtype=bool) if excluded is None else excluded,
    )


def chain(*steps):
    """Squared distances that add along a path."""
    at = np.concatenate([[0.0], np.cumsum(steps)])
    return np.abs(at[:, None] - at[None, :])


def test_a_path_is_found_and_without_signals_every_root_is_equal():
    found = tree_posterior(kin(chain(1.0, 1.0, 1.0)))
    links = {frozenset((i, int(p))) for i, p in enumerate(found.parent) if p >= 0}
    assert links == {frozenset((0, 1)), frozenset((1, 2)), frozenset((2, 3))}
    assert np.allclose(found.edge[0, 1] + found.edge[1, 0], found.edge[3, 2] + found.edge[2, 3])
    assert np.allclose(found.edge.sum(axis=0) + found.root, 1.0)


def test_two_models_without_a_signal_are_even():
    found = tree_posterior(kin(chain(1.0)))
    assert np.allclose(found.root, 0.5)
    assert np.allclose(found.edge[0, 1], 0.5)


def test_a_signal_turns_what_lies_behind_it():
    found = tree_posterior(kin(chain(1.0, 1.0), {(0, 1): (Signal("untouched-rows", 8.0),)}))
    assert found.edge[0, 1] > 0.8
    assert found.edge[1, 2] > 0.8
    turned = tree_posterior(kin(chain(1.0, 1.0), {(0, 1): (Signal("untouched-rows", -8.0),)}))
    assert turned.edge[1, 0] > 0.8


def test_another_source_loses_its_link():
    squared = np.array([[0.0, 1.0, 1.1], [1.0, 0.0, 1.0], [1.1, 1.0, 0.0]])
    excluded = np.zeros((3, 3), dtype=bool)
    before = tree_posterior(kin(squared)).edge[1, 2]
    excluded[1, 2] = True
    assert tree_posterior(kin(squared, excluded=excluded)).edge[1, 2] < 0.1 * before


def test_relabelling_members_relabels_the_answer():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(6, 12)) * rng.uniform(0.1, 1.0, size=(6, 1))
    squared = np.sum((points[:, None] - points[None]) ** 2, axis=-1)
    order = rng.permutation(6)
    one, two = tree_posterior(kin(squared)), tree_posterior(kin(squared[np.ix_(order, order)]))
    assert np.allclose(one.edge[np.ix_(order, order)], two.edge)


def test_distances_are_those_of_a_plain_loop():
    rng = np.random.default_rng(1)
    models = [{"0.attn.q": rng.normal(size=(5, 4)), "0.mlp.up": rng.normal(size=(3, 4))} for _ in range(4)]
    found = squared_distances(models)
    for i in range(4):
        for j in range(4):
            total = 0.0
            for k in models[0]:
                scale = np.median([np.sum(m[k] ** 2) for m in models])
                total += np.sum((models[i][k] - models[j][k]) ** 2) / scale / 2
            assert found[i, j] == pytest.approx(total, rel=1e-12, abs=1e-15)


def test_what_a_span_explains_is_that_of_least_squares():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(5, 30))
    points[4] = 0.5 * points[0] + 0.3 * points[1] + 0.2 * points[2] + 0.05 * rng.normal(size=30)
    squared = np.sum((points[:, None] - points[None]) ** 2, axis=-1)
    first = int(np.argsort(squared[4])[1])
    columns = np.delete(points, [4, first], axis=0) - points[first]
    y = points[4] - points[first]
    fitted = columns.T @ np.linalg.lstsq(columns.T, y, rcond=None)[0]
    assert explained_share(squared, 4) == pytest.approx(float(fitted @ fitted / (y @ y)), rel=1e-9)


def test_weak_signals_are_antisymmetric_and_silent_when_equal():
    a = Traits({"0.attn.q": 3.0}, {"0.mlp.up": 1.1}, 2.0)
    b = replace(a, effective_rank={"0.attn.q": 3.1}, gain_drift=2.5)
    there, back = weak_signals(a, b), weak_signals(b, a)
    assert {s.name: s.log_odds for s in there} == {s.name: -s.log_odds for s in back}
    assert {s.name for s in there} == {"effective-rank", "gain-drift"}
    assert all(s.favours == "a" for s in there)
    assert weak_signals(a, a) == ()


def test_shrunk_rows_speak_and_scaled_up_rows_do_not():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(48, 32)).astype(np.float16).astype(np.float64)
    for ratio, spoken in ((0.9, 4.0), (1.1, None)):
        b = a * ratio
        b[:20] += 0.1 * rng.normal(size=(20, 32))
        b = b.astype(np.float16).astype(np.float64)
        told = decay_signal(row_decay(a, b, bits_a=11, bits_b=11))
        assert [s.log_odds for s in told] == ([] if spoken is None else [spoken])
