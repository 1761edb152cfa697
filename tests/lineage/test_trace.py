"""`lineage trace`: a family in an index, its members held out, rewritten, copied, and strangers beside it."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from jsonschema import Draft202012Validator

import derive
from crawl import open_model
from disguised import everything, permuted, turned
from lineage import tracing
from lineage.errors import UnusableIndexError, UsageError
from lineage.export import EXPORTERS, contents_of
from lineage.index import query as querying
from lineage.index.circle import Answers
from lineage.index.encoding import encode
from lineage.index.entries import Reading, entry_of
from lineage.index.records import Entry
from lineage.index.shelf import Shelf
from lineage.index.store import Store
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.report import trace_text
from lineage.tracing import TraceOptions, trace
from nulls import ROOT
from program import run

NURSERY, ZOO = ROOT / "fixtures" / "nursery", ROOT / "fixtures" / "zoo"
SCHEMA = json.loads((ROOT / "schemas" / "trace-1.json").read_text())
VALID = Draft202012Validator(SCHEMA)
TREE = Draft202012Validator(json.loads((ROOT / "schemas" / "tree-1.json").read_text()))
LINE = {"01": "00", "02": "01", "03": "02"}
FAMILY = ["nursery-14-00", *(f"nursery-14-{child}" for child in LINE)]
STRANGERS = [f"micro-{i:02d}" for i in range(6)]


def put(store, folder, name):
    with open_model(str(folder / name)) as source:
        entry, blobs = entry_of(source, name)
    store.put_model(entry, *blobs)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "i.db"
    with Store.open(path, create=True) as store:
        for name in FAMILY:
            put(store, NURSERY, name)
        for name in STRANGERS:
            put(store, ZOO, name)
        store.put_model(Entry("gated/m@1", "hf://gated/m@1", "gated/m", "1", "gated", "asks for consent"))
    return path


@pytest.fixture(autouse=True)
def _tested_once(monkeypatch):
    """A pair is tested once for the whole file: ids stand for the same weights in all of it."""
    monkeypatch.setattr(tracing, "Answers", lambda: _ANSWERS)


_ANSWERS = Answers()


def looked(reference, index, **more):
    document = json.loads(json.dumps(trace(str(reference), TraceOptions(index, **more)), allow_nan=False))
    VALID.validate(document)
    return document


@pytest.fixture(scope="module")
def youngest(index):
    return json.loads(json.dumps(trace("nursery-14-03", TraceOptions(index))))


def saved(folder, weights, like=NURSERY / "nursery-14-03"):
    derive.save(weights, folder)
    shutil.copy(like / "config.json", folder)
    return folder


def test_the_line_of_ancestors_is_found(youngest):
    assert youngest["verdict"] == "related"
    assert [a["id"] for a in youngest["ancestors"]] == [f"nursery-14-{i}" for i in ("02", "01", "00")]
    assert [a["hops"] for a in youngest["ancestors"]] == [1, 2, 3]
    assert youngest["ancestors"][1]["via"] == "nursery-14-02"
    assert youngest["root"] == "nursery-14-00"
    sure = [a["probability"] for a in youngest["ancestors"]]
    assert sure == sorted(sure, reverse=True)
    assert youngest["relatives"] == []


@pytest.mark.calibrate
@pytest.mark.parametrize("child", ["01", "02"])
def test_the_nearest_ancestor_comes_first(index, child):
    found = looked(f"nursery-14-{child}", index)
    assert found["ancestors"][0]["id"] == f"nursery-14-{LINE[child]}"


def test_the_level_counts_every_model_of_the_index(youngest):
    assert youngest["searched"] == youngest["family_size"] == len(FAMILY) + len(STRANGERS) - 1
    assert youngest["level_used"] == pytest.approx(1e-6 / youngest["searched"])
    n = youngest["searched"] + 1
    assert youngest["graph"]["family_size"] == n * (n - 1) // 2


def test_a_model_of_the_index_reads_no_weights(index, monkeypatch, youngest):
    def refuse(*_args, **_kwargs):
        raise AssertionError("opened")

    assert youngest["query"]["indexed"]
    assert youngest["record"]["run"]["bytes_read"] == 0
    monkeypatch.setattr(querying, "open_model", refuse)
    with Store.open(index) as store:
        found = querying.find_query("nursery-14-03", Shelf(store), PUBLIC_KEY, None)
        assert (found.indexed, found.bytes_read) == (True, 0)
        with pytest.raises(AssertionError, match="opened"):
            querying.find_query("elsewhere", Shelf(store), PUBLIC_KEY, None)


@pytest.mark.calibrate
def test_the_root_has_no_ancestors_and_is_its_own_root(index):
    found = looked("nursery-14-00", index)
    assert found["verdict"] == "related"
    assert found["ancestors"] == []
    assert found["root"] == "nursery-14-00"
    assert len(found["relatives"]) == len(FAMILY) - 1


def test_a_stranger_has_no_evidence_and_is_told_the_power(index):
    found = looked("micro-03", index)
    assert found["verdict"] == "no-evidence"
    assert 0.0 < found["detectable_similarity"] < 0.6
    assert any("search" in line for line in found["not_covered"])
    assert found["graph"]["edges"] == []


@pytest.mark.parametrize("rewrite", [permuted, pytest.param(turned, marks=pytest.mark.calibrate)])
def test_half_a_disguise_is_seen_through_by_a_test(index, tmp_path, rewrite):
    weights = rewrite(derive.load(NURSERY / "nursery-14-03"), np.random.default_rng(1))
    found = looked(saved(tmp_path / "m", weights), index)
    assert found["verdict"] == "related"
    assert {a["id"] for a in found["ancestors"]} | {r["id"] for r in found["relatives"]} == set(FAMILY)
    assert not found["query"]["indexed"]
    assert found["record"]["run"]["bytes_read"] > 0


def test_a_whole_disguise_resembles_and_is_ranked(index, tmp_path):
    weights = everything(derive.load(NURSERY / "nursery-14-02"), np.random.default_rng(1))
    found = looked(saved(tmp_path / "m", weights), index)
    assert found["verdict"] == "resembles"
    assert found["ancestors"][0]["id"] in FAMILY
    assert found["ancestors"][0]["exactness"] == "calibrated"
    assert found["resemblance"]["controls"] == len(STRANGERS)
    assert found["log10_p"] == pytest.approx(-math.log10(len(STRANGERS) + 1), abs=1e-5)
    assert found["resemblance"]["largest_control"] < 0.3 < found["resemblance"]["correlation"]
    assert found["relatives"] == []
    text = trace_text(found)
    assert text.startswith("RESEMBLES")
    assert "not a proof" in text


def test_a_disguised_stranger_resembles_nobody(index, tmp_path):
    weights = everything(derive.load(ZOO / "micro-09"), np.random.default_rng(1))
    assert looked(saved(tmp_path / "m", weights), index)["verdict"] == "no-evidence"


def test_a_copy_is_identical_by_its_files(index, tmp_path):
    shutil.copytree(NURSERY / "nursery-14-02", tmp_path / "copy")
    found = looked(tmp_path / "copy", index)
    assert found["verdict"] == "identical"
    assert ("nursery-14-02", "identical") in [(r["id"], r["kind"]) for r in found["relatives"]]
    assert found["ancestors"][0]["id"] == "nursery-14-01"
    assert trace_text(found).startswith("IDENTICAL")


def test_an_unknown_architecture_is_untestable(index, tmp_path):
    rng = np.random.default_rng(0)
    weights = {f"odd.{i}": rng.standard_normal((64, 64)).astype(np.float32) for i in range(3)}
    derive.save(weights, tmp_path / "m")
    assert looked(tmp_path / "m", index)["verdict"] == "untestable"


def test_the_folder_of_a_model_of_the_index_is_read_and_keeps_its_id(index, tmp_path):
    shutil.copytree(NURSERY / "nursery-14-03", tmp_path / "m")
    with Store.open(index) as store:
        found = querying.find_query(str(NURSERY / "nursery-14-03"), Shelf(store), PUBLIC_KEY, None)
        other = querying.find_query(str(tmp_path / "m"), Shelf(store), PUBLIC_KEY, None)
    assert (found.id, found.indexed, found.twins) == ("nursery-14-03", False, ())
    assert found.bytes_read > 0
    assert (other.indexed, other.twins) == (False, ("nursery-14-03",))


@pytest.mark.parametrize("part", ["all weights", "the last byte", "bytes that no signature reads"])
def test_files_that_changed_in_place_are_not_answered_from_the_index(tmp_path, part):
    """Same name, sizes and header; an id without a folder of its name is still answered from what is stored."""
    shutil.copytree(NURSERY / "nursery-14-03", tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    with Store.open(tmp_path / "i.db", create=True) as store:
        with open_model(str(tmp_path / "m")) as source:
            entry, blobs = entry_of(source, "model")
        if part == "bytes that no signature reads":  # the index was made from other bytes with this signature
            entry = replace(entry, files=tuple(replace(f, sha256="ab" * 32) for f in entry.files))
        store.put_model(entry, *blobs)
        data = bytearray(file.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        if part == "all weights":
            drawn = np.random.default_rng(0).standard_normal((len(data) - start) // 2)
            data[start:] = drawn.astype(ml_dtypes.bfloat16).tobytes()
        if part == "the last byte":
            data[-1] ^= 1
        file.write_bytes(bytes(data))
        changed = querying.find_query(str(tmp_path / "m"), Shelf(store), PUBLIC_KEY, None)
        stored = querying.find_query("model", Shelf(store), PUBLIC_KEY, None)
    assert (changed.indexed, changed.twins, stored.indexed) == (False, (), True)
    assert changed.id != "model"
    assert (encode(changed.signature) == encode(stored.signature)) == (part == "bytes that no signature reads")


def test_without_larger_slices_the_family_is_found_and_directions_stay_open(tmp_path):
    with Store.open(tmp_path / "i.db", create=True) as store:
        for name in FAMILY[:3]:
            with open_model(str(NURSERY / name)) as source:
                entry, blobs = entry_of(source, name, Reading(studied=False))
            store.put_model(entry, *blobs)
    found = looked("nursery-14-02", tmp_path / "i.db")
    assert found["verdict"] == "related"
    assert {a["id"] for a in found["ancestors"]} | {r["id"] for r in found["relatives"]} == set(FAMILY[:2])


def test_an_empty_index_finds_nothing(tmp_path):
    Store.open(tmp_path / "i.db", create=True).close()
    found = looked(ZOO / "micro-00", tmp_path / "i.db")
    assert found["verdict"] == "no-evidence"
    assert found["searched"] == 0


def test_another_row_key_is_refused(index):
    with pytest.raises(UsageError, match="row key"):
        trace(str(ZOO / "micro-20"), TraceOptions(index, row_key=RowKey("0123", b"0123456789abcdef")))


def test_damaged_bytes_are_told(index, tmp_path):
    place = tmp_path / "i.db"
    shutil.copy(index, place)
    with Store.open(place) as store:
        digest = store.get("nursery-14-03").signature
        store.connection.execute("UPDATE blobs SET data = x'00' WHERE digest = ?", (digest,))
    with pytest.raises(UnusableIndexError, match="damaged"):
        trace("nursery-14-02", TraceOptions(place))


def test_a_trace_can_be_exported(youngest):
    contents = contents_of(youngest)
    made = {name: write(contents) for name, write in EXPORTERS.items()}
    assert "nursery-14-03" in made["mermaid"]


def test_the_line_is_drawn_from_the_root(youngest):
    lines = trace_text(youngest).splitlines()
    drawn = [line.strip("└─ ").split("  ")[0] for line in lines if line.lstrip("└─ ").startswith("nursery-14")]
    assert drawn[:4] == [f"nursery-14-{i}" for i in ("00", "01", "02", "03")]
    assert "not the probability that the models are unrelated" in " ".join(lines)


def test_hostile_names_are_shown_as_escapes(youngest):
    document = json.loads(json.dumps(youngest).replace("nursery-14-02", "evil\\u001b[31m\\u202e"))
    assert "\x1b" not in trace_text(document)
    assert "\u202e" not in trace_text(document)


def test_the_command_line(index, tmp_path):
    done = run("trace", "micro-00", "--index", index, "--json")
    assert done.returncode == 0
    VALID.validate(json.loads(done.stdout))
    assert run("trace", "nursery-14-01", "--index", tmp_path / "none.db").returncode == 3
    assert run("trace", "nursery-14-01", "--index", index, "--backend", "odd").returncode == 2
    assert run("trace", tmp_path / "nowhere", "--index", index).returncode == 3
    assert run("trace").returncode == 2


def listed(*words):
    done = run("index", *words, "--json")
    document = json.loads(done.stdout)
    INDEX.validate(document)
    return done.returncode, document


INDEX = Draft202012Validator(json.loads((ROOT / "schemas" / "index-1.json").read_text()))


def test_an_index_from_the_command_line(tmp_path):
    place = tmp_path / "i.db"
    code, added = listed("add", ZOO / "micro-00", ZOO / "micro-01", tmp_path / "nowhere", "--index", place)
    assert (code, added["added"], len(added["skipped"])) == (0, 2, 1)
    code, again = listed("add", ZOO / "micro-00", "--index", place)
    assert (code, again["unchanged"]) == (0, 1) if again["unchanged"] else (0, 0)
    code, about = listed("info", "--index", place)
    assert about["sealed"]
    assert about["searchable"] == about["models"]["signed"]
    code, found = listed("search", ZOO / "micro-01", "--index", place, "--limit", "1")
    assert len(found["candidates"]) == 1
    other = tmp_path / "j.db"
    assert listed("merge", place, "--index", other)[1]["added"] == about["models"]["signed"]
    assert listed("verify", "--index", other)[1]["intact"]
    data = bytearray(other.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    assert listed("verify", "--index", other)[0] == 4
    assert listed("remove", str(ZOO / "micro-00"), "--index", place)[1]["removed"]
    assert listed("remove", "nobody", "--index", place)[0] == 3
    assert run("index", "info", "--index", tmp_path / "none.db").returncode == 3
    assert run("index", "add", "--index", place).returncode == 2


def test_the_index_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LINEAGE_INDEX", str(tmp_path / "deep" / "e.db"))
    assert run("index", "add", ZOO / "micro-00", "--quiet").returncode == 0
    assert Path(tmp_path / "deep" / "e.db").exists()
