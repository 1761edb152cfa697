"""The permutation e-process, one window of labels at a time."""

import numpy as np

from stats.arrays import Float64Array
from stats.kernels import kernel


@kernel
def reveal(score: Float64Array, beta: float, squarings: int, out: Float64Array) -> None:
    """Fill out (s, G) with the log factor of every reveal and inverse temperature, revealing in row order.

    score (s, n): row r scores query r against the n candidates, its own label in column r; beta > 0: the smallest
    inverse temperature, each further one is (2 ** squarings) times the last.

    The weight of candidate j is exp(beta * (score - row maximum)), floored at 1e-280; higher inverse
    temperatures are repeated squares of it. The same number serves in numerator and denominator, so the
    factor has conditional mean exactly 1 under the null whatever its rounding. The row maximum runs over
    unrevealed candidates only and cancels.
    """
    n_queries, n_candidates = score.shape
    n_betas = out.shape[1]
    total = np.empty(n_betas)
    for r in range(n_queries):
        top = -np.inf
        for j in range(r, n_candidates):
            top = max(top, score[r, j])
        total[:] = 0.0
        for j in range(r, n_candidates):
            weight = max(np.exp(beta * (score[r, j] - top)), 1e-280)
            for g in range(n_betas):
                total[g] += weight
                if j == r:
                    out[r, g] = weight
                for _ in range(squarings):
                    weight = max(weight * weight, 1e-280)
        for g in range(n_betas):
            out[r, g] = np.log(n_candidates - r) + np.log(out[r, g]) - np.log(total[g])
