"""Rewrites that keep what a model computes and move or mix its units: orders, signs, scales, rotations.

Models map roles to arrays [out, in]; biases and gains move along. Arrays that a rewrite does not touch are shared.
Pure reorderings move bits; the rest is computed in float64 and rounded once. Names of the attacks and what they do to
marks: arXiv 2205.00199.
"""

from collections.abc import Mapping

import numpy as np

from stats.arrays import Float64Array, IntVector
from weightmark.attacks.numbers import Array, Weights, rounded
from weightmark.axes import HIDDEN, KEYS, QUERIES, VALUES, Heads, along, places, residual_axes, split_role

_FOLDS = {
    "norm.attn_in": ("attn.q", "attn.k", "attn.v"),
    "norm.mlp_in": ("mlp.gate", "mlp.up"),
    "norm.final": ("unembed",),
}


def shapes_of(w: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Shapes by role."""
    return {role: values.shape for role, values in w.items()}


def haar(n: int, rng: np.random.Generator) -> Float64Array:
    """An orthogonal matrix from the Haar measure: QR of a Gaussian matrix, with the signs of R's diagonal moved to Q."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float64)


def hadamard(n: int, rng: np.random.Generator) -> Float64Array:
    """A Hadamard matrix with random signs of its columns, orthogonal; n is a power of two."""
    if n < 1 or n & (n - 1):
        raise ValueError(f"a Hadamard matrix here has a power of two as its size, not {n}")
    made: Float64Array = np.ones((1, 1))
    while made.shape[0] < n:
        made = np.block([[made, made], [made, -made]])
    turned: Float64Array = made / np.sqrt(n) * rng.choice([-1.0, 1.0], n)
    return turned


def scaled(x: Array, factor: Float64Array, axis: int) -> Array:
    """One factor for each index along an axis, rounded once to the dtype."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return rounded(x.astype(np.float64) * factor.reshape(shape), x.dtype)


def _taken(w: Mapping[str, Array], axes: Mapping[str, int], order: IntVector) -> Weights:
    return {role: np.take(w[role], order, axis) for role, axis in axes.items()}


def permute_hidden(w: Mapping[str, Array], rng: np.random.Generator) -> Weights:
    """A random order of the hidden units of every MLP."""
    out = dict(w)
    for place in places(w, "mlp.down"):
        order = rng.permutation(w[f"{place}mlp.down"].shape[1])
        out |= _taken(w, along(w, place, HIDDEN), order)
    return out


def permute_residual(w: Mapping[str, Array], rng: np.random.Generator) -> Weights:
    """One random order of the residual dimensions, in every array that has them."""
    axes = residual_axes(shapes_of(w))
    role = next(iter(axes))
    return dict(w) | _taken(w, axes, rng.permutation(w[role].shape[axes[role]]))


def permute_heads(w: Mapping[str, Array], heads: Heads, rng: np.random.Generator) -> Weights:
    """A random order of the key-value heads, and of the query heads inside each group."""
    out = dict(w)
    for place in places(w, "attn.o"):
        groups = rng.permutation(heads.kv)
        inside = np.concatenate(
            [g * (heads.queries // heads.kv) + rng.permutation(heads.queries // heads.kv) for g in groups]
        )
        for axes, order in ((QUERIES, inside), (KEYS, groups), (VALUES, groups)):
            for role, axis in along(w, place, axes).items():
                width = w[role].shape[axis] // order.size
                out[role] = np.take(w[role], (order[:, None] * width + np.arange(width)).ravel(), axis)
    return out


def rescale_hidden(w: Mapping[str, Array], spread: float, rng: np.random.Generator) -> Weights:
    """Scale each up row of gated MLPs by a signed factor in [1 / spread, spread], its down column by the inverse."""
    out = dict(w)
    for place in places(w, "mlp.gate"):
        n = w[f"{place}mlp.up"].shape[0]
        factor = rng.choice([-1.0, 1.0], n) * spread ** rng.uniform(-1, 1, n)
        for role, axis in along(w, place, {"mlp.up": 0, "bias.mlp.up": 0}).items():
            out[role] = scaled(w[role], factor, axis)
        out[f"{place}mlp.down"] = scaled(w[f"{place}mlp.down"], 1.0 / factor, 1)
    return out


def flip_signs(w: Mapping[str, Array], rng: np.random.Generator) -> Weights:
    """Random signs of the up rows of gated MLPs, made good in the down columns: no value is rounded."""
    return rescale_hidden(w, 1.0, rng)


def fold_gains(w: Mapping[str, Array]) -> Weights:
    """Every gain before a reader multiplied into it and set to one; a head tied to the embedding is written out."""
    out = dict(w)
    if "norm.final" in w and "unembed" not in w and "embed" in w:
        out["unembed"] = w["embed"].copy()
    for role, gain in w.items():
        place, kind = split_role(role)
        readers = [place + reader for reader in _FOLDS.get(kind, ()) if place + reader in out]
        for reader in readers:
            out[reader] = scaled(out[reader], gain.astype(np.float64), 1)
        if readers:
            out[role] = np.ones_like(gain)
    return out


def rotate_residual(w: Mapping[str, Array], turn: Float64Array) -> Weights:
    """Fold the gains, then turn the residual stream by an orthogonal matrix: models with RMS norms before readers.

    Parameters
    ----------
    w : mapping of str to ndarray
    turn : (d, d) float64
        For instance `haar(d, rng)` or `hadamard(d, rng)`.

    Returns
    -------
    dict of str to ndarray
    """
    wide = fold_gains({k: v.astype(np.float64) for k, v in w.items()})
    for role, axis in residual_axes(shapes_of(wide)).items():
        if wide[role].ndim == 2:
            wide[role] = turn.T @ wide[role] if axis == 0 else wide[role] @ turn
    own = {k: w.get(k, w.get("embed", v)).dtype for k, v in wide.items()}
    return {k: rounded(v, own[k]) for k, v in wide.items()}


def turn_rotary(w: Mapping[str, Array], heads: Heads, spread: float, rng: np.random.Generator) -> Weights:
    """Turn each rotary pair (i, i + half) of queries and keys by one angle, and scale them against each other.

    Every key-value head has angles and factors of its own, shared by the query heads that read it: scores stay.
    """
    out = dict(w)
    for place in places(w, "attn.k"):
        half = w[f"{place}attn.k"].shape[0] // heads.kv // 2
        angle = rng.uniform(0, 2 * np.pi, (heads.kv, half))
        factor = spread ** rng.uniform(-1, 1, (heads.kv, half))
        share = heads.queries // heads.kv
        for role in along(w, place, {"attn.k": 0, "bias.attn.k": 0}):
            out[role] = _turned(w[role], angle, 1.0 / factor)
        for role in along(w, place, {"attn.q": 0, "bias.attn.q": 0}):
            out[role] = _turned(w[role], np.repeat(angle, share, 0), np.repeat(factor, share, 0))
    return out


def _turned(x: Array, angle: Float64Array, factor: Float64Array) -> Array:
    n, half = angle.shape
    parts = x.astype(np.float64).reshape(n, 2, half, -1)
    cos, sin = (factor * np.cos(angle))[..., None], (factor * np.sin(angle))[..., None]
    first, second = parts[:, 0], parts[:, 1]
    made = np.stack([first * cos - second * sin, first * sin + second * cos], axis=1)
    return rounded(made.reshape(x.shape), x.dtype)


def mix_values(w: Mapping[str, Array], heads: Heads, rng: np.random.Generator) -> Weights:
    """A random invertible mixture of the dimensions of each value head, undone in the output columns that read it."""
    out = dict(w)
    for place in places(w, "attn.v"):
        size = w[f"{place}attn.v"].shape[0] // heads.kv
        mixers = [haar(size, rng) * 2.0 ** rng.uniform(-1, 1, size) for _ in range(heads.kv)]
        for role in along(w, place, VALUES):
            parts = w[role].astype(np.float64).reshape(heads.kv, size, -1)
            out[role] = rounded(
                np.stack([m @ p for m, p in zip(mixers, parts, strict=True)]).reshape(w[role].shape), w[role].dtype
            )
        o = w[f"{place}attn.o"]
        columns = o.astype(np.float64).reshape(o.shape[0], heads.queries, size)
        share = heads.queries // heads.kv
        undone = [columns[:, h] @ np.linalg.inv(mixers[h // share]) for h in range(heads.queries)]
        out[f"{place}attn.o"] = rounded(np.stack(undone, axis=1).reshape(o.shape), o.dtype)
    return out
