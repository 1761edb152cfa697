"""Naive twins of marks, in loops, from the papers' formulas; they share no code with the package."""

import hashlib
import hmac
import math
import struct


def gram_statistic(matrix, signs, block=64):
    """Sum of signs times cosines between columns of one block, over their root sum of squares; winsorised at 5 MAD."""
    m, n = len(matrix), len(matrix[0])
    values, wanted = [], []
    for b in range(n // block):
        at = 0
        for i in range(block):
            for j in range(i + 1, block):
                first = [matrix[r][b * block + i] for r in range(m)]
                second = [matrix[r][b * block + j] for r in range(m)]
                product = math.fsum(x * y for x, y in zip(first, second, strict=True))
                size = math.sqrt(math.fsum(x * x for x in first) * math.fsum(y * y for y in second))
                values.append(product / size if size else 0.0)
                wanted.append(signs[b][at])
                at += 1
    ranked = sorted(abs(v) for v in values)
    half = len(ranked) // 2
    cut = 5.0 * (ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2)
    values = [max(-cut, min(cut, v)) for v in values]
    return math.fsum(s * v for s, v in zip(wanted, values, strict=True)) / math.sqrt(math.fsum(v * v for v in values))


def gram_pushed(matrix, signs, eps, block=64):
    """Each row z of one block, in column units, becomes z + eps / sqrt(63) S z."""
    m, n = len(matrix), len(matrix[0])
    rms = [math.sqrt(math.fsum(matrix[r][c] ** 2 for r in range(m)) / m) for c in range(n)]
    out = [list(row) for row in matrix]
    for b in range(n // block):
        index = {}
        for i in range(block):
            for j in range(i + 1, block):
                index[i, j] = index[j, i] = signs[b][len(index) // 2]
        for r in range(m):
            z = [matrix[r][b * block + c] / rms[b * block + c] for c in range(block)]
            for c in range(block):
                step = math.fsum(index[k, c] * z[k] for k in range(block) if k != c)
                out[r][b * block + c] += eps / math.sqrt(block - 1) * step * rms[b * block + c]
    return out


def uchida_bits(matrix, projections):
    """Section 3.2 of arXiv 1701.04082: mean over the output filters, then the sign of every projection."""
    m, n = len(matrix), len(matrix[0])
    mean = [math.fsum(matrix[r][c] for r in range(m)) / m for c in range(n)]
    return [1 if math.fsum(x * w for x, w in zip(row, mean, strict=True)) >= 0 else -1 for row in projections]


def hufu_positions(blocks, seed, n):
    """Algorithm 1 of arXiv 2103.13628: the hash of the counter times the secret block places the embedded one."""
    taken, out = set(), []
    for counter, block in enumerate(blocks, start=1):
        message = struct.pack("<f", counter * sum(block))
        at = int(hmac.new(seed, message, hashlib.sha256).hexdigest(), 16) % n
        places = []
        for _ in block:
            while at in taken:
                at = (at + 1) % n
            taken.add(at)
            places.append(at)
        out.append(places)
    return out


def emmark_scores(codes, activity, top):
    """Section 4 of arXiv 2402.17938: alpha = beta = 1/2, S_q = |1 / code|, S_r = max A / (A - min A)."""
    out = []
    for row in codes:
        out.append([])
        for c, code in enumerate(row):
            harm = math.inf if code == 0 or abs(code) >= top else 0.5 / abs(code)
            if activity is not None:
                above = activity[c] - min(activity)
                harm += 0.5 * max(activity) / above if above > 0 else math.inf
            out[-1].append(harm)
    return out


def tattooed_statistic(values, symbols, spreading):
    """Every symbol's despread sum (arXiv 2202.06091, section IV), added up with the known symbols, in unit variance."""
    total = 0.0
    for symbol, chips in zip(symbols, spreading, strict=True):
        total += symbol * math.fsum(c * w for c, w in zip(chips, values, strict=True))
    return total / math.sqrt(len(symbols) * math.fsum(w * w for w in values))


def gaussian_statistic(noise, shift):
    """The weight-side form of arXiv 2501.13941: the shift projected on the key, over its own length."""
    return math.fsum(x * y for x, y in zip(noise, shift, strict=True)) / math.sqrt(math.fsum(y * y for y in shift))
