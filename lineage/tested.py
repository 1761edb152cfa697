"""Tests of pairs, each run once, when it is first asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lineage.evidence import gather
from lineage.signature import Signature


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tree needs to know of one tested pair.

    Attributes
    ----------
    log_pvalue : float
        Natural log of the combined p-value.
    is_testable : bool
        Whether any valid test could be run.
    """

    log_pvalue: float
    is_testable: bool


class Answers(Protocol):
    """Where answers are kept from one run to the next."""

    def get(self, a: Signature, b: Signature) -> Answer | None:
        """The answer of a pair, if it is there."""

    def put(self, a: Signature, b: Signature, answer: Answer) -> None:
        """Keep an answer."""


@dataclass(slots=True)
class PairTests:
    """The ladder for pairs of many models, at one level.

    Attributes
    ----------
    signatures : sequence of Signature
        Of n models, in the order of their ids.
    level : float
        Family-wise level of each pair, whichever of them are run.
    answers : Answers or None
        Answers of an earlier run, and where new ones go.
    answered : mapping of (int, int) to Answer
        By positions i < j: every pair asked for so far.

    Notes
    -----
    What is asked for may depend on earlier answers: the level counts all n (n - 1) / 2 pairs, so it holds for any choice.
    """

    signatures: Sequence[Signature]
    level: float
    answers: Answers | None = None
    answered: dict[tuple[int, int], Answer] = field(default_factory=dict)

    def answer(self, i: int, j: int) -> Answer:
        """What the ladder says of a pair, in either order."""
        pair = (i, j) if i < j else (j, i)
        found = self.answered.get(pair)
        if found is None:
            found = self.answered[pair] = self._looked_up(self.signatures[pair[0]], self.signatures[pair[1]])
        return found

    def rejects(self, i: int, j: int) -> bool:
        """Whether a pair is related at the level."""
        return self.answer(i, j).log_pvalue <= math.log(self.level)

    @property
    def related(self) -> list[tuple[int, int]]:
        """Pairs asked for so far that the tests reject, in order."""
        least = math.log(self.level)
        return sorted(pair for pair, found in self.answered.items() if found.log_pvalue <= least)

    @property
    def testable(self) -> set[int]:
        """Models of which some pair could be tested, among those asked for."""
        return {i for pair, found in self.answered.items() if found.is_testable for i in pair}

    def _looked_up(self, a: Signature, b: Signature) -> Answer:
        found = self.answers.get(a, b) if self.answers is not None else None
        if found is not None:
            return found
        evidence = gather(a, b)
        found = Answer(evidence.log_pvalue, evidence.is_testable)
        if self.answers is not None:
            self.answers.put(a, b, found)
        return found
