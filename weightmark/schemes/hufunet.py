"""`hufunet`: blocks of secret values at positions that another secret decides (arXiv 2103.13628), read by correlation."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array, IntVector
from weightmark.axes import matrices
from weightmark.drawing import Draws, normals
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading, result, unit_sum
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_normal_tail

BLOCK = 9
"""Values a block: the 3 x 3 kernels of the paper."""


def positions(secret_piece: Float64Array, seed: bytes, n: int) -> IntVector:
    """Where the blocks of the embedded piece go, as the paper places them.

    Parameters
    ----------
    secret_piece : (b, 9) float64
        The piece that stays with the owner.
    seed : bytes
        Key of the hash.
    n : int
        Candidate weights; at least twice the values placed.

    Returns
    -------
    (b, 9) int64
        Block m starts at HMAC-SHA256(seed, float32 bytes of m times the sum of its secret block) mod n, and each value
        takes the next place that is free.
    """
    if 2 * secret_piece.size > n:
        raise ValueError(f"{secret_piece.size} values among {n} weights: at most half")
    taken = np.zeros(n, dtype=np.bool_)
    out = np.empty(secret_piece.shape, dtype=np.int64)
    for block, values in enumerate(secret_piece):
        message = np.float32((block + 1) * values.sum()).astype("<f4").tobytes()
        at = int.from_bytes(hmac.new(seed, message, hashlib.sha256).digest(), "big") % n
        for i in range(values.size):
            while taken[at]:
                at = (at + 1) % n
            taken[at] = True
            out[block, i] = at
    return out


def template(draws: Draws, n_blocks: int) -> tuple[Float64Array, Float64Array, bytes]:
    """The embedded piece, the secret piece and the seed of the hash: normal values and 32 bytes of the key."""
    embedded = normals(draws("", "embedded"), BLOCK * n_blocks).reshape(n_blocks, BLOCK)
    return embedded, normals(draws("", "secret"), BLOCK * n_blocks).reshape(n_blocks, BLOCK), draws("", "seed")(0, 32)


def embed(
    weights: Mapping[str, Float64Array], draws: Draws, *, roles: tuple[str, ...], n_blocks: int, strength: float
) -> dict[str, Float64Array]:
    """Values pulled towards the template at the positions that the secret piece decides.

    Parameters
    ----------
    weights : mapping of role to ndarray
    draws : callable
    roles : tuple of str
        Candidates, in this order one after the other.
    n_blocks : int
        Blocks of nine values.
    strength : float
        1 overwrites, as the paper does; s leaves sqrt(1 - s^2) of the value and adds s of the template, both in units of
        the row's size, so that sizes stay.

    Returns
    -------
    dict of role to float64
    """
    embedded, secret, seed = template(draws, n_blocks)
    parts = {role: np.array(weights[role], dtype=np.float64) for role in roles}
    places = positions(secret, seed, sum(part.size for part in parts.values())).ravel()
    values, start = embedded.ravel(), 0
    for part in parts.values():
        size = np.sqrt(np.mean(part * part, axis=1))
        inside = (places >= start) & (places < start + part.size)
        at = places[inside] - start
        flat = part.ravel()
        flat[at] = np.sqrt(1.0 - strength**2) * flat[at] + strength * values[inside] * size[at // part.shape[1]]
        start += part.size
    return parts


def verify(
    weights: Mapping[str, Float64Array],
    draws: Draws,
    *,
    roles: tuple[str, ...],
    n_blocks: int,
    shapes: Mapping[str, tuple[int, ...]],
) -> Reading:
    """Correlate what stands at the positions with the template.

    Parameters
    ----------
    weights : mapping of role to ndarray
        The suspect; no original is needed.
    draws : callable
    roles : tuple of str
    n_blocks : int
    shapes : mapping of role to shape
        Of the marked model: positions count through them.

    Returns
    -------
    Reading

    Notes
    -----
    Null: positions come from other parts of the key than the template, so whatever a suspect holds there, the sum over
    its own length is exactly standard normal. The paper rejoins a network and asks for its accuracy, without a null.
    """
    embedded, secret, seed = template(draws, n_blocks)
    places = positions(secret, seed, sum(int(np.prod(shapes[role])) for role in roles)).ravel()
    found, start = np.zeros(places.size), 0
    for role in roles:
        size = int(np.prod(shapes[role]))
        inside = (places >= start) & (places < start + size)
        if role in weights and weights[role].shape == tuple(shapes[role]):
            rows = np.asarray(weights[role], dtype=np.float64)
            rms = np.sqrt(np.mean(rows * rows, axis=1))
            rms[rms == 0.0] = np.inf
            at = places[inside] - start
            found[inside] = rows.ravel()[at] / rms[at // rows.shape[1]]
        start += size
    statistic = unit_sum(embedded.ravel(), found)
    n = int(np.count_nonzero(found))
    return Reading(
        test=result("hufunet", statistic, n, log_normal_tail(statistic)), carriers=n, coverage=n / places.size
    )


class HufuNet:
    """Secret values at keyed positions."""

    name = "hufunet"
    version = 1
    caps = Caps(source="arXiv 2103.13628")

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"strength": {"low": 0.5, "default": 1.0, "high": 1.0}[strength], "blocks": 2000}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        del key
        return matrices(shapes)

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        roles, blocks = self._plan({role: values.shape for role, values in weights.items()}, key)
        return dict(embed(weights, key.draws, roles=roles, n_blocks=blocks, strength=float(key.params["strength"])))

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
        roles, blocks = self._plan(shapes, key)
        return verify(weights, key.draws, roles=roles, n_blocks=blocks, shapes=shapes)

    def _plan(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[tuple[str, ...], int]:
        """Roles, and blocks: as many as the key says, at most one weight in fifty."""
        roles = self.carriers(shapes, key)
        total = sum(shapes[role][0] * shapes[role][1] for role in roles)
        blocks = min(int(key.params["blocks"]), total // (50 * BLOCK))
        if blocks < 1:
            raise UnfitModelError("the model has no matrices large enough", where="hufunet")
        return roles, blocks
