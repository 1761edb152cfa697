"""Rotary pairs turned back and mixtures of value dimensions taken apart, by least squares against another model."""

import numpy as np

from crawl import Architecture
from lineage.body import Layer
from stats.arrays import Float64Array

_BETTER = 0.1
"""A mixture is taken back where the cosine with the reference rises by this much: training mixes nothing so far."""

_WORST = 1e6
"""Condition beyond which a mixture is none that anyone can take back."""


def unmix(rows: dict[str, Float64Array], base: Layer, architecture: Architecture) -> None:
    """Take back turns of rotary pairs in queries and keys, and mixtures of the dimensions of each value head.

    Parameters
    ----------
    rows : dict of kind to (n, d) float64
        A suspect's layer in the basis and order of the reference, units as rows; changed in place.
    base : Layer
        The reference's.
    architecture : Architecture
        Of the reference; without known heads nothing is done.
    """
    n_heads, n_kv = architecture.n_heads, architecture.n_kv
    if not n_heads or not n_kv:
        return
    for kind, n in (("attn.q", n_heads), ("attn.k", n_kv)):
        if kind in rows and kind in base.reads and rows[kind].shape == base.reads[kind].shape:
            rows[kind] = _nearer(rows[kind], _turned_back(rows[kind], base.reads[kind], n), base.reads[kind])
    if {"attn.v", "attn.o"} <= rows.keys() and "attn.v" in base.reads:
        _take_apart(rows, base.reads["attn.v"], n_kv, n_heads // n_kv)


def _take_apart(rows: dict[str, Float64Array], known: Float64Array, n_kv: int, share: int) -> None:
    """Values of each head as combinations of the reference's, undone here and in what reads them."""
    plain = rows["attn.v"]
    if plain.shape != known.shape:
        return
    size = plain.shape[0] // n_kv
    values, written = plain.copy(), rows["attn.o"].copy()
    for head in range(n_kv):
        own = slice(head * size, (head + 1) * size)
        mixer, *_ = np.linalg.lstsq(known[own].T, plain[own].T, rcond=None)  # plain = mixer.T @ known
        if np.linalg.cond(mixer) > _WORST:
            continue
        values[own] = np.linalg.solve(mixer.T, plain[own])
        for reader in range(head * share, (head + 1) * share):
            read = slice(reader * size, (reader + 1) * size)
            written[read] = mixer @ rows["attn.o"][read]
    if _cosine(values, known) > _cosine(plain, known) + _BETTER:
        rows["attn.v"], rows["attn.o"] = values, written


def _turned_back(rows: Float64Array, known: Float64Array, n: int) -> Float64Array:
    """Rows with each rotary pair, seen as a complex row, divided by its factor over the reference's."""
    half = rows.shape[0] // n // 2
    pairs, base = (x.reshape(n, 2, half, -1) for x in (rows, known))
    z, w = pairs[:, 0] + 1j * pairs[:, 1], base[:, 0] + 1j * base[:, 1]
    size = np.einsum("hij,hij->hi", w.conj(), w).real
    factor = np.einsum("hij,hij->hi", w.conj(), z) / np.where(size > 0.0, size, 1.0)
    back = z / np.where(np.abs(factor) > 0.0, factor, 1.0)[..., None]
    return np.stack([back.real, back.imag], axis=1).reshape(rows.shape)


def _nearer(plain: Float64Array, changed: Float64Array, known: Float64Array) -> Float64Array:
    return changed if _cosine(changed, known) > _cosine(plain, known) + _BETTER else plain


def _cosine(x: Float64Array, y: Float64Array) -> float:
    """Mean size of the cosines between rows of one index."""
    inner = np.abs(np.einsum("ij,ij->i", x, y))
    size = np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))
    return float(np.mean(inner / np.where(size > 0.0, size, 1.0)))
