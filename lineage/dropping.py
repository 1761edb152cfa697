"""Merges that drop entries of differences from a base at random and scale up the rest (DARE, arXiv 2311.03099)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np

from crawl.casts import round_to
from lineage.ensemble import Ensemble, Merge, MergeParent, flat, spacing
from lineage.pool import bases_of, everything, explained, sources_of
from lineage.replaying import Arithmetic, Kept, arithmetics, dropped
from stats.arrays import Float64Array, IntVector
from stats.masking import MOST, MaskMixture, mask_levels, mask_mixture

LINEAR = 0.95
"""Share explained by least squares above which nothing was dropped, and densities have no meaning."""

PROOF = 0.9
CONTROL = 0.5
N_NOVEL = 200
"""Of the values that no source has, the share that some choice of kept entries must come near to, the largest share it
may come near to when the differences are moved by one place, and the least number of such values."""

WHOLE = 0.97
"""Density of any parent above which nothing was dropped of it, or one minus which nothing was kept."""

_HELPS = 0.02
"""Share of those values that a further source must explain."""

_EVEN = 0.12
"""Largest difference between the densities of large and of small entries: a trim keeps only large ones."""

_MIXED = 0.3
"""Share of the expected pairs of opposite kept entries below which a sign was elected."""

_STEPS = 0.75
_RELATIVE = 2.0**-8
"""Distance from a level: three quarters of a step of the number format, and what rounding products to it can add."""

_OWN_SCALE = 128
_CLEAR = 8.0
_FEW = 16
_MOST_OFF = 0.05
"""A tensor of so many sampled elements has a scale of its own, from elements moved by so many steps by one parent alone,
at least so many, at most so far from the common one."""

_NEAR_DENSITY = 0.025
_NEAR_WEIGHT = 0.02
_NEAR_SCALE = 0.006
"""Distances at which a multiple of 0.05 is taken for the density and the weight, the last for their ratio, relatively."""


@dataclass(frozen=True)
class _Case:
    """A base and parents on the sample: differences of the child and of the parents from the base."""

    base: int
    parents: tuple[int, ...]
    moved: Float64Array
    deltas: Float64Array
    step: Float64Array
    novel: Kept
    scales: Float64Array

    def room(self, levels: Float64Array) -> Float64Array:
        """How far from a level an element may lie."""
        return np.asarray(_STEPS * self.step + _RELATIVE * np.abs(levels))

    @cached_property
    def noise(self) -> Float64Array:
        """Standard deviation of rounding."""
        return np.asarray(self.step / math.sqrt(12.0) + 0.5 * _RELATIVE * np.abs(self.moved))

    @cached_property
    def share(self) -> float:
        """Share of novel values near a level."""
        return self._near(self.deltas)

    @cached_property
    def control(self) -> float:
        """The same with the differences moved by one place."""
        return self._near(np.roll(self.deltas, 1, axis=1))

    def _near(self, deltas: Float64Array) -> float:
        if not self.novel.any():
            return 0.0
        levels = mask_levels(deltas[:, self.novel], self.scales)
        gap = np.abs(self.moved[self.novel] - levels)
        room = _STEPS * self.step[self.novel] + _RELATIVE * np.abs(levels)
        return float(np.mean((gap <= room).any(axis=0)))


@dataclass(frozen=True, slots=True)
class _Setting:
    """Density and weight of one parent."""

    density: float
    weight: float


def find_dropped(models: Ensemble) -> Merge | None:
    """Recognise a DARE merge by the few values that every element can have taken.

    Parameters
    ----------
    models : Ensemble

    Returns
    -------
    Merge or None

    Notes
    -----
    What was kept is random and cannot be computed again, but every element must be the base plus some choice of scaled
    differences. That is asked of the elements whose value no source has, and must fail once the differences are moved by
    one place. Entries must have been kept whatever their size. Densities come from a mixture over all masks, weights
    from least squares, which dropping and scaling leaves unbiased. Cost: O(2^k n).
    """
    whole = float(models.gram.total[0, 0])
    if everything(models).residual < (1.0 - LINEAR) * whole:
        return None
    cases = [c for b in bases_of(models) if (c := _case(models, b)) is not None]
    if not cases:
        return None
    case = max(cases, key=lambda c: c.share)
    if np.count_nonzero(case.novel) < N_NOVEL or case.share < PROOF or case.control > CONTROL:
        return None
    found = _fitted(case)
    if found.densities.max() > WHOLE or found.densities.min() < 1.0 - WHOLE or not _is_even(case, found):
        return None
    signs = _elects(case, found)
    settings = _settings(case, found, signs=signs)
    share, how = _replayed(models, case, settings)
    return _merge(models, case, settings, signs=signs, share=share, how=how)


def _case(models: Ensemble, base: int) -> _Case | None:
    """The base with as many sources as help."""
    pool = sources_of(models, base)[:MOST]
    best: _Case | None = None
    for size in range(1, len(pool) + 1):
        tried = _with(models, base, pool[:size])
        if best is None or tried.share > best.share + _HELPS:
            best = tried
    return best


def _with(models: Ensemble, base: int, pool: Sequence[tuple[int, float]]) -> _Case:
    """The case of these sources; inputs as they are or cast to the child's format, whichever explains more."""
    child, origin, *chosen = models.sample[[0, 1 + base, *(1 + i for i, _ in pool)]]
    scales = np.array([s for _, s in pool])
    raw = _prepared(models, base, pool, (child, origin, np.stack(chosen)), scales)
    cast = [round_to(x, models.dtype) for x in (origin, *chosen)]
    if all(np.array_equal(x, y) for x, y in zip(cast, (origin, *chosen), strict=True)):
        return raw
    return max(raw, _prepared(models, base, pool, (child, cast[0], np.stack(cast[1:])), scales), key=lambda c: c.share)


