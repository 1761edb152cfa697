"""Whether one matrix is another one, quantised and dequantised: by formula, by nearest codes, by what was made good."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crawl.casts import round_to
from lineage.formulas import Recipe, nearest_levels, quantise, recipes, scales_of
from lineage.stored import SMALLEST, significant
from stats.arrays import Float64Array
from stats.grids import Grid
from stats.levels import half_steps, in_groups
from stats.quantised import FLOATS, TABLES, Levels, find_levels, fit_grid
from stats.scaling import scaled_rounding

EXACT = 0.999
"""Share of values a formula must reproduce bit for bit, or of codes that rounding must give."""

_ROWS, _COLUMNS = 256, 512
_PROBE = 8
"""Rows and columns of a matrix that are looked at, and rows on which formulas are tried first."""

_ON_GRID = 0.5
"""Share of the parent's groups on the child's kind of grid from which the parent is no original."""

_SPREAD = 0.02
"""Spread of the logarithms of column scales above which columns were scaled at all."""

_STEP = 2.0**-11
"""Relative error of a scale that was stored in float16."""

_SAME_SCALE = 0.9
_MISSED = 0.2
_LATER = 0.05
"""Compensated rounding: the share of rows whose scale is the parent's, the share of codes that rounding does not give,
and that share where the first column, which nothing compensates, is as rounding gives it."""

LEAST_SPREAD = 0.35
"""Half steps below which the differences are smaller than rounding leaves; a normal change of this size leaves one code in
250 elsewhere, more than `EXACT` allows."""

_SPREAD_GROUPS = 64
"""Groups whose differences are measured."""

_WITHIN = 2.0
"""Root mean square of the errors, in steps, up to which a copy still follows its parent."""

_ASKED = 0.3
"""Share of codes that must lie inside the range of their group for codes alone to tell."""


@dataclass(frozen=True, slots=True)
class Format:
    """How coarse the values of both sides are."""

    parent: str
    child: str


@dataclass(frozen=True, slots=True)
class Copy:
    """One matrix that is a quantised copy.

    Attributes
    ----------
    method, scale : str
        As in `lineage.quantising.Quantised`.
    replay : float
        Share of values, or of codes, that come out the same.
    levels : Levels
    shape : (int, int)
    recipe : Recipe or None
        The formula, where one reproduces it.
    """

    method: str
    scale: str
    replay: float
    levels: Levels
    shape: tuple[int, ...]
    spread: float
    recipe: Recipe | None = None

    @property
    def is_rounding(self) -> bool:
        """Whether as much was taken away as rounding takes: a copy that was trained a little stays near the grid."""
        return self.spread >= LEAST_SPREAD


def levels_of(values: Float64Array, store: str) -> Levels | None:
    """The grid a matrix lies on, for values rounded to a stored format."""
    return find_levels(values, significant(store), SMALLEST.get(store, 0.0))


def copy_of(
    parent: Float64Array, child: Float64Array, formats: Format, levels: Levels | None, known: Recipe | None = None
) -> Copy | None:
    """Tell whether a matrix is another one, quantised.

    Parameters
    ----------
    parent, child : (m, n) float64
        The same part of both.
    formats : Format
        The coarsest formats that hold the values of either.
    levels : Levels or None
        Of the child, as `levels_of` finds them.
    known : Recipe, optional
        The formula of another matrix of the model, tried first.

    Returns
    -------
    Copy or None
        None when the child lies on no grid, when the parent lies on it too, or when codes and parent do not agree. They
        do as well where the other model came from this one by a little training: see `Copy.is_rounding`.
    """
    if levels is None:
        return None
    before, after = (parent, child) if levels.axis == "inputs" else (parent.T, child.T)
    group = levels.group or after.shape[1]
    rows = np.linspace(0, after.shape[0] - 1, min(_ROWS, after.shape[0])).astype(np.intp)
    whole = after.shape[1] // group * group
    before, after = np.ascontiguousarray(before[rows, :whole]), np.ascontiguousarray(after[rows, :whole])
    if levels.kind != "unknown" and _is_on_grid(before, levels, group, formats.parent):
        return None
    recipe, share = _best_recipe(before, after, levels, group, formats.child, known)
    if recipe is not None and share >= EXACT:
        spread = _spread(before, after, levels, group, formats.child)
        return Copy(recipe.method, recipe.scale, share, levels, child.shape, spread, recipe)
    if levels.kind == "unknown" or levels.kind in FLOATS:
        return None
    found = _fitted(before, after, levels, group, formats.child)
    if found is None:
        return None
    spread = _spread(before, after, levels, group, formats.child)
    return Copy(found[0], "fitted", found[1], levels, child.shape, spread)


def _spread(parent: Float64Array, child: Float64Array, levels: Levels, group: int, store: str) -> float:
    """Root mean square of the differences, in half steps between the levels of the child."""
    before, after = in_groups(parent, group)[:_SPREAD_GROUPS], in_groups(child, group)[:_SPREAD_GROUPS]
    if levels.kind in FLOATS:
        half = half_steps(after, FLOATS[levels.kind][0])
    elif levels.kind in TABLES or levels.kind == "unknown":
        half = 0.5 * np.stack([_gaps(row) for row in after])
    else:
        grid = fit_grid(after, levels.kind, significant(store), SMALLEST.get(store, 0.0))
        half = np.broadcast_to(0.5 * np.where(grid.fits, grid.step, np.nan)[:, None], after.shape)
    usable = np.isfinite(half) & (half > 0.0)
    return float(np.sqrt(np.mean(((before - after)[usable] / half[usable]) ** 2))) if usable.any() else 0.0


def _gaps(row: Float64Array) -> Float64Array:
    """Distance of each value from the nearest other one that occurs."""
    held, place = np.unique(row, return_inverse=True)
    steps = np.concatenate([[np.inf], np.diff(held), [np.inf]])
    return np.asarray(np.minimum(steps[:-1], steps[1:])[place])


def _is_on_grid(parent: Float64Array, levels: Levels, group: int, store: str) -> bool:
    groups = in_groups(parent[:_PROBE], group)
    most = 2**levels.bits - 1 if levels.kind in {"integer", "offset"} else None
    found = fit_grid(groups, levels.kind, significant(store), SMALLEST.get(store, 0.0), most=most)
    speaks = groups.any(axis=1) & ~(np.ptp(groups, axis=1) == 0.0)
    return bool(speaks.any() and np.mean(found.fits[speaks]) > _ON_GRID)


def _best_recipe(
    parent: Float64Array, child: Float64Array, levels: Levels, group: int, store: str, known: Recipe | None
) -> tuple[Recipe | None, float]:
    """The formula that reproduces most of the child, and its share."""

    def share(recipe: Recipe, rows: int | None) -> float:
        made = quantise(in_groups(parent[:rows], group), recipe, levels.bits).reshape(child[:rows].shape)
        return max(float(np.mean(through == child[:rows])) for through in _stored(made, store))

    if known is not None and share(known, None) >= EXACT:
        return known, share(known, None)
    tried = [(share(recipe, _PROBE), -i, recipe) for i, recipe in enumerate(recipes(levels, group))]
    if not tried:
        return None, 0.0
    _, _, best = max(tried, key=lambda t: t[:2])
    return best, share(best, None)


def _stored(values: Float64Array, store: str) -> list[Float64Array]:
    """Values as the file may hold them: rounded to its format, at once or by way of float16."""
    through = [values] if store != "BF16" else [values, round_to(values, "F16")]
    return [round_to(v, store) for v in through]


def _fitted(
    parent: Float64Array, child: Float64Array, levels: Levels, group: int, store: str
) -> tuple[str, float] | None:
    """(method, share of codes) with the steps of the child itself."""
    columns = max(group, _COLUMNS // group * group)
    parent, child = parent[:, :columns], child[:, :columns]
    grid = fit_grid(in_groups(child, group), levels.kind, significant(store), SMALLEST.get(store, 0.0))
    if levels.kind in TABLES:
        groups = in_groups(parent, group)
        size = np.maximum(np.abs(groups).max(axis=1, keepdims=True), 1e-300)
        share = float(np.mean(nearest_levels(groups / size, levels.kind) == grid.levels))
        return (levels.kind, share) if share >= EXACT else None
    codes = _Codes.of(parent, grid, group)
    if np.mean(codes.asked) < _ASKED:
        return None
    refused = codes.refused()
    if np.mean(refused[codes.asked]) <= 1.0 - EXACT:
        return "rtn", 1.0 - float(np.mean(refused[codes.asked]))
    if levels.kind == "integer":
        scaled = scaled_rounding(codes.ratios, codes.codes, codes.asked, codes.slack)
        if scaled.refused <= 1.0 - EXACT:
            return ("awq" if scaled.spread >= _SPREAD else "rtn"), 1.0 - scaled.refused
        if _is_compensated(parent, grid, levels, group, codes):
            return "gptq-like", 1.0 - float(np.mean(refused[codes.asked]))
    return None


@dataclass(frozen=True, slots=True)
class _Codes:
    """A parent in units of a child's steps, and the child's codes.

    `asked` are the codes inside the range of their group, where nothing was cut off; `slack` is how well steps are known.
    """

    ratios: Float64Array
    codes: Float64Array
    asked: NDArray[np.bool_]
    slack: float

    @staticmethod
    def of(parent: Float64Array, grid: Grid, group: int) -> "_Codes":
        """Codes of the groups that fit."""
        known = grid.fits & np.isfinite(grid.step)
        step = np.where(known, grid.step, 1.0)[:, None]
        ratios = (in_groups(parent, group) - grid.offset[:, None]) / step
        ends = [f(axis=1, keepdims=True) for f in (grid.levels.min, grid.levels.max)]
        asked = known[:, None] & (grid.levels > ends[0]) & (grid.levels < ends[1])
        width = np.where(known, (grid.high - grid.low) / (2.0 * step[:, 0]), 0.0)
        shape = parent.shape
        return _Codes(
            ratios.reshape(shape), grid.levels.reshape(shape), asked.reshape(shape), float(np.median(width[known]))
        )

    def refused(self) -> NDArray[np.bool_]:
        """Codes that rounding does not give."""
        room = 0.5 + self.slack * np.abs(self.codes) + 1e-6
        return np.asarray(np.abs(self.ratios - self.codes) > room)


def _is_compensated(parent: Float64Array, grid: Grid, levels: Levels, group: int, codes: "_Codes") -> bool:
    """Whether steps are those of the parent's first groups, while many codes are not those of its values."""
    first = np.arange(parent.shape[0]) * (parent.shape[1] // group)
    low, high = grid.low[first] * (1.0 - _STEP), grid.high[first] * (1.0 + _STEP)
    usable = np.isfinite(low)
    steps = scales_of(in_groups(parent, group)[first], levels.bits).values()
    same = (
        max((float(np.mean(((s >= low) & (s <= high))[usable])) for s in steps), default=0.0) if usable.any() else 0.0
    )
    refused = codes.refused() & codes.asked
    missed = float(refused.sum() / codes.asked.sum())
    error = float(np.sqrt(np.mean((codes.ratios - codes.codes)[codes.asked] ** 2)))
    clean = not refused[:, 0].any() and missed * parent.shape[0] >= 5.0
    return same >= _SAME_SCALE and error <= _WITHIN and (missed >= _MISSED or (clean and missed >= _LATER))
