"""The documentation against the program: pages, options, docstrings, numbers, links."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import stats
from lineage.cli.app import app
from lineage.evidence import PAIR_TESTS
from lineage.growing import CALIBRATED_ON

ROOT = Path(__file__).parents[2]
METHODS = ROOT / "docs" / "methods"
HEADINGS = [
    "Question",
    "Null hypothesis",
    "Statistic",
    "Exact or approximate",
    "Assumptions and when it must not be used",
    "Cost",
    "Calibration",
    "What it misses",
    "Source",
]
GUIDES = {
    "axes",
    "calibration",
    "dropped-measured",
    "marks",
    "marks-and-papers",
    "marks-large",
    "marks-measured",
    "marks-null",
    "ranks-measured",
    "reading-a-p-value",
    "searching-measured",
    "tracing-measured",
    "tree-growth",
    "tree-acceptance",
    "trees-measured",
    "what-is-read",
}
"""Pages of docs/methods that explain instead of describing one statistic."""
PAGES = sorted(p.stem for p in METHODS.glob("*.md") if p.stem not in GUIDES)
INDEXING = tuple(f"index {name}" for name in ("info", "add", "remove", "search", "verify", "merge", "export"))
MARKING = tuple(
    f"mark {name}" for name in ("schemes", "keygen", "plan", "embed", "sketch", "verify", "commit", "contest", "bench")
)
COMMANDS = ("compare", "tree", "trace", "crawl", *INDEXING, *MARKING, "export")
DOCUMENT_OF = {
    "export": "tree",
    **dict.fromkeys(INDEXING, "index"),
    **{command: command.replace(" ", "-") for command in MARKING},
}
"""Commands whose document has the schema of another one."""
FUNCTIONS = sorted(n for n, f in vars(stats).items() if inspect.isfunction(f) and not n.startswith("_"))


def help_of(*command):
    done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    return done.output


def options_in_help(text):
    """Options at the start of a line of the help, with their short forms."""
    found = set()
    for line in text.splitlines():
        if re.match(r"  -", line):
            found |= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line.split("   ")[0]))
    return found


def section(command):
    text = (ROOT / "docs" / "cli.md").read_text()
    found = re.search(rf"^## lineage {command}$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/cli.md has no section on lineage {command}"
    return found[1]


def test_every_row_of_the_ladder_has_a_page():
    assert {row.name for row in PAIR_TESTS} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_method_page_has_all_headings_in_order(page):
    text = (METHODS / f"{page}.md").read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    bodies = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(body.strip() for body in bodies)
    assert "calibration.md" in text


def test_every_command_is_documented():
    listed = re.findall(r"^  ([a-z]+)  ", help_of().partition("Commands:")[2], re.MULTILINE)
    assert set(listed) == {command.partition(" ")[0] for command in COMMANDS}
    for command in COMMANDS:
        assert section(command).strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_options_in_the_docs_are_those_of_the_help(command):
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(re.findall(r"`([^`]+)`", section(command)))))
    assert documented == options_in_help(help_of(*command.split()))
    table = [line.split(" | ")[0] for line in section(command).splitlines() if line.startswith("| `-")]
    in_table = {o for cell in table for o in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", cell)}
    assert in_table == documented


@pytest.mark.parametrize("command", COMMANDS)
def test_the_schema_of_every_command_is_named(command):
    assert f"(../schemas/{DOCUMENT_OF.get(command, command)}-1.json)" in section(command)


def test_every_export_format_is_documented():
    from lineage.export import EXPORTERS

    table = section("export").partition("| format |")[2]
    assert re.findall(r"^\| ([a-z]+) \|", table, re.MULTILINE) == list(EXPORTERS)


def test_exit_codes_in_the_docs_are_those_of_the_program():
    from lineage.cli.errors import NEGATIVE, OPERATIONAL, USAGE

    text = (ROOT / "docs" / "cli.md").read_text().partition("## Exit codes")[2]
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [
        "0",
        "1",
        str(USAGE),
        str(OPERATIONAL),
        str(NEGATIVE),
        "130",
    ]


def sections_of(docstring):
    """numpydoc sections by title."""
    lines = inspect.cleandoc(docstring).splitlines()
    starts = [i for i in range(1, len(lines)) if lines[i] and set(lines[i]) == {"-"}]
    ends = [*(s - 1 for s in starts[1:]), len(lines)]
    return {lines[s - 1]: lines[s + 1 : end] for s, end in zip(starts, ends, strict=True)}


def test_there_are_public_functions():
    assert {"gain_test", "column_test", "unit_tests", "match_count", "combine_evalues"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_have_numpydoc_sections(name):
    function = getattr(stats, name)
    found = sections_of(function.__doc__ or "")
    assert "Parameters" in found
    assert "Returns" in found or inspect.signature(function).return_annotation is None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_documented_parameters_are_those_of_the_signature(name):
    function = getattr(stats, name)
    lines = sections_of(function.__doc__ or "").get("Parameters", [])
    heads = [line.split(" : ")[0] for line in lines if line and not line.startswith(" ")]
    documented = [p.strip() for head in heads for p in head.split(",")]
    assert documented == list(inspect.signature(function).parameters)


def test_decisions_are_numbered_without_gaps():
    found = sorted(p.name for p in (ROOT / "docs" / "adr").iterdir())
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", name) for name in found)
    assert [int(name[:4]) for name in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda p: p.stem[:4])
def test_a_decision_has_its_three_parts(path):
    text = path.read_text()
    assert text.startswith(f"# {path.name[:4]} ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.split()) < 400


DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_internal_links_resolve(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)
    inside = [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:", t)]
    broken = [t for t in inside if t and not (path.parent / t).exists()]
    assert broken == []


def test_modules_named_in_the_architecture_page_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"(?<![\w/])((?:lineage|crawl|stats|weightmark)/[\w/]+\.py)", text))
    assert len(named) > 20
    assert [n for n in sorted(named) if not (ROOT / n).exists()] == []


def test_tables_named_in_the_architecture_page_exist():
    from importlib import import_module

    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"`([A-Z_]+|Axis)` in `([\w/]+)\.py`", text)
    assert len(rows) >= 5
    for name, module in rows:
        assert hasattr(import_module(module.removesuffix("/__init__").replace("/", ".")), name)


def test_bytes_in_the_docs_are_those_of_the_plan():
    from lineage import plan

    text = (METHODS / "what-is-read.md").read_text()
    for width, total in ((4096, "3,448,832"), (8192, "3,784,704")):
        narrow = min(width, plan.MAX_COLUMNS)
        wide = width > plan.MAX_COLUMNS
        tokens = plan.pick_tokens("tokens", 32000, plan.PUBLIC_KEY).size
        gains = (2 * plan.N_LAYERS + 1) * width
        hidden = 2 * plan.N_UNITS * (plan.N_WIDE * width + (plan.N_LAYERS - plan.N_WIDE) * narrow)
        tables = tokens * width + tokens * narrow
        values = plan.pick_values(1024, 2).size * width if wide else plan.N_WIDE * plan.pick_values(4096).size * width
        census = plan.N_LAYERS * 7 * plan.N_CENSUS_ROWS * plan.MAX_CENSUS_COLUMNS
        assert f"{2 * (gains + hidden + tables + values + census):,}" == total
        assert total in text


MODULES = sorted(p.stem for p in (ROOT / "stats").glob("*.py") if ">>>" in p.read_text())


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_end_as_they_say(module):
    found = doctest.testmod(importlib.import_module(f"stats.{module}"))
    assert found.attempted >= 1
    assert found.failed == 0


def test_the_error_of_edge_probabilities_is_the_measured_one():
    page = (METHODS / "trees-measured.md").read_text()
    n, error = re.search(r"([\d,]+) links, .*?expected calibration error ([\d.]+)", page, re.DOTALL).groups()
    assert (CALIBRATED_ON["n"], CALIBRATED_ON["ece"]) == (int(n.replace(",", "")), float(error))
