"""`perm`: the order of hidden units, key-value heads and residual dimensions spells the payload; no value changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import reedsolo
from numpy.typing import NDArray

from stats.arrays import Float64Array, IntVector
from stats.matching import cosines, mutual_matches
from weightmark.axes import HIDDEN, KEYS, QUERIES, VALUES, Heads, along, places, residual_axes

SMALLEST = 64
"""Slots of fewer places carry no symbol: chance agreements would drown it."""

FEWEST = 8
"""A best candidate that agrees in fewer places is an erasure: under chance the best of 256 reaches 8 once in 150."""

MOST_BYTES = 16
SYMBOLS = 256


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing that can be reordered.

    Attributes
    ----------
    name : str
        `residual`, or the place and what is ordered: `L0003.hidden`, `L0003.kv`.
    n : int
        Places.
    """

    name: str
    n: int

    @property
    def kind(self) -> Literal["residual", "hidden", "kv"]:
        """What is ordered."""
        return {"residual": "residual", "hidden": "hidden", "kv": "kv"}[self.name.rpartition(".")[2]]  # type: ignore[return-value]


def slots(weights: Mapping[str, NDArray[Any]], heads: Heads | None) -> tuple[Slot, ...]:
    """Everything that can be reordered without a change of the function, sorted by name.

    Parameters
    ----------
    weights : mapping of role to ndarray
        [out, in]; only shapes are looked at.
    heads : Heads or None
        Without them heads keep their order.
    """
    found = [Slot(f"{place}hidden", weights[f"{place}mlp.down"].shape[1]) for place in places(weights, "mlp.down")]
    if heads is not None and heads.kv > 1:
        found += [Slot(f"{place}kv", heads.kv) for place in places(weights, "attn.v")]
    if "embed" in weights:
        found.append(Slot("residual", weights["embed"].shape[1]))
    return tuple(sorted(found, key=lambda slot: slot.name))


def carriers(found: Sequence[Slot]) -> tuple[Slot, ...]:
    """The slots that carry a symbol."""
    return tuple(slot for slot in found if slot.n >= SMALLEST)


def n_payload_bytes(found: Sequence[Slot]) -> int:
    """Bytes that the code carries: half of its symbols at most, and at most 16."""
    return min(MOST_BYTES, len(carriers(found)) // 2)


def codeword(payload: bytes, n_symbols: int) -> bytes:
    """Payload and Reed-Solomon check symbols over GF(256), n_symbols in all."""
    return bytes(reedsolo.RSCodec(n_symbols - len(payload), nsize=n_symbols).encode(payload))


def decoded(symbols: Sequence[int | None], n_bytes: int) -> bytes | None:
    """The payload of a received word, None for an erasure; None where there are too many errors."""
    n = len(symbols)
    received = bytearray(0 if s is None else s for s in symbols)
    lost = [i for i, s in enumerate(symbols) if s is None]
    if len(lost) > n - n_bytes:
        return None
    try:
        message, _, _ = reedsolo.RSCodec(n - n_bytes, nsize=n).decode(received, erase_pos=lost)
    except reedsolo.ReedSolomonError:
        return None
    return bytes(message)


def apply(
    weights: Mapping[str, NDArray[Any]], orders: Mapping[str, IntVector], heads: Heads | None
) -> dict[str, NDArray[Any]]:
    """Weights with every slot in a new order: place i holds what was at order[i].

    Parameters
    ----------
    weights : mapping of role to ndarray
    orders : mapping of slot name to (n,) int64
    heads : Heads or None

    Returns
    -------
    dict of role to ndarray
        The same bits; arrays that nothing touches are shared.
    """
    out = dict(weights)
    for name, order in orders.items():
        place, _, kind = name.rpartition(".")
        if kind == "residual":
            out |= {role: np.take(out[role], order, axis) for role, axis in residual_axes(weights).items()}
        elif kind == "hidden":
            out |= {role: np.take(out[role], order, axis) for role, axis in along(weights, f"{place}.", HIDDEN).items()}
        elif heads is not None:
            out |= _reordered_heads(out, f"{place}.", order, heads)
    return out


def _reordered_heads(
    weights: Mapping[str, NDArray[Any]], place: str, order: IntVector, heads: Heads
) -> dict[str, NDArray[Any]]:
    share = heads.queries // heads.kv
    queries = (order[:, None] * share + np.arange(share)).ravel()
    made = {}
    for axes, moved in ((QUERIES, queries), (KEYS, order), (VALUES, order)):
        for role, axis in along(weights, place, axes).items():
            width = weights[role].shape[axis] // moved.size
            made[role] = np.take(weights[role], (moved[:, None] * width + np.arange(width)).ravel(), axis)
    return made


def found_orders(
    suspect: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]], heads: Heads | None
) -> dict[str, IntVector]:
    """Which unit of the unmarked reference stands at each place of a suspect; -1 where none is found.

    The residual order comes from the embeddings, whose rows are tokens; what follows is compared in it. The key is not
    looked at, so agreement with the key's orders is a matter of chance for any suspect.
    """
    made: dict[str, IntVector] = {}
    for slot in slots(reference, heads):
        if slot.kind == "residual":
            rows = min(suspect["embed"].shape[0], reference["embed"].shape[0]) if "embed" in suspect else 0
            made[slot.name] = (
                _partners(_wide(suspect["embed"][:rows]).T, _wide(reference["embed"][:rows]).T)
                if rows
                else np.full(slot.n, -1)
            )
    residual = made.get("residual")
    for slot in slots(reference, heads):
        place = slot.name.rpartition(".")[0] + "."
        role = place + ("mlp.up" if slot.kind == "hidden" else "attn.v")
        if slot.kind == "residual":
            continue
        if role not in suspect or suspect[role].shape[1] != reference[role].shape[1]:
            made[slot.name] = np.full(slot.n, -1)
            continue
        seen, known = _wide(suspect[role]), _in_order(_wide(reference[role]), residual)
        if slot.kind == "kv":
            seen, known = _by_head(seen, slot.n), _by_head(known, slot.n)
        made[slot.name] = _partners(seen, known)
    return made


def _wide(x: NDArray[Any]) -> Float64Array:
    return x.astype(np.float64)


def _in_order(rows: Float64Array, residual: IntVector | None) -> Float64Array:
    """Columns of the reference in the suspect's residual order; unknown ones are empty."""
    if residual is None or residual.size != rows.shape[1]:
        return rows
    return np.where(residual >= 0, rows[:, np.maximum(residual, 0)], 0.0)


def _by_head(rows: Float64Array, n: int) -> Float64Array:
    return rows.reshape(n, -1)


def _partners(seen: Float64Array, known: Float64Array) -> IntVector:
    """For each row of the suspect the row of the reference, by sizes of cosines: signs are free."""
    if seen.shape[1] != known.shape[1]:
        return np.full(seen.shape[0], -1)
    matching = mutual_matches(np.abs(cosines(seen, known)))
    out = np.full(seen.shape[0], -1)
    out[matching.a] = matching.b
    return out


def agreeing(order: IntVector, found: IntVector) -> int:
    """Places at which the suspect holds what the key puts there."""
    n = min(order.size, found.size)
    return int(np.count_nonzero(order[:n] == found[:n]))


def best_symbol(candidates: Sequence[IntVector], found: IntVector) -> int | None:
    """The candidate that agrees in most places; None below eight."""
    counts = [agreeing(order, found) for order in candidates]
    best = int(np.argmax(counts))
    return best if counts[best] >= FEWEST else None
