"""`lineage compare` and `tree` against a Hub on the loopback, through the real client."""

import json
import os

import pytest

import derive
from hub import Fault, Hub, Repo
from nulls import ROOT
from program import process, run

ZOO = ROOT / "fixtures" / "zoo"
SECRET = "hf_thisIsATokenNobodyMaySee"  # noqa: S105 - made up


def repo(name, **options):
    files = {p.name: p.read_bytes() for p in (ZOO / name).iterdir()}
    return Repo(files, commit=name.encode().hex().ljust(40, "0")[:40], **options)


@pytest.fixture(scope="module")
def hub():
    repos = {f"org/{n}": repo(n) for n in ("llama-a", "llama-a-ft1", "llama-b")}
    with Hub({**repos, "org/closed": repo("micro-00", gated=True)}) as made:
        yield made


@pytest.fixture
def called(hub, tmp_path, monkeypatch):
    """The command line with this hub as its own: the client has read its environment when this process began."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    return run


def test_a_remote_pair_is_related_from_a_few_ranges(hub, tmp_path):
    hub.log.clear()
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": SECRET, "HF_HUB_DISABLE_XET": "1"}
    done = process("compare", "org/llama-a", "org/llama-a-ft1", "--json", env=os.environ | env)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] == "related"
    assert document["log10_p"] <= -12
    assert document["a"]["id"].startswith("org/llama-a@")
    assert len(document["a"]["id"].split("@")[1]) == 40
    assert SECRET not in done.stdout + done.stderr
    gets = [s for s in hub.requests(containing="model.safetensors") if s.method == "GET"]
    assert gets
    assert all(s.range for s in gets)
    assert all(s.authorization is None for s in hub.requests(origin="storage"))
    assert sum(s.body_bytes for s in gets if s.status == 206) <= 2 * 128_000 + 100_000
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_local_and_remote_copies_give_one_answer(called):
    remote = json.loads(called("compare", "org/llama-a", "org/llama-b", "--json").stdout)
    local = json.loads(called("compare", str(ZOO / "llama-a"), str(ZOO / "llama-b"), "--json").stdout)
    assert remote["verdict"] == "no-evidence"
    assert remote["tests"] == local["tests"]
    assert remote["record"]["inputs"][0]["slices_digest"] == local["record"]["inputs"][0]["slices_digest"]


def test_a_remote_copy_of_a_local_folder_is_identical(called):
    done = called("compare", "org/llama-a", str(ZOO / "llama-a"), "--json", "--require", "identical")
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] == "identical"


@pytest.mark.parametrize(("reference", "word"), [("org/closed", "gated"), ("org/absent", "absent")])
def test_closed_and_absent_models_are_one_sentence(called, reference, word):
    done = called("compare", "org/llama-a", reference)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert SECRET not in done.stderr


def test_a_server_that_ignores_ranges_is_refused(hub, called):
    hub.faults.append(Fault(r"safetensors$", "ignore_range", times=100))
    try:
        done = called("compare", "org/llama-a", "org/llama-b")
    finally:
        hub.faults.clear()
    assert done.returncode == 3
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_tree_mixes_remote_and_local(called, tmp_path):
    derive.save(derive.load(ZOO / "llama-a"), tmp_path / "copy")
    done = called("tree", "org/llama-a", "org/llama-b", str(tmp_path / "copy"), "--json")
    document = json.loads(done.stdout)
    assert {n["duplicate_of"] is None for n in document["nodes"]} == {True, False}
    assert document["family_size"] == 1
