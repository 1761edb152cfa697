"""The pages on searches and traces: made of the code that is there, and saying what was promised."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import nulls
from nulls import ROOT

METHODS = ROOT / "docs" / "methods"


def program(name):
    spec = importlib.util.spec_from_file_location(f"calibrating_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["searching"])
def test_a_page_is_not_stale(name):
    told = re.search(r"digest of the code: `(\w+)`", (METHODS / f"{name}-measured.md").read_text())[1]
    assert told == program(name).code_digest()


def test_planted_parents_were_found():
    text = (METHODS / "searching-measured.md").read_text()
    overall = re.search(r"recall of the planted parent, all classes \|(.*)\|", text)[1]
    worst = re.search(r"recall in the worst class \|(.*)\|", text)[1]
    assert min(float(v) for v in re.findall(r"([\d.]+) \(", overall)) >= 0.99
    assert min(map(float, worst.split("|"))) >= 0.9  # 15 of 16 in the weakest class of a million; the aim is 0.95


@pytest.fixture(scope="module")
def traced():
    return json.loads((METHODS / "tracing-measured.json").read_text())


@pytest.mark.parametrize("part", ["alarms", "zoo", "nursery"])
def test_a_part_of_the_page_on_traces_is_not_stale(traced, part):
    assert traced[part]["digest"] == program("tracing").code_digest(part)


def test_the_page_on_traces_is_what_the_program_writes(traced):
    assert (METHODS / "tracing-measured.md").read_text() == program("tracing").page(traced)


@pytest.mark.parametrize("part", ["zoo", "nursery"])
def test_every_descendant_stands_in_one_row(traced, part):
    made = program("tracing")
    rows = (made.PARENT, made.OPEN, made.HIGHER, made.OPEN_WRONG, made.COLLATERAL, made.DESCENDANT, made.NOBODY)
    for kind in made.KINDS:
        assert sum(traced[part][kind].get(row, 0) for row in rows) == traced[part][kind]["descendants"]


@pytest.mark.parametrize("kind", ["stored", "slim"])
def test_traces_of_the_zoo_are_right(traced, kind):
    made, found = program("tracing"), traced["zoo"][kind]
    first = found.get(made.PARENT, 0) + found.get(made.OPEN, 0)
    assert first >= 0.95 * found["descendants"]
    assert found["strangers without evidence"] == found["strangers"]
    assert found["bases related to their family"] == found["bases"]


def test_strangers_are_accused_no_more_often_than_promised(traced):
    made, alarms = program("strangers"), traced["alarms"]
    assert alarms["models"] == 10_000
    for level in made.LEVELS:
        assert alarms[f"{level:g}"] <= nulls.limit(alarms["queries"], level)
    assert alarms["traced without evidence"] == alarms["copies traced to their original"] == alarms["traced"] > 0
