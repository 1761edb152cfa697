"""The pieces of the committed table, small: one block instead of eight, one small model instead of six."""

import math
import xml.etree.ElementTree as ET

import numpy as np

from assignment import CHEAPEST, UNITS, published, related, timed
from sizes import compare_once
from stats.published import log_spearman_tail
from svg import Line, Panel, chart


def test_one_block_of_the_large_model(benchmark):
    """Row cosine 0.1: cheaper and no weaker than assignment and Spearman on the same arrays."""
    a, b = next(related(0.1))
    log_e = benchmark(CHEAPEST.log_e, a, b)
    slow, rho = timed(lambda: published(a, b, np.random.default_rng(0).permutation(UNITS)))
    fast = min(timed(lambda: CHEAPEST.log_e(a, b))[0] for _ in range(5))
    benchmark.extra_info |= {"published_over_exact_cpu": round(slow / fast), "rho": round(rho, 3)}
    assert -log_e <= log_spearman_tail(rho, UNITS)
    assert slow > 30 * fast


def test_a_small_generated_model(benchmark):
    """Counters of the smallest size."""
    found = benchmark(compare_once, "1M")
    benchmark.extra_info |= {k: found[k] for k in ("bytes", "requests")}
    assert found["verdict"] == "related"
    assert found["bytes"] < 200_000


def test_the_picture_is_a_labelled_chart(benchmark):
    """Well-formed, with every label and every point, larger values higher up."""
    points = [(1e6, 0.1), (1e9, 2.0)]
    panel = Panel("time & size", "parameters", [Line("a < b", points)], [(1e6, "1M"), (1e9, "1B")])
    text = benchmark(chart, [panel, panel])
    root = ET.fromstring(text)  # noqa: S314 - our own text
    words = [e.text for e in root.iter() if e.tag.endswith("text")]
    circles = [e for e in root.iter() if e.tag.endswith("circle")]
    assert {"time & size", "parameters", "a < b", "1M", "1B", "0.1", "1"} <= set(words)
    assert len(circles) == 4
    assert float(circles[0].get("cy", math.nan)) > float(circles[1].get("cy", math.nan))
