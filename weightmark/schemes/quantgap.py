"""`quantgap`: a mark inside the cells of a quantiser, so that quantised copies of marked and unmarked are one."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array
from weightmark.attacks.grids import grouped
from weightmark.axes import matrices
from weightmark.drawing import Draws, signs
from weightmark.keys import Key
from weightmark.reading import Reading, result, unit_sum
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_sign_tail

ROOM = 0.45
"""How far from the middle of its cell a weight may come, in steps (the interval of arXiv 2310.11237)."""

Store: TypeAlias = Callable[[Float64Array], NDArray[Any]]
"""Values to what the file will hold of them."""


def cells(x: Float64Array, bits: int, group: int | None) -> tuple[Float64Array, Float64Array]:
    """Codes and steps of symmetric levels by group: the export that must not change.

    Parameters
    ----------
    x : (m, n) float64
    bits : int
        8 or 4, say.
    group : int, optional
        Columns that share a step; a whole row when absent.

    Returns
    -------
    (m, n) float64, (m, n) float64
        Codes, and the step at every place; 0 in empty groups.
    """
    parts = grouped(x, group)
    step = np.abs(parts).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    codes = np.rint(np.divide(parts, step, out=np.zeros_like(parts), where=step > 0.0))
    return codes.reshape(x.shape), np.broadcast_to(step, parts.shape).reshape(x.shape)


def embed(
    weights: Mapping[str, NDArray[Any]],
    draws: Draws,
    *,
    roles: tuple[str, ...],
    grid: tuple[int, int | None],
    share: float,
) -> dict[str, NDArray[Any]]:
    """Weights moved by their keyed sign inside their cells, in their own dtypes.

    Parameters
    ----------
    weights : mapping of role to ndarray
    draws : callable
    roles : tuple of str
    grid : (bits, columns that share a step or None)
        The export.
    share : float
        Largest move, in steps.

    Returns
    -------
    dict of role to ndarray
        Codes and steps of the export are those of the input, bit for bit: a move that its dtype would round out of the
        cell is not made, and the largest weight of each group, which sets the step, stays.

    Raises
    ------
    ValueError
        An export differs all the same.
    """
    bits, group = grid
    out = {}
    for role in roles:
        x = np.asarray(weights[role], dtype=np.float64)
        codes, step = cells(x, bits, group)
        s = signs(draws(role, "sign"), x.size).reshape(x.shape)
        low, high = (codes - ROOM) * step, (codes + ROOM) * step
        target = np.where(
            s > 0, np.minimum(x + share * step, np.maximum(high, x)), np.maximum(x - share * step, np.minimum(low, x))
        )
        stored = target.astype(weights[role].dtype)
        wide = stored.astype(np.float64)
        top = np.abs(codes) >= 2 ** (bits - 1) - 1
        with np.errstate(invalid="ignore", divide="ignore"):
            moved_out = np.rint(np.where(step > 0.0, wide / step, 0.0)) != codes
        stored = np.where(top | moved_out | (step == 0.0), weights[role], stored)
        again, same = cells(stored.astype(np.float64), bits, group)
        if not (np.array_equal(again, codes) and np.array_equal(same, step)):
            raise ValueError(f"{role}: the export would change")
        out[role] = stored
    return out


def verify(
    weights: Mapping[str, NDArray[Any]],
    draws: Draws,
    *,
    roles: tuple[str, ...],
    grid: tuple[int, int | None],
    shapes: Mapping[str, tuple[int, ...]],
) -> Reading:
    """Add up keyed signs times the places of weights inside their cells.

    Notes
    -----
    Null: signs are fair and drawn without a look at the suspect, whose own cells are used; the sum over the root sum of
    squares exceeds t with probability at most 3.178 Q(t). Weights that stand on their levels, as after any quantiser of
    the same grid, say nothing, and p is 1.
    """
    bits, group = grid
    carried, seen = [], []
    planned = sum(int(np.prod(shapes[role])) for role in roles)
    for role in roles:
        if role not in weights or weights[role].shape != tuple(shapes[role]):
            continue
        x = np.asarray(weights[role], dtype=np.float64)
        codes, step = cells(x, bits, group)
        inside = np.divide(x, step, out=np.zeros_like(x), where=step > 0.0) - codes
        inside[np.abs(inside) < _ROUNDING] = 0.0
        carried.append(signs(draws(role, "sign"), x.size))
        seen.append(inside.ravel())
    n = sum(int(np.count_nonzero(part)) for part in seen)
    statistic = unit_sum(np.concatenate(carried), np.concatenate(seen)) if n else 0.0
    return Reading(
        test=result("quantgap", statistic, n, log_sign_tail(statistic) if n else 0.0), carriers=n, coverage=n / planned
    )


_ROUNDING = 2.0**-7
"""Below this, a place is the middle of its cell as a 16-bit float stores it."""


class QuantGap:
    """Moves inside the cells of one quantiser."""

    name = "quantgap"
    version = 1
    caps = Caps(source="arXiv 2310.11237")

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"share": {"low": 0.02, "default": 0.05, "high": 0.1}[strength], "bits": 8, "group": None}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        del key
        return matrices(shapes)

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        roles = self.carriers({role: values.shape for role, values in weights.items()}, key)
        return embed(weights, key.draws, roles=roles, grid=self._grid(key), share=float(key.params["share"]))

    def verify(
        self,
        weights: Mapping[str, NDArray[Any]],
        key: Key,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> Reading:
        """Look for the mark."""
        del reference
        return verify(weights, key.draws, roles=self.carriers(shapes, key), grid=self._grid(key), shapes=shapes)

    @staticmethod
    def _grid(key: Key) -> tuple[int, int | None]:
        group = key.params["group"]
        return int(key.params["bits"]), None if group is None else int(group)
