"""The directed tree of members of one shape: its most probable form, and exact marginals over all trees.

Squared distances say which links are short, evidence of direction which way they point. The sum over all rooted trees is
exact (the directed matrix-tree theorem, `stats.matrixtree`), so a link that could as well be another one gets the
probability it deserves, whatever the best tree looks like. Every member is equally probable as the root beforehand.
"""

from dataclasses import dataclass

import numpy as np

from lineage.kinship import Kinship
from stats.additive import step_cosines
from stats.arborescence import minimum_arborescence
from stats.arrays import Float64Array
from stats.matrixtree import tree_marginals

SHARPNESS = 8.0
"""Weight of a log distance: the squared distance of a link enters to the power of minus half of this. Chosen on the
fitted families of the nursery by the probability given to true links; steps of one family are no Gaussian walk of as
many dimensions as there are values, because updates of one origin have directions in common."""

ADDITIVE = 0.01
"""Mean squared cosine between steps that meet below which distances add along the tree, and are trusted more: 0.014 to
0.145 in the fitted families, 0.0001 to 0.0003 in twins of them that are made of merged adapters."""

SHARPEST = 25.0
"""Times `SHARPNESS` at most."""

FEWEST_ANGLES = 8
"""Angles between steps below which nothing is said of how well distances add."""

POPULARITY = 0.75
"""Power of the number of other children a member is believed to have, plus one half: models of the Hub have children the
more the more they have (arXiv 2503.10633 takes preferential attachment as one of its rivals). Chosen as the above."""

_ROUNDS = 3

EXCLUSION = 4.0
"""Log weight a link loses where untouched rows show another source."""

ROWS_CHANGED = 500.0
"""Log weight a link would lose if all rows of the tables changed: four nats for each of the 128 rows of the nursery. Of
larger tables the share counts, because the texts of a step touch many rows at once. By the likelihood of the true trees of
the fitted families and twins of them, as are `EXCLUSION` and `ARRAYS_CHANGED`."""

ARRAYS_CHANGED = 10.0
"""Log weight a link would lose if all matrices, tables and vectors changed."""

NEAREST = 1e-12
"""Squared distance below which two members count as equally near."""


@dataclass(frozen=True, slots=True)
class TreePosterior:
    """What is believed of the links between members of one shape.

    Attributes
    ----------
    parent : (n,) int64
        Parent of each member in the most probable tree, -1 for its root.
    edge : (n, n) float64
        [u, v]: probability that u is the parent of v.
    root : (n,) float64
        Probability of each member to be the root.
    log_weight : (n, n) float64
        [u, v]: log weight of that link in the tree.
    sharpness : float
        Weight of a log distance in it.
    """

    parent: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    edge: Float64Array
    root: Float64Array
    log_weight: Float64Array
    sharpness: float = SHARPNESS


def sharpness_of(squared: Float64Array) -> float:
    """Weight of a log distance in a family: more where squared distances add along its shortest tree.

    Steps of independent low rank are orthogonal; then a link that is none is longer than every link on the way, however
    unequal the steps are. Where steps have directions in common a short wrong link is possible, and none is trusted far.
    """
    cosines = step_cosines(squared) if np.isfinite(squared).all() else np.zeros(0)
    if cosines.size < FEWEST_ANGLES:
        return SHARPNESS
    mean = float(np.mean(np.square(cosines)))
    return SHARPNESS * (min(SHARPEST, max(1.0, ADDITIVE / mean)) if mean > 0.0 else SHARPEST)


def tree_posterior(
    kin: Kinship, *, sharpness: float | None = None, claims: Float64Array | None = None
) -> TreePosterior:
    """Best tree and marginals of one family.

    Parameters
    ----------
    kin : Kinship
    sharpness : float, optional
        See `SHARPNESS`; by default `sharpness_of` the distances.
    claims : (n, n) float64, optional
        [u, v]: natural log-odds from outside the weights that u is the parent of v; antisymmetric.

    Returns
    -------
    TreePosterior

    Notes
    -----
    log weight of u -> v: -sharpness / 2 log d2(u, v) + half the log-odds of the direction, less `EXCLUSION` where the
    untouched rows of v come from elsewhere, less `ROWS_CHANGED` and `ARRAYS_CHANGED` times the shares that changed, plus `POPULARITY` times the log of half a child and those u is believed to
    have beside v, by three rounds of the marginals. Cost: O(n^3).
    """
    n = len(kin.ids)
    sharpness = sharpness_of(kin.squared) if sharpness is None else sharpness
    weights = link_weights(kin, sharpness) + (0.0 if claims is None else 0.5 * claims)
    liked = weights
    for _ in range(_ROUNDS):
        marginals = tree_marginals(liked, np.zeros(n), single_root=True)
        others = np.maximum(marginals.edge.sum(axis=1)[:, None] - marginals.edge, 0.0)
        liked = weights + POPULARITY * np.log(0.5 + others)
    marginals = tree_marginals(liked, np.zeros(n), single_root=True)
    best = minimum_arborescence(np.where(np.isfinite(liked), -liked, np.inf))
    return TreePosterior(best, np.asarray(marginals.edge), np.asarray(marginals.root), liked, sharpness)


def link_weights(kin: Kinship, sharpness: float) -> Float64Array:
    """Log weight of every ordered pair; minus infinity on the diagonal."""
    n = len(kin.ids)
    distance = np.maximum(kin.squared, NEAREST)
    weights = -0.5 * sharpness * np.log(distance)
    for share, weight in ((kin.rows, ROWS_CHANGED), (kin.arrays, ARRAYS_CHANGED)):
        if share is not None:
            weights -= weight * (share - share.max())
    for i in range(n):
        for j in range(n):
            if i != j:
                weights[i, j] += 0.5 * kin.log_odds(i, j) - EXCLUSION * bool(kin.excluded[i, j])
    np.fill_diagonal(weights, -np.inf)
    return np.asarray(weights)
