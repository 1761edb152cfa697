"""The circle of a model: who in the index a test relates to it, and who is related to those."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lineage.evidence import gather
from lineage.index.finding import EACH, Candidate, Finder
from lineage.index.query import Query
from lineage.index.shelf import Shelf
from lineage.signature import Signature
from lineage.tested import Answer

FEW = 64
"""Models of an index up to which every one is tested: a search could only lose some."""

MOST_KIN = 64
"""Members of a family that are looked for and drawn."""

ALIKE = 0.3
"""Strength from which what is found beside a relative is tested; strangers of the fixtures are below it in 999 of 1,000."""

Tell = Callable[[str, int, int], None]


@dataclass(slots=True)
class Answers:
    """What the ladder said of pairs, by their ids; each pair is tested once."""

    held: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def get(self, a: Signature, b: Signature) -> Answer | None:
        """The answer of a pair, if it is there."""
        return self.held.get((min(a.id, b.id), max(a.id, b.id)))

    def put(self, a: Signature, b: Signature, answer: Answer) -> None:
        """Keep an answer."""
        self.held[min(a.id, b.id), max(a.id, b.id)] = answer

    def ask(self, a: Signature, b: Signature) -> Answer:
        """The answer of a pair, tested now if it was not before."""
        found = self.get(a, b)
        if found is None:
            first, second = (a, b) if a.id < b.id else (b, a)
            evidence = gather(first, second)
            found = Answer(evidence.log_pvalue, evidence.is_testable)
            self.put(a, b, found)
        return found


@dataclass(frozen=True, slots=True)
class Circle:
    """What was found around a model.

    Attributes
    ----------
    tested : tuple of str
        Models the query was tested with.
    related : tuple of (str, float)
        Those the tests relate to it, with natural log p, the strongest first.
    kin : tuple of str
        Those, and models related to them, in order of their ids.
    is_cut : bool
        Whether there are more of them than are shown.
    """

    tested: tuple[str, ...]
    related: tuple[tuple[str, float], ...]
    kin: tuple[str, ...]
    is_cut: bool


class Searcher:
    """Tests what a search finds.

    Parameters
    ----------
    shelf : Shelf
    finder : Finder
    names : sequence of str
        All models that can be tested, without the query.
    answers : Answers
    """

    def __init__(self, shelf: Shelf, finder: Finder, names: Sequence[str], answers: Answers) -> None:
        self.shelf = shelf
        self.finder = finder
        self.names = names
        self.answers = answers

    def around(self, query: Query, level: float, inner: float, tell: Tell) -> Circle:
        """The circle of a query.

        Parameters
        ----------
        query : Query
        level : float
            Of each test of the query, whichever are run.
        inner : float
            Of each test between two models of the index.
        tell : callable
            Progress.

        Returns
        -------
        Circle

        Notes
        -----
        Which pairs are tested depends on the search and on earlier answers; the levels count all of them.
        """
        tested = self.worth(query)
        related = []
        for done, name in enumerate(tested):
            tell("testing", done, len(tested))
            found = self.answers.ask(query.signature, self.shelf.signature(name)).log_pvalue
            if found <= math.log(level):
                related.append((name, found))
        tell("testing", len(tested), len(tested))
        related.sort(key=lambda item: (item[1], item[0]))
        kin, is_cut = self.kin_of([name for name, _ in related], inner, without=query.id)
        return Circle(tuple(tested), tuple(related), kin, is_cut)

    def worth(self, query: Query) -> list[str]:
        """Models the query is tested with: all of few, else those the search finds."""
        if len(self.names) <= FEW:
            return [name for name in self.names if name != query.id]
        if query.vector is None:
            return []
        return [c.id for c in self.finder.candidates(query.vector, without=(query.id,))]

    def kin_of(self, start: Sequence[str], inner: float, *, without: str) -> tuple[tuple[str, ...], bool]:
        """Some models and those that tests relate to them, in widening rings, at most `MOST_KIN`; and whether more are left."""
        kin = dict.fromkeys(start[:MOST_KIN])
        left = deque(kin)
        is_cut = len(start) > MOST_KIN
        while left and not is_cut:
            name = left.popleft()
            for other in self._beside(name, kin, without):
                if self.answers.ask(self.shelf.signature(name), self.shelf.signature(other)).log_pvalue > math.log(
                    inner
                ):
                    continue
                if len(kin) >= MOST_KIN:
                    is_cut = True
                    break
                kin[other] = None
                left.append(other)
        return tuple(sorted(kin)), is_cut

    def _beside(self, name: str, kin: dict[str, None], without: str) -> list[str]:
        """Models alike enough to one of the family, and not in it yet."""
        vector = self.shelf.vector(name)
        if vector is None:
            return []
        found: list[Candidate] = self.finder.candidates(vector, most=EACH, without=(name, without))
        return [c.id for c in found if c.strength >= ALIKE and c.id not in kin]
