"""A tree in the terminal: every model is named or counted once, widths are kept, and a hundred models are a page."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from forests import document, entry_of_edge, entry_of_node, forest, open_link
from lineage.names import safe
from lineage.report import tree_text
from lineage.report.branches import Branches
from lineage.report.folding import Folding, chosen
from lineage.report.tree import MOST_LINES

ODD = [
    "漢字" * 30,
    "e\u0301" * 50,
    "new\nline",
    "esc\x1b[2J",
    "\u202ertl",
    "👩\u200d💻 " * 9,
    "lone \ud800",
    "[bold]x[/bold]",
    "x" * 500,
]


def numbered(number, _rng):
    return f"n{number:04d}"


def told_of(text):
    """(names, number counted) of everything a view says of models, further parents and common starts aside."""
    names, counted = [], 0
    _head, _, body = text.partition("\n\n")
    body = re.split(r"A common start, |\d[\d,]* further link|\d[\d,]* models? (?:is|are) counted|Read ", body)[0]
    for row in body.splitlines():
        line = re.sub(r",? ?also from .*", "", row)
        if re.match(r"Family [\d,]+, [^:]*$", line):
            continue
        names += re.findall(r"\bn\d{4}\b", line)
        line = re.sub(r"^Family [^:]*: ", "", line)
        folded = re.search(r"… ([\d,]+) (?:more|below)\b(?:.*?([\d,]+) models? in all)?", line)
        if folded:
            counted += int((folded[2] or folded[1]).replace(",", ""))
        counted += sum(int(n) for n in re.findall(r"\((\d+) identical cop(?:y|ies)\)", line))
        counted += sum(int(n) for n in re.findall(r" and ([\d,]+) more$", line))
    return names, counted


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [1, 2, 5, 30, 100, 300])
@pytest.mark.parametrize("width", [60, 110])
def test_every_model_is_named_or_counted_exactly_once(n, seed, width):
    made = forest(n, seed, numbered)
    text = tree_text(made, width=width)
    names, counted = told_of(text)
    assert len(names) == len(set(names))
    assert len(names) + counted == len(made["nodes"])
    summary = re.search(r"([\d,]+) models? (?:is|are) counted and not named above; --verbose", text)
    assert int(summary[1].replace(",", "")) == counted if summary else counted == 0
    assert max(map(cell_len, text.splitlines())) <= width
    full, none = told_of(tree_text(made, width=width, verbose=True))
    assert none == 0
    assert sorted(full) == sorted(node["id"] for node in made["nodes"])


@pytest.mark.parametrize("seed", range(4))
def test_five_models_are_all_there_and_a_hundred_are_a_page(seed):
    few = tree_text(forest(5, seed))
    assert "counted" not in few
    assert few.count("\n") < 30
    many = tree_text(forest(100, seed))
    assert 25 < many.count("\n") <= MOST_LINES
    assert tree_text(forest(500, seed)).count("\n") <= MOST_LINES + 10


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("width", [60, 80, 110, 140])
def test_widths_are_kept_whatever_the_names(width, verbose):
    for made in (forest(100, 3), forest(40, 2, lambda i, rng: f"{rng.choice(ODD)}{i}")):
        text = tree_text(made, width=width, verbose=verbose)
        lines = text.split("\n\nNot read")[0].splitlines()
        assert max(map(cell_len, lines)) <= width
        assert all(line == line.rstrip() and line.isprintable() for line in lines)


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=9, unique=True), st.booleans())
def test_no_name_breaks_the_view(names, verbose):
    edges = [entry_of_edge(names[i // 2], names[i + 1]) for i in range(len(names) - 1)]
    text = tree_text(document([entry_of_node(n, 0) for n in names], edges), width=70, verbose=verbose)
    assert max(map(cell_len, text.splitlines())) <= 70
    assert "\x1b" not in text
    if len(names) == 1:
        assert safe(names[0])[:10].strip() in text


def test_a_merge_stands_below_its_first_parent_and_names_the_others():
    edges = [
        entry_of_edge("b", "m", "merge", coefficient=0.3),
        entry_of_edge("a", "m", "merge", coefficient=0.7),
        entry_of_edge("r", "a"),
        entry_of_edge("r", "b"),
    ]
    lines = tree_text(document([entry_of_node(n, 0) for n in "abmr"], edges)).splitlines()
    at = next(i for i, line in enumerate(lines) if "── m " in line)
    assert lines[at].startswith("│   └── m  merge (0.7), p 10^-157.2, probability 0.90, also from b (0.3)")
    assert "── a " in lines[at - 1]
    assert sum("── m " in line for line in lines) == 1


def test_further_parents_get_a_line_where_there_is_no_room():
    parents = [f"a-parent-with-quite-a-long-name-{i}" for i in range(6)]
    edges = [entry_of_edge(p, "m", "merge", coefficient=0.2) for p in parents] + [
        entry_of_edge("r", p) for p in parents
    ]
    made = document([entry_of_node(n, 0) for n in [*parents, "m", "r"]], edges)
    text = tree_text(made, width=72)
    (line,) = [row for row in text.splitlines() if "also from" in row]
    assert cell_len(line) <= 72
    assert line.endswith("and 2 more")
    assert "and 2 more" not in tree_text(made, width=72, verbose=True)


def test_a_tree_joined_by_a_merge_says_so():
    edges = [entry_of_edge("a", "m", "merge", coefficient=0.6), entry_of_edge("b", "m", "merge", coefficient=0.4)]
    text = tree_text(document([entry_of_node(n, 0) for n in "abm"], edges))
    assert "Joined to the models above by a merge:\nb  [" in text


def test_undirected_links_and_parents_of_inner_models_are_marked():
    made = document(
        [entry_of_node(n, 0) for n in "acp"], [entry_of_edge("p", "c")], [open_link("a", "c", kind="fine-tune")]
    )
    made["components"][0]["roots"] = ["a"]
    lines = tree_text(made).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("a "))
    assert lines[at + 1].startswith("└── c  fine-tune (undirected), p ")
    assert lines[at + 2].startswith("    └── p  its parent, fine-tune, p ")
    assert lines[at + 3].startswith("Undirected links are drawn from the centre")


def test_inferred_ancestors_are_called_so():
    nodes = [entry_of_node("~1", 0, virtual=True), entry_of_node("~2", 0, virtual=True), entry_of_node("c", 0)]
    text = tree_text(document(nodes, [entry_of_edge("~1", "~2"), entry_of_edge("~2", "c")]))
    assert "~1  [inferred ancestor, not among the inputs]" in text
    assert "~2  fine-tune, inferred ancestor, p " in text


def test_families_come_by_size_and_small_ones_shrink_to_a_line():
    nodes = [entry_of_node(f"n{i:04d}", 0) for i in range(90)]
    edges = [entry_of_edge("n0000", f"n{i:04d}") for i in range(1, 30)]
    edges += [entry_of_edge(f"n{i:04d}", f"n{i + 1:04d}") for i in range(30, 90, 2)]
    text = tree_text(document(nodes, edges))
    sizes = [int(n) for n in re.findall(r"^Family \d+, (\d+) model", text, re.MULTILINE)]
    assert sizes[0] == 30
    assert sizes == sorted(sizes, reverse=True)
    assert "Family 2, 2 models: n0030 ── n0031  fine-tune, p 10^-157.2\n" in text
    assert re.search(r"… \d+ more families, \d+ models in all", text)
    assert re.search(r"… \d+ more: \d+ fine-tune\n", text)


def test_many_children_of_one_kind_are_counted_and_all_are_named_when_asked():
    names = [f"n{i:04d}" for i in range(15)]
    made = document([entry_of_node(n, 0) for n in names], [entry_of_edge(names[0], n) for n in names[1:]])
    text = tree_text(made)
    assert text.count("fine-tune, p ") == 12
    assert "└── … 2 more: 2 fine-tune\n" in text
    assert "…" not in tree_text(made, verbose=True)
    thirteen = document([entry_of_node(n, 0) for n in names[:14]], [entry_of_edge(names[0], n) for n in names[1:14]])
    assert "…" not in tree_text(thirteen)


def test_loners_copies_and_unreadable_models_are_listed_and_counted():
    nodes = [entry_of_node(f"n{i:04d}", 0) for i in range(80)]
    nodes += [entry_of_node(f"n{i:04d}", 0, testable=False) for i in range(80, 99)]
    nodes += [entry_of_node(f"n{100 + i:04d}", 0, duplicate_of=f"n{i % 7:04d}") for i in range(21)]
    made = document(nodes, skipped=[{"ref": "r" * 200, "reason": "w" * 200}] * 9)
    text = tree_text(made, width=80)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert text.count("\n") <= MOST_LINES
    assert re.search(r"On their own \(73\)", text)
    assert re.search(r"Could not be tested \(19\)", text)
    assert "… and 3 more" in text
    names, counted = told_of(text.replace("… and 3 more", ""))
    assert len(names) + counted == 120


@pytest.mark.parametrize("verbose", [False, True])
def test_a_long_chain_is_no_depth_for_the_stack(verbose):
    names = [f"n{i:04d}" for i in range(700)]
    edges = [entry_of_edge(a, b) for a, b in pairwise(names)]
    made = document(
        [entry_of_node(n, 0) for n in names],
        edges,
        components=[{"id": 0, "roots": ["n0000"], "root_probabilities": [0.9], "size": 700, "hidden_ancestor": None}],
    )
    text = tree_text(made, width=80, verbose=verbose)
    assert max(map(cell_len, text.splitlines())) <= 80
    names_told, counted = told_of(text)
    assert len(names_told) + counted == 700
    assert ("n0699" in text) == verbose


def test_what_is_drawn_is_connected_and_within_its_lines():
    made = forest(300, 5)
    branches = Branches(made)
    largest = max(made["components"], key=lambda c: c["size"])
    members = [n["id"] for n in made["nodes"] if n["component"] == largest["id"] and not n["duplicate_of"]]
    grove = branches.grove(0, members, largest["roots"])
    assert set(grove.top_of) == set(members)
    above = {t.name: name for name, twigs in grove.below.items() for t in twigs}
    for lines in (3, 8, 20, 50):
        named = chosen(grove, Folding(12, lines, 0, 6))
        assert grove.tops[0][0] in named
        assert all(above.get(name, name) in named or name == above.get(name, name) for name in named)
        counts = sum(any(t.name not in named for t in grove.below.get(name, ())) for name in named)
        assert len(named) + counts <= max(lines, 2)


def test_colour_adds_codes_and_takes_no_words_away():
    made = forest(30, 2)
    coloured = tree_text(made, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == tree_text(made)


def test_pairs_left_out_are_not_called_tested():
    made = forest(100, 1)
    assert f"{made['family_size']:,} pairs tested at level" in tree_text(made, width=200)
    few = " ".join(tree_text({**made, "pairs_tested": 321}, width=200).split())
    assert f"321 of {made['family_size']:,} pairs tested at level" in few
    assert "over all pairs)" in few


def test_three_hundred_models_show_several_families():
    """24 families of 34 models and fewer: a drawing of each of the largest, a line each of the next, a page in all."""
    nodes, edges, roots = [], [], []
    for family, size in enumerate((34, 34, 34, 34, 27, 21, 20, 13, 13, 13, 8, 8, 8, 5, 5, 3, 3, 3, 2, 2, 2, 2, 2, 2)):
        names = [f"f{family:02d}/m{i:03d}" for i in range(size)]
        nodes += [entry_of_node(name, family) for name in names]
        edges += [entry_of_edge(names[i // 3], names[i + 1]) for i in range(size - 1)]
        roots.append(names[0])
    text = tree_text(document(nodes, edges), width=110)
    drawn = [line for line in text.splitlines() if re.match(r"Family \d+, \d+ models$", line)]
    assert 3 <= len(drawn) <= 8
    assert text.count("\n") <= MOST_LINES
    assert len([line for line in text.splitlines() if re.match(r"Family \d+, \d+ models: ", line)]) == 12


def test_two_models_of_one_tree_have_no_start_to_tell_of():
    nodes = [entry_of_node(n, 0) for n in ("a", "b", "c")]
    made = document(nodes, [entry_of_edge("a", "b"), entry_of_edge("b", "c")], [open_link("a", "c", "shared-init")])
    assert "common start" not in tree_text(made)
    assert "common start" in tree_text(made, verbose=True)


def contested(n=3, name="some-organisation/a-rather-long-name-of-a-model-"):
    """Models whose cards claim what weights contradict, and whose links carry signals against their direction."""
    ids = [f"{name}{i}" for i in range(n + 1)]
    against = {"signals": [{"name": "effective-rank", "log_odds": -4.5}, {"name": "gains", "log_odds": 9.0}]}
    edges = [entry_of_edge(ids[0], i, evidence=against) for i in ids[1:]]
    claimed = [{"claimed_parent": i, "claimed_child": ids[0], "reason": "direction"} for i in ids[1:]]
    claimed[-1]["reason"] = "not-related"
    made = document([entry_of_node(i, 0) for i in ids], edges)
    return {**made, "metadata": {"edges": [], "contradictions": claimed}}


def test_claims_that_weights_contradict_are_told():
    text = tree_text(contested(2, "m"), width=80)
    assert "Contradicted by the weights (2): claims of a parent, by card or date" in text
    assert "  m1 → m0: the weights say the opposite\n" in text
    assert "  m2 → m0: no test relates the two\n" in text
    assert "  m0 → m1: effective-rank says the opposite (4.5 nats)\n" in text


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("name", ["m", "some-organisation/a-rather-long-name-of-a-model-", *ODD])
def test_contradictions_keep_the_width_and_are_few(width, name):
    made = contested(30, name)
    told = tree_text(made, width=width).split("Contradicted by")[1].split("Read ")[0]
    assert all(cell_len(line) <= width for line in told.splitlines())
    assert len(told.splitlines()) <= 20
    assert told.count("… 25 more") == 2
    assert tree_text(made, width=width, verbose=True).count("→") == 60


def test_without_contradictions_nothing_is_told_of_them():
    quiet = contested(3, "m")
    quiet["metadata"]["contradictions"] = []
    for e in quiet["edges"]:
        e["evidence"] = {"signals": [{"name": "effective-rank", "log_odds": -3.9}]}
    assert "→" not in tree_text(quiet)
    assert "→" not in tree_text({**quiet, "metadata": None})
