"""Two residual streams: as they are, relabelled, or turned, fitted to the embeddings of the tokens both models have."""

from dataclasses import dataclass

import numpy as np

from lineage.body import Body, Layer
from lineage.tokens import Shared
from stats.arrays import Float64Array, IntVector
from stats.matching import cosines, fitted_rotation, mutual_matches

_MIN_PAIRED = 0.5
"""Share of residual dimensions that must find a partner by themselves before a relabelling is tried at all."""

_BLOCK = 256
"""Dimensions that look for their like at once."""


@dataclass(frozen=True, slots=True)
class Residual:
    """How the residual stream of b becomes that of a.

    Attributes
    ----------
    kind : str
        "identity", "permutation" (signs included), "rotation", or "unknown" (widths differ).
    turn : (d, d) float64 or None
        Rows of b times this are in the basis of a; None for identity and unknown.
    cosine : float
        Mean cosine of the tokens of both after turning; 0 where nothing was turned.
    """

    kind: str
    turn: Float64Array | None
    cosine: float


def residual_readings(a: Body, b: Body, shared: Shared) -> list[Residual]:
    """How the residual stream of b may have become that of a, the plainest first."""
    first, second = a.embedding(shared.a), b.embedding(shared.b)
    if first is None or second is None or first.shape[1] != second.shape[1]:
        same = a.architecture.width == b.architecture.width
        return [Residual("identity" if same else "unknown", None, 0.0)]
    first, second = centred(first), centred(second)
    found = [Residual("identity", None, mean_cosine(first, second))]
    relabelled = relabelling(first, second)
    if relabelled is not None:
        found.append(Residual("permutation", relabelled, mean_cosine(first, second @ relabelled)))
    turn = fitted_rotation(first, second)
    return [*found, Residual("rotation", turn, mean_cosine(first, second @ turn))]


def relabelling(first: Float64Array, second: Float64Array) -> Float64Array | None:
    """Dimensions paired one by one, with signs, by their columns over tokens; None when many find no partner."""
    scores = cosines(_scaled(first).T, _scaled(second).T)
    pairs = mutual_matches(np.abs(scores))
    if pairs.share < _MIN_PAIRED:
        return None
    left = np.setdiff1d(np.arange(pairs.n_a), pairs.a), np.setdiff1d(np.arange(pairs.n_b), pairs.b)
    rows, columns = np.concatenate((pairs.a, left[0])), np.concatenate((pairs.b, left[1]))
    turn = np.zeros((pairs.n_b, pairs.n_a))
    turn[columns, rows] = np.where(scores[rows, columns] < 0.0, -1.0, 1.0)
    return turn


def pair_dimensions(first: Float64Array, second: Float64Array) -> tuple[IntVector, Float64Array] | None:
    """Dimensions of two streams paired one by one, without a table of all of them.

    Parameters
    ----------
    first, second : (t, d) float64
        Embeddings of the same tokens.

    Returns
    -------
    (d,) int64, (d,) float64, or None
        For each dimension of b the one of a it becomes, and its sign; None when many find no partner.

    Notes
    -----
    As `relabelling`. Memory of `_BLOCK` times d; cost O(t d^2).
    """
    x, y = centred(_scaled(first)).T, centred(_scaled(second)).T
    n = x.shape[0]
    best_b, best_a, top = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.full(n, -1.0)
    sign = np.zeros(n)
    for start in range(0, n, _BLOCK):
        scores = cosines(x[start : start + _BLOCK], y)
        size = np.abs(scores)
        found = size.argmax(axis=1)
        best_b[start : start + _BLOCK] = found
        sign[start : start + _BLOCK] = np.sign(scores[np.arange(found.size), found])
        rows = size.argmax(axis=0)
        higher = size[rows, np.arange(n)] > top
        best_a[higher], top[higher] = start + rows[higher], size[rows[higher], np.flatnonzero(higher)]
    mutual = np.flatnonzero(best_a[best_b] == np.arange(n))
    if mutual.size < _MIN_PAIRED * n:
        return None
    order, signs = np.full(n, -1), np.ones(n)
    order[best_b[mutual]], signs[best_b[mutual]] = mutual, np.where(sign[mutual] < 0.0, -1.0, 1.0)
    order[order < 0] = np.setdiff1d(np.arange(n), mutual)
    return order, signs


def _scaled(tokens: Float64Array) -> Float64Array:
    """Every token of unit length, so that a few long ones do not speak for all."""
    return np.asarray(tokens / np.maximum(np.sqrt(np.einsum("ij,ij->i", tokens, tokens)), 1e-300)[:, None])


def turned(layer: Layer, residual: Residual) -> Layer:
    """A layer of b in the residual basis of a."""
    if residual.turn is None:
        return layer
    turn = residual.turn
    return Layer(
        layer.index,
        {k: v @ turn for k, v in layer.reads.items()},
        {k: v @ turn for k, v in layer.writes.items()},
    )


def centred(rows: Float64Array) -> Float64Array:
    """Rows less their mean."""
    return np.asarray(rows - rows.mean(axis=0))


def mean_cosine(x: Float64Array, y: Float64Array) -> float:
    """Cosine of two arrays as long vectors, 0 when either is zero."""
    size = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
    return float(np.sum(x * y)) / size if size > 0.0 else 0.0
