"""Commitments, disclosures and contests: what stands, what falls, and what a thief can try."""

import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import derive
import marked
from lineage.claiming import commit, is_signed, read_entry, to_stamp
from lineage.contesting import LOG_GRADE, contest, opened
from lineage.errors import MalformedDocumentError, UnreadableDocumentError
from nulls import ROOT
from weightmark import claims
from weightmark.choices import log_choices
from weightmark.contest import Party, judged
from weightmark.errors import UnfitModelError, UnusableKeyError
from weightmark.keys import Key
from weightmark.schemes import SCHEMES

EPS = 0.05
NOW = "2026-01-01T00:00:00Z"


def key_of(number, scheme="dss", **more):
    params = dict(SCHEMES[scheme].params("default")) | ({"eps": EPS} if scheme in {"dss", "gram"} else {}) | more
    return Key(scheme=scheme, scheme_version=1, channel="0", master=hashlib.sha256(b"k%d" % number).digest(), params=params, payload=b"owner", created=NOW)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """original; ours (marked by key 1); theirs (the thief's mark, key 2, on top of ours); a stranger."""
    base = marked.planted(np.random.default_rng(3), rows=256, columns=128, layers=2)
    d = np.random.default_rng(4)
    base |= {"embed": d.standard_normal((64, 128)), "unembed": d.standard_normal((64, 128)), "norm.final": np.ones(128)}
    base |= {f"L000{i}.norm.{k}": np.ones(128) for i in range(2) for k in ("attn_in", "mlp_in")}
    base = {k: v.astype(np.float32) for k, v in base.items()}
    dss = SCHEMES["dss"]
    ours = base | dss.embed(base, key_of(1))
    theirs = ours | dss.embed(ours, key_of(2))
    stranger = {k: d.permutation(v.ravel()).reshape(v.shape) for k, v in base.items()}
    made = {"original": base, "ours": ours, "theirs": theirs, "stranger": stranger}
    made["marked stranger"] = stranger | dss.embed(stranger, key_of(2))
    root = tmp_path_factory.mktemp("claims")
    for name, weights in made.items():
        derive.save(marked.by_name(weights), root / name)
        (root / name / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    return {name: str(root / name) for name in made}


def side(folders, name, original, number, **more):
    return commit(folders[name], folders[original], key_of(number), created=NOW, **more)


def test_a_commitment_opens_to_nothing_else(folders):
    claim, opening = side(folders, "ours", "original", 1)
    assert opened(claim, opening).opens
    assert "master" not in json.dumps(claim)
    assert opening["payload"] not in json.dumps(claim)
    assert opening["nonce"] not in json.dumps(claim)
    for field, value in (
        ("payload", b"other".hex()),
        ("nonce", "00" * 32),
        ("master", "11" * 32),
        ("tensors", opening["tensors"][:-1]),
    ):
        assert not opened(claim, opening | {field: value}).opens, field
    for field in opening["statement"]:
        if field in {"format", "scheme"}:
            continue
        changed = opening["statement"] | {
            field: {"channel": "1", "params": {}, "scheme_version": 2, "n_tensors": 3}.get(field, "ab")
        }
        assert not opened(claim, opening | {"statement": changed}).opens, field


@given(st.dictionaries(st.text(), st.one_of(st.integers(-(2**50), 2**50), st.text(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()), max_size=5))  # fmt: skip
def test_commitments_do_not_depend_on_how_json_is_written(params):
    statement = claims.Statement(scheme="dss", scheme_version=1, channel="0", params=params, payload_sha256="", key_root="", unmarked_digest="", marked_digest="", n_tensors=1)  # fmt: skip
    again = replace(statement, params=json.loads(json.dumps(dict(reversed(list(params.items()))), indent=3)))
    assert claims.commitment(b"n", statement) == claims.commitment(b"n", again)
    assert claims.commitment(b"m", statement) != claims.commitment(b"n", statement)


def test_signatures_cover_the_whole_claim(folders):
    claim, opening = side(folders, "ours", "original", 1, signer=Ed25519PrivateKey.generate())
    assert is_signed(claim)
    assert len(to_stamp(claim)) == 64
    Draft202012Validator(json.loads((ROOT / "schemas" / "mark-commit-1.json").read_text())).validate(claim)
    for field, value in (("created", "1999-01-01T00:00:00Z"), ("key_id", "x"), ("host", {})):
        assert is_signed(claim | {field: value}) is False
    assert not opened(claim | {"created": "1999-01-01T00:00:00Z"}, opening).opens
    assert is_signed(claim | {"attestations": []}) is None


def test_some_tensors_are_shown_and_the_others_stay_secret(folders):
    claim, opening = side(folders, "ours", "original", 1, share=0.5)
    assert "master" not in opening
    assert len(opening["tensors"]) == 7
    found = opened(claim, opening)
    assert found.opens
    assert not found.whole
    hidden = next(
        r
        for r in SCHEMES["dss"].carriers(dict.fromkeys(marked.planted_roles(), (128, 128)), key_of(1))
        if r not in found.key.shown
    )
    with pytest.raises(UnusableKeyError, match="not disclosed"):
        found.key.secret(hidden, "sign")
    entry = opening["tensors"][0]
    wrong = entry | {"keys": dict.fromkeys(entry["keys"], "00" * 32)}
    assert not opened(claim, opening | {"tensors": [wrong, *opening["tensors"][1:]]}).opens
    assert found.log_choices == pytest.approx(math.log(math.comb(14, 7)) + log_choices(found.key.payload))
    assert log_choices(found.key.payload) > math.log(256.0) * len(found.key.payload)


def test_schemes_without_keys_of_tensors_make_no_claims():
    with pytest.raises(UnfitModelError, match="no keys of single tensors"):
        claims.tensor_keys(key_of(1, "perm"), ["residual"])


class TestContest:
    """Section 4: whoever marked first has his mark in the other's original."""

    def test_a_thief_who_marked_on_top_loses(self, folders):
        a = side(folders, "ours", "original", 1)
        b = side(folders, "theirs", "ours", 2)
        found = contest([a, b], [folders["original"], folders["ours"]])
        assert found["winner"] == "a"
        schema = json.loads((ROOT / "schemas" / "mark-contest-1.json").read_text())
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(json.loads(json.dumps(found, allow_nan=False)))
        assert found["b"]["shows_original"]
        assert not found["b"]["own_mark_in_other_original"]["found"]
        swapped = contest([b, a], [folders["ours"], folders["original"]])
        assert swapped["winner"] == "b"

    def test_an_original_that_was_not_committed_to_counts_for_nothing(self, folders):
        a = side(folders, "ours", "original", 1)
        b = side(folders, "theirs", "ours", 2)
        found = contest([a, b], [folders["original"], folders["stranger"]])
        assert found["winner"] == "a"
        assert "not the one it committed to" in found["reason"]

    def test_a_marked_model_is_no_original(self, folders):
        """The thief calls the marked copy of his mark an original."""
        a = side(folders, "ours", "original", 1)
        b = side(folders, "theirs", "theirs", 2)
        found = contest([a, b], [folders["original"], folders["theirs"]])
        assert found["winner"] == "a"
        assert "carries its own mark" in found["reason"]

    def test_two_models_that_share_nothing_are_not_decided(self, folders):
        a = side(folders, "ours", "original", 1)
        b = side(folders, "marked stranger", "stranger", 2)
        found = contest([a, b], [folders["original"], folders["stranger"]])
        assert found["winner"] is None
        assert "neither original carries" in found["reason"]

    def test_keys_picked_tensor_by_tensor_pass_the_test_and_are_refused(self, folders):
        """Ambiguity: the best of 40 secrets for each of 14 tensors reaches claim grade, without any mark."""
        host = marked.by_role(derive.load(folders["original"]))
        dss, key = SCHEMES["dss"], key_of(5)
        roles = dss.carriers({r: w.shape for r, w in host.items()}, key)
        picked = {}
        for role in roles:
            tries = [claims.tensor_keys(key_of(1000 + i), [role])[role] for i in range(40)]
            one = {role: host[role]}
            shapes = {role: host[role].shape}
            scores = [dss.verify(one, _shown(key, {role: t}), shapes=shapes).test.statistic for t in tries]
            picked[role] = tries[int(np.argmax(scores))]
        shown = _shown(key, picked)
        forged = dss.verify({r: host[r] for r in roles}, shown, shapes={r: host[r].shape for r in roles})
        assert forged.test.log_pvalue < math.log(1e-9), "picking by tensor adds up"
        statement = claims.Statement(scheme="dss", scheme_version=1, channel="0", params=key.params, payload_sha256=hashlib.sha256(key.payload).hexdigest(), key_root=claims.key_root(picked), unmarked_digest="0", marked_digest="0", n_tensors=len(roles))  # fmt: skip
        nonce = claims.new_nonce()
        claim = {
            "format": claims.FORMAT,
            "attestations": [],
            "commitment": {"value": claims.commitment(nonce, statement)},
        }
        tensors = [{"tensor": d.tensor, "keys": {p: s.hex() for p, s in d.keys.items()}, "path": [[w, x.hex()] for w, x in d.path]} for d in claims.disclosed(picked, sorted(picked))]  # fmt: skip
        opening = {
            "nonce": nonce.hex(),
            "statement": statement.as_dict(),
            "payload": key.payload.hex(),
            "tensors": tensors,
        }
        thief = opened(claim, opening)
        owner = opened(*side(folders, "ours", "original", 1))
        assert thief.opens
        assert not thief.counts_against(owner), "not whole and not stamped before: it does not count"
        assert replace(thief, stamped=datetime(2026, 1, 1, tzinfo=UTC)).counts_against(owner)

    def test_whole_keys_cannot_be_picked_within_reach(self, folders):
        """Of 30 whole keys the best is no better than 30 draws give; grinding to the grade takes 2^128."""
        host = marked.by_role(derive.load(folders["original"]))
        shapes = {r: w.shape for r, w in host.items()}
        best = min(SCHEMES["dss"].verify(host, key_of(2000 + i), shapes=shapes).test.log_pvalue for i in range(30))
        assert best > math.log(1e-6 / 30)
        assert pytest.approx(-128 * math.log(2)) == LOG_GRADE


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WELL = Party(opens=True, shows_original=True, marks_own=False, marks_other=False, stamped=None)


@pytest.mark.parametrize(
    ("a", "b", "winner", "words"),
    [
        ({"marks_other": True}, {}, "a", "carries the mark of a"),
        ({}, {"marks_other": True}, "b", "carries the mark of b"),
        ({"opens": False, "marks_other": True}, {}, "b", "does not open"),
        ({}, {"marks_own": True, "marks_other": True}, "a", "its own mark"),
        ({"shows_original": False}, {"opens": False}, None, "neither claim stands"),
        ({"stamped": NOON}, {}, "a", "earlier time stamp"),
        ({"stamped": NOON}, {"stamped": NOON - timedelta(days=1)}, "b", "earlier time stamp"),
        ({"stamped": NOON}, {"stamped": NOON}, None, "the same"),
        (
            {"marks_other": True, "stamped": NOON},
            {"marks_other": True, "stamped": NOON + timedelta(1)},
            "a",
            "each original",
        ),
        ({"marks_other": True}, {"stamped": NOON}, "a", "carries the mark of a"),
        ({}, {}, None, "neither claim has a time stamp"),
    ],
)
def test_rulings(a, b, winner, words):
    found = judged(replace(WELL, **a), replace(WELL, **b))
    assert found.winner == winner
    assert words in found.reason
    mirrored = judged(replace(WELL, **b), replace(WELL, **a))
    assert mirrored.winner == {"a": "b", "b": "a", None: None}[winner]


def _shown(key, keys):
    return claims.ShownKey(scheme="dss", scheme_version=1, channel="0", master=bytes(32), params=key.params, payload=key.payload, shown=keys)  # fmt: skip


def test_files_that_are_none(tmp_path, folders):
    for name, text in (("a", b""), ("b", b"[" * 100_000), ("c", b'{"format": "else"}'), ("d", b"\xff\x00")):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(MalformedDocumentError, match="not a claim"):
            read_entry(str(tmp_path / name), claims.FORMAT)
    with pytest.raises(UnreadableDocumentError, match="cannot be read"):
        read_entry(str(tmp_path / "missing"), claims.FORMAT)
    claim, opening = side(folders, "ours", "original", 1)
    for broken in ({}, {"nonce": "zz"}, {"statement": 5}, {"payload": None}, {"tensors": 3}, {"master": "00"}):
        changed = {} if not broken else opening | broken
        with pytest.raises(MalformedDocumentError, match="damaged"):
            opened(claim, changed)
    odd = opening | {"statement": opening["statement"] | {"scheme": "none"}}
    with pytest.raises(MalformedDocumentError, match="no claims are made"):
        opened(claim, odd)
