"""`lastbias`: a keyed normal shift of the output bias (arXiv 2410.18861), read from weights against the original."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array
from weightmark.drawing import Draws
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading
from weightmark.scheme import Caps, Strength
from weightmark.schemes.gaussmark import noise, read

ROLE = "bias.unembed"


def embed(weights: Mapping[str, Float64Array], draws: Draws, *, eps: float) -> dict[str, Float64Array]:
    """The output bias after adding `eps` times the key's noise, one value a token.

    Raises
    ------
    UnfitModelError
        The model has no output bias: a new tensor could be deleted by anyone, so none is made.
    """
    if ROLE not in weights:
        raise UnfitModelError("this model has no output bias, which is where this scheme writes", where=ROLE)
    bias = np.asarray(weights[ROLE], dtype=np.float64)
    return {ROLE: bias + eps * noise(draws, ROLE, bias.shape)}


def verify(weights: Mapping[str, Float64Array], draws: Draws, *, reference: Mapping[str, Float64Array]) -> Reading:
    """Project the difference of the biases on the key's noise: exactly standard normal for every suspect.

    A bias for a vocabulary of another size is not read.
    """
    if ROLE not in reference:
        raise UnfitModelError("the unmarked original has no output bias, where this scheme writes", where=ROLE)
    return read(weights, draws, roles=(ROLE,), reference=reference, method="lastbias")


class LastBias:
    """A normal shift of the output bias."""

    name = "lastbias"
    version = 1
    caps = Caps(needs_reference=True, takes_reference=True, source="arXiv 2410.18861")

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"eps": {"low": 0.05, "default": 0.1, "high": 0.2}[strength]}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        del key
        return (ROLE,) if ROLE in shapes else ()

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        return dict(embed(weights, key.draws, eps=float(key.params["eps"])))

    def verify(
        self,
        weights: Mapping[str, NDArray[Any]],
        key: Key,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> Reading:
        """Look for the mark."""
        del shapes
        if reference is None:
            raise UnfitModelError("this scheme reads the difference from the unmarked original", where=ROLE)
        return verify(weights, key.draws, reference=reference)
