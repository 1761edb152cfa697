"""Streams that are full, closed or gone, progress, and errors in one style: whole processes where only those tell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import derive
from lineage.cli.app import app
from lineage.cli.options import checked_alpha
from lineage.cli.progress import PlainLines, progress
from nulls import ROOT
from program import COMMAND, process, run

ZOO = ROOT / "fixtures" / "zoo"
PAIR = [str(ZOO / "micro-00"), str(ZOO / "micro-01")]


@pytest.mark.parametrize("args", [["compare", *PAIR], ["compare", *PAIR, "--json"], ["--help"]], ids=len)
def test_a_full_stdout_is_one_sentence(args):
    with Path("/dev/full").open("w") as full:
        done = process(*args, stdout=full)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "no space left" in done.stderr


def test_a_closed_stdout_is_one_sentence():
    command = " ".join([*COMMAND, "compare", *PAIR, ">&-"])
    done = subprocess.run(["/bin/sh", "-c", command], text=True, check=False, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert done.stderr.startswith("lineage: stdout is closed")
    assert done.stderr.count("\n") == 1


def test_a_stdout_without_the_characters_is_one_sentence():
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    pair = [str(ZOO / "llama-a"), str(ZOO / "llama-a-ft1")]
    done = process("tree", *pair, env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "ascii" in done.stderr
    assert "--json" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "code"),
    [(["--help"], 0), (["compare", *PAIR], 0), (["compare", *PAIR, "--require", "related"], 4)],
    ids=["help", "answer", "negative"],
)
def test_a_reader_that_has_gone_is_no_failure(args, code):
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as gone:
        done = process(*args, stdout=gone)
    assert (done.returncode, done.stderr) == (code, "")


def test_pairs_stop_when_the_reader_has_gone_and_say_how_many_failed(tmp_path):
    lines = [f"{PAIR[0]} {PAIR[1]}", f"{PAIR[0]} {tmp_path / 'none'}", f"{PAIR[0]} {PAIR[1]}"]
    (tmp_path / "pairs.txt").write_bytes("\n".join(lines).encode("utf-8-sig"))
    done = run("compare", "--pairs", tmp_path / "pairs.txt")
    assert done.returncode == 3
    assert done.stdout.count("\n") == 3
    assert done.stderr.startswith("lineage: 1 of 3 pairs failed; the first: ")
    assert "none" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_interrupt_while_loading_is_130():
    program = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.startswith('typer'): raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from lineage.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_usage_errors_are_one_line_each():
    for args in (["tree", "--nope"], ["compare", *PAIR, "--alpha", "nan"], ["compare", "x"], ["nothing"]):
        done = run(*args)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("lineage: ")
        assert "--help" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("value", [0.0, -1.0, 0.6, float("nan"), float("inf")])
def test_levels_outside_the_bounds_are_refused(value):
    with pytest.raises(Exception, match=r"between 1e-300 and 0\.5"):
        checked_alpha(value)
    assert checked_alpha(1e-9) == 1e-9


def test_plain_lines_are_few():
    class Clock:
        now = 0.0

        def __call__(self):
            self.now += 0.01
            return self.now

    told = []
    lines = PlainLines(Clock())
    import lineage.cli.progress as module

    original, module.write_stderr = module.write_stderr, told.append
    try:
        for done in range(101):
            lines("reading", done, 100)
        lines("testing", 0, 1)
    finally:
        module.write_stderr = original
    assert told[0] == "reading 0/100\n"
    assert told[-2:] == ["reading 100/100\n", "testing 0/1\n"]
    assert 4 <= len(told) <= 7


def test_progress_is_shown_where_it_is_asked_for(capsys):
    with progress(quiet=False, verbose=False) as tell:
        assert tell is None
    with progress(quiet=True, verbose=True) as tell:
        assert tell is None
    with progress(quiet=False, verbose=True) as tell:
        tell("reading", 3, 24)
    assert capsys.readouterr().err == "reading 3/24\n"


def test_further_weight_sets_are_hinted_at_in_text_only(tmp_path):
    good = derive.load(ZOO / "micro-00")
    folder = tmp_path / "two"
    first = derive.save(good, folder) / "model.safetensors"
    (folder / "model.fp16.safetensors").write_bytes(first.read_bytes())
    runner = CliRunner()
    done = runner.invoke(app, ["compare", str(folder), PAIR[1]])
    assert done.exit_code == 0
    assert f"lineage: also there: {folder}#fp16\n" in done.stderr
    assert "also there" not in runner.invoke(app, ["compare", str(folder), PAIR[1], "--json"]).stderr
    assert "also there" not in runner.invoke(app, ["compare", f"{folder}#fp16", PAIR[1]]).stderr
