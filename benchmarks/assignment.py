"""Exact tests of all blocks of a 105M-parameter GLU model against assignment and Spearman, on the same arrays.

    python benchmarks/assignment.py

CPU seconds of one process, one thread. The published side gets the fastest cosines there are (BLAS), which the exact side,
whose sums have one fixed order, does without.
"""

import json
import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import linear_sum_assignment

from stats.axes import Axis
from stats.eprocess import cosine_grid, either_eprocess
from stats.features import products, unit_cosines, unit_norm
from stats.matchcount import match_count
from stats.published import log_fisher, log_spearman_tail
from stats.tails import log_factorial

BLOCKS, UNITS, WIDTH, VOCABULARY = 8, 2816, 1024, 2048
PARAMETERS = BLOCKS * (3 * UNITS * WIDTH + 4 * WIDTH * WIDTH + 2 * WIDTH) + VOCABULARY * WIDTH + WIDTH
"""Gate, up and down, four attention matrices and two gains a block; a tied table and a final gain: 104.9 million."""
COSINES = (0.05, 0.1, 0.2)
LN10 = math.log(10.0)
DOUBLE = math.log(2.2250738585072014e-308)
"""What the published code prints where its p-value underflows: the smallest double."""

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Slices:
    """The e-process on windows of rows: rows x columns of up, the same in both models."""

    rows: int
    window: int
    columns: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        count = -(-self.rows // self.window)
        return f"e-process, {count} window{'s' * (count > 1)} of {self.window} rows, {self.columns} columns"

    def log_e(self, a: np.ndarray, b: np.ndarray) -> float:
        """Natural log of the e-value of one block."""
        windows = []
        for start in range(0, self.rows, self.window):
            part = (slice(start, start + self.window), slice(0, self.columns))
            windows.append(unit_cosines(np.ascontiguousarray(a[part].T), np.ascontiguousarray(b[part].T)))
        return either_eprocess(windows, grid=cosine_grid(float(self.columns))).log_evalue


@dataclass(frozen=True)
class Wide:
    """The match count: some rows of one model against all rows of the other."""

    rows: int
    columns: int = WIDTH

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"match count, {self.rows} rows against all {UNITS}, {self.columns} columns"

    def log_e(self, a: np.ndarray, b: np.ndarray) -> float:
        """Natural log of the e-value of one block."""
        left, right = (np.ascontiguousarray(m[:, : self.columns].T) for m in (a[: self.rows], b))
        return float(match_count(products(unit_norm(left), unit_norm(right)), axis=Axis.HIDDEN).log_evalue or 0.0)


CHEAPEST = Slices(128, 32, WIDTH)
"""Of some twenty, on other draws, the cheapest that is clearly no weaker than the published p-value at 0.05 and 0.1."""
CONFIGURATIONS: tuple[Slices | Wide, ...] = (
    Slices(16, 16, WIDTH),
    CHEAPEST,
    Slices(384, 16, 256),
    Slices(2816, 256, 256),
    Wide(16),
)
WHOLE = Slices(UNITS, UNITS, WIDTH)
"""All rows against all rows, for the highest cosine only: what the clamped p-value takes."""


def related(cosine: float) -> Iterator[Pair]:
    """The up projections of every block of a model and of a relative at a given row cosine."""
    for block in range(BLOCKS):
        rng = np.random.default_rng([13, round(1000 * cosine), block])
        a, noise = rng.normal(size=(2, UNITS, WIDTH))
        yield a, cosine * a + math.sqrt(1.0 - cosine * cosine) * noise


def published(a: np.ndarray, b: np.ndarray, order: np.ndarray) -> float:
    """Spearman's rho of the assignment on cosines (arXiv 2502.12292), with shuffled candidates."""
    left, right = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
    matched = order[linear_sum_assignment(left @ right[order].T, maximize=True)[1]]
    gaps = float(np.sum((matched - np.arange(UNITS)) ** 2))
    return 1.0 - 6.0 * gaps / (UNITS * (UNITS * UNITS - 1.0))


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """CPU seconds, and what came out."""
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def measure(cosine: float) -> dict:
    """Published and exact numbers at one cosine; CPU of the exact ones is the median of three."""
    configurations = [*CONFIGURATIONS, *([WHOLE] if cosine == COSINES[-1] else [])]
    cpu, log_e = defaultdict(list), defaultdict(float)
    seconds, logs, clamped, rhos = 0.0, [], [], []
    for a, b in related(cosine):
        order = np.random.default_rng(0).permutation(UNITS)
        spent, rho = timed(lambda a=a, b=b, order=order: published(a, b, order))
        seconds += spent
        tail, floor = log_spearman_tail(rho, UNITS), -log_factorial(UNITS)
        rhos.append(rho)
        logs.append(tail)
        clamped.append(max(tail, floor))
        for c in configurations:
            runs = [timed(lambda c=c, a=a, b=b: c.log_e(a, b)) for _ in range(1 if c is WHOLE else 3)]
            cpu[c].append(statistics.median(s for s, _ in runs))
            log_e[c] += runs[0][1]
    space = log_fisher(logs) if all(map(math.isfinite, logs)) else -math.inf
    printed = max(space, DOUBLE) / LN10
    return {
        "cosine": cosine,
        "rho": statistics.mean(rhos),
        "cpu": seconds,
        "printed": printed,
        "log_space": space / LN10 if math.isfinite(space) else None,
        "clamped": log_fisher(clamped) / LN10,
        "exact": [
            {
                "name": c.name,
                "rows": c.rows,
                **{k: v for k, v in asdict(c).items() if k == "columns"},
                "cpu": sum(cpu[c]),
                "log10_p": min(0.0, -log_e[c] / LN10) if math.isfinite(log_e[c]) else 0.0,
            }
            for c in configurations
        ],
    }


def main() -> None:
    """Print one JSON line with the shapes, then one per cosine."""
    shapes = {"blocks": BLOCKS, "units": UNITS, "width": WIDTH, "vocabulary": VOCABULARY, "parameters": PARAMETERS}
    print(json.dumps({**shapes, "chosen": CHEAPEST.name}), flush=True)
    for c in (CHEAPEST, Wide(4)):
        c.log_e(*next(related(0.2)))  # compile or load what is compiled
    for cosine in COSINES:
        print(json.dumps(measure(cosine)), flush=True)


if __name__ == "__main__":
    main()
