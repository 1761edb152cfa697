"""Which pairs of very many models are tested: enough to join every family and to speak of all near relatives.

A family of m models has m (m - 1) / 2 pairs, nearly all of which say what a few have said already. Groups are joined by
one tested rejection each; then every member is tested with its nearest. A pair that was not tested is no link.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

from lineage.distances import family_distances, shape_of
from lineage.graph import connected_components
from lineage.screening import Screen
from lineage.tested import PairTests
from stats.arrays import Float64Array

MOST_TRIES = 16
"""Pairs of two groups that are tested, nearest first, before the two are left apart."""

BLIND_TRIES = 3
"""Pairs of two shapes with no slice in common that are tested before such pairs count as untestable."""

NEAREST = 8
"""Members nearest to each one with which it is tested: every parent of the zoo and the nursery is among so many, and
neighbourhoods of this size are usual for trees of models (arXiv 2503.10633)."""

Pair = tuple[int, int]
Tell = Callable[[str, int, int], None]


def ask_all(seen: Screen, tests: PairTests, tell: Tell) -> None:
    """Test every pair that is worth it.

    Notes
    -----
    For few models: nothing is left to a choice. Cost: one test a pair.
    """
    pairs = _worth(seen)
    for done, (i, j) in enumerate(pairs):
        tell("testing", done, len(pairs))
        tests.answer(i, j)
    tell("testing", len(pairs), len(pairs))


def ask_some(seen: Screen, tests: PairTests, tell: Tell) -> None:
    """Test what joins the families among many models, then each member with its nearest.

    Parameters
    ----------
    seen : Screen
        A glance at all pairs.
    tests : PairTests
        Holds the answers.
    tell : callable
        Progress.

    Notes
    -----
    Pairs worth a test are taken nearest first, and skipped where both models are in one group already, or where
    `MOST_TRIES` pairs of their two groups were tested in vain. Cost: about one test a member to join a family, at most
    `NEAREST` more, and `MOST_TRIES` for every two groups that look alike and are not.
    """
    shapes = [shape_of(s) for s in tests.signatures]
    groups = _joined(_in_order(seen, tests, shapes), seen, tests, tell, shapes)
    wanted = sorted({pair for group in groups for pair in _near(group, seen, tests, shapes)} - tests.answered.keys())
    for done, (i, j) in enumerate(wanted):
        tell("testing", done, len(wanted))
        tests.answer(i, j)
    tell("testing", len(wanted), len(wanted))


def _worth(seen: Screen) -> list[Pair]:
    return [(i, j) for i, j in np.argwhere(np.triu(seen.worth, 1)).tolist()]


def _in_order(seen: Screen, tests: PairTests, shapes: Sequence[Hashable]) -> list[Pair]:
    """Pairs worth a test: of one shape by distance, then the others by how alike they look; ties by position."""
    distance = np.full(seen.worth.shape, np.inf)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        members[shape].append(i)
    for held in members.values():
        distance[np.ix_(held, held)] = family_distances([tests.signatures[i] for i in held])
    return sorted(_worth(seen), key=lambda p: (float(distance[p]), -float(seen.strength[p]), p))


def _joined(
    pairs: Sequence[Pair], seen: Screen, tests: PairTests, tell: Tell, shapes: Sequence[Hashable]
) -> list[list[int]]:
    """Groups of models joined by tested rejections."""
    groups, blind = Groups(len(shapes)), _Blind(shapes)
    for done, (i, j) in enumerate(pairs):
        if done % 16 == 0:
            tell("joining", done, len(pairs))
        unseen = not seen.comparable[i, j]
        if not groups.may_join(i, j) or (unseen and blind.is_hopeless(i, j)):
            continue
        if tests.rejects(i, j):
            groups.join(i, j)
        else:
            groups.failed(i, j)
        if unseen:
            blind.learn(i, j, is_testable=tests.answer(i, j).is_testable)
    tell("joining", len(pairs), len(pairs))
    return groups.lists()


class _Blind:
    """Pairs of shapes that a glance cannot compare, and whether a test can."""

    def __init__(self, shapes: Sequence[Hashable]) -> None:
        self._shapes = shapes
        self._untestable: Counter[frozenset[Hashable]] = Counter()
        self._testable: set[frozenset[Hashable]] = set()

    def is_hopeless(self, i: int, j: int) -> bool:
        """Whether enough pairs of these shapes were tried and none could be tested."""
        kinds = frozenset((self._shapes[i], self._shapes[j]))
        return kinds not in self._testable and self._untestable[kinds] >= BLIND_TRIES

    def learn(self, i: int, j: int, *, is_testable: bool) -> None:
        """Take in one answer."""
        kinds = frozenset((self._shapes[i], self._shapes[j]))
        if is_testable:
            self._testable.add(kinds)
        else:
            self._untestable[kinds] += 1


class Groups:
    """Disjoint groups that count how often two of them were tested in vain."""

    def __init__(self, n: int) -> None:
        self._of = list(range(n))
        self._members = {i: [i] for i in range(n)}
        self._vain: dict[int, Counter[int]] = defaultdict(Counter)

    def may_join(self, i: int, j: int) -> bool:
        """Whether two are in different groups that were not yet tested in vain too often."""
        a, b = self._of[i], self._of[j]
        return a != b and self._vain[a][b] < MOST_TRIES

    def failed(self, i: int, j: int) -> None:
        """Count a test in vain."""
        a, b = self._of[i], self._of[j]
        self._vain[a][b] += 1
        self._vain[b][a] += 1

    def join(self, i: int, j: int) -> None:
        """The smaller group goes into the larger; of tests in vain with a third the larger number counts."""
        small, large = sorted((self._of[i], self._of[j]), key=lambda g: (len(self._members[g]), g))
        for k in self._members[small]:
            self._of[k] = large
        self._members[large] += self._members.pop(small)
        for other, n in self._vain.pop(small, Counter()).items():
            self._vain[other].pop(small, None)
            if other != large:
                self._vain[large][other] = self._vain[other][large] = max(n, self._vain[large][other])

    @property
    def is_one(self) -> bool:
        """Whether all are in one group."""
        return len(self._members) <= 1

    def lists(self) -> list[list[int]]:
        """Members of each group, in order."""
        return sorted(sorted(m) for m in self._members.values())


def _near(group: Sequence[int], seen: Screen, tests: PairTests, shapes: Sequence[Hashable]) -> Iterator[Pair]:
    """Each member with its nearest in the group, and with the nearest of its own shape."""
    if len(group) < 2:
        return
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i in group:
        members[shapes[i]].append(i)
    for held in [list(group)] if len(members) == 1 else [list(group), *members.values()]:
        distance = family_distances([tests.signatures[i] for i in held])
        yield from _neighbours(held, distance, seen.strength[np.ix_(held, held)])


def _neighbours(held: Sequence[int], distance: Float64Array, strength: Float64Array) -> Iterator[Pair]:
    """Positions of the `NEAREST` of each: by distance, then by how alike they look, then by position."""
    for row, i in enumerate(held):
        order = np.lexsort((np.arange(len(held)), -strength[row], distance[row]))
        for column in order[order != row][:NEAREST].tolist():
            yield (i, held[column]) if i < held[column] else (held[column], i)


def groups_of(tests: PairTests) -> list[list[int]]:
    """Positions of the models of each family: connected components of the related pairs, in order."""
    names = [f"{i:09d}" for i in range(len(tests.signatures))]
    links = [(names[i], names[j]) for i, j in tests.related]
    return [[int(k) for k in group] for group in connected_components(names, links)]
