"""`lastbias`: a keyed normal shift of the output bias (arXiv 2410.18861), read from weights against the original."""

from collections.abc import Mapping

import numpy as np

from stats.arrays import Float64Array
from weightmark.drawing import Draws
from weightmark.reading import Reading
from weightmark.schemes.gaussmark import noise, read

ROLE = "bias.unembed"


def embed(weights: Mapping[str, Float64Array], draws: Draws, *, eps: float) -> dict[str, Float64Array]:
    """The output bias after adding `eps` times the key's noise, one value a token.

    Raises
    ------
    ValueError
        The model has no output bias: a new tensor could be deleted by anyone, so none is made.
    """
    if ROLE not in weights:
        raise ValueError("this model has no output bias, which is where this scheme writes")
    bias = np.asarray(weights[ROLE], dtype=np.float64)
    return {ROLE: bias + eps * noise(draws, ROLE, bias.shape)}


def verify(weights: Mapping[str, Float64Array], draws: Draws, *, reference: Mapping[str, Float64Array]) -> Reading:
    """Project the difference of the biases on the key's noise: exactly standard normal for every suspect.

    A bias for a vocabulary of another size is not read.
    """
    if ROLE not in reference:
        raise ValueError("the unmarked original has no output bias, which is where this scheme writes")
    return read(weights, draws, roles=(ROLE,), reference=reference, method="lastbias")
