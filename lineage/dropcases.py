"""What a merge with dropped entries is read from: differences of the child and of its sources from a base, element by element."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from crawl.casts import round_to
from lineage.ensemble import PROBE, Ensemble, spacing
from lineage.pool import LEAST_PEAK, LEAST_PEAK_Z, sources_of
from lineage.replaying import Kept
from stats.arrays import Float64Array, IntVector
from stats.masking import MOST, mask_levels, ratio_peak

_HELPS = 0.02
"""Share of those values that a further source must explain."""

_STEPS = 0.75
_RELATIVE = 2.0**-8
"""Distance from a level: three quarters of a step of the number format, and what rounding products to it can add."""

OWN_SCALE = 128
CLEAR = 8.0
_FEW = 16
_MOST_OFF = 0.05
_ROUNDS = 4
"""A tensor of so many sampled elements has a scale of its own for each parent, from elements that it moved by so many steps,
at least so many, changed by so much at most in each of so many rounds."""


@dataclass(frozen=True)
class DropCase:
    """A base and parents on the sample: differences of the child and of the parents from the base.

    `scales` are common factors on the parents' differences; `factors` those of each element's tensor, which are in `deltas`
    already. `places` are the elements of the sample that are held, `owners` their tensors.
    """

    base: int
    parents: tuple[int, ...]
    moved: Float64Array
    deltas: Float64Array
    step: Float64Array
    novel: Kept
    scales: Float64Array
    places: Kept
    owners: IntVector
    factors: Float64Array

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


def best_case(models: Ensemble, base: int) -> DropCase | None:
    """The base with as many sources as help."""
    pool = sources_of(models, base)[:MOST]
    best: DropCase | None = None
    for size in range(1, len(pool) + 1):
        tried = case_of(models, base, pool[:size])
        if best is None or tried.share > best.share + _HELPS:
            best = tried
    while best is not None and len(best.parents) < MOST and (more := _hidden(models, best)) is not None:
        tried = case_of(models, base, [*zip(best.parents, best.scales.tolist(), strict=True), more])
        if tried.share <= best.share + _HELPS:
            break
        best = tried
    return best


def thinned(models: Ensemble, case: DropCase) -> DropCase:
    """The case without sources that help no more since others were found: relatives of a source resemble it."""
    pool = list(zip(case.parents, case.scales.tolist(), strict=True))
    while len(pool) > 1:
        without = [case_of(models, case.base, [*pool[:i], *pool[i + 1 :]]) for i in range(len(pool))]
        best = max(without, key=lambda c: c.share)
        if best.share <= case.share - _HELPS:
            break
        case, pool = best, list(zip(best.parents, best.scales.tolist(), strict=True))
    return case


def _hidden(models: Ensemble, case: DropCase) -> tuple[int, float] | None:
    """A candidate of which hardly an entry was kept alone: it shows only in what the sources found so far leave."""
    levels = mask_levels(case.deltas, case.scales)
    open_ones = case.novel & ~(np.abs(case.moved - levels) <= case.room(levels)).any(axis=0)
    if not open_ones.any():
        return None
    left = (case.moved[open_ones] - levels[:, open_ones]).ravel()
    step = np.tile(case.step[open_ones], levels.shape[0])
    peaks = []
    for i in range(len(models.candidates)):
        if i != case.base and i not in case.parents:
            delta = np.tile(
                (models.sample[1 + i] - models.sample[1 + case.base])[case.places][open_ones], levels.shape[0]
            )
            peaks.append((ratio_peak(left, delta, step), i))
    sharp = [(p.share, i, p.ratio) for p, i in peaks if p.share >= LEAST_PEAK and p.z >= LEAST_PEAK_Z]
    return max(sharp)[1:] if sharp else None


def case_of(models: Ensemble, base: int, pool: Sequence[tuple[int, float]], most: int = PROBE) -> DropCase:
    """The case of these sources; inputs as they are or cast to the child's format, whichever explains more."""
    (child, origin, *chosen), owners = models.sampled([0, 1 + base, *(1 + i for i, _ in pool)], most)
    prepared = partial(_prepared, models.dtype, base, pool, owners)
    raw = prepared(child, origin, np.stack(chosen))
    cast = [round_to(x, models.dtype) for x in (origin, *chosen)]
    if all(np.array_equal(x, y) for x, y in zip(cast, (origin, *chosen), strict=True)):
        return raw
    return max(raw, prepared(child, cast[0], np.stack(cast[1:])), key=lambda c: c.share)


def _prepared(
    dtype: str,
    base: int,
    pool: Sequence[tuple[int, float]],
    owners: IntVector,
    child: Float64Array,
    origin: Float64Array,
    chosen: Float64Array,
) -> DropCase:
    differ = np.any(chosen != origin, axis=0)
    moved, deltas = (child - origin)[differ], (chosen - origin)[:, differ]
    novel = (moved != 0.0) & np.all(deltas != moved, axis=0)
    parents, scales = tuple(i for i, _ in pool), np.array([s for _, s in pool])
    step, ones = spacing(child[differ], dtype), np.ones(deltas.shape)
    plain = DropCase(base, parents, moved, deltas, step, novel, scales, differ, owners[differ], ones)
    factors = _rescaled(plain)
    return replace(plain, deltas=factors * deltas, factors=factors)


def _rescaled(case: DropCase) -> Float64Array:
    """Factor on each parent's differences at each element: tools that keep a norm scale every tensor by itself."""
    out = np.ones(case.deltas.shape)
    for tensor in np.unique(case.owners):
        mine = case.owners == tensor
        if np.count_nonzero(mine) >= OWN_SCALE:
            out[:, mine] = _factors(case, mine)[:, None]
    return out


def _factors(case: DropCase, mine: Kept) -> Float64Array:
    """Factor on each parent's differences in one tensor: the middle of what is left where the parent was kept."""
    moved, step = case.moved[mine], case.step[mine]
    factors = np.ones(len(case.parents))
    for _ in range(_ROUNDS):
        columns = case.deltas[:, mine] * (factors * case.scales)[:, None]
        levels = mask_levels(columns, np.ones(len(factors)))
        best = np.abs(moved - levels).argmin(axis=0)
        for i, column in enumerate(columns):
            kept = ((best >> i) & 1).astype(np.bool_) & (np.abs(column) > CLEAR * step)
            if np.count_nonzero(kept) >= _FEW:
                rest = np.take_along_axis(levels, (best & ~(1 << i))[None], axis=0)[0]
                ratio = float(np.median((moved - rest)[kept] / column[kept]))
                factors[i] *= min(1.0 + _MOST_OFF, max(1.0 - _MOST_OFF, ratio))
    return factors
