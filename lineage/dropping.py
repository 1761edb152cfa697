"""Merges that drop entries of differences from a base at random and scale up the rest (DARE, arXiv 2311.03099)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from lineage.dropcases import CLEAR, OWN_SCALE, DropCase, best_case, case_of, thinned
from lineage.ensemble import Ensemble, Merge, MergeParent, flat
from lineage.pool import bases_of, everything, explained
from lineage.replaying import Arithmetic, Kept, arithmetics, dropped
from stats.arrays import Float64Array, IntVector
from stats.masking import MaskMixture, mask_levels, mask_mixture

LINEAR = 0.95
"""Share explained by least squares above which nothing was dropped, and densities have no meaning."""

PROOF = 0.9
CONTROL = 0.5
N_NOVEL = 200
"""Of the values that no source has, the share that some choice of kept entries must come near to, the largest share it
may come near to when the differences are moved by one place, and the least number of such values."""

WHOLE = 0.97
"""Density of any parent above which nothing was dropped of it, or one minus which nothing was kept."""

DENSE = 1 << 22
"""Elements times levels of each from which densities and weights are told: a density has an error of sqrt(p (1 - p) / n) from
its draw alone, and the weight that error times weight over density."""

_EVEN = 0.12
"""Largest difference between the densities of large and of small entries: a trim keeps only large ones."""

_MIXED = 0.3
"""Share of the expected pairs of opposite kept entries below which a sign was elected."""

_NEAR_DENSITY = 0.025
_NEAR_WEIGHT = 0.02
_NEAR_SCALE = 0.006
_NEARER_DENSITY = 0.01
_NEARER_WEIGHT = 0.004
"""Distances at which a multiple of 0.05 is taken for the density and the weight; `_NEAR_SCALE` for their ratio, relatively,
the last two where there is no common ratio."""

_BY_NORM = 0.5
_FEWEST_TENSORS = 4
"""Share of the spread (middle deviation from the middle) of scales over tensors that is left when each is multiplied by
what was kept, below which the sum of
sizes was kept, and tensors it takes to say so."""


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
    cases = [c for b in bases_of(models) if (c := best_case(models, b)) is not None]
    if not cases:
        return None
    case = thinned(models, max(cases, key=lambda c: c.share))
    if np.count_nonzero(case.novel) < N_NOVEL or case.share < PROOF or case.control > CONTROL:
        return None
    found = _fitted(case)
    if found.densities.max() > WHOLE or found.densities.min() < 1.0 - WHOLE or not _is_even(case, found):
        return None
    signs = _elects(case, found)
    case = case_of(
        models, case.base, list(zip(case.parents, case.scales.tolist(), strict=True)), DENSE >> len(case.parents)
    )
    settings = _settings(case, found, signs=signs)
    share, how = _replayed(models, case, settings)
    return _merge(models, case, settings, signs=signs, share=share, how=how)


def _fitted(case: DropCase) -> MaskMixture:
    start = np.full(len(case.parents), 0.5)
    return mask_mixture(case.moved, case.deltas, case.noise, densities=start, scales=case.scales)


def _best_masks(case: DropCase, scales: Float64Array) -> tuple[IntVector, Kept]:
    """Index of the nearest level of each element, and whether it is the only one near."""
    levels = mask_levels(case.deltas, scales)
    gap = np.abs(case.moved - levels)
    return np.asarray(gap.argmin(axis=0)), np.asarray((gap <= case.room(levels)).sum(axis=0) == 1)


def _is_even(case: DropCase, found: MaskMixture) -> bool:
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


def _elects(case: DropCase, found: MaskMixture) -> bool:
    """Whether kept entries of opposite sign never meet."""
    masks, told = _best_masks(case, found.scales)
    seen = expected = 0.0
    for j, i in combinations(range(len(case.parents)), 2):
        opposite = told & (np.sign(case.deltas[i]) * np.sign(case.deltas[j]) < 0.0)
        both = ((masks[opposite] >> i) & (masks[opposite] >> j)) & 1
        seen += float(both.sum())
        expected += float(found.densities[i] * found.densities[j]) * both.size
    return expected > 0.0 and seen < _MIXED * expected


def _settings(case: DropCase, found: MaskMixture, *, signs: bool) -> tuple[_Setting, ...]:
    """Densities by the mixture and weights by least squares; both human where they and their ratio are near it."""
    one_way = np.abs(np.sign(case.deltas).sum(axis=0)) == np.abs(np.sign(case.deltas)).sum(axis=0)
    use = one_way if signs else np.ones(case.moved.size, dtype=np.bool_)
    columns = case.deltas[:, use]
    start = {"densities": found.densities, "scales": found.scales}
    found = mask_mixture(case.moved[use], columns, case.noise[use], **start)
    weights = case.factors.mean(axis=1) * _pooled_weights(case.moved[use], columns, case.step[use], found)
    normed = _weights_by_norm(case, found)
    if normed is not None:
        return tuple(_human(float(p), float(w), None) for p, w in zip(found.densities, normed, strict=True))
    return tuple(
        _human(float(p), float(w), float(s)) for p, w, s in zip(found.densities, weights, found.scales, strict=True)
    )


def _weights_by_norm(case: DropCase, found: MaskMixture) -> Float64Array | None:
    """Weights where every tensor was scaled to keep its sum of sizes; None where it was scaled by its density.

    There the scale of a tensor times the share of the sum that was kept of it is the weight, the same in all; elsewhere the
    scale itself is the same.
    """
    masks, _ = _best_masks(case, found.scales)
    tensors = [t for t in np.unique(case.owners) if np.count_nonzero(case.owners == t) >= OWN_SCALE]
    if len(tensors) < _FEWEST_TENSORS:
        return None
    scales, weights = np.zeros((2, len(tensors), len(case.parents)))
    for row, t in enumerate(tensors):
        mine = case.owners == t
        size = np.abs(case.deltas[:, mine])
        kept = (masks[mine] >> np.arange(len(case.parents))[:, None]) & 1
        scales[row] = found.scales * case.factors[:, mine][:, 0]
        weights[row] = scales[row] * (size * kept).sum(axis=1) / np.maximum(size.sum(axis=1), 1e-300)
    spread = [float(np.median(np.abs(x / np.median(x, axis=0) - 1.0), axis=0).sum()) for x in (weights, scales)]
    return np.asarray(np.median(weights, axis=0)) if spread[0] < _BY_NORM * spread[1] else None


def _pooled_weights(moved: Float64Array, columns: Float64Array, step: Float64Array, found: MaskMixture) -> Float64Array:
    """Weights by least squares and as density times scale, each counted by its precision.

    Least squares needs no mixture, but what was dropped of a parent that moved far drowns the weight of a near one.
    """
    inverse = np.linalg.pinv(np.einsum("in,jn->ij", columns, columns), rcond=1e-12, hermitian=True)
    fitted = np.einsum("ij,jn,n->i", inverse, columns, moved)
    left = moved - np.einsum("i,in->n", fitted, columns)
    spread = np.einsum("ij,jn,kn,lk->il", inverse, columns * left * left, columns, inverse, optimize=True)
    told = np.sum(np.abs(found.scales[:, None] * columns) > CLEAR * step, axis=1)
    p, s = found.densities, found.scales
    first, second = np.diag(spread), s * s * p * (1.0 - p) / np.maximum(told, 1)
    return np.asarray((fitted * second + p * s * first) / np.maximum(first + second, 1e-300))


def _human(density: float, weight: float, scale: float | None) -> _Setting:
    """Values people choose where they are near: with one scale for all, their ratio too; else they must be nearer."""
    far, off = (_NEAR_DENSITY, _NEAR_WEIGHT) if scale is not None else (_NEARER_DENSITY, _NEARER_WEIGHT)
    grid = [round(g / 20, 2) for g in range(1, 21)]
    near = [
        (abs(p - density) + abs(w - weight), p, w)
        for p, w in product(grid, [*grid, *(round(1 + g, 2) for g in grid)])
        if abs(p - density) <= far
        and abs(w - abs(weight)) <= off
        and (scale is None or abs(w / p / abs(scale) - 1.0) <= _NEAR_SCALE)
    ]
    if not near:
        return _Setting(density, weight)
    _, p, w = min(near)
    return _Setting(p, math.copysign(w, weight))


def _replayed(models: Ensemble, case: DropCase, settings: Sequence[_Setting]) -> tuple[float, Arithmetic]:
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
    models: Ensemble, case: DropCase, settings: Sequence[_Setting], *, signs: bool, share: float, how: Arithmetic
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
