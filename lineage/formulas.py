"""Formulas by which tools quantise, computed again: what a matrix becomes when it is quantised and dequantised."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crawl.casts import round_to
from stats.arrays import Float64Array
from stats.quantised import TABLES, Levels

LEGACY: Mapping[str, int] = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8}
"""Legacy block types of GGUF and their bits: blocks of 32, arithmetic in float32, scales in float16."""

_LEGACY_BLOCK = 32
_SCALES = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to quantise.

    Attributes
    ----------
    method : str
        `rtn`, a type in `LEGACY`, or a table of levels.
    rule : str
        How a scale follows from the values of a group.
    scale : str
        Format the scale is stored in.
    by_stored : bool
        Whether codes were found with the stored scale, or with the scale before it was rounded.
    single : bool
        Whether arithmetic was in float32, not in float64.
    """

    method: str
    rule: str
    scale: str
    by_stored: bool = False
    single: bool = True


def recipes(levels: Levels, group: int) -> Iterator[Recipe]:
    """Every recipe that may have left such levels.

    Parameters
    ----------
    levels : Levels
        What the copy shows.
    group : int
        Values that share a scale.
    """
    if levels.kind == "integer":
        if group == _LEGACY_BLOCK:
            yield from (Recipe(n, n, "F16") for n, b in LEGACY.items() if b == levels.bits and not n.endswith("_1"))
        for rule in ("absmax-low", "absmax-high", "absmax-middle", "minmax", "minmax-zero"):
            yield from _variants("rtn", rule)
    elif levels.kind == "offset":
        if group == _LEGACY_BLOCK:
            yield from (Recipe(n, n, "F16") for n, b in LEGACY.items() if b == levels.bits and n.endswith("_1"))
        yield from _variants("rtn", "minmax-offset")
    elif levels.kind in TABLES:
        yield from _variants(levels.kind, levels.kind)


def _variants(method: str, rule: str) -> Iterator[Recipe]:
    for single in (True, False):
        for scale in _SCALES if not single else _SCALES[:-1]:
            yield from (Recipe(method, rule, scale, by_stored, single) for by_stored in (False, True))


