"""A comparison of local models loads what it needs and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

ZOO = Path(__file__).parents[2] / "fixtures" / "zoo"
PROGRAM = """
import json, sys
from lineage.cli.app import app
codes = []
for args in {runs!r}:
    sys.argv = ["lineage", "compare", *args]
    try:
        app()
    except SystemExit as stop:
        codes.append(stop.code)
sys.stderr.write(json.dumps({{"codes": codes, "modules": sorted(sys.modules)}}))
"""
NOT_FOR_LOCAL = {"huggingface_hub", "networkx", "pydantic", "scipy", "scipy.stats", "torch"}


def modules_of(*runs):
    """Modules loaded after these comparisons, one after another, in a process of their own."""
    program = PROGRAM.format(runs=[[str(ZOO / a), str(ZOO / b), *more] for a, b, *more in runs])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    told = json.loads(done.stderr)
    assert [bool(code) for code in told["codes"]] == [False] * len(runs)
    assert done.stdout.strip()
    return set(told["modules"])


def test_nothing_for_the_hub_or_for_graphs_is_loaded():
    modules = modules_of(("llama-a", "llama-a-ft1"), ("llama-a", "llama-b"), ("llama-a", "llama-a-ft1", "--json"))
    assert NOT_FOR_LOCAL & modules == set()
    assert {"lineage.comparing", "stats.eprocess", "crawl.stores.local"} <= modules


def test_only_the_published_statistics_load_scipy_and_never_its_slow_part():
    modules = modules_of(("llama-a", "llama-b", "--published"))
    assert "scipy.optimize" in modules
    assert {"scipy.stats", "huggingface_hub", "networkx"} & modules == set()
