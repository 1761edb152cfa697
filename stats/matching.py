"""Undoing rewrites: which unit became which, and which rotation maps one residual stream onto another.

Describes and prepares; nothing here is a test. Products may use BLAS, so results are decisions and rounded numbers.
"""

from dataclasses import dataclass

import numpy as np

from stats.arrays import Float64Array, IntVector, as_matrix

_MARGIN = 1e-9
"""A best score must beat the next by this much: ties would otherwise be broken by index."""

_SMALLEST = 1e-10
"""Share of the largest below which an eigenvalue is one of rounding."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Units of a and their partners in b.

    Attributes
    ----------
    a, b : (m,) int64
        Paired positions, a ascending.
    score : (m,) float64
        Score of each pair.
    n_a, n_b : int
        Units of each model.
    """

    a: IntVector
    b: IntVector
    score: Float64Array
    n_a: int
    n_b: int

    @property
    def share(self) -> float:
        """Share of the units of the smaller model that found a partner."""
        return self.a.size / max(1, min(self.n_a, self.n_b))

    @property
    def is_identity(self) -> bool:
        """Whether every pair carries one index."""
        return bool(np.array_equal(self.a, self.b))

    @property
    def similarity(self) -> float:
        """Mean score of the pairs times the share of units that have a partner; 0 without pairs."""
        return float(np.mean(self.score)) * self.share if self.a.size else 0.0


def mutual_matches(scores: Float64Array) -> Matching:
    """Pairs of units that are each other's best, ties left out.

    Parameters
    ----------
    scores : (n, m) float64
        Units of a against units of b.

    Returns
    -------
    Matching

    Notes
    -----
    Relabelling either side relabels the pairs and changes nothing else. Cost: O(n m).
    """
    table = as_matrix(scores, "scores")
    best_b, best_a = table.argmax(axis=1), table.argmax(axis=0)
    rows = np.arange(table.shape[0])
    mutual = rows[best_a[best_b] == rows]
    partner = best_b[mutual]
    score = table[mutual, partner]
    clear = np.count_nonzero(table[mutual] >= (score - _MARGIN)[:, None], axis=1) == 1
    clear &= np.count_nonzero(table[:, partner] >= score - _MARGIN, axis=0) == 1
    return Matching(mutual[clear], partner[clear], score[clear], *table.shape)


def agreement(first: Float64Array, second: Float64Array) -> int:
    """Number of units whose mutual best partner is the same one under two score tables of the same units.

    Parameters
    ----------
    first, second : (n, m) float64
        Scores of the same units seen twice, by their gate and by their up rows, say.

    Returns
    -------
    int

    Notes
    -----
    No permutation law holds for it (both tables follow the same labels), so it is compared with controls only: on 200
    independently seeded transformers its mean was seven times what random matchings give.
    """
    one, two = mutual_matches(first), mutual_matches(second)
    partner = np.full(one.n_a, -1)
    partner[one.a] = one.b
    return int(np.count_nonzero(partner[two.a] == two.b))


def fitted_rotation(a: Float64Array, b: Float64Array) -> Float64Array:
    """The orthogonal matrix Q that brings b Q nearest to a.

    Parameters
    ----------
    a, b : (k, d) float64
        The same k points in two bases.

    Returns
    -------
    (d, d) float64

    References
    ----------
    Orthogonal Procrustes: polar factor of b'a (Schoenemann 1966, Psychometrika 31, eq. 1.7).
    """
    product = b.T @ a
    u, _, vt = np.linalg.svd(product / max(float(np.abs(product).max()), 1e-300))
    return np.asarray(u @ vt)


def levelled_tokens(tokens: Float64Array) -> Float64Array:
    """Directions by which rows of a residual stream are told in any basis: their answers to tokens, half levelled.

    Parameters
    ----------
    tokens : (t, d) float64
        Embeddings of t tokens.

    Returns
    -------
    (d, t) float64
        E' (E E')^(-1/4) for E the tokens less their mean, each of unit length. Turning the stream turns E alike, and the
        product of rows with this stays the same.

    Notes
    -----
    Plain answers E' let the strongest common directions of a vocabulary speak for all, full levelling (the exponent 1/2,
    which is Procrustes) lets its noise speak as loud; half way found every relative of the fixtures. Cost: O(t^2 (t + d)).
    """
    table = as_matrix(tokens, "tokens")
    table = table - table.mean(axis=0)
    table /= np.maximum(np.sqrt(np.einsum("ij,ij->i", table, table)), 1e-300)[:, None]
    values, vectors = np.linalg.eigh(table @ table.T)
    kept = values > _SMALLEST * max(float(values[-1]), 1e-300)
    powers = np.zeros_like(values)
    powers[kept] = values[kept] ** -0.25
    return np.asarray(table.T @ ((vectors * powers) @ vectors.T))


def inner_profiles(rows: Float64Array, *, signed: bool) -> Float64Array:
    """What a unit is among the others of its own model: its cosines with all of them, sorted, less those of the mean unit.

    Parameters
    ----------
    rows : (n, k) float64
        Units; at least two.
    signed : bool
        False where the sign of a unit is free: absolute cosines are taken.

    Returns
    -------
    (n, n - 1) float64
        Ascending, before the mean over units is taken away.

    Notes
    -----
    Relabelling units relabels the profiles, and no rotation of the k dimensions, no positive scale of a unit and, unless
    `signed`, no change of its sign changes them. Cost: O(n^2 (k + log n)).
    """
    table = cosines(rows, rows)
    table = table if signed else np.abs(table)
    others = ~np.eye(table.shape[0], dtype=np.bool_)
    profiles = np.sort(table[others].reshape(table.shape[0], -1), axis=1)
    return np.asarray(profiles - profiles.mean(axis=0))


def cosines(a: Float64Array, b: Float64Array) -> Float64Array:
    """Cosines between rows of a (n, k) and rows of b (m, k); 0 for zero rows. Uses BLAS: for matching only."""
    return np.asarray(_unit(a) @ _unit(b).T)


def _unit(rows: Float64Array) -> Float64Array:
    size = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return rows / np.where(size > 0.0, size, 1.0)
