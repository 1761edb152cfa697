"""References of a tree: each model once, nothing lost in silence, lists in any encoding."""

import io
import os
import sys
from pathlib import Path

import pytest

import derive
from crawl import CrawlError, ModelRef, open_model
from lineage.errors import NoModelError, UsageError
from lineage.growing import tree
from lineage.pairs import parse_pairs
from lineage.plan import load_row_key
from lineage.searching import find_all, is_missing, read_list, read_references, sets_beside
from nulls import ROOT
from program import run

ZOO = ROOT / "fixtures" / "zoo"


@pytest.fixture
def models(tmp_path):
    for name in ("micro-00", "micro-01"):
        derive.save(derive.load(ZOO / name), tmp_path / "all" / name)
    return tmp_path / "all"


@pytest.fixture
def closed(models, monkeypatch):
    """A folder below the models that may not be listed; modes do not bind a superuser, so the refusal is injected."""
    (models / "closed").mkdir()
    real = os.scandir

    def scandir(path="."):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return models


def test_a_folder_that_may_not_be_entered_is_listed(closed):
    document = tree(find_all([str(closed)]))
    assert [n["id"] for n in document["nodes"]] == ["micro-00", "micro-01"]
    (skipped,) = document["skipped"]
    assert skipped["ref"] == "closed"
    assert "permission denied" in skipped["reason"]


def test_a_model_that_may_not_be_read_is_listed(models, monkeypatch):
    real = os.open

    def refuse(path, *rest, **kw):
        if "micro-01" in os.fspath(path) and os.fspath(path).endswith(".safetensors"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path, *rest, **kw)

    monkeypatch.setattr(os, "open", refuse)
    document = tree(find_all([str(models)]))
    assert [s["ref"] for s in document["skipped"]] == ["micro-01"]
    assert "permission denied" in document["skipped"][0]["reason"]
    assert "right to read" in document["skipped"][0]["reason"]


def test_one_model_named_twice_is_one_model(models):
    a = str(models / "micro-00")
    once = find_all([a])
    for references in ([a, a], [a, f"{a}/"], [f"{a}/", a], [a, str(models / "." / "micro-00")]):
        assert find_all(references) == once or [r.location.rstrip("/") for _, r in find_all(references)] == [a]
        assert [name for name, _ in find_all(references)] == ["micro-00"]
    both = find_all([str(models), a])
    assert sorted(name for name, _ in both) == [f"{models}/micro-00", f"{models}/micro-01"]


def test_what_is_missing_beside_others_is_listed(models, tmp_path):
    (tmp_path / "void").mkdir()
    references = [str(models), "nowhere", str(tmp_path / "gone"), f"{tmp_path / 'void'}/"]
    document = tree(find_all(references))
    skipped = {s["ref"]: s["reason"] for s in document["skipped"]}
    assert set(skipped) == {"nowhere", str(tmp_path / "gone"), str(tmp_path / "void")}
    assert len(document["nodes"]) == 2
    assert is_missing(references, list(skipped))
    assert not is_missing([str(models)], ["bad"])
    with pytest.raises(NoModelError):
        find_all([str(tmp_path / "void")])
    with pytest.raises(CrawlError, match="not a Hub id"):
        find_all(["nowhere"])


def test_the_command_answers_the_rest_and_ends_with_3(models):
    done = run("tree", models, "nowhere")
    assert done.returncode == 3
    assert done.stdout.startswith("2 models: ")
    assert "nowhere" in done.stdout
    assert done.stderr == ""


def test_lists_are_utf8_with_or_without_a_mark(tmp_path, monkeypatch):
    path = tmp_path / "list"
    path.write_bytes("# one\nmodèle\n".encode("utf-8-sig"))
    assert read_references(str(path)) == ["modèle"]
    path.write_bytes(b"fine\nmod\xe8le\n")
    for what in ("pairs", "references"):
        with pytest.raises(UsageError, match=r"list: line 2 is not UTF-8 text; save"):
            read_list(str(path), what)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\tb\n\xff\n")))
    with pytest.raises(UsageError, match="stdin: line 2"):
        read_list("-", "pairs")
    for name, what in (("none", "no such file or directory"), ("", "is a directory")):
        with pytest.raises(UsageError, match=what) as caught:
            read_list(str(tmp_path / name), "pairs")
        assert "Errno" not in str(caught.value)


def test_what_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr("lineage.searching.MOST_BYTES", 1000)
    with pytest.raises(UsageError, match="longer than"):
        read_list("/dev/zero", "pairs")
    with pytest.raises(UsageError, match="more than"):
        load_row_key(Path("/dev/zero"))


def test_sentences_have_their_grammar_and_a_hint(tmp_path):
    with pytest.raises(UsageError, match="holds 1 reference instead"):
        parse_pairs("one\n", "f")
    with pytest.raises(UsageError, match=r"is a directory\); give a file"):
        load_row_key(tmp_path)
    (tmp_path / "bad.bin").write_bytes(b"GGUF" + bytes(80))
    with pytest.raises(NoModelError) as caught:
        tree([("bad", ModelRef.parse(str(tmp_path / "bad.bin")))])
    assert "none of 1" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lone.bin", r"^[^:]*lone\.bin: GGUF"),
        ("dangling", "leads nowhere; check where it points"),
        ("pipe", "a device or a pipe, not a file; weights are read in places"),
        ("index/model.safetensors.index.json", "the index does not begin with a brace"),
    ],
)
def test_local_trouble_is_told_plainly(tmp_path, name, what):
    (tmp_path / "lone.bin").write_bytes(b"GGUF" + bytes(80))
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "model.safetensors.index.json").write_text("no json")
    with pytest.raises(CrawlError, match=what):
        open_model(str(tmp_path / name))


def test_weight_sets_beside_the_one_chosen(tmp_path):
    good = derive.load(ZOO / "micro-00")
    first = derive.save(good, tmp_path) / "model.safetensors"
    assert sets_beside(str(tmp_path)) == []
    (tmp_path / "model.fp16.safetensors").write_bytes(first.read_bytes())
    assert sets_beside(str(tmp_path)) == [f"{tmp_path}#fp16"]
    assert sets_beside("org/name") == []
