"""The gate in small: 2,000 nulls per public test, the natural pairs, the broken twins, and the freshness of the long table."""

import itertools
import json
import math

import numpy as np
import pytest

import broken
import derive
import nulls
from stats.anchored import anchored_test
from stats.residual import column_test, gain_test
from stats.split import split_test
from stats.units import UnitFeatures, unit_tests

N = 2000


def _heavy(rng, *shape):
    """Student t with two degrees of freedom, a shared mean direction and one outlier feature."""
    values = rng.standard_t(2, size=shape)
    values += 2.0 * np.sin(np.arange(shape[0]))[:, None]
    values[0] *= 50
    return values


def gains(rng):
    a, b = 1 + 0.1 * _heavy(rng, 3, 48)[:, rng.permutation(48)], 1 + 0.1 * _heavy(rng, 3, 48)[:, rng.permutation(48)]
    return [gain_test(a, b)]


def columns(rng):
    a, b = _heavy(rng, 16, 48), _heavy(rng, 16, 48)
    return [column_test(a, b, window=24)]


def hidden(rng):
    parts = [UnitFeatures(_heavy(rng, 32, 16), _heavy(rng, 32, 16), signed=s) for s in (True, False)]
    for part in parts:
        part.b[:, rng.random(16) < 0.2] = 0.0
    return list(unit_tests(parts, label_group="h"))


def _blocks(rng, d, *sizes):
    """Gate and up of two strangers: clusters along directions both share, heavy tails, outlier dimensions, dead units.

    The units of the first are sorted by norm, so that its dead ones come last; the clusters of the second in order.
    """
    centres, made = rng.normal(size=(2, d, 3)), []
    for s in sizes:
        block = centres[:, :, np.arange(s) * 3 // s] + 0.5 * rng.standard_t(2, size=(2, d, s))
        block[:, [1, d // 2]] *= 30.0
        block[:, :, rng.random(s) < 0.2] = 0.0
        made.append(block)
    made[0] = made[0][:, :, np.argsort(-np.linalg.norm(made[0][1], axis=0), kind="stable")]
    return made


def _pairs(a, b):
    return [UnitFeatures(a[k], b[k], signed=k == 0) for k in range(2)]


def split(rng):
    """Clusters and outliers of the units are shared; the residual labels of one model, either one, are drawn."""
    blocks = _blocks(rng, 48, 48, 36)
    drawn = int(rng.integers(2))
    blocks[drawn] = blocks[drawn][:, rng.permutation(48)]
    return [split_test(_pairs(*blocks), fit=np.arange(0, 48, 2), held=np.arange(1, 48, 2), window=12)]


def anchored(rng):
    """The residual stream is shared and aligned; the labels of the units of one model, either one, are drawn."""
    blocks = _blocks(rng, 24, 16, 16)
    drawn = int(rng.integers(2))
    blocks[drawn] = blocks[drawn][:, :, rng.permutation(16)]
    return [anchored_test(_pairs(*blocks), label_group="h")]


@pytest.mark.parametrize("draw", [gains, columns, hidden, split, anchored])
def test_two_thousand_nulls_stay_within_the_limits(draw):
    rng = np.random.default_rng(0)
    tally = nulls.Tally()
    for _ in range(N):
        for result in draw(rng):
            tally.log10_p[result.method].append(result.log_pvalue / math.log(10))
    assert tally.excess() == []
    assert all(n == N for _, n, *_ in tally.rows())


def test_natural_pairs_stay_within_the_limits():
    """276 pairs of 24 runs that share everything but the seed, labels as training left them."""
    runs = dict(list(nulls.micro_runs().items())[:24])
    tally = nulls.Tally()
    for document in nulls.natural(runs):
        tally.add(document)
    assert sum(tally.verdicts.values()) == 276
    assert set(tally.verdicts) == {"no-evidence"}
    assert tally.excess() == []


def test_natural_blocks_stay_within_the_limits():
    """The same runs, each block against the same block, for the statistics that no command uses yet."""
    runs = list(nulls.micro_runs().values())[:24]
    blocks = [[_rows(derive.fold_gains(w), layer) for layer in range(2)] for w in runs]
    order = np.random.default_rng(0).permutation(32)
    tally = nulls.Tally()
    for (a, b), layer in itertools.product(itertools.combinations(blocks, 2), range(2)):
        whole = split_test(_pairs(a[layer], b[layer]), fit=order[:16], held=order[16:])
        run = anchored_test(_pairs(a[layer][..., 8:24], b[layer][..., 8:24]), label_group="h")
        for result in (whole, run):
            tally.log10_p[result.method].append(result.log_pvalue / math.log(10))
    assert [(method, n) for method, n, *_ in tally.rows()] == [("hidden-units-anchored", 552), ("split", 552)]
    assert tally.excess() == []


def _rows(weights, layer):
    return np.stack(
        [weights[f"model.layers.{layer}.mlp.{side}_proj.weight"].astype(np.float64).T for side in ("gate", "up")]
    )


def test_the_sound_test_passes_the_gate_of_the_twins():
    assert not broken.fails(broken.counts(broken.sound))


@pytest.mark.parametrize("twin", broken.TWINS)
def test_every_broken_twin_is_caught(twin):
    n = 300 if twin in {"rows chosen after looking", "token axis permuted"} else N
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
