"""`lineage mark` through the program, from schemes to verify: exit codes, one sentence, nothing half done."""

import json
import stat
import subprocess
import time

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import derive
from nulls import ROOT
from program import COMMAND, run

NAMES = ("schemes", "keygen", "plan", "embed", "verify")
VALID = {n: Draft202012Validator(json.loads((ROOT / "schemas" / f"mark-{n}-1.json").read_text())) for n in NAMES}


def call(*words, code=0):
    done = run("mark", *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def told(name, *words, code=0):
    document = json.loads(call(name, *words, "--json", code=code).stdout)
    VALID[name].validate(document)
    return document


def refused(*words, code, saying):
    """One line on stderr, nothing on stdout; the same as a document with --json."""
    done = call(*words, code=code)
    assert done.stdout == ""
    assert done.stderr.startswith("lineage: ")
    assert done.stderr.count("\n") == 1
    assert saying in done.stderr
    error = json.loads(call(*words, "--json", code=code).stdout)["error"]
    assert saying in error["message"]
    return error


@pytest.fixture(scope="module")
def place(tmp_path_factory, zoo):
    """A key, a copy it marked, and the document of that."""
    here = tmp_path_factory.mktemp("mark")
    told("keygen", "--out", here / "k.json", "--eps", 0.05, "--payload", "6f776e6572")
    document = told("embed", zoo / "llama-a", "--key", here / "k.json", "--out", here / "copy", "--force")
    (here / "embed.json").write_text(json.dumps(document))
    return here


def test_every_scheme_is_listed():
    from weightmark.schemes import SCHEMES

    assert [s["name"] for s in told("schemes")["schemes"]] == list(SCHEMES)
    assert all(name in call("schemes").stdout for name in SCHEMES)


def test_a_key_is_for_nobody_else_and_never_written_over(tmp_path):
    told("keygen", "--out", tmp_path / "k.json")
    before = (tmp_path / "k.json").read_bytes()
    assert stat.S_IMODE((tmp_path / "k.json").stat().st_mode) == 0o600
    refused("keygen", "--out", tmp_path / "k.json", code=2, saying="never overwritten")
    assert (tmp_path / "k.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["k.json"]
    refused("keygen", "--out", tmp_path / "no" / "k.json", code=3, saying="cannot be written")


@pytest.mark.parametrize(
    "words",
    [
        ("--scheme", "magic"),
        ("--strength", "heavy"),
        ("--payload", "xyz"),
        ("--payload", "00" * 15),
        ("--scheme", "gram", "--payload", "00"),
        ("--channel", "a|b"),
        ("--eps", "0.5"),
        ("--eps", "nan"),
    ],
)
def test_keys_that_cannot_be_meant_are_a_usage_error(tmp_path, words):
    assert "Traceback" not in call("keygen", "--out", tmp_path / "k.json", *words, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_a_plan_foretells_what_is_found(place, zoo):
    made = told("plan", zoo / "llama-a", "--key", place / "k.json")
    embedded = json.loads((place / "embed.json").read_text())
    assert made["carriers"] == embedded["carriers"]
    assert made["statistic"] == pytest.approx(embedded["statistic"])
    found = told("verify", place / "copy", "--key", place / "k.json")
    assert found["statistic"] == pytest.approx(made["statistic"], abs=2)
    assert made["forecast"][0]["statistic"] == pytest.approx(made["statistic"], abs=0.01)


def test_found_is_zero_and_not_found_is_four(place, zoo):
    found = told("verify", place / "copy", "--key", place / "k.json", "--reference", zoo / "llama-a")
    assert (found["verdict"], found["payload_ok"]) == ("found", True)
    assert found["payload"].startswith("6f776e6572")
    told("verify", zoo / "llama-a", "--key", place / "k.json", code=4)
    told("verify", place / "copy", "--key", place / "k.json", "--threshold", 1e-300, code=4)
    assert "not absent" in call("verify", zoo / "llama-b", "--key", place / "k.json", code=4).stdout


def test_the_key_knows_what_it_marked_and_marks_no_more(place, zoo, tmp_path):
    embedded = json.loads((place / "embed.json").read_text())
    host = json.loads((place / "k.json").read_text())["host"]
    assert host["marked_digest"] == embedded["marked_digest"] != host["unmarked_digest"] == embedded["unmarked_digest"]
    assert stat.S_IMODE((place / "k.json").stat().st_mode) == 0o600
    refused(
        "embed", zoo / "llama-b", "--key", place / "k.json", "--out", tmp_path / "x", code=3, saying="marked a model"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_marked_reference_is_a_usage_error(place):
    words = ("verify", place / "copy", "--key", place / "k.json", "--reference", place / "copy")
    assert refused(*words, code=2, saying="carries this very mark")["where"]


@pytest.mark.parametrize(
    "words", [(), ("--align", "maybe"), ("--threshold", "0"), ("--threshold", "2"), ("--family-size", "0"), ("--channels", "a|b"), ("--channels", "9999999")],
)  # fmt: skip
def test_calls_that_cannot_be_meant(place, words):
    key = ("--key", place / "k.json") if words else ()
    assert call("verify", place / "copy", *key, *words, code=2).stdout == ""


def test_a_passphrase(tmp_path, zoo, monkeypatch):
    monkeypatch.setattr("weightmark.keys._SCRYPT", {"n": 1 << 7, "r": 8, "p": 1})
    monkeypatch.setenv("LINEAGE_PASSPHRASE", "word")
    told("keygen", "--out", tmp_path / "k.json", "--passphrase", "--eps", 0.05)
    call("embed", zoo / "llama-a", "--key", tmp_path / "k.json", "--out", tmp_path / "copy", "--passphrase", "--force")
    found = told(
        "verify", tmp_path / "copy", "--key", tmp_path / "k.json", "--passphrase", "--reference", zoo / "llama-a"
    )
    assert found["verdict"] == "found"
    shown = call("verify", tmp_path / "copy", "--key", tmp_path / "k.json", "--passphrase").stdout
    assert "the key has no payload, and none was read" in shown
    assert json.loads((tmp_path / "k.json").read_text())["secret"]["kind"] == "scrypt-aesgcm"
    refused("verify", tmp_path / "copy", "--key", tmp_path / "k.json", code=3, saying="needs a passphrase")
    monkeypatch.setenv("LINEAGE_PASSPHRASE", "other")
    words = ("verify", tmp_path / "copy", "--key", tmp_path / "k.json", "--passphrase")
    refused(*words, code=3, saying="does not open the key")
    monkeypatch.setenv("LINEAGE_PASSPHRASE", "")
    done = call("keygen", "--out", tmp_path / "none.json", "--passphrase", code=2)
    assert "keeps nothing secret" in done.stderr
    assert not (tmp_path / "none.json").exists()


def test_damaged_missing_and_foreign_keys(place, tmp_path):
    text = (place / "k.json").read_text()
    for name, content, saying in (
        ("empty", "", "not a key"),
        ("cut", text[:200], "not a key"),
        ("claim", '{"format": "weightmark-claim/1"}', "not a key"),
        ("changed", text.replace('"channel": "0"', '"channel": "1"'), "contradicts its own name"),
        ("deep", "[" * 5000, "not a key"),
    ):
        (tmp_path / name).write_text(content)
        refused("verify", place / "copy", "--key", tmp_path / name, code=3, saying=saying)
    refused("verify", place / "copy", "--key", tmp_path / "none", code=3, saying="cannot be read")


def test_damaged_truncated_and_foreign_models(place, zoo, tmp_path):
    data = next((place / "copy").glob("*.safetensors")).read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.safetensors").write_bytes(data[: len(data) // 2])
    derive.save({"x": np.ones((64, 64), np.float32)}, tmp_path / "odd")
    for suspect in (tmp_path / "cut", tmp_path / "odd", tmp_path / "none"):
        done = call("verify", suspect, "--key", place / "k.json", code=3)
        assert done.stderr.count("\n") == 1
    told("verify", zoo / "gpt2-a", "--key", place / "k.json", code=4)


def test_an_interrupt_leaves_nothing(tmp_path):
    """A real one, to a program of its own, while it writes a model of 80 MB."""
    rng = np.random.default_rng(0)
    wide = {"model.embed_tokens.weight": (64, 1024), "lm_head.weight": (64, 1024), "model.norm.weight": (1024,)}
    for i in range(2):
        for part, shape in (("self_attn.q_proj", (1024, 1024)), ("self_attn.k_proj", (1024, 1024)), ("self_attn.v_proj", (1024, 1024)), ("self_attn.o_proj", (1024, 1024)), ("mlp.gate_proj", (2048, 1024)), ("mlp.up_proj", (2048, 1024)), ("mlp.down_proj", (1024, 2048))):  # fmt: skip
            wide[f"model.layers.{i}.{part}.weight"] = shape
        for norm in ("input_layernorm", "post_attention_layernorm"):
            wide[f"model.layers.{i}.{norm}.weight"] = (1024,)
    derive.save({k: rng.standard_normal(s, dtype="float32") for k, s in wide.items()}, tmp_path / "model")
    call("keygen", "--out", tmp_path / "k.json", "--eps", 0.01)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    words = [
        "mark",
        "embed",
        str(tmp_path / "model"),
        "--key",
        str(tmp_path / "k.json"),
        "--out",
        str(tmp_path / "copy"),
    ]
    done = subprocess.Popen([*COMMAND, *words], stderr=subprocess.DEVNULL, cwd=ROOT)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".copy-*/model.safetensors")) and time.monotonic() < until:
        time.sleep(0.01)
    done.send_signal(2)
    assert done.wait(60) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k.json", "model"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert json.loads((tmp_path / "k.json").read_text())["host"] == {}
