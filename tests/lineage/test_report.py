"""Documents in words: what stands on one line, what is counted, and what is said apart."""

import re

import numpy as np
import pytest

import derive
from lineage.comparing import compare
from lineage.growing import tree
from lineage.report import compare_text, tree_text
from lineage.report.text import Column, counted, fitted, render, unbroken
from lineage.searching import find_all
from nulls import ROOT

ZOO = ROOT / "fixtures" / "zoo"
METHODS = {"hidden-units-folded", "norm-gains-map-free", "embedding-columns"}


@pytest.fixture(scope="module")
def related():
    return compare(str(ZOO / "llama-a"), str(ZOO / "llama-a-ft1"))


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    root = tmp_path_factory.mktemp("family")
    for name in ("llama-a", "llama-a-ft1", "llama-s", "llama-b"):
        derive.save(derive.load(ZOO / name), root / name)
    derive.save(derive.load(ZOO / "llama-a"), root / "llama-a-copy")
    for name in ("twin-1", "twin-2"):
        derive.save(derive.load(ZOO / "micro-00"), root / name)
    derive.save({f"blocks.{i}.mixer.weight": np.eye(4, dtype=np.float32) * (i + 1) for i in range(3)}, root / "unknown")
    derive.save(
        {k: np.full_like(v, np.nan) for k, v in derive.load(ZOO / "llama-b").items()},
        root / "nan",
    )
    return tree(find_all([str(root)]))


@pytest.mark.parametrize("width", [60, 72, 80, 100, 110, 140])
def test_every_width_is_kept_and_nothing_that_belongs_together_is_broken(related, width):
    text = compare_text(related, width=width)
    lines = text.splitlines()
    named = [line for line in lines if not re.search(r"\S{40}", line)]
    assert max(map(len, named)) <= width
    assert [line for line in lines if line != line.rstrip()] == []
    assert re.search(r"\(p <= 10\^-[\d.]+\)", text)
    rows = [line.split()[0] for line in lines if line.split()]
    assert set(rows) >= METHODS
    assert ("statistic" in text) == (width >= 110)


def test_columns_go_in_the_order_of_their_use(related):
    headers = {w: compare_text(related, width=w).split("Evidence\n")[1].splitlines()[0].split() for w in (110, 90, 60)}
    assert headers[110][:7] == ["test", "labels", "n", "statistic", "p", "e", "floor"]
    assert "statistic" not in headers[90]
    assert {"test", "p", "status"} <= set(headers[60])
    for header in headers.values():
        assert header[-3:] == ["what", "was", "compared"]


def test_only_the_last_column_folds():
    columns = [Column("name", ("a" * 20,)), Column("x", ("1",), rank=2), Column("y", ("2" * 9,), rank=1)]
    made, shown = fitted([*columns, Column("scope", ("some long words that fold",))], 44, room=16)
    assert shown == ["name", "x", "scope"]
    text = render([[made]], width=44)
    assert "a" * 20 in text
    assert max(map(len, text.splitlines())) <= 44


def test_the_table_has_a_legend(related):
    text = " ".join(compare_text(related).split())
    assert "labels: what a test relabels" in text
    assert "averaged, groups of labels multiplied" in text
    assert "docs: reading-a-p-value" in text
    assert (ROOT / "docs" / "methods" / "reading-a-p-value.md").is_file()


def test_a_probability_says_how_few_pairs_it_comes_from(related):
    n = related["relation"]["calibrated_on"]["n"]
    text = " ".join(compare_text(related).split())
    assert f"counted on {n} fixture pairs: few" in text
    many = {**related, "relation": {**related["relation"], "calibrated_on": {"population": "x", "n": 40, "ece": None}}}
    assert "counted on 40 fixture pairs." in " ".join(compare_text(many).split())
    assert "over 1 pair)" in text


def test_an_identical_pair_leaves_nothing_open():
    text = compare_text(compare(str(ZOO / "micro-00"), str(ZOO / "micro-00")))
    assert "Not covered" not in text
    assert "\n\n\n" not in text
    assert text.startswith("IDENTICAL: ")


def test_huge_e_values_have_words(related):
    tests = [{**related["tests"][0], "log10_e": 5000.0}]
    assert "10^5000.0" in compare_text({**related, "tests": tests})


def test_the_headline_of_a_tree_adds_up(family):
    text = " ".join(tree_text(family).split())
    total, related, copied, alone, untestable = (
        int(re.search(pattern, text)[1])
        for pattern in (
            r"^(\d+) models",
            r"(\d+) in 1 family",
            r"(\d+) in 1 identical set",
            r"(\d+) on its own",
            r"(\d+) that could not",
        )
    )
    assert total == len(family["nodes"]) == related + copied + alone + untestable == 9
    assert "(2 identical copies among them)" in text


def test_what_could_not_be_tested_stands_apart(family):
    testable = {n["id"]: n["testable"] for n in family["nodes"]}
    assert testable["llama-a"]
    assert testable["llama-a-copy"]
    assert testable["llama-b"]
    assert not testable["unknown"]
    assert not testable["nan"]
    text = tree_text(family)
    alone = text.split("On their own")[1].split("\n\n")[0]
    apart = text.split("Could not be tested")[1].split("\n\n")[0]
    assert "llama-b" in alone
    assert "unknown" not in alone
    assert apart.endswith("\n  nan\n  unknown")


def test_two_identical_models_are_told_as_identical(family):
    text = tree_text(family)
    assert "twin-1  (identical: twin-2)" in text.split("Identical, and linked to nothing else")[1]
    assert "twin-1" not in text.split("On their own")[1]


def test_undirected_links_and_shared_starts_are_introduced(family):
    drawn = tree_text(family).split("Family 1")[1].split("\n\n")[0]
    lines = drawn.splitlines()
    assert "3 models and 1 identical copy" in lines[0]
    assert any("(undirected)" in line for line in lines)
    assert "say nothing of who came first" in lines[-1]
    (start,) = [i for i, line in enumerate(lines) if line.startswith("llama-s")]
    assert lines[start - 1].startswith("Shares only a start with the models above")


def test_numbers_have_their_nouns_and_unbroken_words_stay_together():
    assert counted(1, "pair") == "1 pair"
    assert counted(2, "identical copy", "identical copies") == "2 identical copies"
    text = render([["word " * 10 + unbroken("(p <= 10^-138.0)")], [], ["end"]], width=60)
    assert "(p <= 10^-138.0)" in text
    assert text.endswith("\n\nend\n")
