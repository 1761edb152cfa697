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
from stats.treewalk import normal_table, walked_trees

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

FEWEST, MOST = 6, 64
"""Members of a family whose steps are weighed two by two: of fewer there are too few angles, of more the walk is long."""

TEMPER = 3.7
"""Over the number of members: power of the density of lengths and angles. As many cosines as pairs of steps are counted, and
they are tied to one another about as much as there are members. By the probability given to the true links of the fitted
families and of twins of them."""

COSINES = normal_table(np.array([0.34, 0.08, 0.07]), np.array([0.21, 0.27, 0.15]), share=0.1, wide=0.4)
"""Cosines of steps of the fitted families, mean and standard deviation: 68 of steps from one member, 27 of a step and the one
after it, 79 of others. Merged adapters are left out: all their cosines are near 0."""

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
    is_walked : bool
        Whether trees were drawn; else the sums are exact.
    """

    parent: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    edge: Float64Array
    root: Float64Array
    log_weight: Float64Array
    sharpness: float = SHARPNESS
    is_walked: bool = False


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
    kin: Kinship,
    *,
    sharpness: float | None = None,
    claims: Float64Array | None = None,
    rng: np.random.Generator | None = None,
) -> TreePosterior:
    """Best tree and marginals of one family.

    Parameters
    ----------
    kin : Kinship
    sharpness : float, optional
        See `SHARPNESS`; by default `sharpness_of` the distances.
    claims : (n, n) float64, optional
        [u, v]: natural log-odds from outside the weights that u is the parent of v; antisymmetric.
    rng : numpy.random.Generator, optional
        Of the trees drawn; by default one with seed 0.

    Returns
    -------
    TreePosterior

    Notes
    -----
    log weight of u -> v: -sharpness / 2 log d2(u, v) + half the log-odds of the direction, less `EXCLUSION` where the
    untouched rows of v come from elsewhere, less `ROWS_CHANGED` and `ARRAYS_CHANGED` times the shares that changed, plus `POPULARITY` times the log of half a child and those u is believed to
    have beside v, by three rounds of the marginals. Cost: O(n^3). Where steps have directions in common, among `FEWEST` to `MOST`
    members, lengths and angles of all steps are weighed together instead (`stats.treewalk`), and the tree is the one with the
    largest product of marginals; the first tree is only where the walk begins.
    """
    n = len(kin.ids)
    walked = sharpness is None and FEWEST <= n <= MOST and bool(np.isfinite(kin.squared).all())
    sharpness = sharpness_of(kin.squared) if sharpness is None else sharpness
    weights = link_weights(kin, sharpness) + (0.0 if claims is None else 0.5 * claims)
    liked = weights
    for _ in range(_ROUNDS):
        marginals = tree_marginals(liked, np.zeros(n), single_root=True)
        others = np.maximum(marginals.edge.sum(axis=1)[:, None] - marginals.edge, 0.0)
        liked = weights + POPULARITY * np.log(0.5 + others)
    marginals = tree_marginals(liked, np.zeros(n), single_root=True)
    best = minimum_arborescence(np.where(np.isfinite(liked), -liked, np.inf))
    first = TreePosterior(best, np.asarray(marginals.edge), np.asarray(marginals.root), liked, sharpness)
    if walked and sharpness == SHARPNESS:
        return _walked(kin, first, claims, rng or np.random.default_rng(0))
    return first


def _walked(kin: Kinship, first: TreePosterior, claims: Float64Array | None, rng: np.random.Generator) -> TreePosterior:
    """The same with lengths and angles of steps in place of lengths alone."""
    n = len(kin.ids)
    weights = link_weights(kin, 0.0) + (0.0 if claims is None else 0.5 * claims)
    temper = TEMPER / n
    found = walked_trees(kin.squared, weights, COSINES, first.parent, rng, temper=temper, popularity=POPULARITY)
    liked = np.log(np.where(np.eye(n) > 0, 1.0, found.edge))
    np.fill_diagonal(liked, -np.inf)
    best = minimum_arborescence(np.where(np.isfinite(liked), -liked, np.inf))
    return TreePosterior(best, found.edge, found.root, liked, temper * n, is_walked=True)


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
