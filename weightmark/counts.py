"""Counts that a key decides: fair coins and agreeing places, their tails in log space."""

import math

from stats.tails import log_choose, log_factorial


def log_coin_tail(heads: int, n: int) -> float:
    """Natural log of P(Bin(n, 1/2) >= heads), exact but for rounding; 0 where heads is not positive.

    Parameters
    ----------
    heads, n : int
        0 <= heads <= n.

    Returns
    -------
    float
        <= 0, finite.

    Notes
    -----
    Null: every bit of the key is fair and drawn without looking at the model. Cost: O(n - heads).
    """
    if not 0 <= heads <= n:
        raise ValueError(f"{heads} heads of {n} coins")
    if heads == 0:
        return 0.0
    top = log_choose(n, max(heads, n // 2))
    total = math.fsum(math.exp(log_choose(n, j) - top) for j in range(heads, n + 1))
    return min(0.0, top + math.log(total) - n * math.log(2.0)) if total > 0.0 else -n * math.log(2.0)


def log_agreement_tail(agreeing: int, slots: int) -> float:
    """Log of an upper bound on P(F >= agreeing), F places that uniformly random orders share with fixed ones.

    Parameters
    ----------
    agreeing : int
        Places that agree, over all slots.
    slots : int
        Orders drawn, one each, of any lengths.

    Returns
    -------
    float
        <= 0, finite.

    Notes
    -----
    For one order and any fixed assignment of places, even one that repeats, E[C(F, k)] <= 1 / k!: a set of k places
    with k different values agrees with probability (n - k)! / n!, and there are at most C(n, k) of them. Orders are
    drawn separately, so E[C(F, k)] over all is at most the coefficient of x^k in exp(slots x), slots^k / k!; by Markov
    that bounds P(F >= k).
    """
    if agreeing < 0 or slots < 0:
        raise ValueError(f"{agreeing} places in {slots} slots")
    if agreeing == 0 or slots == 0:
        return 0.0
    return min(0.0, agreeing * math.log(slots) - log_factorial(agreeing))
