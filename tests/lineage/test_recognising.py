"""Marks found after laundering, against the unmarked original; nothing is drawn towards a mark that is not there."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import derive
import lineage
import marked
import wrongkeys
from crawl import open_model
from disguised import noisy, permuted, rescaled
from lineage.aligning import unit_scores
from lineage.body import Body
from lineage.errors import UsageError
from lineage.inspecting import carrier_shapes
from lineage.marking import scheme_of
from lineage.recipients import in_channels
from lineage.recognising import VerifyOptions, verify
from lineage.report.marks import verify_text
from nulls import ROOT
from stats.matching import mutual_matches
from weightmark.errors import MarkedReferenceError, UnfitModelError, UnusableKeyError
from weightmark.files import model_digest
from weightmark.keys import Key
from weightmark.payload import codeword
from weightmark.schemes import SCHEMES, dss

KEY = wrongkeys.key(1)
HEADS = json.dumps({"num_attention_heads": 4, "num_key_value_heads": 2})


def saved(weights, folder):
    derive.save(weights, folder)
    (folder / "config.json").write_text(HEADS)
    return str(folder)


def mark(weights, key=KEY):
    return weights | marked.by_name(SCHEMES[key.scheme].embed(marked.by_role(weights), key))


@pytest.fixture(scope="module")
def llama():
    return derive.cast(derive.load(ROOT / "fixtures" / "zoo" / "llama-a"), "float32")


@pytest.fixture(scope="module")
def places(llama, tmp_path_factory):
    root = tmp_path_factory.mktemp("marks")
    return {"original": saved(llama, root / "original"), "marked": saved(mark(llama), root / "marked"), "root": root}


def look(place, reference=None, keys=(KEY,), **options):
    return verify(str(place), list(keys), VerifyOptions(reference=reference, **options))


def test_a_mark_is_found_blind_and_informed(places):
    blind = look(places["marked"])
    assert blind["verdict"] == "found"
    assert blind["mode"] == "blind"
    informed = look(places["marked"], places["original"])
    assert informed["verdict"] == "found"
    assert informed["log10_p"] < 100 * blind["log10_p"]
    assert informed["payload_ok"] is True
    assert informed["alignment"] is None


def test_the_original_is_not_marked(places):
    for reference in (None, places["original"]):
        found = look(places["original"], reference)
        assert found["verdict"] == "not-found"
        assert found["log10_p"] > -4


REWRITES = {"permuted": permuted, "rescaled": rescaled, "everything and noise": noisy}


@pytest.mark.parametrize("name", REWRITES)
def test_laundering_is_undone_against_the_original(places, llama, name):
    suspect = saved(REWRITES[name](mark(llama), np.random.default_rng(4)), places["root"] / name.replace(" ", "-"))
    found = look(suspect, places["original"], align="full" if name == "rescaled" else "auto")
    assert found["verdict"] == "found"
    assert found["payload_ok"] is True
    if name != "rescaled":  # rows are read in units of their own size: scales alone hide little
        assert found["alignment"]["transforms"]
        assert look(suspect, places["original"], align="none")["verdict"] == "not-found"
        assert look(suspect)["verdict"] == "not-found"
    other = look(suspect, places["original"], keys=[wrongkeys.key(2)])
    assert other["verdict"] == "not-found"
    assert other["log10_p"] > -4


def test_rewritten_copies_of_the_original_stay_unmarked(places, llama):
    """Held against it, rewrites undone, under three keys."""
    suspect = saved(noisy(llama, np.random.default_rng(5)), places["root"] / "unmarked")
    found = look(suspect, places["original"], keys=[wrongkeys.key(100 + i) for i in range(3)], align="full")
    assert found["verdict"] == "not-found"
    assert found["keys"] == 3


@pytest.mark.parametrize("name", ["llama-b", "llama-c"])
def test_strangers_are_not_found_marked(places, zoo, name):
    found = look(zoo / name, places["original"], align="auto")
    assert found["verdict"] == "not-found"
    assert found["log10_p"] > -4


def test_a_marked_reference_is_refused_however_it_is_stored(places, llama, tmp_path):
    told = Key(**{**{f: getattr(KEY, f) for f in Key.__dataclass_fields__}, "host": {"marked_digest": ""}})
    for weights in (mark(llama), derive.cast(mark(llama), "bfloat16")):
        place = saved(weights, tmp_path / str(len(list(tmp_path.iterdir()))))
        with pytest.raises(MarkedReferenceError, match="this very mark"):
            verify(places["original"], [told], VerifyOptions(reference=place))


def test_aligning_to_the_marked_file_would_find_marks_in_strangers():
    """Why a marked reference is refused: units of strangers, each matched to its best partner among 1,024.

    Matched by the marked rows, the partners that fit best are those whose chance products lie along the mark; matched
    by the unmarked rows they know nothing of it. Expected bias for one row: about eps sqrt(2 ln n).
    """
    n, d = 1024, 128
    rng = np.random.default_rng(6)
    base = rng.standard_normal((n, d))
    role = "L0000.mlp.gate"
    t = {"marked": [], "unmarked": []}
    for i in range(20):
        key = wrongkeys.key(200 + i)
        made = SCHEMES["dss"].embed({role: base.astype(np.float32)}, key)[role].astype(np.float64)
        suspect = rng.standard_normal((n, d))
        for name, reference in (("marked", made), ("unmarked", base)):
            found = (reference @ suspect.T).argmax(axis=1)
            t[name].append(dss.scanned(suspect[found], 0, role, key).statistic(codeword(key.payload)))
    assert np.mean(t["marked"]) > 2.0
    assert abs(np.mean(t["unmarked"])) < 1.0
    assert abs(np.mean(t["unmarked"])) < 4 / math.sqrt(20)


def test_strangers_find_no_partners_to_be_aligned_to(places, zoo):
    with open_model(places["original"]) as a, open_model(str(zoo / "llama-b")) as b:
        bodies = Body(a, a.architecture), Body(b, b.architecture)
        pairs = mutual_matches(unit_scores(bodies[0].layer(0), bodies[1].layer(0)))
    assert pairs.score.mean() < 0.5
    with pytest.raises(UnfitModelError, match="could be aligned"):
        look(zoo / "llama-b", places["original"], align="full")


def test_the_recipient_is_found_among_many_and_all_are_counted(places, llama, tmp_path):
    mine = KEY.for_channel("7")
    copy = saved(mark(llama, mine), tmp_path / "copy")
    found = look(copy, places["original"], keys=in_channels([KEY], "8"))
    assert (found["verdict"], found["channel"], found["keys"]) == ("found", "7", 8)
    alone = look(copy, places["original"], keys=[mine])
    assert found["log10_p"] == pytest.approx(alone["log10_p"] + math.log10(8), abs=1e-4)
    named = look(copy, places["original"], keys=in_channels([KEY], "3, 5"))
    assert named["verdict"] == "not-found"
    many = look(copy, places["original"], keys=[mine], family_size=1000)
    assert many["log10_p"] == pytest.approx(alone["log10_p"] + 3, abs=1e-4)


def test_the_level_is_what_was_asked_for(places):
    seen = look(places["marked"])["log10_p"]
    for above, verdict in ((0.5, "found"), (-0.5, "not-found")):
        assert look(places["marked"], log_threshold=(seen + above) * math.log(10))["verdict"] == verdict


def test_calls_that_cannot_be_meant_are_refused(places):
    with pytest.raises(UsageError, match="no key"):
        verify(places["marked"], [])
    with pytest.raises(UsageError, match="at most"):
        in_channels([KEY] * 2, "999999")
    with pytest.raises(UsageError):
        in_channels([KEY], "a|b")
    perm = Key(scheme="perm", scheme_version=1, channel="0", master=bytes(32), params=SCHEMES["perm"].params("default"))
    with pytest.raises(UsageError, match="needs the unmarked"):
        look(places["marked"], keys=[perm])
    with pytest.raises(UsageError, match="whole matrices"):
        look(places["marked"], places["original"], keys=[perm], max_bytes=1000)


def test_orders_that_are_the_mark_are_not_undone(places, tmp_path):
    key = lineage.keygen("perm", "default", payload=b"", channel="0")
    _, held = lineage.mark(places["original"], key, tmp_path / "copy")
    for align in ("auto", "full"):
        found = look(str(tmp_path / "copy"), places["original"], keys=[held], align=align)
        assert (found["verdict"], found["alignment"]) == ("found", None)
        other = look(places["marked"], places["original"], keys=[held], align=align)
        assert (other["verdict"], other["alignment"]) == ("not-found", None)


def test_too_small_a_part_is_inconclusive(places):
    """Two rows of one matrix are below what may say that nothing is there."""
    key = Key(**{**{f: getattr(KEY, f) for f in Key.__dataclass_fields__}, "host": {"n_carriers": 10**9}})
    found = look(places["original"], keys=[key])
    assert found["coverage"] < 5e-4
    assert found["verdict"] == "inconclusive"


def test_the_same_from_python(places, tmp_path):
    key = lineage.keygen("dss", "default", payload=b"me", channel="0", eps=0.05)
    document, held = lineage.mark(places["original"], key, tmp_path / "copy", force=True)
    assert held.host["marked_digest"] == document["marked_digest"]
    options = lineage.VerifyOptions(reference=places["original"])
    assert lineage.verify(str(tmp_path / "copy"), [held], options)["verdict"] == "found"


@pytest.mark.parametrize(
    "change", [{"clip": 0}, {"clip": 1e9}, {"clip": "4"}, {"clip": float("nan")}, {"kinds": [3]}, {"more": 1}, {"kinds": []}, {"kinds": ["mlp.up"]}, {"smallest": 0.5}, {"smallest": 1024}, {"eps": 0.5}, {"eps": "0.01"}, {"eps": True}],
)  # fmt: skip
def test_parameters_of_a_key_file_are_anybodys(change):
    """One sentence, not a bug: whoever writes a key file can name it after whatever it holds, and pick what suits him."""
    usual = SCHEMES["dss"].params("default")
    assert scheme_of(Key.new("dss", usual, created="")).name == "dss"
    with pytest.raises(UnusableKeyError, match="parameters"):
        scheme_of(Key.new("dss", {**usual, **change}, created=""))


def with_host(key, **host):
    return replace(key, host=host)


def test_an_original_made_with_the_key_proves_nothing_and_the_null_says_so(places, llama):
    """The innocent model, less a mark: held against that, it looks marked. What p stands on is written beside it."""
    forged = {n: 2 * llama[n].astype(np.float64) - mark(llama)[n] if n in llama else llama[n] for n in llama}
    forged = {n: w.astype(llama[n].dtype) for n, w in forged.items()}
    reference = saved(forged, places["root"] / "forged")
    found = look(places["original"], reference, align="none")
    assert found["verdict"] == "found"
    assert "reference was made without a look at the key" in found["null"]
    assert "without a look at the key" in verify_text(found)
    assert look(places["original"])["verdict"] == "not-found"
    assert "reference" not in look(places["original"])["null"]


def test_a_claim_takes_its_own_original_only(places, zoo):
    with open_model(places["original"]) as source:
        original = model_digest(source)
    found = look(places["marked"], places["original"], original=original)
    assert (found["verdict"], found["reference_committed"]) == ("found", True)
    assert look(places["marked"], places["original"])["reference_committed"] is False
    with pytest.raises(UsageError, match="not the unmarked model the claim commits to"):
        look(places["marked"], str(zoo / "llama-b"), original=original)


@pytest.mark.parametrize("held", [None, {}, {"L0000.mlp.up": [64, 32]}, {"L0000.mlp.up": "big"}, [1]])
def test_what_a_key_remembers_takes_no_carriers_away(places, held):
    """Carriers that speak against a mark could be left out by whoever writes the key file."""
    scheme = SCHEMES["dss"]
    with open_model(places["original"]) as source:
        here = carrier_shapes(KEY, source, scheme)
        assert carrier_shapes(with_host(KEY, shapes=held), source, scheme) == here
        more = {role: list(shape) for role, shape in here.items()} | {"L0099.mlp.up": [64, 32]}
        assert carrier_shapes(with_host(KEY, shapes=more), source, scheme) == here | {"L0099.mlp.up": (64, 32)}
        assert len(here) > 5
