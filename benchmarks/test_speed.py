"""Ratios within one run and exact counters; wall time alone says little on a shared machine."""

import json
import time

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import derive
from lineage.comparing import CompareOptions, compare, compare_signed
from nulls import ROOT, signature_of
from stats.features import unit_cosines
from stats.residual import column_test
from stats.units import UnitFeatures, unit_tests

ZOO = ROOT / "fixtures" / "zoo"


def _related(d, n, cosine, rng):
    base, noise = rng.normal(size=(2, d, n))
    return base, cosine * base + np.sqrt(1 - cosine**2) * noise


def _published(a, b):
    """Assignment on cosines, then Spearman's rho of the matching (arXiv 2502.12292, the U statistic)."""
    cost = unit_cosines(a, b)
    matched = linear_sum_assignment(cost, maximize=True)[1]
    n = matched.size
    return 1 - 6 * np.sum((matched - np.arange(n)) ** 2.0) / (n * (n**2 - 1.0))


def test_exact_test_against_assignment(benchmark):
    """Embedding-like columns, 1,024 units: the exact test against the assignment on the same arrays."""
    rng = np.random.default_rng(0)
    a, b = _related(256, 1024, 0.1, rng)
    result = benchmark(column_test, a, b)
    start = time.process_time()
    rho = _published(a, b)
    slow = time.process_time() - start
    start = time.process_time()
    column_test(a, b)
    fast = time.process_time() - start
    benchmark.extra_info |= {"assignment_over_exact_cpu": round(slow / max(fast, 1e-9), 1), "rho": round(float(rho), 3)}
    assert result.log_pvalue / np.log(10) < -100
    assert slow > fast


def test_units_of_a_7b_block(benchmark):
    """16 units of 4,096 features, gate and up."""
    rng = np.random.default_rng(0)
    parts = [UnitFeatures(*_related(4096, 16, 0.2, rng), signed=s) for s in (True, False)]
    process, _ = benchmark(unit_tests, parts, label_group="h")
    assert process.log_pvalue / np.log(10) < -9


@pytest.mark.parametrize("partner", ["llama-a-ft1", "llama-b"])
def test_compare_from_disk(benchmark, partner):
    """Open, sign, test, describe; bytes and reads are exact counters."""
    document = benchmark(compare, str(ZOO / "llama-a"), str(ZOO / partner))
    run = document["record"]["run"]
    benchmark.extra_info |= {"bytes_read": run["bytes_read"], "requests": run["requests"]}
    # a verdict takes a few rows; then small models are read once more: a relative for the steps, a stranger for the look
    whole = (ZOO / partner / "model.safetensors").stat().st_size
    assert run["bytes_read"] <= 2 * (whole + 128_000)


def test_pair_from_signatures(benchmark):
    """What one more pair costs in a tree."""
    a, b = (signature_of(derive.load(ZOO / n), n) for n in ("llama-a", "llama-a-ft2"))
    document = benchmark(compare_signed, a, b, CompareOptions())
    assert json.dumps(document["tests"])
