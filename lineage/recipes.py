"""Ways in which one model may be a combination of others: weights people choose, and the arithmetic tools use."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, TypeAlias

import numpy as np

from crawl.casts import round_to
from lineage.ensemble import flat
from lineage.replaying import (
    Arithmetic,
    Hits,
    arc,
    arc_weights,
    arithmetics,
    cosine_of,
    count_hits,
    linear,
    stock,
    tasks,
)
from lineage.stored import Arrays
from lineage.weighing import human_weights, sharpen
from stats.arrays import Float64Array

Compute: TypeAlias = Callable[[Arithmetic, Sequence[Float64Array], int], Float64Array]
"""The result for one tensor from the sources, given its position."""

PROBE = 1 << 15
"""Elements on which ways are compared before the best is replayed on everything."""

_LOOSE = 0.02
"""The same where least squares is far off."""

_OWN = 1024
"""Elements from which a tensor has weights of its own."""

SURE = 0.9995
"""Share of contested values from which no further way is tried."""

_BETTER = 5e-4
"""A later, less plain way must reproduce this much more."""

_REACH: Mapping[int, list[tuple[int, ...]]] = {
    2: [(m,) for m in range(-4, 5)],
    3: list(product(range(-2, 3), repeat=2)),
    4: [m for m in product(range(-1, 2), repeat=3) if m != (0, 0, 0)],
}
"""By number of sources: moves, in twentieths, of all weights but the first."""

_CLIMBS = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to compute a model from sources.

    Attributes
    ----------
    method : str
    base : int or None
        Position of the source that differences are taken from.
    weights : (t, k) float64
        Weights of the sources in every tensor.
    uniform : bool
        Whether all tensors share them.
    compute : callable
    parameters : mapping
    shares : (t, k) float64 or None
        What a person would call the weights, where these are not they: shares of an arc.
    """

    method: str
    base: int | None
    weights: Float64Array
    uniform: bool
    compute: Compute
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shares: Float64Array | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A recipe with the arithmetic that reproduced most."""

    recipe: Recipe
    how: Arithmetic
    hits: Hits


@dataclass(frozen=True)
class Kitchen:
    """A target, its sources, and measured weights.

    Attributes
    ----------
    target : mapping of str to ndarray
    sources : tuple of mapping
    names : tuple of str
    dtype : str
        Number format the target was rounded to.
    each : (t, k) float64
        Weights measured in every tensor.
    pooled : (k,) float64
        Weights measured over all tensors.
    """

    target: Arrays
    sources: tuple[Arrays, ...]
    names: tuple[str, ...]
    dtype: str
    each: Float64Array
    pooled: Float64Array

    def values(self, name: str) -> list[Float64Array]:
        """One tensor of every source."""
        return [flat(s[name]) for s in self.sources]

    @property
    def probe(self) -> tuple[int, ...]:
        """Positions of tensors spread over all, of about PROBE elements together."""
        sizes = [self.target[n].size for n in self.names]
        step = max(1, sum(sizes) // PROBE)
        order = [i for s in range(step) for i in range(s, len(sizes), step)]
        kept, total = [], 0
        for i in order:
            if total < PROBE:
                kept.append(i)
                total += sizes[i]
        return tuple(sorted(kept))

    def score(self, recipe: Recipe, how: Arithmetic, tensors: Sequence[int] | None = None) -> Hits:
        """Values a recipe reproduces, on all tensors or on some."""
        total = Hits()
        for i in range(len(self.names)) if tensors is None else tensors:
            name = self.names[i]
            values = self.values(name)
            total += count_hits(recipe.compute(how, values, i), flat(self.target[name]), values)
        return total


def best_attempt(kitchen: Kitchen, *, families: Sequence[str] = ("linear", "slerp", "task", "stock")) -> Attempt:
    """The way that reproduces most of the target, a plainer one before a slightly better one.

    Parameters
    ----------
    kitchen : Kitchen
    families : sequence of str
        Kinds of ways to try.

    Returns
    -------
    Attempt
        Its hits are those on all tensors.
    """
    probe = kitchen.probe
    casts = any(
        not np.array_equal(round_to(v, kitchen.dtype), v) for i in probe for v in kitchen.values(kitchen.names[i])
    )
    ways = arithmetics(kitchen.dtype, casts=casts)
    best: Attempt | None = None
    for recipe in _recipes(kitchen, families):
        for how in ways:
            hits = kitchen.score(recipe, how, probe)
            if best is None or hits.contested_share > best.hits.contested_share + _BETTER:
                best = Attempt(recipe, how, hits)
        if best is not None and best.hits.contested_share >= SURE:
            break
    if best is None:
        raise ValueError(f"no way to combine {len(kitchen.sources)} sources")
    return Attempt(best.recipe, best.how, kitchen.score(best.recipe, best.how))


def _recipes(kitchen: Kitchen, families: Sequence[str]) -> Iterator[Recipe]:
    """Ways to try, the plainest first."""
    k = len(kitchen.sources)
    sharp = sharpened(kitchen, kitchen.probe, kitchen.pooled)
    tried: list[Float64Array] = []
    for weights in [*human_weights(kitchen.pooled), *human_weights(sharp)]:
        if not any(np.array_equal(weights, t) for t in tried):
            tried.append(weights)
            yield from _uniform(weights, families)
    if k == 2 and "slerp" in families and kitchen.pooled.min() > 0.0:
        yield from _arcs(kitchen)
    if k >= 3 and "stock" in families:
        yield from (_stock(kitchen, base) for base in range(k))
    for weights in _searched(kitchen, sharp):
        yield from _uniform(weights, families)
    yield from _uniform(sharp, families)
    if len(kitchen.names) > 1:
        own = _sharpened_each(kitchen)
        yield _layered(_near_human(own))
        yield _layered(own)


def _searched(kitchen: Kitchen, measured: Float64Array) -> list[Float64Array]:
    """Multiples of 0.05 that reproduce most when they are summed and rounded once, climbing from measured ones.

    Where differences are of the size of rounding, least squares is far off, and so is what lies inside the interval.
    """
    reach = _REACH.get(measured.size)
    if reach is None:
        return []
    how, total = Arithmetic(kitchen.dtype, "F64"), float(measured.sum())
    total = 1.0 if abs(total - 1.0) < _LOOSE else float(np.rint(total * 20) / 20)
    known: dict[tuple[int, ...], float] = {}

    def share(others: tuple[int, ...]) -> float:
        if others not in known:
            recipe = next(_uniform(_completed(others, total), ("linear",)))
            known[others] = kitchen.score(recipe, how, kitchen.probe).contested_share
        return known[others]

    best = tuple(int(x) for x in np.rint(measured[1:] * 20))
    for _ in range(_CLIMBS):
        around = [tuple(b + m for b, m in zip(best, moves, strict=True)) for moves in reach]
        top = max(around, key=share)
        if share(top) <= share(best):
            break
        best = top
    return [_completed(o, total) for o in sorted(known, key=lambda o: -known[o])[:2]]


def _completed(others: Sequence[int], total: float) -> Float64Array:
    """Weights from twentieths of all but the first, which is left what they lack of a total."""
    rest = [o / 20 for o in others]
    return np.array([round(total - math.fsum(rest), 4), *rest])


def sharpened(kitchen: Kitchen, tensors: Sequence[int], measured: Float64Array) -> Float64Array:
    """Weights moved until most residuals on some tensors lie inside the rounding interval of the target."""
    parts = [(flat(kitchen.target[kitchen.names[i]]), kitchen.values(kitchen.names[i])) for i in tensors]
    target = np.concatenate([p[0] for p in parts])
    sources = [np.concatenate([p[1][j] for p in parts]) for j in range(len(kitchen.sources))]
    return sharpen(target, sources, measured, kitchen.dtype)[0]


def _sharpened_each(kitchen: Kitchen) -> Float64Array:
    """Weights of every tensor of some size moved in that way."""
    large = [kitchen.target[n].size >= _OWN for n in kitchen.names]
    return np.array(
        [
            sharpened(kitchen, (i,), row) if own else row
            for i, (row, own) in enumerate(zip(kitchen.each, large, strict=True))
        ]
    )


def _uniform(weights: Float64Array, families: Sequence[str]) -> Iterator[Recipe]:
    """One weight for all tensors: sums of values, then sums of differences from each source that may be the base."""
    table = weights[None, :]
    values = weights.tolist()
    is_convex = min(values) > 0.0 and abs(math.fsum(values) - 1.0) < 1e-9
    if "linear" in families:
        yield Recipe("linear", None, table, True, lambda how, x, _: linear(how, x, values, mean=False))
        if math.fsum(values) > 0.05:
            yield Recipe("linear", None, table, True, lambda how, x, _: linear(how, x, values, mean=True))
        if max(values) - min(values) < 1e-9:
            ones = [1.0] * len(values)
            yield Recipe("linear", None, table, True, lambda how, x, _: linear(how, x, ones, mean=True))
    if "task" in families and abs(math.fsum(values) - 1.0) < 1e-6:
        bases = sorted(range(len(values)), key=lambda i: values[i])
        for base in bases if is_convex else bases[:2]:
            yield task_recipe(weights, base)


def task_recipe(weights: Float64Array, base: int) -> Recipe:
    """Weighted differences from one source, with weights that all tensors share."""
    others = [i for i in range(weights.size) if i != base]
    held = weights[others].tolist()

    def compute(how: Arithmetic, x: Sequence[Float64Array], _: int) -> Float64Array:
        return tasks(how, x[base], [x[i] for i in others], held)

    return Recipe("task-arithmetic", base, weights[None, :], True, compute)


def _arcs(kitchen: Kitchen) -> Iterator[Recipe]:
    """Arcs with one share for all tensors, then with one for each."""
    shares = np.array(
        [_arc_share(w, cosine_of(*kitchen.values(n))) for w, n in zip(kitchen.each, kitchen.names, strict=True)]
    )
    sizes = np.array([kitchen.target[n].size for n in kitchen.names])
    typical = float(np.sum(shares * sizes) / sizes.sum())
    for t in [w[1] for w in human_weights(np.array([1.0 - typical, typical]))]:
        yield _arc(kitchen, np.full(shares.shape, float(t)), uniform=True)
    yield _arc(kitchen, _near_human(np.stack([1.0 - shares, shares], axis=1))[:, 1], uniform=False)
    yield _arc(kitchen, shares, uniform=False)


def _arc(kitchen: Kitchen, shares: Float64Array, *, uniform: bool) -> Recipe:
    weights = np.array(
        [arc_weights(cosine_of(*kitchen.values(n)), float(t)) for n, t in zip(kitchen.names, shares, strict=True)]
    )

    def compute(how: Arithmetic, x: Sequence[Float64Array], i: int) -> Float64Array:
        return arc(how, x[0], x[1], float(shares[i]))

    return Recipe("slerp", None, weights, uniform, compute, shares=np.stack([1.0 - shares, shares], axis=1))


def _arc_share(weights: Float64Array, cosine: float) -> float:
    """Share of the arc from the two weights that were measured."""
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < 1e-6:
        return float(weights[1])
    return math.atan2(weights[1] * math.sin(angle), weights[0] + weights[1] * cosine) / angle


def _near_human(table: Float64Array) -> Float64Array:
    """Every row replaced by the weights people choose near it, where there are any."""
    found = [human_weights(row) for row in table]
    return np.array([f[0] if f else row for f, row in zip(found, table, strict=True)])


def _stock(kitchen: Kitchen, base: int) -> Recipe:
    """The share of the mean that the angles between differences predict."""
    k = len(kitchen.sources)
    others = [i for i in range(k) if i != base]

    def share(values: Sequence[Float64Array]) -> float:
        return stock_share([values[j] - values[base] for j in others])

    def compute(how: Arithmetic, x: Sequence[Float64Array], _: int) -> Float64Array:
        return stock(how, x[base], [x[j] for j in others], share([how.load(v) for v in x]))

    weights = np.zeros((len(kitchen.names), k))
    for row, name in zip(weights, kitchen.names, strict=True):
        t = share(kitchen.values(name))
        row[others], row[base] = t / len(others), 1.0 - t
    return Recipe("model-stock", base, weights, False, compute)


def stock_share(deltas: Sequence[Float64Array]) -> float:
    """Share of the mean in a model stock (arXiv 2403.19522, Section 4): from the mean cosine between differences."""
    pairs = [cosine_of(a, b) if a.any() and b.any() else 0.0 for a, b in combinations(deltas, 2)]
    cosine, n = math.fsum(pairs) / len(pairs), len(deltas)
    return n * cosine / max(1.0 + (n - 1) * cosine, 1e-6)


def _layered(table: Float64Array) -> Recipe:
    """Weighted sums with weights of their own in every tensor."""

    def compute(how: Arithmetic, x: Sequence[Float64Array], i: int) -> Float64Array:
        return linear(how, x, table[i].tolist(), mean=False)

    return Recipe("linear", None, table, False, compute)
