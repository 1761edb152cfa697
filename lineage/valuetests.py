"""The rungs on attention values and on experts: labels that rewriters of the MLP and the residual stream leave alone."""

from collections.abc import Sequence

import numpy as np

from lineage.finding import Finding, discounted
from lineage.plan import VALUE_RUN
from lineage.signature import Signature, Values
from stats.axes import Axis
from stats.ordering import is_sorted_pair
from stats.result import Skipped
from stats.runs import run_test
from stats.units import UnitFeatures

_MIN_TOKENS = 16
_MIN_EXPERTS = 4


def values(a: Signature, b: Signature) -> Finding:
    """Value dimensions of the middle layers, as rows and by their answers to tokens, absolute: their signs are free."""
    return _rung(a, b, (a.values, b.values), "value-units", Axis.VALUE, VALUE_RUN)


def experts(a: Signature, b: Signature) -> Finding:
    """Routed experts by their router rows."""
    if not (a.experts and b.experts):
        return Finding()
    return _rung(a, b, (a.experts, b.experts), "expert-units", Axis.EXPERT, None)


def _rung(
    a: Signature,
    b: Signature,
    sides: tuple[Sequence[Values], Sequence[Values]],
    method: str,
    axis: Axis,
    run: int | None,
) -> Finding:
    skipped: list[Skipped] = []
    left, right = (_sound(side, s, axis, skipped) for side, s in zip(sides, (a, b), strict=True))
    sorted_pair = next((f"layer {y.layer}" for x in left for y in right if _is_sorted(x, y)), None)
    if sorted_pair is not None:
        reason = "sorted units: index and norm rise or fall together in both models"
        return Finding(skipped=(*skipped, Skipped(tensor=f"{axis.value}, {sorted_pair}", reason=reason)))
    grid = [[_ways(x, y, a, b, signed=axis is Axis.EXPERT) for y in right] for x in left]
    if not grid or not grid[0] or not all(ways for row in grid for ways in row):
        return Finding(skipped=tuple(skipped) or (Skipped(tensor=axis.value, reason="no common labels were read"),))
    where = ", ".join(str(v.layer) for v in right)
    scope = f"{sum(v.parts.shape[1] for v in right)} of layers {where}"
    result = run_test(
        grid,
        run=run or left[0].parts.shape[1],
        axis=axis,
        label_group=method,
        method=method,
        same_depth=a.n_layers == b.n_layers,
        scope=scope,
    )
    return Finding(tuple(discounted([result])), tuple(skipped))


def _sound(side: Sequence[Values], signature: Signature, axis: Axis, skipped: list[Skipped]) -> list[Values]:
    kept: list[Values] = []
    for one in side:
        reason = _obstacle(one)
        if reason is None:
            kept.append(one)
        else:
            skipped.append(Skipped(tensor=f"{axis.value}, layer {one.layer}", reason=f"{signature.id}: {reason}"))
    return kept


def _ways(left: Values, right: Values, a: Signature, b: Signature, *, signed: bool) -> list[list[UnitFeatures]]:
    ways: list[list[UnitFeatures]] = []
    if left.n_units != right.n_units:
        return ways
    if a.width == b.width and left.parts.shape == right.parts.shape:
        ways.append([UnitFeatures(left.parts, right.parts, signed=signed)])
    _, in_a, in_b = np.intersect1d(a.tokens, b.tokens, return_indices=True)
    if in_a.size >= _MIN_TOKENS and left.probes.size and right.probes.size:
        ways.append([UnitFeatures(left.probes[in_a], right.probes[in_b], signed=signed)])
    return ways


def _obstacle(one: Values) -> str | None:
    if one.parts.shape[1] < _MIN_EXPERTS:
        return f"only {one.parts.shape[1]} units"
    if not np.isfinite(one.parts).all():
        return "NaN or infinite values: untestable"
    if not (np.isfinite(np.sum(one.parts * one.parts)) and np.isfinite(one.probes).all()):
        return "values whose squares overflow: untestable"
    return None


def _is_sorted(left: Values, right: Values) -> bool:
    if left.parts.shape[1] != right.parts.shape[1]:
        return False
    return is_sorted_pair(*(np.sqrt(np.sum(v.parts * v.parts, axis=0)) for v in (left, right)))
