"""Merged adapters: rank and targets from weights, and no other training taken for one."""

import hashlib
import json
import re

import pytest

from crawl import open_model
from lineage.plan import PUBLIC_KEY
from lineage.study import study
from lineage.updates import low_rank_update
from nulls import ROOT, _code_of

NURSERY = ROOT / "fixtures" / "nursery"
KINDS = {"qv": {"attn.q", "attn.v"}, "attention": {"attn.q", "attn.k", "attn.v", "attn.o"}}


@pytest.fixture(scope="module")
def edges():
    models = {m["id"]: m for m in json.loads((NURSERY / "truth.json").read_text())["models"]}
    return [(models[m["parents"][0]], m) for m in models.values() if m["parents"]]


def read(entry):
    with open_model(str(NURSERY / entry["id"])) as source:
        return study(source, PUBLIC_KEY, name=entry["id"])


def test_ranks_of_all_adapters_of_one_format_are_exact(edges):
    adapters = [(p, c) for p, c in edges if c["kind"] == "lora-merge" and p["dtype"] == c["dtype"]]
    found = [(c, low_rank_update(read(p), read(c))) for p, c in adapters]
    seen = [(c, f) for c, f in found if f is not None]
    assert len(seen) >= 0.75 * len(found)
    for child, update in seen:
        assert update.rank == child["rank"]
        wanted = KINDS.get(child["targets"])
        assert wanted is None or set(update.targets) == wanted


def test_no_other_training_is_taken_for_an_adapter(edges):
    others = [(p, c) for p, c in edges if c["kind"] != "lora-merge"]
    assert len(others) >= 90
    assert [c["id"] for p, c in others if low_rank_update(read(p), read(c)) is not None] == []


def test_the_committed_count_is_of_this_code_and_clean():
    """At least 3,000 full fine-tunes of matrices alone, and a rate of false adapters below 1e-3."""
    page = (ROOT / "docs" / "methods" / "ranks-measured.md").read_text()
    code = ("stats/rank.py", "stats/kernels/singular.py", "lineage/updates.py", "tests/calibration/ranks.py")
    digest = hashlib.sha256("".join(_code_of(ROOT / p) for p in code).encode()).hexdigest()[:16]
    assert digest in page, "the code changed: run tests/calibration/ranks.py and commit its page"
    taken, models, limit = re.search(r"\*\*(\d+) of ([\d,]+) models taken .* a rate below (\S+) at 95 %", page).groups()
    assert int(models.replace(",", "")) >= 3000
    assert (taken, float(limit) < 1e-3) == ("0", True)
