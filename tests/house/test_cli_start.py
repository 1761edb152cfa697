"""The command line starts at once: help imports nothing heavy."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys
sys.argv = ["lineage", *{args!r}]
from lineage.cli.app import app
try:
    app()
except SystemExit as stop:
    code = stop.code
used = resource.getrusage(resource.RUSAGE_SELF)
sys.stderr.write(json.dumps({{"code": code, "cpu": used.ru_utime + used.ru_stime, "modules": sorted(sys.modules)}}))
"""
HEAVY = {"numpy", "numba", "huggingface_hub", "scipy", "ml_dtypes", "safetensors", "rich", "stats", "crawl"}


@pytest.mark.parametrize(
    "args", [["--help"], ["compare", "--help"], ["tree", "--help"], ["export", "--help"], ["--version"]], ids=" ".join
)
def test_help_imports_nothing_heavy(args):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(args=args)], capture_output=True, text=True, check=True, timeout=60
    )
    told = json.loads(done.stderr)
    assert not told["code"]
    assert done.stdout.strip()
    assert HEAVY & set(told["modules"]) == set()
    assert "lineage.cli.app" in told["modules"]
    assert told["cpu"] < 0.5


def test_the_public_names_are_functions_and_wait_for_their_use():
    program = "import sys, lineage; light = 'numpy' not in sys.modules; print(light, callable(lineage.compare), callable(lineage.tree))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
