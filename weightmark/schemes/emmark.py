"""`emmark`: steps of one level at keyed places that matter little (arXiv 2402.17938), in weights on a grid."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array, IntVector
from weightmark.attacks.grids import grouped
from weightmark.axes import matrices
from weightmark.drawing import Draws, chosen, signs
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading, result
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_coin_tail

POOL = 50
"""Candidates per signature bit, the least harmful places of a layer (EmMark's code, models below 7B)."""


def scores(codes: Float64Array, activity: Float64Array | None, top: int) -> Float64Array:
    """Harm of a step at every place, the smaller the better; infinite where the code is 0 or at an end of the grid.

    Parameters
    ----------
    codes : (m, n) float64
        Whole numbers from -top to top.
    activity : (n,) float64, optional
        Mean absolute activations of the full-precision model, by input channel. Without them only size counts.
    top : int
        Largest code.

    Returns
    -------
    (m, n) float64
        Half of 1 / |code|, plus half of max(A) / (A - min A): large weights on lively channels come first.
    """
    size = np.abs(codes)
    usable = (size > 0) & (size < top)
    harm = np.full(codes.shape, np.inf)
    harm[usable] = 0.5 / size[usable]
    if activity is not None:
        above = activity - activity.min()
        lively = np.full(activity.shape, np.inf)
        lively[above > 0] = 0.5 * activity.max() / above[above > 0]
        harm = harm + lively
    return harm


def pool(harm: Float64Array, n_bits: int) -> IntVector:
    """The 50 least harmful places per bit, flat, ties by place; fewer where the layer has fewer."""
    flat = harm.ravel()
    ranked = np.argsort(flat, kind="stable")[: POOL * n_bits]
    return ranked[np.isfinite(flat[ranked])].astype(np.int64)


def matches(changed: Float64Array, original: Float64Array, places: IntVector, bits: Float64Array) -> tuple[int, int]:
    """(steps with the sign of their bit, steps at all) at the places: a fair coin each under any other key."""
    moved = np.sign(changed.ravel()[places] - original.ravel()[places])
    return int(np.count_nonzero(moved == bits)), int(np.count_nonzero(moved))


def on_grid(x: Float64Array, bits: int, group: int | None) -> tuple[Float64Array, Float64Array]:
    """Codes and steps of a matrix whose values stand on symmetric levels by group.

    Parameters
    ----------
    x : (m, n) float64
        Dequantised weights.
    bits : int
    group : int, optional
        Columns that share a step; a whole row when absent.

    Returns
    -------
    (m, n) float64, (m, n) float64
        Whole codes, and the step at every place.
    """
    parts = grouped(x, group)
    step = np.abs(parts).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    step = np.where(step > 0.0, step, 1.0)
    codes = np.rint(parts / step)
    return codes.reshape(x.shape), np.broadcast_to(step, parts.shape).reshape(x.shape)


def _placed(
    codes: Float64Array, draws: Draws, role: str, activity: Float64Array | None, grid: tuple[int, int]
) -> tuple[IntVector, Float64Array]:
    """Places in one layer, and the signature's signs there."""
    top, n_bits = grid
    candidates = pool(scores(codes, activity, top), n_bits)
    n = min(n_bits, candidates.size)
    return candidates[chosen(draws(role, "places"), candidates.size, n)], signs(draws(role, "bits"), n_bits)[:n]


def embed(
    weights: Mapping[str, Float64Array],
    draws: Draws,
    *,
    roles: tuple[str, ...],
    grid: tuple[int, int | None],
    n_bits: int = 40,
    activity: Mapping[str, Float64Array] | None = None,
) -> dict[str, Float64Array]:
    """One step up or down at keyed places of every layer, steps and scales of the grid as they are.

    Parameters
    ----------
    weights : mapping of role to ndarray
        Already on the grid, as a quantiser leaves them.
    draws : callable
    roles : tuple of str
    grid : (bits, columns that share a step or None)
    n_bits : int
        Signature bits a layer; 40 in EmMark's code.
    activity : mapping of role to (n,) float64, optional
        Mean absolute activations of the full-precision model.

    Returns
    -------
    dict of role to float64
    """
    bits, group = grid
    out = {}
    for role in roles:
        codes, step = on_grid(np.asarray(weights[role], dtype=np.float64), bits, group)
        at, signature = _placed(codes, draws, role, (activity or {}).get(role), (2 ** (bits - 1) - 1, n_bits))
        codes.ravel()[at] += signature
        out[role] = codes * step
    return out


def verify(
    weights: Mapping[str, Float64Array],
    draws: Draws,
    *,
    roles: tuple[str, ...],
    grid: tuple[int, int | None],
    reference: Mapping[str, Float64Array],
    n_bits: int = 40,
    activity: Mapping[str, Float64Array] | None = None,
) -> Reading:
    """Count steps from the unmarked quantised original that have the signature's sign.

    Notes
    -----
    Null: given the places, which other parts of the key choose, every bit is a fair coin to any suspect, so the matches
    among the places that moved are Bin(moved, 1/2). Exact. EmMark's rate counts places that did not move as errors; it
    is the bit error rate here.
    """
    bits, group = grid
    right = moved = planned = 0
    for role in roles:
        codes, step = on_grid(np.asarray(reference[role], dtype=np.float64), bits, group)
        at, signature = _placed(codes, draws, role, (activity or {}).get(role), (2 ** (bits - 1) - 1, n_bits))
        planned += at.size
        if role not in weights or weights[role].shape != codes.shape:
            continue
        seen = np.rint(np.asarray(weights[role], dtype=np.float64) / step)
        hits, steps = matches(seen, codes, at, signature)
        right, moved = right + hits, moved + steps
    return Reading(
        test=result("emmark", float(right), moved, log_coin_tail(right, moved), -max(1, moved) * math.log(2.0)),
        carriers=moved,
        coverage=moved / max(1, planned),
        bit_errors=planned - right,
        bits=planned,
    )


GRIDS: tuple[tuple[int, int | None], ...] = (
    (4, None), (4, 128), (4, 64), (4, 32), (3, 128), (3, 64), (3, 32), (8, None), (8, 128), (8, 64), (8, 32),
)  # fmt: skip
"""Bits, and columns that share a step, in the order in which they are tried."""

_ROUNDED = 2.0**-7
"""How far bfloat16 may put a value from its level, in units of the value: half a unit in its last place, and as much in the
largest value, which sets the step."""


def grid_of(weights: Mapping[str, NDArray[Any]]) -> tuple[int, int | None]:
    """The grid on which all matrices of an unmarked quantised model stand.

    Raises
    ------
    UnfitModelError
        There is none.
    """
    for bits, group in GRIDS:
        if weights and all(_stands(np.asarray(x, dtype=np.float64), bits, group) for x in weights.values()):
            return bits, group
    raise UnfitModelError(
        "these weights do not stand on a symmetric grid of 3, 4 or 8 bits",
        where=next(iter(weights), "emmark"),
        hint="mark a quantised model, or use another scheme",
    )


def _stands(x: Float64Array, bits: int, group: int | None) -> bool:
    if group is not None and x.shape[1] % group:
        return False
    codes, step = on_grid(x, bits, group)
    return bool(np.all(np.abs(codes * step - x) <= _ROUNDED * np.abs(x) + 0.01 * step))


class EmMark:
    """One-level steps in weights that stand on a grid."""

    name = "emmark"
    version = 1
    caps = Caps(needs_reference=True, takes_reference=True, source="arXiv 2402.17938")

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"signature": {"low": 20, "default": 40, "high": 80}[strength]}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        del key
        return matrices(shapes)

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        roles = self.carriers({role: values.shape for role, values in weights.items()}, key)
        grid, n_bits = grid_of({role: weights[role] for role in roles}), int(key.params["signature"])
        return dict(embed(weights, key.draws, roles=roles, grid=grid, n_bits=n_bits))

    def verify(
        self,
        weights: Mapping[str, NDArray[Any]],
        key: Key,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> Reading:
        """Look for the mark."""
        if reference is None:
            raise UnfitModelError("this scheme counts steps from the unmarked quantised original", where="emmark")
        roles = tuple(role for role in self.carriers(shapes, key) if role in reference)
        n_bits = int(key.params["signature"])
        grid = grid_of({role: reference[role] for role in roles})
        return verify(weights, key.draws, roles=roles, grid=grid, reference=reference, n_bits=n_bits)
