"""The table of marks under attack is of this code and clean; a handful of its rows is measured here."""

import importlib.util
import json

import pytest

import markhosts
from nulls import ROOT
from weightmark.benchmark import Trial, run
from weightmark.schemes import SCHEMES

spec = importlib.util.spec_from_file_location("marks_program", ROOT / "tests" / "calibration" / "marks.py")
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
PARTS = {part.name: part for part in markhosts.PARTS}


@pytest.fixture(scope="module")
def committed():
    return json.loads(program.DATA.read_text())["parts"]


@pytest.mark.parametrize("name", PARTS)
def test_the_committed_table_is_of_this_code(committed, name):
    assert committed[name]["digest"] == program.digest(PARTS[name]), (
        "marks or attacks changed: run python tests/calibration/marks.py and commit its page"
    )
    assert committed[name]["keys"] >= 20
    assert [row["attack"] for row in committed[name]["rows"]] == list(PARTS[name].attacks)
    assert committed[name]["unrun"] == []


@pytest.mark.parametrize("name", PARTS)
def test_no_key_that_marked_nothing_was_found_and_every_other_was(committed, name):
    for row in committed[name]["rows"]:
        assert row["control_alarms"] == 0, row["attack"]
        wanted = markhosts.WANTED.get((name, row["attack"]))
        if wanted is None or wanted.found:
            assert row["found"]["1e-6"]["n"] == row["keys"], row["attack"]


def test_the_page_is_made_of_the_data(committed):
    assert program.page({"parts": committed})[0].rstrip() + "\n" == program.PAGE.read_text()


FEW = {
    "dss": ("none", "noise-1.0", "prune-magnitude-90", "merge-base-0.5"),
    "gram": ("none", "permute-hidden", "noise-1.0"),
}


@pytest.mark.parametrize("name", FEW)
def test_a_handful_of_rows_is_within_the_committed_ones(committed, name):
    part = PARTS[name]
    host, heads, undo = markhosts.HOSTS[part.host]()
    params = dict(SCHEMES[part.scheme].params("default")) | {"eps": markhosts.EPS}
    trial = Trial(scheme=SCHEMES[part.scheme], params=params, informed=part.informed, payload_bytes=part.payload)
    told = {row["attack"]: row for row in committed[name]["rows"]}
    whole = None
    for found in run(trial, host, FEW[name], keys=1, seed=11, heads=heads, undo=undo):
        if found.control:
            assert found.log_pvalue > -12
            continue
        whole = whole or found.statistic
        assert found.log_pvalue < -13.8
        assert found.statistic / whole == pytest.approx(told[found.attack]["kept"], abs=0.04), found.attack
