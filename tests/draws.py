"""Nulls of every public test: what one relabelling leaves of two models that share structure, tails, outliers and damage."""

from collections.abc import Callable

import numpy as np

import nulls
from stats.anchored import anchored_test
from stats.axes import Axis
from stats.residual import column_test, gain_test
from stats.result import TestResult
from stats.runs import run_test
from stats.split import split_test
from stats.units import UnitFeatures, unit_tests


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


def pairs(a, b):
    """Gate and up of two models as features."""
    return [UnitFeatures(a[k], b[k], signed=k == 0) for k in range(2)]


def split(rng):
    """Clusters and outliers of the units are shared; the residual labels of one model, either one, are drawn."""
    blocks = _blocks(rng, 48, 48, 36)
    drawn = int(rng.integers(2))
    blocks[drawn] = blocks[drawn][:, rng.permutation(48)]
    return [split_test(pairs(*blocks), fit=np.arange(0, 48, 2), held=np.arange(1, 48, 2), window=12)]


def anchored(rng):
    """The residual stream is shared and aligned; the labels of the units of one model, either one, are drawn."""
    blocks = _blocks(rng, 24, 16, 16)
    drawn = int(rng.integers(2))
    blocks[drawn] = blocks[drawn][:, :, rng.permutation(16)]
    return [anchored_test(pairs(*blocks), label_group="h")]


def values(rng):
    """Value dimensions of two layers: a low-rank structure both models share, heavy tails, dead and sorted dimensions."""
    common = rng.normal(size=(16, 3))
    sides = []
    for side in range(2):
        layers = [common @ rng.standard_t(2, size=(3, 16)) + rng.standard_t(2, size=(16, 16)) for _ in range(2)]
        for layer in layers:
            layer[:, rng.random(16) < 0.1] = 0.0
        if side == 0:
            layers = [v[:, np.argsort(-np.linalg.norm(v, axis=0), kind="stable")] for v in layers]
        else:
            layers = [v[:, np.concatenate([8 * r + rng.permutation(8) for r in range(2)])] for v in layers]
        sides.append(layers)
    grid = [[[[UnitFeatures(x, y, signed=False)]] for y in sides[1]] for x in sides[0]]
    return [run_test(grid, run=8, axis=Axis.VALUE, label_group="v", method="value-units")]


def experts(rng):
    """Router rows: every router has the same few directions, the experts of one are drawn anew."""
    common = rng.normal(size=(24, 2))
    a, b = (common @ rng.normal(size=(2, 16)) + 0.5 * rng.standard_t(2, size=(24, 16)) for _ in range(2))
    grid = [[[[UnitFeatures(a, b[:, rng.permutation(16)])]]]]
    return [run_test(grid, run=16, axis=Axis.EXPERT, label_group="e", method="expert-units")]


DRAWS: dict[str, Callable[[np.random.Generator], list[TestResult]]] = {
    "gains": gains,
    "columns": columns,
    "hidden units": hidden,
    "split": split,
    "anchored": anchored,
    "values": values,
    "experts": experts,
}


def tally(name: str, n: int, seed: int = 0) -> nulls.Tally:
    """p-values of n draws of one public test."""
    rng = np.random.default_rng(seed)
    found = nulls.Tally()
    for _ in range(n):
        found.log10_p_of(DRAWS[name](rng))
    return found
