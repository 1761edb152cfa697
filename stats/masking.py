"""Sums of vectors whose entries were dropped at random: which ratio is common, how much was kept, at which scale.

Describes, never tests.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, as_matrix, as_vector

MOST = 4
"""Columns a mixture of masks is fitted for: there are two to this power masks."""

_BIN = 0.02
_REACH = 12.0
_LEAST = 0.1
_AROUND = (3, 8)
"""Width of a bin of ratios, largest and smallest ratio looked at, and how many bins away the background of a peak is
measured. Everything that hardly moves the target has a ratio near zero to a column that moves far."""

_CLEAR = 16.0
"""A column must move an element by so many steps for their ratio to fall into the right bin."""

_WIDE = 4.0
"""An element says something about a mask when the column moves it by so many standard deviations of noise."""

_STRAY = 5.0
"""An element farther than so many standard deviations of noise from every mask follows none."""

_ROUNDS = 100
_STILL = 1e-6


@dataclass(frozen=True, slots=True)
class RatioPeak:
    """The most common ratio between a target and a column.

    Attributes
    ----------
    ratio : float
        Median of the ratios in the fullest bin and its two neighbours; 0 without any.
    share : float
        Share of the elements looked at that lie in the fullest bin beyond what lies around it.
    z : float
        That excess in units of the background's square root.
    n : int
        Elements looked at.
    """

    ratio: float
    share: float
    z: float
    n: int


@dataclass(frozen=True, slots=True)
class MaskMixture:
    """A target as a sum of scaled columns, each entry of which was kept or dropped.

    Attributes
    ----------
    densities : (k,) float64
        Share of each column's entries that was kept.
    scales : (k,) float64
        Factor on what was kept.
    """

    densities: Float64Array
    scales: Float64Array


def ratio_peak(target: ArrayLike, column: ArrayLike, step: ArrayLike) -> RatioPeak:
    """Find the ratio that target and column have at more elements than at any other.

    Parameters
    ----------
    target, column, step : (n,) array_like
        Two differences from one origin, and the distance of neighbouring stored numbers. Elements of the target that are
        zero, and elements that the column moves by less than 16 steps, are left out, and so are ratios below 0.1.

    Returns
    -------
    RatioPeak

    Notes
    -----
    Null: none; ratios of two vectors that have nothing to do with each other, or that are correlated, spread smoothly,
    so a bin that stands out of its surroundings means a common factor. Cosines of 0.99 are too near to parallel for that:
    their ratios fill few bins. Cost: O(n).
    """
    y, x, width = as_vector(target, "target"), as_vector(column, "column"), as_vector(step, "step")
    use = (y != 0.0) & (np.abs(x) >= _CLEAR * width)
    ratios = y[use] / x[use]
    half = round(_REACH / _BIN)
    place = np.rint(ratios / _BIN)
    place = place[np.abs(place) <= half].astype(np.int64)
    counts = np.bincount(place + half, minlength=2 * half + 1).astype(np.float64)
    near, far = _AROUND
    padded = np.pad(counts, far)
    around = sum(padded[far + s : far + s + counts.size] for s in range(-far, far + 1) if abs(s) >= near)
    excess = counts - around / (2 * (far - near + 1))
    excess[np.abs(np.arange(counts.size) - half) * _BIN < _LEAST] = -math.inf
    best = int(excess.argmax())
    if counts[best] == 0.0:
        return RatioPeak(0.0, 0.0, 0.0, int(ratios.size))
    inside = ratios[np.abs(np.rint(ratios / _BIN) + half - best) <= 1]
    background = max(1.0, counts[best] - excess[best])
    return RatioPeak(
        float(np.median(inside)),
        float(excess[best]) / ratios.size,
        float(excess[best]) / math.sqrt(background),
        int(ratios.size),
    )


def mask_levels(columns: ArrayLike, scales: ArrayLike) -> Float64Array:
    """Values of a sum of scaled columns under every choice of what is kept.

    Parameters
    ----------
    columns : (k, n) array_like
    scales : (k,) array_like

    Returns
    -------
    (2^k, n) float64
        Row m keeps column i where bit i of m is set, so row 0 keeps nothing.
    """
    x, s = as_matrix(columns, "columns"), as_vector(scales, "scales")
    if s.size != x.shape[0] or s.size > MOST:
        raise ValueError(f"need one scale for each of at most {MOST} columns, got {s.size} for {x.shape[0]}")
    return np.asarray(np.einsum("mi,in->mn", _masks(s.size) * s, x))


def mask_mixture(
    target: ArrayLike, columns: ArrayLike, noise: ArrayLike, *, densities: ArrayLike, scales: ArrayLike
) -> MaskMixture:
    """Fit how much of each column was kept, and the factor on it, by expectation and maximisation over all masks.

    Parameters
    ----------
    target : (n,) array_like
        A sum of columns whose entries were kept or dropped independently.
    columns : (k, n) array_like
        At most four.
    noise : (n,) array_like
        Standard deviation of the target's rounding, positive.
    densities, scales : (k,) array_like
        Where to begin. Scales must be near: within the noise of the columns' largest entries.

    Returns
    -------
    MaskMixture

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite, noise is not positive, or there are more than four columns.

    Notes
    -----
    Null: none. A small share of elements may follow no mask. It is not for a target whose columns were kept whole: there
    a mask and its scale cannot be told apart. Cost: O(2^k n) a round, at most 100 rounds.
    """
    y, x, sigma = as_vector(target, "target"), as_matrix(columns, "columns"), as_vector(noise, "noise")
    p, s = as_vector(densities, "densities").copy(), as_vector(scales, "scales").copy()
    if x.shape != (p.size, y.size) or sigma.size != y.size or s.size != p.size or not (sigma > 0.0).all():
        raise ValueError("need one density and one scale a column, and one positive noise an element")
    masks = _masks(p.size)
    for _ in range(_ROUNDS):
        before = np.concatenate([p, s])
        share = _responsibilities(y, mask_levels(x, s), sigma, p, masks)
        for i in range(p.size):
            told = np.abs(s[i] * x[i]) > _WIDE * sigma
            weight = share[:, told].sum(axis=0)
            if weight.sum() > 0.0:
                p[i] = float(np.clip(share[masks[:, i] > 0][:, told].sum() / weight.sum(), 1e-3, 1.0 - 1e-3))
        s = _rescaled(y, x, sigma, share, masks, s)
        if np.abs(np.concatenate([p, s]) - before).max() < _STILL:
            break
    return MaskMixture(p, s)


def _masks(k: int) -> Float64Array:
    """(2^k, k): column i is kept in row m where bit i of m is set."""
    return np.array([bits[::-1] for bits in product((0.0, 1.0), repeat=k)]).reshape(2**k, k)


def _responsibilities(
    y: Float64Array, levels: Float64Array, sigma: Float64Array, p: Float64Array, masks: Float64Array
) -> Float64Array:
    """Probability of each mask at each element; 0 throughout where none is near.

    A stray component would take more from rare masks than from common ones, and bend every density away from one half.
    """
    prior = np.prod(np.where(masks > 0.0, p, 1.0 - p), axis=1)
    off = np.abs(y - levels) / sigma
    density = prior[:, None] * np.exp(-0.5 * np.minimum(off, 2.0 * _STRAY) ** 2)
    return np.asarray(np.where(off.min(axis=0) <= _STRAY, density / density.sum(axis=0), 0.0))


def _rescaled(
    y: Float64Array, x: Float64Array, sigma: Float64Array, share: Float64Array, masks: Float64Array, s: Float64Array
) -> Float64Array:
    """Scales by weighted least squares over masks and elements."""
    k = s.size
    inner, moment = np.zeros((k, k)), np.zeros(k)
    weight = share / (sigma * sigma)
    for i in range(k):
        kept = weight[masks[:, i] > 0].sum(axis=0)
        moment[i] = np.sum(kept * x[i] * y)
        for j in range(k):
            both = weight[(masks[:, i] > 0) & (masks[:, j] > 0)].sum(axis=0)
            inner[i, j] = np.sum(both * x[i] * x[j])
    if np.linalg.cond(inner) > 1e12:
        return s
    return np.asarray(np.linalg.solve(inner, moment))