def _prepared(
    models: Ensemble,
    base: int,
    pool: Sequence[tuple[int, float]],
    values: tuple[Float64Array, Float64Array, Float64Array],
    scales: Float64Array,
) -> _Case:
    child, origin, chosen = values
    differ = np.any(chosen != origin, axis=0)
    moved, deltas = (child - origin)[differ], (chosen - origin)[:, differ]
    novel = (moved != 0.0) & np.all(deltas != moved, axis=0)
    step, owners = spacing(child[differ], models.dtype), models.sample_owners[differ]
    parents = tuple(i for i, _ in pool)
    plain = _Case(base, parents, moved, deltas, step, novel, scales)
    return replace(plain, deltas=_rescaled(plain, owners) * deltas)


def _rescaled(case: _Case, owners: IntVector) -> Float64Array:
    """Factor on each parent's differences at each element: tools that keep a norm scale every tensor by itself."""
    out = np.ones(case.deltas.shape)
    for tensor in np.unique(owners):
        mine = owners == tensor
        if np.count_nonzero(mine) < _OWN_SCALE:
            continue
        factors = np.ones(len(case.parents))
        for _ in range(2):
            columns = case.deltas[:, mine] * (factors * case.scales)[:, None]
            levels = mask_levels(columns, np.ones(len(factors)))
            best = np.abs(case.moved[mine] - levels).argmin(axis=0)
            for i in range(len(factors)):
                alone = (best == 1 << i) & (np.abs(columns[i]) > _CLEAR * case.step[mine])
                if np.count_nonzero(alone) >= _FEW:
                    ratio = float(np.median(case.moved[mine][alone] / columns[i][alone]))
                    factors[i] *= min(1.0 + _MOST_OFF, max(1.0 - _MOST_OFF, ratio))
        out[:, mine] = factors[:, None]
    return out


def _fitted(case: _Case) -> MaskMixture:
    start = np.full(len(case.parents), 0.5)
    return mask_mixture(case.moved, case.deltas, case.noise, densities=start, scales=case.scales)


def _best_masks(case: _Case, scales: Float64Array) -> tuple[IntVector, Kept]:
    """Index of the nearest level of each element, and whether it is the only one near."""
    levels = mask_levels(case.deltas, scales)
    gap = np.abs(case.moved - levels)
    return np.asarray(gap.argmin(axis=0)), np.asarray((gap <= case.room(levels)).sum(axis=0) == 1)


def _is_even(case: _Case, found: MaskMixture) -> bool:
    """Whether entries were kept whatever their size."""
    masks, told = _best_masks(case, found.scales)
    for i, delta in enumerate(case.deltas):
        size = np.abs(found.scales[i] * delta) / case.step
        clear = told & (size > 4.0)
        if np.count_nonzero(clear) < N_NOVEL:
            continue
        kept = (masks[clear] >> i) & 1
        middle = np.median(size[clear])
        high, low = kept[size[clear] > middle], kept[size[clear] <= middle]
        if high.size and low.size and abs(float(high.mean()) - float(low.mean())) > _EVEN:
            return False
    return True


def _elects(case: _Case, found: MaskMixture) -> bool:
    """Whether kept entries of opposite sign never meet."""
    masks, told = _best_masks(case, found.scales)
    seen = expected = 0.0
    for j, i in combinations(range(len(case.parents)), 2):
        opposite = told & (np.sign(case.deltas[i]) * np.sign(case.deltas[j]) < 0.0)
        both = ((masks[opposite] >> i) & (masks[opposite] >> j)) & 1
        seen += float(both.sum())
        expected += float(found.densities[i] * found.densities[j]) * both.size
    return expected > 0.0 and seen < _MIXED * expected


