"""`tattooed`: every symbol spread over the same keyed weights (arXiv 2202.06091), with a p-value in place of a verdict."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array, IntVector
from stats.carriers import SYMBOLS
from weightmark.axes import matrices
from weightmark.drawing import Draws, chosen, signs
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.payload import codeword as coded
from weightmark.payload import decoded
from weightmark.reading import Reading, result, unit_sum
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_sign_tail

PREAMBLE = 200
"""Known symbols before the code word, as in the paper's code."""

LARGEST = 0.05
"""Relative size of the mark on the weights that carry it; the paper's defaults come to 1.09."""


def _flat(weights: Mapping[str, Float64Array], shapes: Mapping[str, tuple[int, ...]]) -> Float64Array:
    """All carrier arrays of a suspect, by role; an array that is missing or of another shape is empty."""
    parts = []
    for role, shape in sorted(shapes.items()):
        fits = role in weights and weights[role].shape == tuple(shape)
        parts.append(np.asarray(weights[role], dtype=np.float64).ravel() if fits else np.zeros(int(np.prod(shape))))
    return np.concatenate(parts)


def _symbols(draws: Draws, codeword: Float64Array) -> Float64Array:
    """Preamble and code word."""
    return np.concatenate([signs(draws("", "preamble"), PREAMBLE), codeword])


def _chips(draws: Draws, symbol: int, n: int) -> Float64Array:
    """The spreading code of one symbol; codes begin at whole bytes."""
    width = 8 * ((n + 7) // 8)
    return signs(draws("", "chips"), n, symbol * width)


def _places(draws: Draws, total: int, n: int) -> IntVector:
    return chosen(draws("", "places"), total, n)


def embed(
    weights: Mapping[str, Float64Array], draws: Draws, *, codeword: Float64Array, n_carriers: int, rel: float
) -> dict[str, Float64Array]:
    """Keyed weights after adding every symbol times its spreading code.

    Parameters
    ----------
    weights : mapping of role to ndarray
        Carrier arrays; places count through them by role.
    draws : callable
    codeword : (l,) float64
        Symbols, +1 or -1.
    n_carriers : int
        Weights that carry all symbols; chosen without replacement, where the paper's code draws with.
    rel : float
        Root mean square of what is added against that of the carriers: the paper's gamma sqrt(L) / sigma.

    Returns
    -------
    dict of role to float64
    """
    if not 0.0 < rel <= LARGEST:
        raise ValueError(f"a relative size lies between 0 and {LARGEST:g}, got {rel:g}")
    shapes = {role: weights[role].shape for role in sorted(weights)}
    flat = _flat(weights, shapes)
    at = _places(draws, flat.size, n_carriers)
    symbols = _symbols(draws, codeword)
    total = np.zeros(at.size)
    for j, symbol in enumerate(symbols):
        total += symbol * _chips(draws, j, at.size)
    gamma = rel * np.sqrt(np.mean(flat[at] ** 2) / symbols.size)
    flat[at] += gamma * total
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]
    return {r: part.reshape(shapes[r]) for r, part in zip(shapes, np.split(flat, ends), strict=True)}


def despread(
    weights: Mapping[str, Float64Array],
    draws: Draws,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    n_carriers: int,
    n_symbols: int,
) -> tuple[Float64Array, float]:
    """The sum under every symbol's code, preamble first, in units of the carriers' length; and the share that is there."""
    flat = _flat(weights, shapes)
    seen = flat[_places(draws, flat.size, n_carriers)]
    size = float(np.sqrt(np.einsum("i,i->", seen, seen)))
    if size == 0.0:
        return np.zeros(PREAMBLE + n_symbols), 0.0
    sums = np.array([np.einsum("i,i->", _chips(draws, j, seen.size), seen) for j in range(PREAMBLE + n_symbols)])
    return sums / size, float(np.mean(seen != 0.0))


def verify(
    weights: Mapping[str, Float64Array],
    draws: Draws,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    n_carriers: int,
    codeword: Float64Array,
) -> Reading:
    """Add up all despread sums with the known symbols.

    Notes
    -----
    Null: chips are fair signs drawn without a look at the suspect; the total is a weighted sum of L n of them with unit
    norm, so it exceeds t with probability at most 3.178 Q(t). The paper asks for no bit error and states no null.
    """
    sums, coverage = despread(weights, draws, shapes=shapes, n_carriers=n_carriers, n_symbols=codeword.size)
    symbols = _symbols(draws, codeword)
    statistic = unit_sum(sums, symbols) if coverage else 0.0
    wrong = int(np.count_nonzero(np.sign(sums[PREAMBLE:]) != codeword))
    return Reading(
        test=result("tattooed", statistic, n_carriers, log_sign_tail(statistic)),
        carriers=round(coverage * n_carriers),
        coverage=coverage,
        bit_errors=wrong,
        bits=codeword.size,
        payload=decoded(sums[PREAMBLE:]) if codeword.size == SYMBOLS and coverage else None,
    )


class Tattooed:
    """All symbols of a coded payload on the same weights; for parity with the paper."""

    name = "tattooed"
    version = 1
    caps = Caps(payload_bytes=14, source="arXiv 2202.06091")

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"rel": {"low": 0.02, "default": 0.035, "high": 0.05}[strength], "share": 0.5, "most": 200_000}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        del key
        return matrices(shapes)

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        mine = {role: weights[role] for role in self.carriers({r: v.shape for r, v in weights.items()}, key)}
        n = self._n({role: values.shape for role, values in mine.items()}, key)
        return dict(embed(mine, key.draws, codeword=coded(key.payload), n_carriers=n, rel=float(key.params["rel"])))

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
        mine = {role: shapes[role] for role in self.carriers(shapes, key)}
        return verify(weights, key.draws, shapes=mine, n_carriers=self._n(mine, key), codeword=coded(key.payload))

    @staticmethod
    def _n(shapes: Mapping[str, tuple[int, ...]], key: Key) -> int:
        total = sum(shape[0] * shape[1] for shape in shapes.values())
        n = min(int(key.params["most"]), int(float(key.params["share"]) * total))
        if n < 1:
            raise UnfitModelError("the model has no matrices large enough", where="tattooed")
        return n
