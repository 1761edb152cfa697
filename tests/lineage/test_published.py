import json
import subprocess
import sys
from copy import deepcopy
from functools import cache

import numpy as np
import pytest

import derive
from crawl import ModelRef, open_store
from lineage import CompareOptions, compare, published
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.published import published_tests
from nulls import ROOT, Memory
from program import run

ZOO = ROOT / "fixtures" / "zoo"


def rows(document, method):
    return [t for t in document["tests"] if t["method"] == method]


@cache
def compared(partner, *, published):
    return compare(str(ZOO / "llama-a"), str(ZOO / partner), CompareOptions(published=published))


@pytest.fixture
def related():
    return compared("llama-a-ft1", published=True)


def test_a_fine_tune_is_tiny_and_clamped(related):
    blocks, fisher = rows(related, "published-u"), rows(related, "published-u-fisher")
    assert len(blocks) == 4
    assert all(t["log10_p"] == t["floor_log10_p"] < -280 for t in blocks)
    assert all("clamped at 1/n!" in t["scope"] for t in (*blocks, *fisher))
    assert fisher[0]["log10_p"] < -1000


def test_every_row_says_that_it_is_an_approximation(related):
    for test in (*rows(related, "published-u"), *rows(related, "published-u-fisher")):
        assert test["exactness"] == "asymptotic"
        assert test["log10_e"] is None
        assert "approximation" in test["null"]
        assert "approximate" in test["scope"]


@pytest.mark.parametrize("partner", ["llama-b", "llama-c", "llama-a-student"])
def test_strangers_are_not_extreme(partner):
    document = compared(partner, published=True)
    found = rows(document, "published-u") + rows(document, "published-u-fisher")
    assert len(found) == 5
    assert min(t["log10_p"] for t in found) > -3
    assert document["verdict"] == "no-evidence"


@pytest.mark.parametrize("partner", ["llama-a-ft1", "llama-b"])
def test_nothing_else_of_the_document_moves(partner):
    plain, with_them = (deepcopy(compared(partner, published=published)) for published in (False, True))
    assert with_them["record"]["parameters"].pop("published") is True
    with_them["tests"] = [t for t in with_them["tests"] if not t["method"].startswith("published")]
    for document in (plain, with_them):
        del document["record"]["run"]
    assert plain == with_them


def test_it_counts_the_bytes_of_whole_matrices(related):
    plain = compared("llama-a-ft1", published=False)
    assert related["record"]["run"]["bytes_read"] > plain["record"]["run"]["bytes_read"] + 2 * 4 * 160 * 64


def opened(weights, name="m"):
    return open_store(Memory(name, {"model.safetensors": derive.to_bytes(weights)}), ModelRef("dir", name))


def changed(weights, change):
    return {k: change(v.copy()) if k.endswith("mlp.up_proj.weight") else v for k, v in weights.items()}


def test_sorted_units_are_skipped_not_reported():
    with (
        opened(derive.sort_hidden_by_norm(derive.load(ZOO / "llama-a"))) as a,
        opened(derive.sort_hidden_by_norm(derive.load(ZOO / "llama-b"))) as b,
    ):
        results, skipped = published_tests(a, b, key=PUBLIC_KEY)
    assert results == []
    assert len(skipped) == 4
    assert all("sorted units" in s.reason for s in skipped)


def _nan(values):
    values[0, 0] = np.nan
    return values


def _dead(values):
    values[5:] = 0.0
    return values


@pytest.mark.parametrize(("change", "word"), [(_nan, "NaN"), (_dead, "at least 10 units")])
def test_what_cannot_be_tested_is_skipped_with_its_reason(change, word):
    weights = derive.load(ZOO / "llama-a")
    with opened(changed(weights, change)) as a, opened(weights) as b:
        results, skipped = published_tests(a, b, key=PUBLIC_KEY)
    assert results == []
    assert len(skipped) == 4
    assert all(word in s.reason for s in skipped)


@pytest.mark.parametrize(("limit", "word"), [("MAX_MATRIX_BYTES", "MB exceeds"), ("MAX_COST_BYTES", "cosines of 160")])
def test_what_does_not_fit_in_memory_is_skipped(monkeypatch, limit, word):
    monkeypatch.setattr(published, limit, 1 << 10)
    document = compare(str(ZOO / "llama-a"), str(ZOO / "llama-a-ft1"), CompareOptions(published=True))
    assert rows(document, "published-u") == []
    assert sum(word in s["reason"] for s in document["skipped"]) == 4
    assert document["verdict"] == "related"


def test_the_byte_limit_holds():
    document = compare(str(ZOO / "llama-a"), str(ZOO / "llama-a-ft1"), CompareOptions(published=True, max_bytes=90_000))
    assert all(i["bytes_read"] <= 90_000 for i in document["record"]["run"]["inputs"])
    assert any(s["tensor"].startswith("published-u") for s in document["skipped"])


def test_depths_that_differ_and_unknown_models_are_skipped(tmp_path):
    weights = derive.load(ZOO / "llama-a")
    short = {k: v for k, v in weights.items() if ".layers.3." not in k}
    with opened(weights) as a, opened(short) as b:
        results, skipped = published_tests(a, b, key=PUBLIC_KEY)
    assert (results, len(skipped)) == ([], 1)
    unknown = {f"blocks.{i}.ffn.key.weight": np.full((20, 20), i + 1.0, np.float32) for i in range(3)}
    derive.save(unknown, tmp_path)
    document = compare(str(tmp_path), str(ZOO / "llama-a"), CompareOptions(published=True))
    assert any(s["tensor"] == "published-u" for s in document["skipped"])
    assert document["verdict"] == "untestable"


def test_the_shuffle_follows_the_key():
    draws = [
        published._generator(key, layer).integers(1 << 60)
        for key, layer in ((PUBLIC_KEY, 0), (PUBLIC_KEY, 0), (PUBLIC_KEY, 1), (RowKey("k", b"x" * 16), 0))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_the_command_line_adds_them():
    command = ["compare", ZOO / "llama-a", ZOO / "llama-a-ft1", "--published"]
    assert len(rows(json.loads(run(*command, "--json").stdout), "published-u")) == 4
    assert "asymptotic" in run(*command).stdout


def test_without_scipy_it_is_a_usage_error_before_anything_is_read():
    program = (
        "import sys; sys.modules['scipy'] = sys.modules['scipy.optimize'] = None\n"
        "sys.argv = ['lineage', 'compare', '/no/such/model', '/nor/this', '--published']\n"
        "from lineage.cli.app import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lineage-forensics[published]" in done.stderr
    assert done.stderr.count("\n") == 1