def _settings(case: _Case, found: MaskMixture, *, signs: bool) -> tuple[_Setting, ...]:
    """Densities by the mixture and weights by least squares; both human where they and their ratio are near it."""
    one_way = np.abs(np.sign(case.deltas).sum(axis=0)) == np.abs(np.sign(case.deltas)).sum(axis=0)
    use = one_way if signs else np.ones(case.moved.size, dtype=np.bool_)
    columns = case.deltas[:, use]
    if signs:
        start = {"densities": found.densities, "scales": found.scales}
        found = mask_mixture(case.moved[use], columns, case.noise[use], **start)
    weights = _pooled_weights(case.moved[use], columns, case.step[use], found)
    return tuple(
        _human(float(p), float(w), float(s)) for p, w, s in zip(found.densities, weights, found.scales, strict=True)
    )


def _pooled_weights(moved: Float64Array, columns: Float64Array, step: Float64Array, found: MaskMixture) -> Float64Array:
    """Weights by least squares and as density times scale, each counted by its precision.

    Least squares needs no mixture, but what was dropped of a parent that moved far drowns the weight of a near one.
    """
    inverse = np.linalg.pinv(np.einsum("in,jn->ij", columns, columns), rcond=1e-12, hermitian=True)
    fitted = np.einsum("ij,jn,n->i", inverse, columns, moved)
    left = moved - np.einsum("i,in->n", fitted, columns)
    spread = np.einsum("ij,jn,kn,lk->il", inverse, columns * left * left, columns, inverse, optimize=True)
    told = np.sum(np.abs(found.scales[:, None] * columns) > _CLEAR * step, axis=1)
    p, s = found.densities, found.scales
    first, second = np.diag(spread), s * s * p * (1.0 - p) / np.maximum(told, 1)
    return np.asarray((fitted * second + p * s * first) / np.maximum(first + second, 1e-300))


def _human(density: float, weight: float, scale: float) -> _Setting:
    grid = [round(g / 20, 2) for g in range(1, 21)]
    near = [
        (abs(p - density) + abs(w - weight), p, w)
        for p, w in product(grid, [*grid, *(round(1 + g, 2) for g in grid)])
        if abs(p - density) <= _NEAR_DENSITY
        and abs(w - abs(weight)) <= _NEAR_WEIGHT
        and abs(w / p / abs(scale) - 1.0) <= _NEAR_SCALE
    ]
    if not near:
        return _Setting(density, weight)
    _, p, w = min(near)
    return _Setting(p, math.copysign(w, weight))


def _replayed(models: Ensemble, case: _Case, settings: Sequence[_Setting]) -> tuple[float, Arithmetic]:
    """Share of elements that some choice of kept entries reproduces bit for bit, and the arithmetic it takes."""
    arrays = list(models.candidates.values())
    best: tuple[float, Arithmetic] | None = None
    pairs = [(s.density, s.weight) for s in settings]
    for how in arithmetics(models.dtype, casts=True):
        hits = total = 0
        for name in models.names:
            child = flat(models.child[name])
            values = [flat(arrays[i][name]) for i in (case.base, *case.parents)]
            equal = np.zeros(child.shape, dtype=np.bool_)
            for mask in product((False, True), repeat=len(pairs)):
                equal |= dropped(how, values[0], values[1:], pairs, mask) == child
            hits += int(np.count_nonzero(equal))
            total += child.size
        if best is None or hits / total > best[0]:
            best = hits / total, how
    if best is None:
        raise ValueError("no arithmetic for this format")
    return best


def _merge(
    models: Ensemble, case: _Case, settings: Sequence[_Setting], *, signs: bool, share: float, how: Arithmetic
) -> Merge:
    ids = [models.ids[i] for i in case.parents]
    parents = [MergeParent(i, round(s.weight, 6)) for i, s in zip(ids, settings, strict=True)]
    parameters = {
        "densities": {i: round(s.density, 4) for i, s in zip(ids, settings, strict=True)},
        "arithmetic": how.name,
        "support": "levels",
        "novel_near_a_level": round(case.share, 6),
        "by_chance": round(case.control, 6),
    }
    return Merge(
        method="dare-ties" if signs else "dare",
        parents=tuple(sorted(parents, key=lambda p: (-abs(p.coefficient), p.id))),
        base=models.ids[case.base],
        replay_share=share,
        explained=explained(models, (case.base, *case.parents)),
        parameters=parameters,
    )
