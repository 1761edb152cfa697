"""Slow, loop-level twins of the statistics: no numba, no vectors, no cleverness."""

import math


def eprocess(windows, *, smallest, squarings, n_betas=8):
    """log E after every reveal, mixture over beta = 0 (weight 1/2) and n_betas temperatures, straight from the definition."""
    betas = [smallest * (2**squarings) ** g for g in range(n_betas)]
    log_e = [0.0] * (n_betas + 1)
    priors = [0.5] + [0.5 / n_betas] * n_betas
    trajectory = []
    for window in windows:
        n = len(window[0])
        alive = list(range(n))
        for r, row in enumerate(window):
            for g, beta in enumerate(betas):
                top = max(row[j] for j in alive)
                weights = {j: max(math.exp(beta * (row[j] - top)), 1e-280) for j in alive}
                log_e[g + 1] += math.log(len(alive)) + math.log(weights[r]) - math.log(sum(weights.values()))
            alive.remove(r)
            peak = max(log_e)
            trajectory.append(peak + math.log(sum(p * math.exp(e - peak) for p, e in zip(priors, log_e, strict=True))))
    return trajectory


def match_hits(scores):
    """Rows whose single best column is their own."""
    hits = 0
    for i, row in enumerate(scores):
        best = [j for j, x in enumerate(row) if x == max(row)]
        hits += best == [i]
    return hits


def cosine(x, y):
    """Cosine of two lists, 0 when either is zero."""
    size = math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))
    return math.fsum(a * b for a, b in zip(x, y, strict=True)) / size if size else 0.0


def inversions(values):
    """Pairs out of order."""
    return sum(values[i] > values[j] for i in range(len(values)) for j in range(i + 1, len(values)))


def pair_sums(a, b):
    """(sum a^2, sum b^2, sum ab, sum (a-b)^2, equal)."""
    return (
        math.fsum(x * x for x in a),
        math.fsum(y * y for y in b),
        math.fsum(x * y for x, y in zip(a, b, strict=True)),
        math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)),
        sum(x == y for x, y in zip(a, b, strict=True)),
    )


def power_sums(values):
    """(mean, variance, skewness, kurtosis) from the definition, with exact sums; None for a constant."""
    n = len(values)
    mean = math.fsum(values) / n
    m2, m3, m4 = (math.fsum((v - mean) ** p for v in values) / n for p in (2, 3, 4))
    return (mean, m2, m3 / m2**1.5, m4 / m2**2) if m2 > 0.0 else (mean, m2, None, None)
