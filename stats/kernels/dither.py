"""Keyed shifts stored in a coarse number format: rounded up as often as the distance asks, so that means are kept."""

import math
from typing import Any

import numpy as np

from stats.kernels import kernel


@kernel
def shift_rows(x: Any, scale: Any, signs: Any, symbols: Any, steps: Any, block: int, out: Any) -> None:
    """Fill out with x + steps[symbol] * sign * scale[row]; rows of scale 0 stay as they are."""
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            bit = (signs[r, i >> 3] >> (i & 7)) & 1
            step = steps[symbols[r, i // block]] * scale[r]
            out[r, i] = np.float64(x[r, i]) + (step if bit else -step)


@kernel
def round_keyed(target: Any, draws: Any, bits: int, lowest: int, largest: float, out: Any) -> None:
    """Fill out with neighbours of target on a grid of `bits` significant bits, the upper one by uint16 draws / 2^16.

    `lowest` is the exponent of the smallest normal number; what would leave the range becomes NaN.
    """
    for r in range(target.shape[0]):
        for i in range(target.shape[1]):
            size = abs(target[r, i])
            _, exponent = math.frexp(size)
            step = math.ldexp(1.0, max(exponent - 1, lowest) - (bits - 1))
            k = np.floor(size / step + np.float64(draws[r, i]) / 65536.0)
            value = k * step
            if not value <= largest:
                value = np.nan
            out[r, i] = value if target[r, i] >= 0.0 else -value


@kernel
def change_sums(before: Any, after: Any, bits: int, out: Any) -> None:
    """Add to out (8,): values, changed ones, w^2, d^2, step^2 / 12, zeros changed; then raise largest |d| and row d / w.

    A step is the distance of neighbours of w among numbers of `bits` significant bits. What is not finite counts as 0.
    """
    for r in range(before.shape[0]):
        own = shift = noise = 0.0
        for i in range(before.shape[1]):
            w = np.float64(before[r, i])
            d = np.float64(after[r, i]) - w
            if not np.isfinite(w) or not np.isfinite(d):
                continue
            own += w * w
            shift += d * d
            if d != 0.0:
                out[1] += 1.0
                out[6] = max(out[6], abs(d))
                if w == 0.0:
                    out[5] += 1.0
            if w != 0.0:
                _, exponent = math.frexp(w)
                step = math.ldexp(1.0, exponent - bits)
                noise += step * step
        out[0] += before.shape[1]
        out[2] += own
        out[3] += shift
        out[4] += noise / 12.0
        if own > 0.0:
            out[7] = max(out[7], math.sqrt(shift / own))
