"""Blocks of one model whose units carry the same labels: copies and near copies must not be multiplied.

Two blocks are put together when their units know each other's labels, read with and without signs, or when too few
distinct units are alive for that to be seen: below a dozen, copies could not be told from strangers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from lineage.signature import Block
from stats.arrays import Float64Array
from stats.eprocess import cosine_grid, either_eprocess
from stats.tails import log_factorial
from stats.units import UnitFeatures, unit_scores

LOG_COPY = math.log(1e4)
"""Evidence at which two blocks are taken for copies; by chance once in 10,000 questions."""

_LOG_CAPACITY = math.log(1e8)
"""Labellings that must be possible before silence means anything: ten thousand times the evidence asked for."""


def label_groups(blocks: Sequence[Block], *, gated: bool) -> tuple[int, ...]:
    """For each block the position of the first one of its group: blocks joined by any chain of shared labels.

    Parameters
    ----------
    blocks : sequence of Block
        Of one model.
    gated : bool
        Whether the sign of an up row is free.

    Returns
    -------
    tuple of int
    """
    parent = list(range(len(blocks)))

    @cache
    def is_poor(i: int, kinds: tuple[str, ...]) -> bool:
        return not has_capacity([blocks[i].parts[k] for k in kinds])

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for j in range(len(blocks)):
        for i in range(j):
            low, high = sorted((find(i), find(j)))
            if low != high and _share_labels(blocks, i, j, is_poor, gated=gated):
                parent[high] = low
    return tuple(find(i) for i in range(len(blocks)))


def has_capacity(units: Sequence[Float64Array]) -> bool:
    """Whether enough distinct units (columns) are alive for a copy to be recognised.

    Parameters
    ----------
    units : sequence of (k, s) float64
        Matrices of the same s units.

    Returns
    -------
    bool
    """
    joined = np.abs(np.concatenate(units)).T
    alive = joined[np.any(joined != 0.0, axis=1)]
    distinct = len({unit.tobytes() for unit in alive})  # finite and without a sign: equal bits are equal values
    return log_factorial(distinct) - math.log(2.0) >= _LOG_CAPACITY


def _share_labels(
    blocks: Sequence[Block], i: int, j: int, is_poor: Callable[[int, tuple[str, ...]], bool], *, gated: bool
) -> bool:
    left, right = blocks[i], blocks[j]
    kinds = tuple(sorted(left.parts.keys() & right.parts.keys()))
    if not kinds or left.n_units != right.n_units:
        return False
    if not all(_is_sound(b.parts, kinds) for b in (left, right)):
        return False
    if is_poor(i, kinds) or is_poor(j, kinds):
        return True
    signed = [UnitFeatures(left.parts[k], right.parts[k], signed=not (gated and k == "mlp.up")) for k in kinds]
    unsigned = [UnitFeatures(p.a, p.b, signed=False) for p in signed]
    return any(_log_evalue(parts) > LOG_COPY for parts in (signed, unsigned))


def _log_evalue(parts: Sequence[UnitFeatures]) -> float:
    """Of the permutation e-process of `unit_tests`."""
    scores, n_features = unit_scores(parts)
    return either_eprocess([scores], grid=cosine_grid(float(n_features))).log_evalue


def _is_sound(parts: Mapping[str, Float64Array], kinds: Sequence[str]) -> bool:
    """Finite, of a size whose squares are finite, and at least two units."""
    return all(parts[k].shape[1] > 1 and bool(np.isfinite(np.sum(parts[k] * parts[k]))) for k in kinds)