def quantise(groups: Float64Array, recipe: Recipe, bits: int) -> Float64Array:
    """Quantise groups of values and dequantise them.

    Parameters
    ----------
    groups : (k, g) float64
    recipe : Recipe
    bits : int

    Returns
    -------
    (k, g) float64
        Not yet rounded to the format of the model.
    """
    if recipe.rule in LEGACY:
        return _legacy(groups, recipe.rule)
    values = np.asarray(groups, dtype=np.float32 if recipe.single else np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rule: Callable[[Any, Recipe, int], Float64Array] = _RULES.get(recipe.rule, _table)
        return rule(values, recipe, bits)


def scales_of(groups: Float64Array, bits: int) -> dict[str, Float64Array]:
    """Steps (k,) that the rules of whole multiples give to groups (k, g), before they are stored."""
    return {
        rule: _step(groups, rule, bits)[:, 0] for rule in ("absmax-low", "absmax-high", "absmax-middle", "minmax-zero")
    }


def _step(values: NDArray[Any], rule: str, bits: int) -> NDArray[Any]:
    if rule.startswith("absmax"):
        low, middle = 2 ** (bits - 1) - 1, (2**bits - 1) / 2
        top = {"absmax-low": low, "absmax-high": low + 1, "absmax-middle": middle}[rule]
        return np.asarray(np.abs(values).max(axis=1, keepdims=True) / values.dtype.type(max(top, 0.5)))
    low_end, high_end = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    if rule == "minmax-zero":
        low_end, high_end = np.minimum(low_end, 0), np.maximum(high_end, 0)
    return np.asarray((high_end - low_end) / values.dtype.type(2**bits - 1))


def _stored(step: NDArray[Any], recipe: Recipe) -> tuple[NDArray[Any], Float64Array]:
    """The step codes are found with, and the one they are multiplied by."""
    kept = round_to(step, recipe.scale) if recipe.scale != "F64" else step.astype(np.float64)
    return (kept.astype(step.dtype) if recipe.by_stored else step), kept


def _absmax(values: NDArray[Any], recipe: Recipe, bits: int) -> Float64Array:
    finding, kept = _stored(_step(values, recipe.rule, bits), recipe)
    codes = np.clip(np.rint(_over(values, finding)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return np.asarray(codes.astype(np.float64) * kept)


def _minmax(values: NDArray[Any], recipe: Recipe, bits: int) -> Float64Array:
    low = values.min(axis=1, keepdims=True)
    low = np.minimum(low, 0) if recipe.rule == "minmax-zero" else low
    finding, kept = _stored(_step(values, recipe.rule, bits), recipe)
    zero = np.rint(_over(-low, finding))
    codes = np.clip(np.rint(_over(values, finding)) + zero, 0, 2**bits - 1) - zero
    return np.asarray(codes.astype(np.float64) * kept)


def _offset(values: NDArray[Any], recipe: Recipe, bits: int) -> Float64Array:
    low = values.min(axis=1, keepdims=True)
    finding, kept = _stored(_step(values, "minmax", bits), recipe)
    codes = np.clip(np.rint(_over(values - low, finding)), 0, 2**bits - 1)
    base = round_to(low, recipe.scale) if recipe.scale != "F64" else low.astype(np.float64)
    return np.asarray(codes.astype(np.float64) * kept + base)


def _table(values: NDArray[Any], recipe: Recipe, _bits: int) -> Float64Array:
    finding, kept = _stored(np.abs(values).max(axis=1, keepdims=True), recipe)
    return np.asarray(nearest_levels(_over(values, finding), recipe.rule) * kept)


def nearest_levels(ratios: NDArray[Any], table: str) -> Float64Array:
    """The level of a table nearest to each ratio."""
    levels = TABLES[table]
    return levels[np.searchsorted(0.5 * (levels[1:] + levels[:-1]), ratios)]


_RULES: Mapping[str, Callable[[Any, Recipe, int], Float64Array]] = {
    "absmax-low": _absmax,
    "absmax-high": _absmax,
    "absmax-middle": _absmax,
    "minmax": _minmax,
    "minmax-zero": _minmax,
    "minmax-offset": _offset,
}


def _over(values: NDArray[Any], step: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.where(step != 0, values / np.where(step != 0, step, 1), 0))


def _legacy(groups: Float64Array, kind: str) -> Float64Array:
    """Blocks of GGUF: the reciprocal of the unrounded scale finds the codes, the scale in float16 undoes them."""
    values, bits = groups.astype(np.float32), LEGACY[kind]
    if kind == "Q8_0":
        step = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
        scaled = values * _reciprocal(step)
        codes = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled)
        return np.asarray(codes.astype(np.float64) * round_to(step, "F16"))
    if kind.endswith("_1"):
        low = values.min(axis=1, keepdims=True)
        step = (values.max(axis=1, keepdims=True) - low) / np.float32(2**bits - 1)
        codes = np.minimum(np.trunc((values - low) * _reciprocal(step) + np.float32(0.5)), 2**bits - 1)
        product = codes.astype(np.float32) * round_to(step, "F16").astype(np.float32)
        return np.asarray((product + round_to(low, "F16").astype(np.float32)).astype(np.float64))
    middle = 2 ** (bits - 1)
    far = np.take_along_axis(values, np.abs(values).argmax(axis=1)[:, None], 1)
    step = far / np.float32(-middle)
    codes = np.minimum(np.trunc(values * _reciprocal(step) + np.float32(middle + 0.5)), 2**bits - 1)
    return np.asarray((codes - middle).astype(np.float64) * round_to(step, "F16"))


def _reciprocal(step: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.where(step != 0, np.float32(1) / np.where(step != 0, step, 1), 0).astype(np.float32))
