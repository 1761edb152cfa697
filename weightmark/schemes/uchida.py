"""`uchida`: bits in the signs of keyed projections of the mean row of one matrix (arXiv 1701.04082), without training."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array
from weightmark.axes import places
from weightmark.drawing import Draws, normals, signs
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading, result
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_coin_tail

LARGEST_MARGIN = 3.0
"""A larger push is a rank-one term that stands out among the singular values of the matrix."""


def mean_row(matrix: Float64Array) -> Float64Array:
    """The mean over output rows, what the projections read (section 3.2: mean over filters)."""
    mean: Float64Array = matrix.mean(axis=0)
    return mean


def read_bits(mean: Float64Array, projections: Float64Array) -> Float64Array:
    """Bits as signs: +1 where a projection is positive, -1 where negative, 0 where the mean row is empty.

    Parameters
    ----------
    mean : (n,) float64
    projections : (t, n) float64
        Keyed, standard normal.

    Returns
    -------
    (t,) float64
    """
    return np.sign(projections @ mean)


def pushed_row(mean: Float64Array, projections: Float64Array, bits: Float64Array, margin: float) -> Float64Array:
    """The smallest shift of the mean row after which every projection has its bit's sign, with room.

    Parameters
    ----------
    mean : (n,) float64
    projections : (t, n) float64
        t below n.
    bits : (t,) float64
        +1 or -1.
    margin : float
        Least size of a projection afterwards, in units of the norm of the mean row.

    Returns
    -------
    (n,) float64
        To be added to every row.

    Notes
    -----
    Projections that are right already, with room, must stay: the smallest-norm answer X'(XX')^-1 r for the shortfalls r
    leaves exactly those untouched.
    """
    now = projections @ mean
    short = np.maximum(0.0, margin * float(np.linalg.norm(mean)) - bits * now) * bits
    shift: Float64Array = projections.T @ np.linalg.solve(projections @ projections.T, short)
    return shift


def key_values(draws: Draws, role: str, n_bits: int, n: int) -> tuple[Float64Array, Float64Array]:
    """Projections (t, n) and bits (t,) of the key."""
    return normals(draws(role, "projections"), n_bits * n).reshape(n_bits, n), signs(draws(role, "bits"), n_bits)


def embed(
    weights: Mapping[str, Float64Array], draws: Draws, *, role: str, n_bits: int, margin: float
) -> dict[str, Float64Array]:
    """The matrix after the same smallest shift of every row that makes its mean row spell the key's bits.

    Parameters
    ----------
    weights : mapping of role to ndarray
    draws : callable
    role : str
        The one matrix that carries the mark.
    n_bits : int
        Below the number of columns.
    margin : float
        See `pushed_row`; at most 3, beyond which a strong common direction shows.

    Returns
    -------
    dict of role to float64
    """
    x = np.asarray(weights[role], dtype=np.float64)
    if not 0.0 < margin <= LARGEST_MARGIN:
        raise ValueError(f"a margin lies between 0 and {LARGEST_MARGIN:g}, got {margin:g}")
    if not 0 < n_bits < x.shape[1]:
        raise ValueError(f"{n_bits} bits in a matrix of {x.shape[1]} columns: fewer than columns")
    projections, bits = key_values(draws, role, n_bits, x.shape[1])
    return {role: x + pushed_row(mean_row(x), projections, bits, margin)}


def verify(weights: Mapping[str, Float64Array], draws: Draws, *, role: str, n_bits: int) -> Reading:
    """Count the bits that the mean row spells.

    Notes
    -----
    Null: projections are normal and drawn without a look at the suspect, so the signs are fair coins whatever the mean
    row, and so are their matches with any bits. Exact: P(Bin(t, 1/2) >= matches). An empty mean row matches nothing.
    """
    x = weights.get(role)
    if x is None:
        return Reading(test=result("uchida", 0.0, 0, 0.0), carriers=0, coverage=0.0)
    mean = mean_row(np.asarray(x, dtype=np.float64))
    projections, bits = key_values(draws, role, n_bits, mean.size)
    right = int(np.count_nonzero(read_bits(mean, projections) == bits))
    return Reading(
        test=result("uchida", float(right), n_bits, log_coin_tail(right, n_bits), -n_bits * math.log(2.0)),
        carriers=n_bits,
        coverage=1.0,
        bit_errors=n_bits - right,
        bits=n_bits,
    )


class Uchida:
    """Bits in the mean row of one matrix of the middle layer, or of the role the key names."""

    name = "uchida"
    version = 1
    caps = Caps(source="arXiv 1701.04082")

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"margin": {"low": 1.0, "default": 2.0, "high": 3.0}[strength], "bits": 256}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        if key.params.get("role"):
            return (str(key.params["role"]),)
        found = [place + "mlp.up" for place in places(shapes, "mlp.up")]
        return tuple(found[len(found) // 2 : len(found) // 2 + 1])

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        role, bits = self.plan({role: values.shape for role, values in weights.items()}, key)
        return dict(embed(weights, key.draws, role=role, n_bits=bits, margin=float(key.params["margin"])))

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
        role, bits = self.plan(shapes, key)
        return verify(weights, key.draws, role=role, n_bits=bits)

    def plan(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, int]:
        """The role, and bits: as many as the key says, at most half the columns: more would leave the push no room."""
        found = self.carriers(shapes, key)
        if not found or found[0] not in shapes:
            raise UnfitModelError("the model has no mlp.up matrix, and the key names no other role", where="uchida")
        return found[0], min(int(key.params["bits"]), shapes[found[0]][1] // 2)
