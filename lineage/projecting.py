"""A model seen through the random signs of a sketch: few numbers for each unit, head row and residual dimension."""

from collections.abc import Mapping

import numpy as np

from crawl import Role, View
from lineage.body import MOST_TOKENS, Body, Layer
from lineage.sketching import answers
from stats.arrays import Float64Array, IntVector
from weightmark.sketchfile import SIDE, WIDTHS

_WRITES = "mlp.down"


def dense(body: Body, kind: str, layer: int) -> View | None:
    """The matrix of a kind in a layer; experts have none."""
    view = body.source.views.get(Role(kind, layer))
    return view if view is not None and len(view.shape) == 2 and view.tensor.dtype.decoded else None


def widths(body: Body, layer: int) -> dict[str, int]:
    """How many projections the rows of each matrix of a layer get: about 64 for a hidden unit, 16 for a row of a head."""
    there = [kind for kind in WIDTHS if dense(body, kind, layer) is not None]
    hidden = [kind for kind in there if kind.startswith("mlp.")]
    if len(hidden) < 2 or _WRITES not in hidden:
        there = [kind for kind in there if kind not in hidden]
    gated = "mlp.gate" in there
    return {kind: WIDTHS[kind][0] if gated or not kind.startswith("mlp.") else WIDTHS[kind][-1] for kind in there}


def projected(body: Body, layer: int, kept: Mapping[str, int], turned: Float64Array) -> Layer:
    """Rows of a layer over some directions in place of residual dimensions, gains folded in.

    Parameters
    ----------
    body : Body
    layer : int
    kept : mapping of kind to int
        Directions that each kind is seen by: the first so many.
    turned : (d, f) float64
        Directions in the residual basis of this model.

    Returns
    -------
    Layer
        Rows of `f` numbers; matrices that are missing or not finite are left out.
    """
    reads: dict[str, Float64Array] = {}
    writes: dict[str, Float64Array] = {}
    for kind, k in kept.items():
        view = dense(body, kind, layer)
        n, width = (0, 0) if view is None else view.shape[::-1] if kind == _WRITES else view.shape
        if view is None or width != turned.shape[0]:
            continue
        norm = body.architecture.attn_norm if kind.startswith("attn.") else body.architecture.mlp_norm
        gain = None if kind == _WRITES else body.gain(layer, norm)
        part = turned[:, :k] if gain is None else gain[:, None] * turned[:, :k]
        seen = answers(body.source, view, kind, np.arange(n), np.ascontiguousarray(part))
        if np.isfinite(np.sum(seen * seen)):
            (writes if kind == _WRITES else reads)[kind] = seen
    return Layer(layer, reads, writes)


def token_columns(body: Body, n_tokens: int, signs: Float64Array) -> Float64Array | None:
    """Residual dimensions over the first tokens, each token of unit length: (d, 64) projections, or None."""
    table = body.embedding(np.arange(n_tokens))
    if table is None or table.shape[1] != body.architecture.width:
        return None
    unit = _unit(table)
    return np.asarray((unit - unit.mean(axis=0)).T @ signs[:, :SIDE])


def n_columns(vocabulary: int) -> int:
    """Tokens behind `token_columns`."""
    return min(vocabulary, MOST_TOKENS)


def picked_tokens(vocabulary: int, width: int) -> IntVector:
    """Rows of the table of tokens that settle a rotation: as many as there are dimensions, spread evenly."""
    return np.unique(np.linspace(0, max(0, vocabulary - 1), min(vocabulary, width)).astype(np.int64))


def token_rows(body: Body, rows: IntVector) -> Float64Array | None:
    """Some rows of the table of tokens, each as long as the root of its dimensions; None where there are none."""
    table = body.embedding(rows)
    if table is None or table.shape[1] != body.architecture.width:
        return None
    return np.asarray(_unit(table) * np.sqrt(table.shape[1]))


def _unit(rows: Float64Array) -> Float64Array:
    return np.asarray(rows / np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), 1e-300)[:, None])
