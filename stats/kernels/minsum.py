"""Normalised min-sum decoding of one low-density parity-check code, on flat arrays of edges."""

from typing import Any

import numpy as np

from stats.kernels import kernel


@kernel
def _is_word(checks: Any, total: Any) -> bool:
    """Whether every check holds for the signs."""
    for c in range(checks.shape[0]):
        odd = False
        for e in range(checks.shape[1]):
            if total[checks[c, e]] < 0.0:
                odd = not odd
        if odd:
            return False
    return True


@kernel
def min_sum(channel: Any, checks: Any, scale: float, most: int, messages: Any, total: Any) -> int:
    """Decode in place: `total` (n,) ends as the beliefs; returns the rounds used, or -1 without a code word.

    `checks` (m, k) holds the variables of each check; `messages` (m, k) starts at zero.
    """
    total[:] = channel
    for step in range(most):
        if _is_word(checks, total):
            return step
        for c in range(checks.shape[0]):
            first = second = np.inf
            place = -1
            negative = False
            for e in range(checks.shape[1]):
                v = checks[c, e]
                incoming = total[v] - messages[c, e]
                total[v] = incoming
                size = abs(incoming)
                if incoming < 0.0:
                    negative = not negative
                if size < first:
                    second = first
                    first = size
                    place = e
                elif size < second:
                    second = size
            for e in range(checks.shape[1]):
                v = checks[c, e]
                size = second if e == place else first
                flip = negative != (total[v] < 0.0)
                messages[c, e] = -scale * size if flip else scale * size
                total[v] += messages[c, e]
    return -1
