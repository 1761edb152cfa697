"""`lineage crawl` as a shell sees it: streams, exit codes, documents, progress."""

import json
import os

import jsonschema
import pytest

from hub import Fault, Hub, Repo
from hubworld import commit, pack, weights
from lineage.cli.crawl import Lines
from nulls import ROOT
from program import process, run

SCHEMA = json.loads((ROOT / "schemas" / "crawl-1.json").read_text())
SECRET = "hf_nobodyMaySeeThisOne"  # noqa: S105 - made up


@pytest.fixture(scope="module")
def hub():
    files = {"model.safetensors": pack(weights(1)), "config.json": b'{"num_attention_heads": 4}'}
    with Hub({"org/m": Repo(files, commit("m")), "org/none": Repo({"README.md": b"x"}, commit("n"))}) as made:
        yield made


@pytest.fixture
def called(hub, tmp_path, monkeypatch):
    hub.faults = []
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("LINEAGE_INDEX", str(tmp_path / "index.db"))
    return run


def test_the_document_and_the_text(called, hub, tmp_path):
    done = called("crawl", "hub", "--author", "org", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert (document["added"], document["skipped"][0]["ref"]) == (1, "org/none")
    assert (tmp_path / "index.db").exists()
    text = called("crawl", "hub")
    assert text.stdout.startswith("2 looked for: 2 unchanged\n")
    assert SECRET not in done.stdout + done.stderr + text.stdout
    assert {s.authorization for s in hub.requests()} == {None}
    called("crawl", "hub", "--use-token", "-q")
    assert hub.requests()[-1].authorization == f"Bearer {SECRET}"


def test_progress_has_rate_bytes_and_what_is_left():
    now = iter((0.0, 1.0, 2.0, 4.0))
    told = []
    lines = Lines(clock=lambda: next(now))
    import lineage.cli.crawl as module

    kept, module.write_stderr = module.write_stderr, told.append
    try:
        lines(1, 10, 1_500_000)
        lines(4, 10, 3_000_000)
        lines(10, 10, 9_000_000)
    finally:
        module.write_stderr = kept
    assert told[1].startswith("4/10 models, 3.0 MB, 2.0 models/s, 3 s left")
    assert "left" not in told[2]


def test_verbose_tells_on_stderr(called):
    assert "models/s" in called("crawl", "hub", "--verbose", "--limit", "1").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json"], "name hub"),
        (["hub", "--engine", "abacus"], "no engine"),
        (["hub", "--since", "soon"], "not a date"),
        (["hub", "--jobs", "0"], "jobs"),
        (["hub", "--budget-bytes", "0"], "at least one byte"),
        (["/nowhere/at/all", "--author", "x"], "needs the source hub"),
        (["/nowhere/at/all"], "cannot be read"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_usage(called, arguments, words):
    done = called("crawl", *arguments)
    assert done.returncode == 2
    assert words in done.stdout + done.stderr


def test_names_longer_than_any_file_can_have_name_nothing(called, tmp_path):
    long = "a" * 10_000
    (tmp_path / "ids").write_text(f"{long}\n\x1b[31m\norg/../x\n")
    done = called("crawl", str(tmp_path / "ids"), "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["failed"]) == 3
    for words, code in ((("crawl", long), 2), (("index", "merge", long, "--index", str(tmp_path / "i.db")), 3)):
        refused = called(*words)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (code, "", 1)


def test_what_may_pass_is_exit_code_three(called, hub, monkeypatch):
    monkeypatch.setattr("lineage.crawling.ROUNDS", 1)
    hub.faults = [Fault("/api/models/org/m", "418", times=99)]
    done = called("crawl", "hub", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["failed"][0]["retryable"] is True
    hub.faults = []
    assert called("crawl", "--resume", "--json").returncode == 0


def test_a_hub_that_is_away_is_one_sentence(tmp_path):
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    done = process("crawl", "hub", "--index", str(tmp_path / "i.db"), env=env)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "offline" in done.stderr
