"""The page of marks on the large trained fixture is of this code, and nothing on it falls short."""

import importlib.util
import json

import pytest

import largemarks
from nulls import ROOT

spec = importlib.util.spec_from_file_location("largemark_program", ROOT / "tests" / "calibration" / "largemark.py")
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


@pytest.fixture(scope="module")
def data():
    return json.loads(program.DATA.read_text())


def test_the_page_is_of_this_code(data):
    assert data["digest"] == program.digest(), "marks changed: run tests/calibration/largemark.py and commit its page"
    assert program.page(data) == program.PAGE.read_text()
    assert list(data["parts"]) == sorted(part.name for part in largemarks.PARTS)


def test_every_step_was_measured_under_every_key_that_marked(data):
    for part in largemarks.PARTS:
        kept = data["parts"][part.name]
        wanted = {(m["key"], s.name) for m in kept["marks"] for s in part.steps if not s.tuned or m["key"] == 0}
        assert {(row["key"], row["step"]) for row in kept["rows"]} == wanted
        assert len(kept["rows"]) == len(wanted)
        assert len(kept["marks"]) >= 3


def test_nothing_fell_short(data):
    assert program.short_of(data) == []


def test_what_falls_short_is_told(data):
    mark = data["parts"]["dss"]["marks"][0]
    row = next(r for r in data["parts"]["dss"]["rows"] if r["step"] == "untouched" and r["key"] == 0)
    blind = row["blind"] | {"log10_p": -5.9, "payload_ok": False, "alarms": 1}
    bad = {"marks": [mark | {"loss_change": 0.0011}], "rows": [row | {"blind": blind}]}
    told = "; ".join(program.short_of({"parts": {"dss": bad}}))
    for words in ("loss +0.110%", "not found (log10 p -5.9)", "payload not read at a foretold T of 38", "was found"):
        assert words in told
