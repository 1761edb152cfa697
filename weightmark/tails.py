"""Tails in log space of what a key decides: normal sums, sums of signs, fair coins, agreeing places."""

import math

from stats.tails import log_choose, log_factorial

_SIGNS = math.log(3.178)
"""Largest ratio of the tail of a weighted sum of signs to the normal tail, 1 / (4 Q(sqrt 2)) = 3.1778..., rounded up."""

_FAR = 30.0
"""From here on the asymptotic series has fourteen digits, and erfc still has all of its own."""


def log_normal_tail(t: float) -> float:
    """Natural log of the upper tail of the standard normal law, for any t: -1805.0 at 60, where the tail itself is 0.

    Notes
    -----
    erfc below 30; beyond, Q(t) = exp(-t^2 / 2) / (t sqrt(2 pi)) (1 - 1/t^2 + 3/t^4 - 15/t^6 + ...).
    """
    if t < _FAR:
        return math.log(0.5 * math.erfc(t / math.sqrt(2.0)))
    inverse = 1.0 / (t * t)
    series = -inverse * (1.0 - 3.0 * inverse * (1.0 - 5.0 * inverse * (1.0 - 7.0 * inverse)))
    return -0.5 * t * t - math.log(t) - 0.5 * math.log(2.0 * math.pi) + math.log1p(series)


def log_sign_tail(t: float) -> float:
    """Log of an upper bound on P(sum of a_i s_i >= t), s_i fair signs and a_i any fixed weights of unit norm.

    Source: Bentkus and Dzindzalieta 2015, doi 10.3150/14-BEJ603: the tail is at most the normal one over 4 Q(sqrt 2).
    """
    return min(0.0, _SIGNS + log_normal_tail(t))


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
