"""What a test returns (`TestResult`) and what a similarity returns (`Score`): two types on purpose.

A `TestResult` is a promise about error rates and carries its null. A `Score` has no p-value and nothing
can print it as one.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Exactness: TypeAlias = Literal["exact", "asymptotic", "calibrated", "heuristic"]
"""exact: a valid finite-sample upper bound under the stated null; see docs/methods/reading-a-p-value.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """One hypothesis test.

    Attributes
    ----------
    method : str
        Row name of the statistic, lower-case.
    null : str
        The null hypothesis, one sentence.
    statistic : float
        The observed value; its meaning stands in the docstring of the statistic.
    n : int
        Number of labels that could be permuted.
    log_pvalue : float
        Natural log of a p-value, <= 0, finite, never below `log_floor`.
    log_floor : float
        Minus the log of the number of labellings actually read: no test on these labels can go lower.
    log_evalue : float or None
        Natural log of an e-value (mean at most 1 under the null). None where the method has none.
    exactness : Exactness
        What `log_pvalue` promises.
    label_group : str
        Tests of one group share labels and are averaged; tests of groups whose labels are drawn
        separately are multiplied.
    scope : str
        What was compared, for people.
    controls : int or None
        Number of controls behind a calibrated result, whose p-value is never below 1 / (controls + 1).
    z : float or None
        Distance of a calibrated statistic from its controls, in their standard deviations. Not a p-value.
    """

    __test__ = False  # pytest would otherwise try to collect a class of this name

    method: str
    null: str
    statistic: float
    n: int
    log_pvalue: float
    log_floor: float
    log_evalue: float | None
    exactness: Exactness
    label_group: str
    scope: str
    controls: int | None = None
    z: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.log_pvalue) and self.log_pvalue <= 0.0):
            raise ValueError(f"log_pvalue must be finite and <= 0, got {self.log_pvalue}")
        if not (math.isfinite(self.log_floor) and self.log_floor <= 0.0):
            raise ValueError(f"log_floor must be finite and <= 0, got {self.log_floor}")
        if self.exactness == "exact" and self.log_pvalue < self.log_floor - 1e-9 * max(1.0, -self.log_floor):
            raise ValueError(f"log_pvalue {self.log_pvalue} lies below the floor {self.log_floor}")
        if self.exactness == "calibrated" and (self.controls is None or self.log_evalue is not None):
            raise ValueError("a calibrated result names its controls and has no e-value")
        if self.log_evalue is not None and math.isnan(self.log_evalue):
            raise ValueError("log_evalue is NaN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A similarity or a distance. It has no p-value on purpose.

    Attributes
    ----------
    method : str
        What was computed.
    value : float
        Its value.
    n : int
        Number of elements it rests on.
    """

    method: str
    value: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A tensor or an axis that was not tested, with the reason: silence would read as a clean result.

    Attributes
    ----------
    tensor : str
        Name of the tensor or the axis.
    reason : str
        Why it could not be tested.
    """

    tensor: str
    reason: str = field(default="")
