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


def kinship(parts, signed):
    """Clipped, centred cosines between units inside one model, one matrix per pair of parts; parts are lists of rows."""
    n = len(parts[0])
    out = []
    for p, left in enumerate(parts):
        for q, right in enumerate(parts):
            k = [[cosine(x, y) for y in right] for x in left]
            k = k if signed[p] and signed[q] else [[abs(v) for v in row] for row in k]
            mean = math.fsum(k[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
            out.append([[k[i][j] - mean if i != j else 0.0 for j in range(n)] for i in range(n)])
    scale = math.sqrt(math.fsum(v * v for k in out for row in k for v in row) / (len(out) * n * (n - 1)))
    return [[[max(-5.0, min(5.0, v / scale)) for v in row] for row in k] for k in out]


def _matching(scores):
    """Square root of (softmax along the row times softmax along the column)."""
    n = len(scores)
    out = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            row = math.fsum(math.exp(scores[i][k] - scores[i][j]) for k in range(n))
            column = math.fsum(math.exp(scores[k][j] - scores[i][j]) for k in range(n))
            out[i][j] = 1.0 / math.sqrt(row * column)
    return out


def anchored_scores(a, b, rounds=8):
    """Scores of every pair of units from two kinships, straight from the definition."""
    n = len(a[0])
    every = range(n)

    def profiles(kinds):
        return [[sorted(k[i][j] for j in every if j != i) for k in kinds] for i in every]

    pa, pb = profiles(a), profiles(b)
    scores = [
        [
            -0.5
            * math.fsum(
                min((x - y) ** 2, 25.0) for u, v in zip(pa[i], pb[j], strict=True) for x, y in zip(u, v, strict=True)
            )
            for j in every
        ]
        for i in every
    ]
    for _ in range(rounds):
        weights = _matching(scores)
        scores = [
            [
                -0.5
                * math.fsum(
                    weights[k][m] * (x[i][k] ** 2 - 2 * x[i][k] * y[j][m])
                    for x, y in zip(a, b, strict=True)
                    for k in every
                    for m in every
                )
                - 0.5 * math.fsum(weights[k][m] * y[j][m] ** 2 for y in b for k in every for m in every)
                for j in every
            ]
            for i in every
        ]
    return [
        [
            scores[i][j] + math.fsum(x[i][s] * y[j][s] for x, y in zip(a, b, strict=True) for s in range(min(i, j)))
            for j in every
        ]
        for i in every
    ]


def mutual_best(scores):
    """Pairs (i, j) that are each other's single best."""
    rows, columns = range(len(scores)), range(len(scores[0]))
    return [
        (i, j)
        for i in rows
        for j in columns
        if all(scores[i][j] > scores[i][k] for k in columns if k != j)
        and all(scores[i][j] > scores[k][j] for k in rows if k != i)
    ]


def balanced_cosines(a, b):
    """Cosines of all columns of a with all of b (features first), each feature centred and of unit mean square."""

    def balanced(rows):
        out = []
        for row in rows:
            mean = sum(row) / len(row)
            centred = [x - mean for x in row]
            scale = math.sqrt(sum(x * x for x in centred) / len(row)) or 1.0
            out.append([x / scale for x in centred])
        return out

    first, second = balanced(a), balanced(b)
    left = [[row[i] for row in first] for i in range(len(first[0]))]
    right = [[row[j] for row in second] for j in range(len(second[0]))]
    return [[cosine(x, y) for y in right] for x in left]


def power_sums(values):
    """(mean, variance, skewness, kurtosis) from the definition, with exact sums; None for a constant."""
    n = len(values)
    mean = math.fsum(values) / n
    m2, m3, m4 = (math.fsum((v - mean) ** p for v in values) / n for p in (2, 3, 4))
    return (mean, m2, m3 / m2**1.5, m4 / m2**2) if m2 > 0.0 else (mean, m2, None, None)
