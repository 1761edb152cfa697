"""The rungs on attention values and on experts: labels that rewriters of the MLP and the residual stream leave alone."""

from collections.abc import Sequence

import numpy as np

from lineage.copies import LOG_COPY, has_capacity
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
    layers: list[list[list[UnitFeatures]]] = []
    skipped: list[Skipped] = []
    kept: list[tuple[Values, Values]] = []
    for left, right in zip(*sides, strict=False):
        reason = _obstacle(left, right) or _copies(left, right, kept)
        ways = [] if reason else _ways(left, right, a, b, signed=axis is Axis.EXPERT)
        if not ways:
            skipped.append(
                Skipped(tensor=f"{axis.value}, layer {right.layer}", reason=reason or "nothing comparable was read")
            )
            continue
        kept.append((left, right))
        layers.append(ways)
    if not layers:
        return Finding(skipped=tuple(skipped) or (Skipped(tensor=axis.value, reason="none were read in both models"),))
    length = run or layers[0][0][0].a.shape[1]
    where = ", ".join(str(v.layer) for _, v in kept)
    scope = f"{sum(v.parts.shape[1] for v, _ in kept)} of layers {where}"
    result = run_test(layers, run=length, axis=axis, label_group=method, method=method, scope=scope)
    return Finding(tuple(discounted([result])), tuple(skipped))


def _ways(left: Values, right: Values, a: Signature, b: Signature, *, signed: bool) -> list[list[UnitFeatures]]:
    ways = []
    if a.width == b.width and left.parts.shape == right.parts.shape:
        ways.append([UnitFeatures(left.parts, right.parts, signed=signed)])
    _, in_a, in_b = np.intersect1d(a.tokens, b.tokens, return_indices=True)
    if in_a.size >= _MIN_TOKENS and left.probes.size and right.probes.size:
        ways.append([UnitFeatures(left.probes[in_a], right.probes[in_b], signed=signed)])
    return ways


def _obstacle(left: Values, right: Values) -> str | None:
    if left.n_units != right.n_units or left.parts.shape[1] < _MIN_EXPERTS:
        return f"{left.n_units} and {right.n_units} units: no common labels"
    if not (np.isfinite(left.parts).all() and np.isfinite(right.parts).all()):
        return "NaN or infinite values: untestable"
    if not all(np.isfinite(np.sum(v.parts * v.parts)) and np.isfinite(v.probes).all() for v in (left, right)):
        return "values whose squares overflow: untestable"
    if is_sorted_pair(*(np.sqrt(np.sum(v.parts * v.parts, axis=0)) for v in (left, right))):
        return "sorted units: index and norm rise or fall together in both models"
    return None


def _copies(left: Values, right: Values, kept: Sequence[tuple[Values, Values]]) -> str | None:
    """Layers of one model that are copies share labels, and must not be multiplied: only the first is tested."""
    for pair in kept:
        for new, old in zip((left, right), pair, strict=True):
            if new.parts.shape == old.parts.shape and _agree(new, old):
                return f"a copy of layer {old.layer}: their labels are the same ones"
    return None


def _agree(first: Values, second: Values) -> bool:
    if not (has_capacity([first.parts]) and has_capacity([second.parts])):
        return True
    parts = [UnitFeatures(first.parts, second.parts, signed=False)]
    found = run_test([[parts]], run=first.parts.shape[1], axis=Axis.VALUE, label_group="", method="copies")
    return found.log_evalue is not None and found.log_evalue > LOG_COPY
