"""`lineage mark bench` in small: outcomes, intervals, what is not run, table and picture."""

import json
import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

import derive
from lineage.benching import BenchOptions, attacks_of, bench
from lineage.errors import UsageError
from lineage.report.bench import bench_picture, bench_text
from nulls import ROOT
from weightmark.benchmark import distortion, wilson
from weightmark.schemes import SCHEMES

NAMES = "none,noise-0.3,permute-hidden,permute-hidden-aligned"


@pytest.fixture(scope="module")
def document(zoo):
    return bench(
        str(zoo / "llama-a"), BenchOptions(schemes=("dss", "gram", "lastbias"), suite=NAMES, keys=2, informed=True)
    )


def test_every_key_is_read_with_its_control(document):
    rows = [(r["scheme"], r["attack"], r["key"], r["control"]) for r in document["rows"]]
    wanted = [(s, a, k, c) for s in ("dss", "gram") for k in range(2) for a in NAMES.split(",") for c in (False, True)]
    assert sorted(rows) == sorted(wanted)
    for row in document["rows"]:
        assert row["log10_p"] <= 0
        if row["control"]:
            assert row["log10_p"] > -4
        elif row["attack"] == "none":
            assert row["log10_p"] < -38.6
            assert row["distortion"] == 0


def test_the_document_is_that_of_its_schema(document):
    schema = json.loads((ROOT / "schemas" / "mark-bench-1.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(json.dumps(document, allow_nan=False)))
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate(document | {"keys": 0})


def test_what_was_not_run_is_told(document):
    skipped = {(s["scheme"], s["attack"]) for s in document["skipped"]}
    assert skipped == {("lastbias", "all")}
    assert "no output bias" in bench_text(document)


def test_hidden_order_breaks_one_scheme_and_not_the_other(document):
    kept = {(r["scheme"], r["attack"]): r["kept"] for r in document["summary"]}
    assert abs(kept["dss", "permute-hidden"]) < 0.2
    assert kept["dss", "permute-hidden-aligned"] == pytest.approx(1.0, abs=1e-6)
    assert kept["gram", "permute-hidden"] == pytest.approx(1.0, abs=1e-6)


def test_table_and_picture(document):
    text = bench_text(document)
    assert text.count("\n| dss |") == 4
    assert all(a.count("|") == 11 for a in text.splitlines() if a.startswith("| dss"))
    root = ET.fromstring(bench_picture(document))  # noqa: S314 - our own
    assert sum(e.tag.endswith("circle") for e in root.iter()) == 2 + 8
    for name in ("href", "script", "style"):
        assert name not in bench_picture(document)


def test_equal_runs_are_equal(zoo, document):
    again = bench(str(zoo / "llama-a"), BenchOptions(schemes=("dss",), suite="none", keys=2, informed=True))
    first = [
        {k: v for k, v in r.items() if k != "seconds"}
        for r in document["rows"]
        if r["scheme"] == "dss" and r["attack"] == "none"
    ]
    assert [{k: v for k, v in r.items() if k != "seconds"} for r in again["rows"]] == first


def test_names_that_are_none():
    with pytest.raises(UsageError, match="no suite and no attack"):
        attacks_of("quick,none")
    with pytest.raises(UsageError, match="no scheme"):
        bench("x", BenchOptions(schemes=("none",), suite="none"))
    assert attacks_of("none, none") == ("none",)


def test_number_formats_that_are_not_held_are_refused(tmp_path, zoo):
    derive.save(derive.cast(derive.load(zoo / "llama-a"), "float8_e4m3fn"), tmp_path / "m")
    with pytest.raises(UsageError, match="stored as F8_E4M3"):
        bench(str(tmp_path / "m"), BenchOptions(schemes=("dss",), suite="none"))


def test_wilson_solves_its_equation():
    z = 1.959963984540054
    for hits, n in ((0, 20), (20, 20), (7, 20), (1, 3)):
        for end in wilson(hits, n):
            if 1e-9 < end < 1 - 1e-9:
                assert abs(end - hits / n) == pytest.approx(z * math.sqrt(end * (1 - end) / n), rel=1e-9)
    assert wilson(0, 0) == (0.0, 1.0)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(wilson(k, 10) for k in range(1, 10)))


def test_distortion_is_of_shared_arrays():
    a = {"x": np.array([3.0, 4.0]), "y": np.ones(2)}
    assert distortion(a, {"x": np.array([3.0, 4.0 + 5.0])}) == pytest.approx(1.0)
    assert distortion(a, {"y": np.ones(3)}) == math.inf


def test_every_scheme_is_one_row():
    assert all(name == scheme.name for name, scheme in SCHEMES.items())
    assert list(SCHEMES) == sorted(SCHEMES)
