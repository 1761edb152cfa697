"""`lineage export`: where each format goes, what is refused before work, and what is never left behind."""

import io
import json
import os
import subprocess
import sys

import networkx as nx
import pytest
from typer.testing import CliRunner

from forests import document, entry_of_edge, entry_of_node, forest
from lineage.cli.app import app
from lineage.export import EXPORTERS, contents_of

LINEAGE = [sys.executable, "-m", "lineage"]


def run(*args, **kw):
    return subprocess.run([*LINEAGE, *map(str, args)], capture_output=True, text=True, check=False, **kw)


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(forest(12, 3)))
    return path


@pytest.fixture
def call(monkeypatch, capsys):
    """The command inside this process: (exit code, stdout, stderr)."""
    from lineage.cli.app import main

    def called(*args):
        monkeypatch.setattr(sys, "argv", ["lineage", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capsys.readouterr()
        return stop.value.code, out.out, out.err

    return called


def test_several_formats_are_written_at_once(graph, tmp_path):
    outputs = [x for name in EXPORTERS for x in ("-o", f"{name}={tmp_path / name}")]
    done = run("export", graph, *outputs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    contents = contents_of(json.loads(graph.read_text()))
    for name, write in EXPORTERS.items():
        assert (tmp_path / name).read_text() == write(contents)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*EXPORTERS, "graph.json"])


@pytest.mark.parametrize("output", ["graphml", "graphml=-"])
def test_one_format_goes_to_stdout_and_stdin_is_read(graph, output):
    done = run("export", "-", "-o", output, input=graph.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert len(nx.read_graphml(io.BytesIO(done.stdout.encode()))) == len(json.loads(graph.read_text())["nodes"])


def test_json_and_a_file_beside_it(graph, tmp_path, call):
    code, out, err = call("export", graph, "--json", "-o", f"svg={tmp_path / 'x.svg'}", "--verbose")
    assert (code, json.loads(out)["schema_version"]) == (0, 1)
    assert err == f"wrote svg to {tmp_path / 'x.svg'}\n"
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    assert call("export", graph, "-o", f"dot={tmp_path / 'x.dot'}", "--verbose", "-q") == (0, "", "")


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["-o", "yaml=x"], "dot, gexf, graphml, json, mermaid, svg"),
        (["-o", "text"], "no format 'text'"),
        ([], "name a format: dot, gexf, graphml, json, mermaid, svg"),
        (["-o", "svg", "-o", "dot"], "two outputs go to one place"),
        (["-o", "svg", "--json"], "--json already writes stdout"),
        (["-o", "svg=", "-o", "dot"], "no path after svg="),
        (["-o", "svg=/no/such/folder/x"], "folder of this path does not exist"),
        (["-o", "svg=a", "-o", "dot=a"], "two outputs go to one place"),
    ],
)
def test_usage_is_looked_at_before_the_document(call, args, word):
    code, out, err = call("export", "no-such-document.json", *args)
    if "--json" in args:
        out, err = err, json.loads(out)["error"]["message"] + "\n"
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("\n") == 1


def test_no_document_is_a_usage_error(call):
    code, _, err = call("export", "-o", "svg")
    assert code == 2
    assert "GRAPH.json" in err


HOSTILE = {
    "missing": None,
    "a folder": ...,
    "not json": b"digraph {}",
    "version": b'{"schema_version": 3, "nodes": []}',
    "cut": json.dumps(forest(5, 1)).encode()[:-9],
    "round": json.dumps(
        document([entry_of_node(n, 0) for n in "ab"], [entry_of_edge("a", "b"), entry_of_edge("b", "a")], components=[])
    ).encode(),
    "unknown": json.dumps(document([entry_of_node("a", 0)], [entry_of_edge("a", "\x1b[2J")], components=[])).encode(),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_bad_document_is_one_sentence_exit_3_and_no_file(tmp_path, call, case, as_json):
    path = tmp_path / "graph.json"
    data = HOSTILE[case]
    if data is ...:
        path.mkdir()
    elif data is not None:
        path.write_bytes(data)
    out_file = tmp_path / "out.svg"
    code, out, err = call("export", path, "-o", f"svg={out_file}", *(["--json"] if as_json else []))
    assert code == 3
    if as_json:
        error = json.loads(out)["error"]
        assert error["kind"] in {"unreadable-document", "malformed-document"}
        assert error["where"] == str(path)
        assert err == ""
    else:
        assert out == ""
        assert err.startswith(f"lineage: {path}: ")
        assert err.count("\n") == 1
    assert "\x1b" not in out + err
    assert sorted(p.name for p in tmp_path.iterdir()) == (["graph.json"] if data is not None else [])


def test_a_format_that_refuses_leaves_no_file_of_the_others(tmp_path, call):
    n = 1000
    edges = [entry_of_edge(f"m{i - 1:04}", f"m{i:04}") for i in range(1, n)]
    edges += [entry_of_edge("m0000", f"m{i:04}") for i in range(2, n)]
    (tmp_path / "g").write_text(
        json.dumps(document([entry_of_node(f"m{i:04}", 0) for i in range(n)], edges, components=[]))
    )
    (tmp_path / "old.dot").write_text("old")
    code, out, err = call(
        "export", tmp_path / "g", "-o", f"dot={tmp_path / 'old.dot'}", "-o", f"svg={tmp_path / 'x.svg'}"
    )
    assert (code, out) == (3, "")
    assert "take graphml or gexf" in err
    assert (tmp_path / "old.dot").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g", "old.dot"]


def test_odd_names_reach_the_terminal_as_escapes(tmp_path):
    names = ["a\x1b[31m", "b\n", "lone \ud800", "RTL \u202e"]
    (tmp_path / "g").write_text(json.dumps(document([entry_of_node(n, 0) for n in names])))
    for name in ("dot", "mermaid", "svg"):
        done = run("export", tmp_path / "g", "-o", name, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
        assert done.returncode == 0
        assert not {"\x1b", "\u202e"} & set(done.stdout)


def test_the_formats_in_the_help_are_the_rows_of_the_table():
    text = " ".join(CliRunner().invoke(app, ["export", "--help"], env={"COLUMNS": "200"}).output.split())
    *first, last = EXPORTERS
    assert f"Write {', '.join(first)} or {last} to PATH" in text


def test_an_export_imports_nothing_heavy(graph):
    program = (
        "import json, sys; from lineage.cli.app import app\n"
        f"sys.argv = ['lineage', 'export', {str(graph)!r}, '-o', 'svg=/dev/null', '-o', 'graphml']\n"
        "try:\n    app()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "sys.stderr.write(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {m.split(".")[0] for m in json.loads(done.stderr)}
    assert not loaded & {"numpy", "numba", "networkx", "rich", "scipy", "huggingface_hub", "stats", "crawl"}
