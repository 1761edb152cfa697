"""What the holder of a key file may have chosen after a look at the suspect, and what that costs.

The 32 bytes of a key come from a generator; its payload is whatever its holder writes down. With a wrong key, the code word
nearest to what an innocent model happens to say reads as a strong mark: a p-value has to count all payloads.
"""

import math

from weightmark.keys import LONGEST_PAYLOAD
from weightmark.tails import log_sign_tail

_FARTHEST = 1e6


def log_choices(payload: bytes) -> float:
    """Natural log of the factor by which p grows for a payload that may have been chosen.

    Parameters
    ----------
    payload : bytes
        As the key states it.

    Returns
    -------
    float
        A union bound over all payloads: half of the level goes to the empty one, the rest to the sixteen other lengths
        alike, and all payloads of one length share alike.
    """
    if not payload:
        return math.log(2.0)
    return math.log(2.0 * LONGEST_PAYLOAD) + 8.0 * len(payload) * math.log(2.0)


def statistic_needed(log_level: float, payload: bytes) -> float:
    """The least sum of keyed signs whose p-value, over all payloads, reaches a level given as a natural log."""
    low, high = 0.0, 1.0
    while log_sign_tail(high) + log_choices(payload) > log_level and high < _FARTHEST:
        low, high = high, 2.0 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if log_sign_tail(middle) + log_choices(payload) > log_level else (low, middle)
    return high
