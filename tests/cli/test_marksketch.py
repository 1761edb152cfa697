"""`lineage mark sketch`, `embed --sketch` and `verify --sketch` through the program."""

import json
import shutil

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import derive
from nulls import ROOT
from program import run

NAMES = ("keygen", "embed", "sketch", "verify")
VALID = {n: Draft202012Validator(json.loads((ROOT / "schemas" / f"mark-{n}-1.json").read_text())) for n in NAMES}


def told(name, *words, code=0):
    done = run("mark", name, *words, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    document = json.loads(done.stdout)
    VALID[name].validate(document)
    return document


def refused(*words, code, saying):
    done = run("mark", *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert saying in done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory, zoo):
    """A key that wrote a sketch when it marked, the copy, and the copy in another order."""
    here = tmp_path_factory.mktemp("sketch")
    told("keygen", "--out", here / "k.json", "--eps", 0.05, "--payload", "6f776e6572")
    document = told(
        "embed", zoo / "llama-a", "--key", here / "k.json", "--out", here / "copy", "--force", "--sketch", here / "s"
    )
    (here / "embed.json").write_text(json.dumps(document))
    rng = np.random.default_rng(7)
    derive.save(derive.permute_residual(derive.permute_hidden(derive.load(here / "copy"), rng), rng), here / "other")
    shutil.copy(zoo / "llama-a" / "config.json", here / "other")
    return here


def test_a_laundered_copy_is_found_by_the_sketch_alone(place):
    found = told("verify", place / "other", "--key", place / "k.json", "--sketch", place / "s")
    assert (found["verdict"], found["payload_ok"], found["sketch_bound"]) == ("found", True, True)
    assert found["reference_used"] is None
    assert found["alignment"]["transforms"] == ["hidden-permutation", "residual-permutation"]
    told("verify", place / "other", "--key", place / "k.json", code=4)
    text = run("mark", "verify", place / "other", "--key", place / "k.json", "--sketch", place / "s").stdout
    assert "by a sketch of the unmarked model" in " ".join(text.split())


def test_the_key_knows_its_sketch_and_takes_no_other(place, zoo):
    document = json.loads((place / "embed.json").read_text())
    key = json.loads((place / "k.json").read_text())
    assert key["host"]["sketch"] == {"sha256": document["sketch"]["sha256"], "kinds": ["perm", "rot"]}
    assert document["sketch"]["bytes"] == (place / "s").stat().st_size
    made = told("sketch", zoo / "llama-a", "--out", place / "again", "--kind", "rot,perm")
    assert made["sha256"] == document["sketch"]["sha256"]
    assert made["unmarked_digest"] == document["unmarked_digest"]
    assert made["sizes"] == {"perm": 102_400, "rot": 9_216, "gram": 0}
    told(
        "sketch", zoo / "llama-a", "--out", place / "again", "--kind", "perm,rot"
    )  # the very same bytes are no conflict
    told("sketch", zoo / "llama-a", "--out", place / "perm", "--kind", "perm")
    verify = ("verify", place / "other", "--key", place / "k.json")
    refused(*verify, "--sketch", place / "perm", code=2, saying="made afterwards")
    told("sketch", place / "copy", "--out", place / "marked")
    refused(*verify, "--sketch", place / "marked", code=2, saying="of the marked model")


def test_calls_that_cannot_be_meant_are_refused(place, zoo, tmp_path):
    verify = ("verify", place / "other", "--key", place / "k.json", "--sketch")
    refused(*verify, place / "s", "--reference", zoo / "llama-a", code=2, saying="a reference and a sketch")
    refused(*verify, place / "k.json", code=3, saying="not a sketch")
    refused(*verify, place / "none", code=3, saying="no such file")
    refused("sketch", zoo / "llama-a", "--out", place / "k.json", code=3, saying="never overwritten")
    refused("sketch", zoo / "llama-a", "--out", tmp_path / "s", "--kind", "all", code=2, saying="perm, rot, gram")
    assert list(tmp_path.iterdir()) == []
    text = run("mark", "sketch", zoo / "llama-a", "--out", tmp_path / "s").stdout
    assert "SHA-256" in text


def test_a_sketch_stays_only_where_the_copy_does(place, zoo, tmp_path):
    told("keygen", "--out", tmp_path / "k.json", "--eps", 0.05)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    words = ("--key", tmp_path / "k.json", "--out", tmp_path / "full", "--force", "--sketch", tmp_path / "s")
    refused("embed", zoo / "llama-a", *words, code=3, saying="exists")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "k.json"]
    assert json.loads((tmp_path / "k.json").read_text())["host"] == {}
