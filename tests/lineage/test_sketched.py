"""Marks found after laundering with nothing but a sketch of the unmarked model; strangers gain nothing from one."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import derive
import lineage
import marked
import reshapes
import wrongkeys
from crawl import open_model
from disguised import noisy, permuted
from lineage import outlining
from lineage.aligning import unit_scores
from lineage.body import Body, Layer
from lineage.errors import UsageError
from lineage.recognising import VerifyOptions, verify
from lineage.report.marks import verify_text
from lineage.restoring import known_layers, partners, restored
from nulls import ROOT
from stats.matching import mutual_matches
from weightmark import sketchfile
from weightmark.errors import MarkedReferenceError, UnfitModelError
from weightmark.keys import Key
from weightmark.schemes import SCHEMES

KEY = wrongkeys.key(1)
HEADS = json.dumps({"num_attention_heads": 4, "num_key_value_heads": 2})


def saved(weights, folder):
    derive.save(weights, folder)
    (folder / "config.json").write_text(HEADS)
    return str(folder)


def keyed(scheme, number=1, payload=b"", **params):
    usual = SCHEMES[scheme].params("default")
    key = Key.new(scheme, {**usual, **params}, payload=payload, created="")
    return replace(key, master=bytes([number]) * 32)


def mark(weights, key):
    return weights | marked.by_name(SCHEMES[key.scheme].embed(marked.by_role(weights), key))


def relabelled(weights, rng):
    """Residual dimensions and hidden units in another order."""
    return derive.permute_residual(derive.permute_hidden(weights, rng), rng)


@pytest.fixture(scope="module")
def llama():
    return derive.cast(derive.load(ROOT / "fixtures" / "zoo" / "llama-a"), "float32")


@pytest.fixture(scope="module")
def places(llama, tmp_path_factory):
    """The original, its sketch, a marked copy and its laundered forms."""
    root = tmp_path_factory.mktemp("sketched")
    copy, rng = mark(llama, KEY), np.random.default_rng(4)
    found = {"root": root, "original": saved(llama, root / "original"), "marked": saved(copy, root / "marked")}
    forms = {"relabelled": relabelled, "heads": permuted, "everything and noise": noisy}
    found |= {name: saved(form(copy, rng), root / name.replace(" ", "-")) for name, form in forms.items()}
    found["sketch"] = str(root / "original.wmsketch")
    outlining.sketch(found["original"], root / "original.wmsketch")
    return found


@pytest.fixture(scope="module")
def held(places):
    return sketchfile.read(places["sketch"])[0]


def look(places, suspect, keys=(KEY,), **options):
    return verify(str(places.get(suspect, suspect)), list(keys), VerifyOptions(sketch=places["sketch"], **options))


@pytest.mark.parametrize(
    ("name", "undone"),
    [
        ("relabelled", {"hidden-permutation", "residual-permutation"}),
        ("heads", {"hidden-permutation", "head-permutation"}),
        ("everything and noise", {"hidden-permutation", "residual-rotation", "rescale", "sign", "head-permutation"}),
    ],
)
def test_laundering_is_undone_with_a_sketch(places, name, undone):
    found = look(places, name)
    assert (found["verdict"], found["payload_ok"], found["mode"]) == ("found", True, "blind")
    assert set(found["alignment"]["transforms"]) == undone
    other = look(places, name, [wrongkeys.key(2)], align="full" if name == "relabelled" else "none")
    assert other["verdict"] == "not-found"
    assert other["log10_p"] > -4


def test_without_alignment_a_laundered_copy_is_not_found(places):
    found = look(places, "relabelled", align="none")
    assert (found["verdict"], found["alignment"]) == ("not-found", None)


def test_an_order_is_undone_to_the_bit(places, llama, held):
    """Nothing is rounded on the way: the statistic is that of the copy before it was laundered."""
    with open_model(places["relabelled"]) as suspect:
        back = restored(held, suspect)
        wanted = mark(llama, KEY)
        assert len(back) == 28
        for role in back:
            assert np.array_equal(back[role], wanted[marked.name_of(role)])


def test_layers_and_units_that_are_left_find_their_places(places, llama):
    """A layer and a third of all hidden units gone, the rest in another order."""
    rng = np.random.default_rng(9)
    copy = reshapes.drop_layers(relabelled(mark(llama, KEY), rng), [1])
    for i in range(3):
        kept = np.sort(rng.permutation(160)[:107])
        for name in ("gate_proj", "up_proj", "down_proj"):
            place = f"model.layers.{i}.mlp.{name}.weight"
            copy[place] = np.take(copy[place], kept, axis=int(name == "down_proj"))
    found = look(places, saved(copy, places["root"] / "pruned"))
    assert found["verdict"] == "found"
    assert found["statistic"] > 12
    assert look(places, places["root"] / "pruned", [wrongkeys.key(2)])["log10_p"] > -4


def test_the_variants_tried_are_counted(places):
    whole = look(places, "relabelled", align="full")
    assert look(places, "relabelled")["log10_p"] == pytest.approx(whole["log10_p"] + math.log10(2), abs=1e-4)
    plain = look(places, "marked", align="none")
    assert look(places, "marked")["log10_p"] == pytest.approx(plain["log10_p"] + math.log10(2), abs=1e-4)
    assert whole["statistic"] == plain["statistic"]


def test_what_the_p_value_stands_on_is_said(places):
    found = look(places, "marked")
    assert "sketch was made without a look at the key" in found["null"]
    assert "the sketch without a look at the key" in verify_text(found)
    assert found["sketch_used"] == places["sketch"]
    assert found["sketch_bound"] is False


@pytest.mark.parametrize("name", ["llama-b", "llama-c"])
def test_strangers_have_no_layer_like_one_of_a_sketch(places, held, zoo, name):
    with open_model(str(zoo / name)) as suspect:
        assert restored(held, suspect) is None
    found = look(places, zoo / name)
    assert (found["verdict"], found["alignment"]) == ("not-found", None)
    with pytest.raises(UnfitModelError, match="could be aligned"):
        look(places, zoo / name, align="full")


def test_strangers_that_are_put_in_place_all_the_same_read_as_chance(held, zoo, monkeypatch):
    """Every layer, unit and residual dimension goes to its best partner, however bad; 40 keys that marked nothing."""
    monkeypatch.setattr("lineage.restoring.MIN_AGREEMENT", -1.0)
    with open_model(str(zoo / "llama-b")) as suspect:
        back = restored(held, suspect)
        placed = {role: np.asarray(back[role], dtype=np.float32) for role in back}
    assert len(placed) >= 7
    shapes = {role: values.shape for role, values in placed.items()}
    seen = [SCHEMES["dss"].verify(placed, wrongkeys.key(i), shapes=shapes).test.statistic for i in range(40)]
    assert abs(np.mean(seen)) < 4 / math.sqrt(40)
    assert 0.6 < np.std(seen) < 1.5


def test_aligning_to_a_sketch_leaks_no_mark(held):
    """Units of strangers put at the places of their best partners, whatever these are worth, under 60 keys.

    Aligned to the marked model T would rise by about eps sqrt(2 ln n) a row: at eps 0.05, 160 units and 4 layers of width
    64 by about 3. Bound of the mean of 60: four standard errors.
    """
    rng, seen = np.random.default_rng(8), []
    signs = sketchfile.directions(held.digest, "residual", 64, sketchfile.SIDE)
    base = known_layers(held)[0].reads["mlp.gate"]
    for number in range(60):
        rows = rng.standard_normal((4 * len(base), 64))
        best = (rows @ signs[:, :32] @ base.T).argmax(axis=0)
        made = {"L0000.mlp.gate": rows[best].astype(np.float32)}
        found = SCHEMES["dss"].verify(made, wrongkeys.key(number), shapes={r: w.shape for r, w in made.items()})
        seen.append(found.test.statistic)
    assert abs(np.mean(seen)) < 4 / math.sqrt(60)
    assert 0.6 < np.std(seen) < 1.5


def test_partners_are_found_strip_by_strip_as_at_once(held, monkeypatch):
    rng = np.random.default_rng(3)
    layers = known_layers(held)
    monkeypatch.setattr("lineage.restoring._STRIP", 37)
    for number in (0, 1):
        whole = layers[number]
        order = rng.permutation(whole.n_hidden)[:150]
        reads = {k: v[order] for k, v in whole.reads.items() if k.startswith("mlp.")}
        a, b = layers[0], Layer(number, reads, {k: v[order] for k, v in whole.writes.items()})
        got, wanted = partners(a, b), mutual_matches(unit_scores(a, b))
        assert np.array_equal(got.a, wanted.a)
        assert np.array_equal(got.b, wanted.b)
        assert np.allclose(got.score, wanted.score)
        assert (got.n_a, got.n_b) == (wanted.n_a, wanted.n_b)


def test_orders_of_units_are_read_from_a_sketch(places, llama):
    key = keyed("perm", payload=b"\x07\x2a")
    copy = saved(derive.add_noise(mark(llama, key), 0.05, np.random.default_rng(2)), places["root"] / "perm")
    found = look(places, copy, [key])
    assert (found["verdict"], found["payload_ok"], found["bit_errors"]) == ("found", True, 0)
    assert found["mode"] == "informed"
    for suspect, other in ((copy, keyed("perm", 2)), (places["original"], key), (places["relabelled"], key)):
        assert look(places, suspect, [other])["log10_p"] > -4


def test_gram_is_informed_by_a_sketch(places, llama):
    key = keyed("gram", eps=0.05)
    copy = mark(llama, key)
    laundered = saved(relabelled(copy, np.random.default_rng(6)), places["root"] / "gram")
    blind = verify(saved(copy, places["root"] / "gram-copy"), [key])
    found = look(places, laundered, [key])
    assert (found["verdict"], found["mode"]) == ("found", "informed")
    assert found["statistic"] > 2 * blind["statistic"]
    assert look(places, laundered, [keyed("gram", 2, eps=0.05)])["log10_p"] > -4
    assert look(places, places["original"], [key])["log10_p"] > -4
    own = places["root"] / "gram-copy.wmsketch"
    outlining.sketch(str(places["root"] / "gram-copy"), own)
    with pytest.raises(
        MarkedReferenceError, match="of the marked model"
    ):  # by the products themselves: no digest is known
        verify(laundered, [key], VerifyOptions(sketch=str(own)))


def test_schemes_that_need_values_are_told_apart(places):
    with pytest.raises(UsageError, match="a sketch holds none"):
        look(places, "marked", [keyed("gaussmark")])


def test_a_sketch_of_the_marked_model_is_refused(places, tmp_path):
    outlining.sketch(places["marked"], tmp_path / "s")
    digest = sketchfile.read(str(tmp_path / "s"))[0].digest
    key = replace(KEY, host={"marked_digest": digest})
    with pytest.raises(MarkedReferenceError, match="of the marked model"):
        verify(places["relabelled"], [key], VerifyOptions(sketch=str(tmp_path / "s")))


def test_a_sketch_of_another_model_or_another_than_the_keys_is_refused(places, held):
    for host, words in (
        ({"unmarked_digest": "0" * 64}, "another model"),
        ({"unmarked_digest": held.digest, "sketch": {"sha256": "0" * 64, "kinds": ["perm"]}}, "made afterwards"),
    ):
        with pytest.raises(UsageError, match=words):
            look(places, "marked", [replace(KEY, host=host)])
    sha = sketchfile.read(places["sketch"])[1]
    found = look(places, "marked", [replace(KEY, host={"sketch": {"sha256": sha}})])
    assert found["sketch_bound"] is True


def test_the_same_from_python(places, tmp_path):
    made = lineage.sketch(places["original"], tmp_path / "s", ("perm",))
    key = lineage.keygen("dss", "default", payload=b"me", channel="0", eps=0.05)
    _, marker = lineage.mark(places["original"], key, tmp_path / "copy", force=True, sketch=tmp_path / "s2")
    assert made["kinds"] == ["perm"]
    assert marker.host["sketch"]["kinds"] == ["perm", "rot"]
    found = lineage.verify(str(tmp_path / "copy"), [marker], lineage.VerifyOptions(sketch=str(tmp_path / "s2")))
    assert (found["verdict"], found["sketch_bound"]) == ("found", True)


def test_one_thing_stands_for_the_original(places, held):
    with pytest.raises(UsageError, match="a reference and a sketch"):
        look(places, "marked", reference=places["original"])
    with pytest.raises(UsageError, match="claim commits to the unmarked model"):
        look(places, "marked", original=held.digest)


@pytest.mark.parametrize("name", ["gpt2-a", "bert-a"])
def test_other_families_are_sketched_and_relabelled_back(zoo, tmp_path, name):
    weights = derive.cast(derive.load(zoo / name), "float32")
    folder = tmp_path / "in"
    derive.save(weights, folder)
    (folder / "config.json").write_text((zoo / name / "config.json").read_text())
    with open_model(str(folder)) as source:
        made = outlining.outline(source)
    other = tmp_path / "other"
    derive.save(relabelled(weights, np.random.default_rng(1)), other)
    (other / "config.json").write_text((zoo / name / "config.json").read_text())
    with open_model(str(other)) as suspect, open_model(str(folder)) as source:
        back, body = restored(made, suspect), Body(source, source.architecture)
        assert set(back.transforms) == {"hidden-permutation", "residual-permutation"}
        for role in back:
            view = source.views[next(r for r in source.views if str(r) == role)]
            assert np.array_equal(back[role], source.view_rows(view, np.arange(view.shape[0]))), role
        assert len(back) == body.architecture.n_layers * 6
