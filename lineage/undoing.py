"""A suspect's arrays put back into the order, basis and scales of the unmarked reference.

Nothing here knows a key, and the reference is never the marked file: what is done to the suspect depends on the suspect
and on the unmarked model alone, so that reading a mark afterwards keeps its p-value.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crawl import Architecture
from lineage.aligning import align
from lineage.body import Body, Layer
from lineage.realigning import in_place
from lineage.tokens import Shared
from stats.arrays import Float64Array, IntVector

_WRITES = ("attn.o", "mlp.down")
_MOST_TOKENS = 4096


class HeldBody(Body):
    """A model as arrays by role, for the aligner."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], architecture: Architecture) -> None:
        self.weights = weights
        self.architecture = architecture
        self.id = ""
        self._kept: dict[int, Layer] = {}

    def embedding(self, rows: IntVector) -> Float64Array | None:
        """Some rows of the embedding, or None."""
        return self.table("embed", rows)

    def table(self, kind: str, tokens: IntVector) -> Float64Array | None:
        """Rows of a table, or None."""
        values = self.weights.get(kind)
        if values is None or values.ndim != 2 or values.shape[1] != self.architecture.width:
            return None
        rows = np.asarray(values[tokens], dtype=np.float64)
        return rows if np.isfinite(np.sum(rows * rows)) else None

    def gain(self, layer: int | None, kind: str | None) -> Float64Array | None:
        """A norm gain over the residual stream, or None."""
        name = kind if layer is None else f"L{layer:04d}.{kind}"
        values = self.weights.get(name or "")
        if values is None or values.shape != (self.architecture.width,):
            return None
        wide = np.asarray(values, dtype=np.float64)
        return wide if np.isfinite(wide).all() else None

    @property
    def n_tokens(self) -> int:
        """Rows of the embedding, 0 without one."""
        values = self.weights.get("embed")
        return 0 if values is None else values.shape[0]

    def _matrix(self, kind: str, layer: int, *, norm: str | None) -> Float64Array | None:
        values = self.weights.get(f"L{layer:04d}.{kind}")
        if values is None or values.ndim != 2:
            return None
        wide = np.asarray(values, dtype=np.float64)
        gain = self.gain(layer, norm)
        wide = wide if gain is None or kind in _WRITES else wide * gain
        return wide if np.isfinite(np.sum(wide * wide)) else None


def undone(
    suspect: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]], architecture: Architecture
) -> dict[str, Float64Array]:
    """Matrices of a suspect as they would stand in the reference, were they rewritten from it.

    Parameters
    ----------
    suspect, reference : mapping of role to ndarray
        The reference is the unmarked model.
    architecture : Architecture
        Of the reference.

    Returns
    -------
    dict of role to float64
        By the reference's roles and shapes; units without a partner are empty, layers without one are left out.

    Notes
    -----
    As `lineage.realigning.realigned`, which reads files; these are arrays.
    """
    depth = 1 + max((int(role[1:5]) for role in suspect if role.startswith("L")), default=-1)
    known, seen = HeldBody(reference, architecture), HeldBody(suspect, replace(architecture, n_layers=depth))
    tokens = np.arange(min(known.n_tokens, seen.n_tokens, _MOST_TOKENS))
    found = align(known, seen, Shared(tokens, tokens))
    return in_place(known, seen, found)
