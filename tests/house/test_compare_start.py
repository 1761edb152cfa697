"""A comparison of local models loads what it needs and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ZOO = Path(__file__).parents[2] / "fixtures" / "zoo"
PROGRAM = """
import json, sys
sys.argv = ["lineage", "compare", {a!r}, {b!r}, *{more!r}]
from lineage.cli.app import app
try:
    app()
except SystemExit as stop:
    code = stop.code
sys.stderr.write(json.dumps({{"code": code, "modules": sorted(sys.modules)}}))
"""
NOT_FOR_LOCAL = {"huggingface_hub", "networkx", "scipy", "scipy.stats", "torch"}


def modules_of(a, b, *more):
    program = PROGRAM.format(a=str(ZOO / a), b=str(ZOO / b), more=list(more))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    told = json.loads(done.stderr)
    assert not told["code"]
    assert done.stdout.strip()
    return set(told["modules"])


@pytest.mark.parametrize(("partner", "more"), [("llama-a-ft1", []), ("llama-b", []), ("llama-a-ft1", ["--json"])])
def test_nothing_for_the_hub_or_for_graphs_is_loaded(partner, more):
    modules = modules_of("llama-a", partner, *more)
    assert NOT_FOR_LOCAL & modules == set()
    assert {"lineage.comparing", "stats.eprocess", "crawl.stores.local"} <= modules


def test_only_the_published_statistics_load_scipy_and_never_its_slow_part():
    modules = modules_of("llama-a", "llama-b", "--published")
    assert "scipy.optimize" in modules
    assert {"scipy.stats", "huggingface_hub", "networkx"} & modules == set()
