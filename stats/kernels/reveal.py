"""The permutation e-process, one window of labels at a time."""

import numpy as np

from stats.arrays import Float64Array, IntVector
from stats.kernels import kernel


@kernel
def reveal(
    score: Float64Array,
    truth: IntVector,
    beta: float,
    squarings: int,
    log_prior: Float64Array,
    log_e: Float64Array,
    trajectory: Float64Array,
) -> None:
    """Reveal the labels of one window in row order and update the running e-process.

    score (s, n): row r scores query r against the n candidates; truth (s,): the column that carries the label
    of row r; beta > 0: the smallest inverse temperature, each further one is (2 ** squarings) times the last;
    log_prior (G + 1,): log weights of the mixture, entry 0 for beta = 0; log_e (G + 1,): log e-value per beta,
    carried from window to window; trajectory (s,): log of the mixture after each reveal.

    The weight of candidate j is exp(beta * (score - row maximum)), floored at 1e-280; higher inverse
    temperatures are repeated squares of it. The same number serves in numerator and denominator, so the
    factor has conditional mean exactly 1 under the null whatever its rounding. The row maximum runs over
    unrevealed candidates only and cancels.
    """
    n_queries, n_candidates = score.shape
    n_betas = log_e.size - 1
    pool = np.arange(n_candidates)
    alive = n_candidates
    total = np.empty(n_betas)
    own = np.empty(n_betas)
    for r in range(n_queries):
        top = -np.inf
        for p in range(alive):
            top = max(top, score[r, pool[p]])
        total[:] = 0.0
        hit = 0
        for p in range(alive):
            weight = max(np.exp(beta * (score[r, pool[p]] - top)), 1e-280)
            is_own = pool[p] == truth[r]
            if is_own:
                hit = p
            for g in range(n_betas):
                total[g] += weight
                if is_own:
                    own[g] = weight
                for _ in range(squarings):
                    weight = max(weight * weight, 1e-280)
        for g in range(n_betas):
            log_e[g + 1] += np.log(alive) + np.log(own[g]) - np.log(total[g])
        for p in range(hit, alive - 1):
            pool[p] = pool[p + 1]
        alive -= 1
        peak = -np.inf
        for g in range(n_betas + 1):
            peak = max(peak, log_prior[g] + log_e[g])
        mixture = 0.0
        for g in range(n_betas + 1):
            mixture += np.exp(log_prior[g] + log_e[g] - peak)
        trajectory[r] = peak + np.log(mixture)
