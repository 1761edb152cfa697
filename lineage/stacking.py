"""Stacks of layers from several models, each layer at its own place."""

from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lineage.ensemble import Ensemble, Merge, MergeParent, flat, layer_of
from stats.arrays import Float64Array, IntVector

Table: TypeAlias = NDArray[np.bool_]

MOST_PARENTS = 4

CLOSE = 0.25
"""Squared distance of a layer from its source over that from any other source, and of the whole stack over that from the
nearest single candidate, up to which a stack that was trained on is recognised."""


def find_stacked(models: Ensemble) -> Merge | None:
    """Recognise a child whose layers come from several candidates, at the same place in each.

    Parameters
    ----------
    models : Ensemble

    Returns
    -------
    Merge or None
        Of the smallest sets of sources that hold every layer bit for bit, the one nearest outside of layers; else, where
        every layer is far nearer to one source than to any other, these sources.

    Notes
    -----
    A model that was trained on in some layers only, whose descendant was trained on in the others only, looks the same.
    Cost: O(n k).
    """
    layers = sorted({x for n in models.names if (x := layer_of(n)) is not None})
    if len(layers) < 2:
        return None
    distance = _distances(models, layers)
    equal = distance == 0.0
    if equal.any(axis=1).all():
        sources = (
            None if equal.all(axis=0).any() else _smallest(equal, np.array(models.distances) - distance.sum(axis=0))
        )
    else:
        sources = _nearest(distance)
    return None if sources is None else _stack(models, layers, sources, exact=bool(equal.any(axis=1).all()))


def _distances(models: Ensemble, layers: list[int]) -> Float64Array:
    """(layers, candidates) squared distances of the child's layers."""
    out = np.zeros((len(layers), len(models.candidates)))
    for name in models.names:
        layer = layer_of(name)
        if layer is not None:
            child = flat(models.child[name])
            gaps = (child - flat(m[name]) for m in models.candidates.values())
            out[layers.index(layer)] += [float(np.sum(g * g)) for g in gaps]
    return out


def _smallest(equal: Table, outside: Float64Array) -> IntVector | None:
    """Source of each layer from the smallest set that holds all, nearest outside of layers; None beyond four sources."""
    for size in range(2, MOST_PARENTS + 1):
        sets = [c for c in combinations(range(equal.shape[1]), size) if equal[:, c].any(axis=1).all()]
        if sets:
            chosen = min(sets, key=lambda c: (outside[list(c)].min(), c))
            return np.asarray(np.array(chosen)[equal[:, chosen].argmax(axis=1)], dtype=np.int64)
    return None


def _nearest(distance: Float64Array) -> IntVector | None:
    """Source of each layer where all are far nearer to theirs than to any other; None where some are not."""
    nearest = distance.argmin(axis=1)
    used = np.unique(nearest)
    if not 2 <= used.size <= MOST_PARENTS:
        return None
    best = distance.min(axis=1)
    others = np.array([min(row[u] for u in used if u != n) for row, n in zip(distance, nearest, strict=True)])
    if not best.all():  # some layers are copies and others are not: trained in part, rather than stacked and trained
        return None
    is_close = (best <= CLOSE * others).all() and best.sum() <= CLOSE * distance.sum(axis=0).min()
    return nearest if is_close else None


def _stack(models: Ensemble, layers: list[int], sources: IntVector, *, exact: bool) -> Merge:
    arrays = list(models.candidates.values())
    used = sorted(set(sources.tolist()))
    origin = dict(zip(layers, sources.tolist(), strict=True))
    hits = total = 0
    left = 0.0
    for name in models.names:
        child, layer = flat(models.child[name]), layer_of(name)
        among = used if layer is None else [origin[layer]]
        gaps = min((child - flat(arrays[c][name]) for c in among), key=lambda g: float(np.sum(g * g)))
        hits, total = hits + int(np.count_nonzero(gaps == 0.0)), total + gaps.size
        left += float(np.sum(gaps * gaps))
    parents = []
    for c in used:
        mine = {layer: 1.0 for layer, source in origin.items() if source == c}
        parents.append(MergeParent(models.ids[c], round(len(mine) / len(layers), 6), mine))
    return Merge(
        method="passthrough",
        parents=tuple(sorted(parents, key=lambda p: (-p.coefficient, p.id))),
        base=None,
        replay_share=hits / total,
        explained=max(0.0, 1.0 - left / min(models.distances)),
        parameters={
            "support": "equal layers" if exact else "nearest layers",
            "not_excluded": "trained in some layers only, then in the others only",
        },
    )
