"""Which pairs of many models are tested: enough for every family, few enough for hundreds, and no more than were asked."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import derive
import orchard
from lineage import grouping, growing, linking, tested
from lineage.grouping import BLIND_TRIES, MOST_TRIES, NEAREST, Groups, ask_all, ask_some, groups_of
from lineage.growing import tree
from lineage.linking import Linker
from lineage.relation import Relation
from lineage.screening import Screen
from lineage.searching import find_all
from lineage.tested import PairTests
from nulls import ROOT

NURSERY = ROOT / "fixtures" / "nursery"


class Forest:
    """Points that stand for models; pairs of one family are related, and who is asked about is counted."""

    def __init__(self, families, *, alike=False, shapes=None, seed=0):
        rng = np.random.default_rng(seed)
        self.family = np.array(families)
        n = self.n = self.family.size
        centres = 10.0 * rng.normal(size=(self.family.max() + 1, 12))
        points = centres[self.family] + rng.normal(size=(n, 12))
        shapes = np.zeros(n, dtype=int) if shapes is None else np.array(shapes)
        self.signatures = [
            SimpleNamespace(census={f"shape {s}": x}, blocks=(), values=(), tables={}, position=i)
            for i, (x, s) in enumerate(zip(points, shapes, strict=True))
        ]
        kin = self.family[:, None] == self.family[None, :]
        comparable = shapes[:, None] == shapes[None, :]
        self.seen = Screen(kin | alike | ~comparable, comparable, np.where(kin & comparable, 2.0, 0.5))
        self.untestable = ~comparable

    def related(self, i, j):
        return self.family[i] == self.family[j]

    def gather(self, a, b):
        i, j = a.position, b.position
        assert i < j
        able = not self.untestable[i, j]
        return SimpleNamespace(log_pvalue=-100.0 if able and self.related(i, j) else -1.0, is_testable=able)

    def asked(self, ask=ask_some):
        tests = PairTests(self.signatures, 1e-12)
        with patch.object(tested, "gather", self.gather):
            ask(self.seen, tests, lambda *_: None)
        return tests


def families_of(tests):
    return {tuple(g) for g in groups_of(tests)}


def test_pairs_of_one_family_grow_with_its_members_and_not_with_their_square():
    asked = [len(Forest([0] * n).asked().answered) for n in (40, 80, 160)]
    assert all(n - 1 <= k <= (NEAREST + 1) * n for n, k in zip((40, 80, 160), asked, strict=True))
    assert asked[2] <= 2.3 * asked[1] <= 2.3 * 2.3 * asked[0]
    assert len(Forest([0] * 40).asked(ask_all).answered) == 40 * 39 // 2


def test_pairs_grow_with_the_families():
    asked = [len(Forest(np.arange(6 * f) // 6).asked().answered) for f in (10, 40)]
    assert asked == [10 * 15, 40 * 15]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.booleans(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_families_are_those_of_all_pairs(families, alike, seed):
    forest = Forest(families, alike=alike, seed=seed)
    some, every = forest.asked(), forest.asked(ask_all)
    assert families_of(some) == families_of(every)
    assert some.answered.items() <= every.answered.items()


def test_every_member_is_tested_with_its_nearest():
    forest = Forest([0] * 50)
    tests = forest.asked()
    points = np.stack([next(iter(s.census.values())) for s in forest.signatures])
    for i in range(50):
        order = np.argsort(np.sum((points - points[i]) ** 2, axis=1))[1 : NEAREST + 1]
        assert all((min(i, j), max(i, j)) in tests.answered for j in order.tolist())


def test_families_that_only_look_alike_cost_a_bounded_number_of_tests():
    forest = Forest([0] * 40 + [1] * 40, alike=True)
    across = [p for p in forest.asked().answered if forest.family[p[0]] != forest.family[p[1]]]
    assert len(across) == MOST_TRIES


@pytest.mark.parametrize(("rank", "joined"), [(0, True), (MOST_TRIES - 1, True), (MOST_TRIES, False)])
def test_two_groups_are_joined_by_a_tested_pair_alone(rank, joined):
    """The pair that is related lies so many places behind the nearest pair of the two."""
    forest = Forest([0] * 20 + [1] * 20, alike=True)
    points = np.stack([next(iter(s.census.values())) for s in forest.signatures])
    across = sorted((float(np.sum((points[i] - points[j]) ** 2)), i, j) for i in range(20) for j in range(20, 40))
    bridge = across[rank][1:]
    forest.related = lambda i, j: forest.family[i] == forest.family[j] or (i, j) == bridge
    assert len(families_of(forest.asked())) == (1 if joined else 2)


def test_shapes_that_nothing_can_compare_are_tried_a_few_times():
    forest = Forest(list(range(60)), shapes=[i % 2 for i in range(60)])
    assert len(forest.asked().answered) == BLIND_TRIES


def test_what_was_answered_once_is_not_asked_again():
    forest, asked = Forest([0, 0]), []
    with patch.object(tested, "gather", lambda a, b: asked.append(1) or forest.gather(a, b)):
        tests = PairTests(forest.signatures, 1e-12)
        assert tests.rejects(0, 1)
        assert tests.rejects(1, 0)
    assert len(asked) == 1


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()), max_size=40))
def test_groups_are_those_of_a_plain_list(steps):
    groups, plain, vain = Groups(8), [{i} for i in range(8)], {}
    home = lambda i: next(g for g in plain if i in g)  # noqa: E731
    for i, j, related in steps:
        a, b = home(i), home(j)
        tries = max((vain.get((x, y), 0) for x in map(id, (a,)) for y in map(id, (b,))), default=0)
        assert groups.may_join(i, j) == (a is not b and tries < MOST_TRIES)
        if a is b:
            continue
        if related:
            groups.join(i, j)
            small, large = (a, b) if (len(a), min(a)) < (len(b), min(b)) else (b, a)
            for g in plain:
                n = max(vain.get((id(small), id(g)), 0), vain.get((id(large), id(g)), 0))
                vain[id(large), id(g)] = vain[id(g), id(large)] = n
            large |= small
            plain.remove(small)
        else:
            groups.failed(i, j)
            vain[id(a), id(b)] = vain[id(b), id(a)] = vain.get((id(a), id(b)), 0) + 1
    assert groups.lists() == sorted(sorted(g) for g in plain)


# --- links of one family ------------------------------------------------------------------------------------------
def linked(forest, descent, answered):
    """A linker over the whole forest, with some pairs answered; `descent` says which pairs descend from each other."""
    tests = PairTests(forest.signatures, 1e-12)
    kind = lambda a, b: "fine-tune" if descent(a.position, b.position) else "shared-init"  # noqa: E731
    with (
        patch.object(tested, "gather", forest.gather),
        patch.object(linking, "relate", lambda a, b: Relation(kind(a, b), 0.9)),
    ):
        for i, j in answered:
            tests.answer(i, j)
        linker = Linker([f"m{i:02d}" for i in range(forest.n)], range(forest.n), tests)
        links = linker.links()
        asked = linker.ask("m05", "m01")
    return links, asked, tests


def test_parts_of_a_family_are_joined_where_an_untested_pair_descends():
    forest = Forest([0] * 6)
    chains = [(0, 1), (1, 2), (3, 4), (4, 5)]
    links, asked, tests = linked(forest, lambda i, j: (i, j) in {*chains, (2, 4)}, [*chains, (0, 3)])
    assert {(k.a, k.b) for k in links if k.is_descent} == {
        ("m00", "m01"),
        ("m01", "m02"),
        ("m02", "m04"),
        ("m03", "m04"),
        ("m04", "m05"),
    }
    assert [(k.a, k.b) for k in links if not k.is_descent] == [("m00", "m03")]
    assert (2, 4) in tests.answered
    assert asked is not None
    assert (asked.a, asked.b, asked.kind) == ("m01", "m05", "shared-init")


def test_what_shares_a_start_only_is_looked_at_and_not_tested():
    forest = Forest([0] * 40)
    halves = [(i, i + 1) for i in range(39) if i != 19]
    links, _, tests = linked(forest, lambda i, j: (i < 20) == (j < 20), [*halves, (0, 20)])
    assert set(tests.answered) == {*halves, (0, 20), (1, 5)}
    assert sum(k.is_descent for k in links) == len(halves)


def test_strangers_are_no_link():
    _, asked, _ = linked(Forest([0, 0, 0, 0, 0, 1]), lambda _i, _j: True, [(0, 1)])
    assert asked is None


# --- on real models ----------------------------------------------------------------------------------------------
def test_few_pairs_give_the_edges_of_all_pairs(tmp_path):
    """A trained family of six and a stranger: fewer tests, the same edges; what was not tested is not spoken of."""
    for i in range(6):
        derive.save(derive.load(NURSERY / f"nursery-00-0{i}"), tmp_path / f"m{i}")
    derive.save(derive.load(NURSERY / "nursery-02-00"), tmp_path / "alone")
    refs, known, real = find_all([str(tmp_path)]), {}, tested.gather

    def once(a, b):
        pair = a.slices_digest, b.slices_digest
        if pair not in known:
            known[pair] = real(a, b)
        return known[pair]

    with patch.object(tested, "gather", once):
        every = tree(refs)
        with patch.object(growing, "FEW", 0), patch.object(grouping, "NEAREST", 1):
            some = tree(refs)
    assert every["pairs_tested"] == every["family_size"] == some["family_size"] == 21
    assert some["pairs_tested"] <= 14
    assert some["level_used"] == every["level_used"]
    assert some["edges"] == every["edges"]
    assert some["components"] == every["components"]
    pairs = lambda d: {(u["a"], u["b"], u["reason"]) for u in d["unresolved"]}  # noqa: E731
    assert pairs(some) <= pairs(every)


def test_the_table_of_growth_is_of_this_code():
    page = (Path(ROOT) / "docs" / "methods" / "tree-growth.md").read_text()
    assert orchard.digest() in page, "pairs are chosen otherwise: run python tests/calibration/growth.py and commit it"
