"""Answers of pairs kept in a file: whatever ends a run, the next gives the same document."""

import json
import os
import signal
import subprocess
import sys
import time
from unittest.mock import patch

import pytest

import derive
from lineage import tested
from lineage.errors import MalformedDocumentError, OutputError, UsageError
from lineage.growing import TreeOptions, kept_answers, tree
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.searching import find_all
from nulls import ROOT
from program import run

NURSERY = ROOT / "fixtures" / "nursery"
NAMES = [f"nursery-00-0{i}" for i in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name in NAMES:
        derive.save(derive.load(NURSERY / name), root / name)
    return root


@pytest.fixture(scope="module")
def plain(folder):
    return grown(folder)


@pytest.fixture(scope="module")
def full(folder, tmp_path_factory):
    """A file with the answers of all pairs."""
    path = tmp_path_factory.mktemp("kept") / "pairs"
    grown(folder, path)
    return path.read_bytes()


def grown(folder, path=None):
    if path is None:
        document = tree(find_all([str(folder)]))
    else:
        with kept_answers(path, PUBLIC_KEY) as answers:
            document = tree(find_all([str(folder)]), TreeOptions(answers=answers))
    document["record"].pop("run")
    return json.dumps(document, sort_keys=True)


def counted():
    return patch.object(tested, "gather", side_effect=tested.gather)


def test_a_second_run_tests_nothing_and_says_the_same(folder, plain, full, tmp_path):
    path = tmp_path / "pairs"
    path.write_bytes(full)
    with counted() as asked:
        assert grown(folder, path) == plain
    assert asked.call_count == 0
    assert path.read_bytes() == full


@pytest.mark.parametrize("kept", [0, 30, 180, -3])
def test_a_file_cut_anywhere_loses_one_pair(folder, plain, full, tmp_path, kept):
    path = tmp_path / "pairs"
    path.write_bytes(full[:kept])
    lines = max(0, full[:kept].count(b"\n") - 1)
    with counted() as asked:
        assert grown(folder, path) == plain
    assert asked.call_count == 3 - lines
    assert sorted(path.read_bytes().splitlines()) == sorted(full.splitlines())


def test_a_killed_run_is_resumed(folder, plain, tmp_path):
    path = tmp_path / "pairs"
    slow = (
        "import sys, time; from lineage import tested; real = tested.gather\n"
        "def late(a, b):\n    time.sleep(1); return real(a, b)\n"
        "tested.gather = late; from lineage.__main__ import main; main()"
    )
    command = [sys.executable, "-c", slow, "tree", str(folder), "--evidence", str(path), "--quiet"]
    running = subprocess.Popen(command, cwd=ROOT)
    began = time.monotonic()
    while not path.exists() or path.read_bytes().count(b"\n") < 2:
        assert time.monotonic() - began < 60
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    n = path.read_bytes().count(b"\n") - 1
    assert 1 <= n < 3
    with counted() as asked:
        assert grown(folder, path) == plain
    assert asked.call_count == 3 - n


def _changed(full, change):
    lines = full.splitlines(keepends=True)
    return b"".join(change(lines))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda ls: [b"not ours\n", *ls[1:]], MalformedDocumentError, "no file of evidence"),
        (lambda _: [b"[1]\n"], MalformedDocumentError, "no file of evidence"),
        (lambda _: [b"[" * 4000 + b"\n"], MalformedDocumentError, "no file of evidence"),
        (lambda _: [b"\x00" * 9000 + b"\n"], MalformedDocumentError, "no file of evidence"),
        (lambda ls: [ls[0].replace(b'"version": 1', b'"version": 2')], MalformedDocumentError, "version 2"),
        (lambda ls: [ls[0].replace(b'"signature": "', b'"signature": "9')], UsageError, "another signature"),
        (lambda ls: [ls[0].replace(b'"program": "', b'"program": "9')], UsageError, "another program"),
        (lambda ls: [*ls[:2], b"{}\n", *ls[2:]], MalformedDocumentError, "line 3 is no answer"),
        (lambda ls: [*ls[:2], b"\n"], MalformedDocumentError, "line 3 is no answer"),
        (lambda ls: [*ls, ls[1].replace(b'"log_p": -', b'"log_p": 1')], MalformedDocumentError, "line 5 is no answer"),
        (lambda ls: [*ls, ls[1].replace(b'"log_p": -', b'"log_p": -1')], MalformedDocumentError, "line 5 contradicts"),
        (lambda ls: [*ls, ls[1].replace(b"true", b"1")], MalformedDocumentError, "line 5 is no answer"),
        (lambda ls: [*ls, ls[1].replace(b'"log_p": -', b'"log_p": NaN, "x": -')], MalformedDocumentError, "line 5"),
    ],
)  # fmt: skip
def test_what_no_run_wrote_is_refused_and_kept(full, tmp_path, change, error, words):
    path = tmp_path / "pairs"
    path.write_bytes(_changed(full, change))
    before = path.read_bytes()
    with pytest.raises(error, match=words):
        kept_answers(path, PUBLIC_KEY)
    assert path.read_bytes() == before


def test_another_key_is_refused(full, tmp_path):
    path = tmp_path / "pairs"
    path.write_bytes(full)
    with pytest.raises(UsageError, match="another row_key"):
        kept_answers(path, RowKey("0123456789abcdef", b"k"))


def test_two_runs_do_not_share_a_file(tmp_path):
    with kept_answers(tmp_path / "pairs", PUBLIC_KEY), pytest.raises(UsageError, match="another run"):
        kept_answers(tmp_path / "pairs", PUBLIC_KEY)
    kept_answers(tmp_path / "pairs", PUBLIC_KEY).__exit__(None, None, None)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none" / "pairs", tmp_path / "pipe", tmp_path / "a\x00b"):
        with pytest.raises(UsageError):
            kept_answers(path, PUBLIC_KEY)


def test_a_full_disk_takes_half_a_line_back(full, folder, tmp_path):
    path = tmp_path / "pairs"
    real = os.write
    with kept_answers(path, PUBLIC_KEY) as answers:
        before = path.read_bytes()
        refs = find_all([str(folder)])
        with patch("lineage.keeping.os.write", lambda h, line: real(h, line[:40])), pytest.raises(OutputError) as told:
            tree(refs, TreeOptions(answers=answers))
    assert "No space left" in str(told.value) or "no space left" in str(told.value)
    assert path.read_bytes() == before


def test_the_command_says_what_it_took_away(folder, full, tmp_path):
    path = tmp_path / "pairs"
    path.write_bytes(full[:-7])
    done = run("tree", folder, "--evidence", path)
    assert done.returncode == 0
    assert "cut short is taken away" in done.stderr
    path.write_bytes(b"something else\n")
    done = run("tree", folder, "--evidence", path, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["where"] == str(path)
    assert path.read_bytes() == b"something else\n"
    done = run("tree", folder, "--evidence", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
