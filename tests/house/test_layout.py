"""The layout: sizes, names, and what the packages must not hold."""

import ast
import os
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lineage", "weightmark", "crawl", "stats")
MODULES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
NAMELESS = {"utils", "util", "common", "helpers", "helper", "core", "base", "manager", "misc"}
NOT_OURS = {"__pycache__", "build", "dist", "zoo-large"}


def relative(path):
    return path.relative_to(ROOT).as_posix()


def our_files():
    """Every file of the repository, without dot folders (environments, caches, git) and what builds leave behind."""
    for folder, names, files in os.walk(ROOT):
        names[:] = [n for n in names if n not in NOT_OURS and not n.endswith(".egg-info") and not n.startswith(".")]
        yield from (Path(folder) / f for f in files)


def test_there_are_modules_to_look_at():
    assert {relative(m).split("/")[0] for m in MODULES} == set(PACKAGES)


def test_no_module_is_longer_than_350_lines():
    long = {relative(m): n for m in MODULES if (n := len(m.read_text().splitlines())) > 350}
    assert long == {}


def test_no_file_over_two_megabytes_but_the_fixture_weights():
    large = [relative(p) for p in our_files() if p.is_file() and p.stat().st_size > 2_000_000]
    assert [p for p in large if not p.startswith("fixtures/zoo/")] == []


def test_no_module_has_a_name_that_says_nothing():
    empty = [relative(m) for m in MODULES if NAMELESS & {*m.relative_to(ROOT).parts[:-1], m.stem}]
    assert empty == []


def test_the_wheel_holds_exactly_four_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert sorted(wheel["packages"]) == sorted(PACKAGES)
    assert wheel["force-include"] == {"schemas": "lineage/schemas"}
    assert project["tool"]["importlinter"]["root_packages"] == list(PACKAGES)
    top = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert top == set(PACKAGES)


def _imported(node):
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return set()


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_no_print_no_pickle_no_torch(module):
    nodes = list(ast.walk(ast.parse(module.read_text())))
    printed = [n.lineno for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
    if not relative(module).startswith("weightmark/training/"):
        forbidden |= {"torch", "transformers"}
    assert printed == []
    assert not forbidden & set().union(*(_imported(n) for n in nodes), set())
