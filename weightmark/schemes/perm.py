"""`perm`: the orders of hidden units and of residual dimensions spell the payload; no value changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import reedsolo
from numpy.typing import NDArray

from stats.arrays import Float64Array, IntVector
from stats.matching import cosines, mutual_matches
from stats.tails import log_factorial
from weightmark.axes import HIDDEN, along, places, residual_axes
from weightmark.drawing import order
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading, result
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_agreement_tail

SMALLEST = 64
"""Sets of fewer units stay as they are: chance agreements would drown a symbol."""

FEWEST = 8
"""A best candidate that agrees in fewer places is an erasure: under chance the best of 256 reaches 8 once in 150."""

MOST_BYTES = 16
SYMBOLS = 256


@dataclass(frozen=True, slots=True)
class Slot:
    """One set of units that can be reordered.

    Attributes
    ----------
    name : str
        `residual`, or the place of an MLP and `hidden`: `L0003.hidden`.
    n : int
        Units.
    """

    name: str
    n: int


def slots_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Slot, ...]:
    """Every set of at least 64 units that can be reordered without a change of the function, sorted by name.

    Parameters
    ----------
    shapes : mapping of role to shape
        Arrays are [out, in].
    """
    found = [Slot(f"{place}hidden", shapes[f"{place}mlp.down"][1]) for place in places(shapes, "mlp.down")]
    if "embed" in shapes:
        found.append(Slot("residual", shapes["embed"][1]))
    return tuple(sorted((slot for slot in found if slot.n >= SMALLEST), key=lambda slot: slot.name))


def axes_of(shapes: Mapping[str, tuple[int, ...]], slot: Slot) -> dict[str, int]:
    """The roles that a set of units runs through, each with its axis."""
    if slot.name == "residual":
        return residual_axes(shapes)
    return along(shapes, slot.name.removesuffix("hidden"), HIDDEN)


def n_payload_bytes(found: Sequence[Slot]) -> int:
    """Bytes that the code carries: half of its symbols at most, and at most 16."""
    return min(MOST_BYTES, len(found) // 2)


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


def apply(weights: Mapping[str, NDArray[Any]], orders: Mapping[str, IntVector]) -> dict[str, NDArray[Any]]:
    """Weights with every set of units in a new order: place i holds what was at order[i].

    Parameters
    ----------
    weights : mapping of role to ndarray
    orders : mapping of slot name to (n,) int64

    Returns
    -------
    dict of role to ndarray
        The same bits; arrays that nothing touches are shared.
    """
    out = dict(weights)
    shapes = {role: values.shape for role, values in weights.items()}
    for slot in slots_of(shapes):
        if slot.name in orders:
            out |= {role: np.take(out[role], orders[slot.name], axis) for role, axis in axes_of(shapes, slot).items()}
    return out


def found_orders(suspect: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> dict[str, IntVector]:
    """Which unit of the unmarked reference stands at each place of a suspect; -1 where none is found.

    The residual order comes from the embeddings, whose rows are tokens; hidden units are compared in it. The key is not
    looked at, so agreement with the key's orders is a matter of chance for any suspect.
    """
    found = slots_of({role: values.shape for role, values in reference.items()})
    made = {slot.name: np.full(slot.n, -1) for slot in found}
    if "residual" in made and "embed" in suspect:
        rows = min(suspect["embed"].shape[0], reference["embed"].shape[0])
        made["residual"] = _partners(_wide(suspect["embed"][:rows]).T, _wide(reference["embed"][:rows]).T)
    residual = made.get("residual")
    for slot in found:
        role = slot.name.removesuffix("hidden") + "mlp.up"
        if slot.name != "residual" and role in suspect and suspect[role].shape[1] == reference[role].shape[1]:
            made[slot.name] = _partners(_wide(suspect[role]), _in_order(_wide(reference[role]), residual))
    return made


def _wide(x: NDArray[Any]) -> Float64Array:
    return x.astype(np.float64)


def _in_order(rows: Float64Array, residual: IntVector | None) -> Float64Array:
    """Columns of the reference in the suspect's residual order; unknown ones are empty."""
    if residual is None or residual.size != rows.shape[1]:
        return rows
    return np.where(residual >= 0, rows[:, np.maximum(residual, 0)], 0.0)


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


def _candidates(key: Key, slot: Slot) -> list[IntVector]:
    """The order that every symbol stands for."""
    return [order(key.stream(slot.name, f"perm/{symbol}"), slot.n) for symbol in range(SYMBOLS)]


class Perm:
    """Keyed orders of units, which spell the payload."""

    name = "perm"
    version = 1
    caps = Caps(needs_reference=True, takes_reference=True, payload_bytes=MOST_BYTES, zero_distortion=True)

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        del strength
        return {}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        del key
        found = slots_of(shapes)
        touched = {role for slot in found for role in axes_of(shapes, slot)}
        return tuple(sorted(touched))

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        found = slots_of({role: values.shape for role, values in weights.items()})
        word = self._word(found, key)
        orders = {
            s.name: order(key.stream(s.name, f"perm/{symbol}"), s.n) for s, symbol in zip(found, word, strict=True)
        }
        return apply(weights, orders)

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
            raise UnfitModelError("this scheme finds the units of the unmarked original", where="perm")
        found = slots_of(shapes)
        seen = found_orders(weights, reference)
        word = self._word(found, key)
        agreed, symbols = 0, []
        for slot, symbol in zip(found, word, strict=True):
            candidates = _candidates(key, slot)
            agreed += agreeing(candidates[symbol], seen[slot.name])
            symbols.append(best_symbol(candidates, seen[slot.name]))
        payload = decoded(symbols, n_payload_bytes(found))
        n, floor = sum(slot.n for slot in found), -sum(log_factorial(slot.n) for slot in found)
        matched = sum(int(np.count_nonzero(seen[slot.name] >= 0)) for slot in found)
        return Reading(
            test=result("perm", float(agreed), n, log_agreement_tail(agreed, len(found)), floor),
            carriers=matched,
            coverage=matched / max(1, n),
            bit_errors=8 * sum(a != b for a, b in zip(symbols, word, strict=True)),
            bits=8 * len(found),
            payload=payload,
        )

    @staticmethod
    def _word(found: Sequence[Slot], key: Key) -> bytes:
        n_bytes = n_payload_bytes(found)
        if n_bytes < 1:
            raise UnfitModelError(f"fewer than two sets of {SMALLEST} units can be reordered here", where="perm")
        if len(key.payload) > n_bytes:
            raise UnfitModelError(f"this model holds {n_bytes} bytes, the payload has {len(key.payload)}", where="perm")
        return codeword(key.payload.ljust(n_bytes, b"\0"), len(found))
