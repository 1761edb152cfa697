"""Weights of a combination: those people choose near measured ones, and those that rounding leaves room for."""

from collections.abc import Sequence

import numpy as np

from lineage.ensemble import spacing
from stats.arrays import Float64Array

NEAR = 0.012
"""Distance of a measured weight from the one a person chose: rounding biases least squares by up to a hundredth."""

_ONE = 0.004
"""Distance of the sum of weights from one up to which they are taken to sum to one."""

_STEPS = (3e-2, 1.5e-2, 8e-3, 4e-3, 2e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4, 6e-5)
"""Moves of a weight when the values inside the rounding interval are maximised."""


def human_weights(measured: Float64Array) -> list[Float64Array]:
    """Weights people choose near measured ones: multiples of 0.05, fractions of small numbers, multiples of 0.01.

    Parameters
    ----------
    measured : (k,) float64

    Returns
    -------
    list of (k,) float64
        The plainest first; sums near one are kept at one.
    """
    is_one = abs(float(measured.sum()) - 1.0) < _ONE
    fractions = sorted({sign * j / q for q in (3, 6, 7, 8, 9) for j in range(1, q) for sign in (1, -1)})
    grids = (
        np.arange(-60, 61) / 20,
        np.array(sorted({*fractions, *(np.arange(-60, 61) / 20).tolist()})),
        np.arange(-300, 301) / 100,
    )
    found: list[Float64Array] = []
    for grid in grids:
        nearest = grid[np.abs(grid[None, :] - measured[:, None]).argmin(axis=1)]
        close = bool((np.abs(nearest - measured) <= NEAR).all())
        sums = abs(float(nearest.sum()) - 1.0) < 1e-9 or not is_one
        if close and sums and not any(np.array_equal(nearest, f) for f in found):
            found.append(nearest)
    return found


def sharpen(
    target: Float64Array, sources: Sequence[Float64Array], measured: Float64Array, dtype: str
) -> tuple[Float64Array, float]:
    """Move weights until most residuals lie inside the rounding interval of the target; their sum is kept.

    Parameters
    ----------
    target : (n,) float64
    sources : sequence of (n,) float64
    measured : (k,) float64
        Where to begin.
    dtype : str
        Number format of the target.

    Returns
    -------
    (k,) float64, float
        The weights, and the share of elements that lie inside.
    """
    n = max(1, target.size)
    differ = np.any([s != target for s in sources], axis=0)
    target, sources = target[differ], [s[differ] for s in sources]
    half = 0.5001 * spacing(target, dtype)
    weights = measured.copy()
    residual = target - sum(w * s for w, s in zip(weights, sources, strict=True))
    best = int(np.count_nonzero(np.abs(residual) <= half))
    for step in _STEPS:
        for i in range(1, len(sources)):
            gap = sources[i] - sources[0]
            for move in (step, -step):
                tried = residual - move * gap
                inside = int(np.count_nonzero(np.abs(tried) <= half))
                if inside > best:
                    best, residual = inside, tried
                    weights[i] += move
                    weights[0] -= move
    return weights, (n - target.size + best) / n
