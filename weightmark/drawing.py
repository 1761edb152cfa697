"""From bytes of a keystream to what schemes draw: normal values, orders, choices.

The bytes are pseudorandom under a secret key, so every law below holds for whoever does not know it.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from stats.arrays import Float64Array, IntVector

Stream: TypeAlias = Callable[[int, int], bytes]
"""(offset, count) to that many bytes of one keystream."""

Draws: TypeAlias = Callable[[str, str], Stream]
"""(role, purpose) to the keystream of one key for it."""

_MOST_REDRAWS = 16
"""Two equal words among a million come once in ten million draws; sixteen in a row mean a broken stream."""


def normals(stream: Stream, n: int, start: int = 0) -> Float64Array:
    """Standard normal values number start .. start + n - 1 of a stream (Box and Muller 1958), 16 bytes for two.

    Parameters
    ----------
    stream : callable
    n, start : int

    Returns
    -------
    (n,) float64
        The law is normal but for the 53 bits of each uniform: nothing lies beyond 8.6.
    """
    first, last = start // 2, (start + n + 1) // 2
    words = np.frombuffer(stream(16 * first, 16 * (last - first)), dtype="<u8").reshape(-1, 2)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:, 0])), 2.0 * np.pi * uniform[:, 1]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
    return both[start - 2 * first : start - 2 * first + n]


def signs(stream: Stream, n: int, start: int = 0) -> Float64Array:
    """Fair signs number start .. start + n - 1, one bit each, lowest first; 1 is +1. `start` is a multiple of 8."""
    if start % 8:
        raise ValueError(f"signs begin at whole bytes, not at {start}")
    bits = np.unpackbits(np.frombuffer(stream(start // 8, (n + 7) // 8), dtype=np.uint8), bitorder="little")[:n]
    return bits.astype(np.float64) * 2.0 - 1.0


def order(stream: Stream, n: int) -> IntVector:
    """A uniformly random order of n places: 64-bit words sorted, drawn anew where two are equal.

    Given that they differ, words are exchangeable, so the order is exactly uniform; a Fisher-Yates shuffle would say the
    same in a loop.
    """
    for attempt in range(_MOST_REDRAWS):
        words = np.frombuffer(stream(8 * n * attempt, 8 * n), dtype="<u8")
        places = np.argsort(words)
        ranked = words[places]
        if np.all(ranked[1:] != ranked[:-1]):
            return places.astype(np.int64)
    raise ValueError(f"{_MOST_REDRAWS} draws of {n} words without a set of different ones: not a random stream")


def chosen(stream: Stream, n: int, k: int) -> IntVector:
    """Different places, k of n, all sets equally likely, in the order drawn."""
    if not 0 <= k <= n:
        raise ValueError(f"{k} places of {n}")
    return order(stream, n)[:k]
