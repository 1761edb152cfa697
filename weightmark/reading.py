"""What a scheme reads from weights: a number, and how often one as large comes about when the key had no part in it."""

import math
from dataclasses import dataclass

import numpy as np

from stats.arrays import Float64Array
from stats.result import TestResult

NULL = "the key was drawn without a look at these weights, so that its carriers are chance to them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What verification by one scheme found.

    Attributes
    ----------
    test : TestResult
        The p-value holds for any weights: chance is in the key alone.
    carriers : int
        Places that carried something.
    coverage : float
        Their share of the places that the mark has in the whole model.
    bit_errors : int or None
        Raw errors among the code's or signature's bits, where bits are read and known.
    bits : int
        Bits read.
    payload : bytes or None
        As decoded.
    """

    test: TestResult
    carriers: int
    coverage: float
    bit_errors: int | None = None
    bits: int = 0
    payload: bytes | None = None


def result(method: str, statistic: float, n: int, log_pvalue: float, floor: float = -math.inf) -> TestResult:
    """An exact test over the key.

    Parameters
    ----------
    method : str
        The scheme.
    statistic : float
    n : int
        Carriers read.
    log_pvalue : float
        Natural log.
    floor : float
        Least possible log p; the number of signs in the key where nothing is said.
    """
    lowest = floor if math.isfinite(floor) else -max(1, n) * math.log(2.0)
    return TestResult(
        method=method,
        null=NULL,
        statistic=statistic,
        n=n,
        log_pvalue=min(0.0, max(log_pvalue, lowest)) + 0.0,
        log_floor=lowest,
        log_evalue=None,
        exactness="exact",
        label_group="key",
        scope="carriers",
    )


def unit_sum(carriers: Float64Array, values: Float64Array) -> float:
    """Sum of carriers times values over the root sum of squares of the values; 0 where all values are 0.

    Variance one under any law of the carriers with independent entries of mean 0 and variance 1; exactly normal for
    normal carriers.
    """
    size = float(np.sqrt(np.einsum("i,i->", values, values)))
    return float(np.einsum("i,i->", carriers, values)) / size if size > 0.0 else 0.0
