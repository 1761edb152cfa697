"""How much of a tree depends on which matrices were looked at: the tree again, from matrices drawn with replacement."""

from collections.abc import Sequence

import numpy as np

from lineage.distances import block_distances
from lineage.posterior import NEAREST, TreePosterior
from lineage.stored import Arrays
from stats.arborescence import minimum_arborescence
from stats.arrays import Float64Array

REPLICATES = 200

MOST_BLOCKS = 128
"""Blocks that are drawn; of deeper models neighbours in the order of names are put together, for memory's sake."""

FEWEST_BLOCKS = 4
"""Blocks below which a share says more of the draws than of the tree."""


def link_support(
    models: Sequence[Arrays], squared: Float64Array, found: TreePosterior, rng: np.random.Generator
) -> Float64Array | None:
    """Share of replicates in whose best tree two members are linked.

    Parameters
    ----------
    models : sequence of mapping of str to ndarray
        The arrays behind the distances, of n members of one shape.
    squared : (n, n) float64
        Their squared distances.
    found : TreePosterior
        Of all arrays.
    rng : numpy.random.Generator

    Returns
    -------
    (n, n) float64 or None
        Symmetric; None for fewer than three members or too few common arrays.

    Notes
    -----
    A block is one matrix of one layer. A replicate draws as many blocks as there are, with replacement, and averages their
    squared distances; evidence of direction and of the number of children stays as it was. It shows the noise of sampling,
    not what is wrong with the model of distances: where all matrices err alike it is 1. Cost: `REPLICATES` times O(b n^2).
    """
    n = len(models)
    blocks = _pooled(block_distances(models))
    if n < 3 or len(blocks) < FEWEST_BLOCKS:
        return None
    flat = blocks.reshape(len(blocks), n * n)
    rest = found.log_weight + 0.5 * found.sharpness * np.log(np.maximum(squared, NEAREST))
    together = np.zeros((n, n))
    for weights in rng.multinomial(len(blocks), np.full(len(blocks), 1.0 / len(blocks)), size=REPLICATES):
        drawn = (weights / len(blocks) @ flat).reshape(n, n)
        cost = 0.5 * found.sharpness * np.log(np.maximum(drawn, NEAREST)) - rest
        parent = minimum_arborescence(np.where(np.isfinite(cost), cost, np.inf))
        child = np.flatnonzero(parent >= 0)
        together[parent[child], child] += 1.0
    return np.asarray((together + together.T) / REPLICATES)


def _pooled(blocks: Float64Array) -> Float64Array:
    """At most `MOST_BLOCKS` means of neighbours."""
    if len(blocks) <= MOST_BLOCKS:
        return blocks
    return np.stack([part.mean(axis=0) for part in np.array_split(blocks, MOST_BLOCKS)])
