"""Blocks of one model whose units carry the same labels: copies and near copies must not be multiplied.

Two blocks are put together when their units know each other's labels, read with and without signs, or when too few
distinct units are alive for that to be seen: below a dozen, copies could not be told from strangers.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lineage.signature import Block
from stats.arrays import Float64Array
from stats.tails import log_factorial
from stats.units import UnitFeatures, unit_tests

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

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for j in range(len(blocks)):
        for i in range(j):
            low, high = sorted((find(i), find(j)))
            if low != high and _share_labels(blocks[i], blocks[j], gated=gated):
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
    distinct = np.unique(alive, axis=0).shape[0] if alive.size else 0
    return log_factorial(distinct) - math.log(2.0) >= _LOG_CAPACITY


def _share_labels(left: Block, right: Block, *, gated: bool) -> bool:
    kinds = sorted(left.parts.keys() & right.parts.keys())
    if not kinds or left.n_units != right.n_units:
        return False
    if not all(_is_sound(b.parts, kinds) for b in (left, right)):
        return False
    if not all(has_capacity([b.parts[k] for k in kinds]) for b in (left, right)):
        return True
    signed = [UnitFeatures(left.parts[k], right.parts[k], signed=not (gated and k == "mlp.up")) for k in kinds]
    unsigned = [UnitFeatures(p.a, p.b, signed=False) for p in signed]
    return any((unit_tests(parts, label_group="")[0].log_evalue or 0.0) > LOG_COPY for parts in (signed, unsigned))


def _is_sound(parts: Mapping[str, Float64Array], kinds: Sequence[str]) -> bool:
    """Finite, of a size whose squares are finite, and at least two units."""
    return all(parts[k].shape[1] > 1 and bool(np.isfinite(np.sum(parts[k] * parts[k]))) for k in kinds)
