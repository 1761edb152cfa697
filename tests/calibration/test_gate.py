"""The gate in small: 1,500 nulls per public test, natural pairs, the broken twins, and the freshness of the long table."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy.special import bdtrc

import broken
import derive
import draws
import nulls
from stats.anchored import anchored_test
from stats.split import split_test

N = 1500
RUNS = 16
FEW = {
    "maxima of several blocks multiplied": 500,
    "number of candidates not lowered": 100,
    "rows chosen after looking": 100,
    "zero padding of the narrower model": 300,
    "token axis permuted": 100,
    "best run of the other model taken": 100,
    "rows matched on the dimensions tested": 100,
    "own label among the anchors": 100,
}
"""Draws of the twins that fail plainly: caught among so few, they are caught among more."""


@pytest.mark.parametrize("name", draws.DRAWS)
def test_nulls_stay_within_the_limits(name):
    tally = draws.tally(name, N)
    assert tally.excess() == []
    assert all(n == N for _, n, *_ in tally.rows())


def test_so_many_nulls_show_a_doubled_rate():
    """A test that rejects twice as often as it may at 0.05 exceeds its limit but for three times in a thousand."""
    assert bdtrc(nulls.limit(N, 0.05), N, 0.1) > 0.997


def test_natural_pairs_stay_within_the_limits():
    """120 pairs of 16 runs that share everything but the seed, labels as training left them; the long table has all."""
    runs = dict(list(nulls.micro_runs().items())[:RUNS])
    tally = nulls.Tally()
    for document in nulls.natural(runs):
        tally.add(document)
    assert sum(tally.verdicts.values()) == 120
    assert set(tally.verdicts) == {"no-evidence"}
    assert tally.excess() == []


def test_natural_blocks_stay_within_the_limits():
    """The same runs, each block against the same block, for the two statistics that want whole rows."""
    runs = list(nulls.micro_runs().values())[:RUNS]
    blocks = [[_rows(derive.fold_gains(w), layer) for layer in range(2)] for w in runs]
    order = np.random.default_rng(0).permutation(32)
    tally = nulls.Tally()
    for (a, b), layer in itertools.product(itertools.combinations(blocks, 2), range(2)):
        whole = split_test(draws.pairs(a[layer], b[layer]), fit=order[:16], held=order[16:])
        run = anchored_test(draws.pairs(a[layer][..., 8:24], b[layer][..., 8:24]), label_group="h")
        for result in (whole, run):
            tally.log10_p[result.method].append(result.log_pvalue / math.log(10))
    assert [(method, n) for method, n, *_ in tally.rows()] == [("hidden-units-anchored", 240), ("split", 240)]
    assert tally.excess() == []


def _rows(weights, layer):
    return np.stack(
        [weights[f"model.layers.{layer}.mlp.{side}_proj.weight"].astype(np.float64).T for side in ("gate", "up")]
    )


def test_the_sound_test_passes_the_gate_of_the_twins():
    assert not broken.fails(broken.counts(broken.sound))


@pytest.mark.parametrize("twin", broken.TWINS)
def test_every_broken_twin_is_caught(twin):
    n = FEW.get(twin, N)
    assert broken.fails(broken.counts(broken.TWINS[twin], n), n)


def test_limits_are_the_stated_ones():
    """Smallest k with P(Bin(N, level) > k) <= 1e-6, cross-checked by summing the tail."""
    for n, level in ((2000, 0.05), (780, 0.01), (10_000, 0.001)):
        k = nulls.limit(n, level)
        tail = [
            math.lgamma(n + 1)
            - math.lgamma(i + 1)
            - math.lgamma(n - i + 1)
            + i * math.log(level)
            + (n - i) * math.log1p(-level)
            for i in range(k, n + 1)
        ]
        assert sum(math.exp(t) for t in tail[1:]) <= 1e-6 < sum(math.exp(t) for t in tail)


@pytest.fixture(scope="module")
def committed():
    return json.loads((nulls.ROOT / "docs/methods/calibration.json").read_text())


def test_the_committed_table_is_of_this_code(committed):
    assert committed["digest"] == nulls.code_digest(), "the tests changed: run make calibrate and commit its tables"
    assert committed["digest"] in (nulls.ROOT / "docs/methods/calibration.md").read_text()


def test_the_committed_counts_are_large_and_clean(committed):
    cases = committed["cases"]
    assert cases["natural"]["n"] >= 276
    assert sum(c["n"] for name, c in cases.items() if name != "natural") >= 10_000
    assert all(set(c["verdicts"]) == {"no-evidence"} for c in cases.values())
    assert committed["excess"] == []
    assert committed["largest_share_of_a_run"] <= 0.05
    assert committed["sorted_pairs_skipped"] == committed["sorted_pairs"]
