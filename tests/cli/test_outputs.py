"""Files named by -o: found out before the work, written whole or through, and never the end of an answer."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from lineage.cli import files
from lineage.cli.files import check_target, is_stdout, write_file
from lineage.cli.output import text_width, writer
from lineage.errors import OutputError, UsageError

DOCUMENT = {"verdict": "no-evidence"}


def words(document, *, colour=False, width=None):
    return f"{document['verdict']} {width}\n"


def write(*outputs, as_json=False, quiet=False):
    writer(outputs, as_json=as_json, quiet=quiet, text=words)(DOCUMENT)


def test_a_new_file_has_the_mode_that_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "new", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_a_file_that_was_there_keeps_its_mode(tmp_path):
    path = tmp_path / "old"
    path.write_text("before")
    path.chmod(0o604)
    write_file(path, "after")
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_links_are_followed_also_where_nothing_is_yet(tmp_path):
    (tmp_path / "real").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "old").write_text("before")
    for name in ("old", "new"):
        check_target(tmp_path / name)
        write_file(tmp_path / name, "after")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "real" / name).read_text() == "after"


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_pipe_is_written_through(tmp_path, is_linked):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    target = pipe
    if is_linked:
        target = tmp_path / "link"
        target.symlink_to(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write(f"json={target}", quiet=True)
    reader.join(timeout=10)
    assert json.loads(got[0]) == DOCUMENT
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_through():
    device = Path(os.devnull)
    before = device.stat()
    check_target(device)
    write_file(device, "text")
    assert device.stat().st_ino == before.st_ino
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_stream_that_leads_to_a_file_is_added_to(tmp_path):
    handle = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(handle, b"before\n")
        write_file(Path(f"/dev/fd/{handle}"), "after\n")
        assert os.fstat(handle).st_ino == (tmp_path / "log").stat().st_ino
    finally:
        os.close(handle)
    assert (tmp_path / "log").read_text() == "before\nafter\n"


def test_a_device_that_is_full_costs_the_file_and_not_the_answer(capsys):
    with pytest.raises(OutputError, match="no space left"):
        write("json=/dev/full")
    assert capsys.readouterr().out.startswith("no-evidence")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("before")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Path, "replace", full)
    with pytest.raises(OutputError, match=r"out: cannot be written \(no space left on device\)"):
        write_file(tmp_path / "out", "after")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "before"


def test_an_answer_outlives_a_file_that_fails_at_the_end(tmp_path, capsys, monkeypatch):
    def full(path, text):
        raise OutputError("cannot be written", where=str(path))

    monkeypatch.setattr("lineage.cli.output.write_file", full)
    for quiet in (False, True):
        with pytest.raises(OutputError):
            write(f"json={tmp_path / 'out'}", quiet=quiet)
        shown = capsys.readouterr().out
        assert (json.loads(shown) == DOCUMENT) if quiet else shown.startswith("no-evidence")


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cases = {
        "folder": "is a folder",
        "none/x": "does not exist",
        "file/x": "cannot be used",
        "loop": "links that lead to one another",
        "x" * 300: "file name too long",
    }
    for name, what in cases.items():
        with pytest.raises(UsageError, match=what):
            writer([f"json={tmp_path / name}"], as_json=False, quiet=False, text=words)
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    for name in ("new", "file"):
        with pytest.raises(UsageError, match="permission denied"):
            writer([f"json={tmp_path / name}"], as_json=False, quiet=False, text=words)


def test_empty_paths_and_repeated_places_are_usage_errors(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for outputs in (
        ["json="],
        ["json", "text"],
        [f"json={tmp_path / 'a'}", f"text={tmp_path / 'a'}"],
        [f"json={tmp_path / 'a'}", f"text={tmp_path / 'link'}"],
        ["yaml=x"],
        ["json=~no-such-user-here/x"],
    ):
        with pytest.raises(UsageError) as caught:
            writer(outputs, as_json=False, quiet=False, text=words)
        assert caught.value.hint


def test_quiet_takes_the_report_away_and_not_what_was_asked_for(tmp_path, capsys):
    write(f"json={tmp_path / 'a'}", quiet=True)
    assert capsys.readouterr().out == ""
    write("json", quiet=True)
    assert json.loads(capsys.readouterr().out) == DOCUMENT
    write(f"json={tmp_path / 'b'}")
    assert capsys.readouterr().out.startswith("no-evidence")


def test_stdout_under_another_name_is_stdout(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.write_text("")
    assert not is_stdout(path)
    monkeypatch.setattr(files.os, "fstat", lambda _: path.stat())
    assert is_stdout(path)


def test_files_have_one_width_wherever_they_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "72")
    write(f"text={tmp_path / 'a'}")
    assert (tmp_path / "a").read_text() == "no-evidence None\n"
    assert capsys.readouterr().out == "no-evidence 72\n"
    for columns, width in (("20", 60), ("500", 140), ("none", None), ("0", None)):
        monkeypatch.setenv("COLUMNS", columns)
        assert text_width() == width
