"""What all pairs of one family say: squared distances, weak signals of direction, and rows that no data touched."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lineage.relation import LOG_ODDS_CAP, Signal
from lineage.signals import Traits, decay_of, decay_signal, is_another_source, weak_signals
from lineage.study import Slices, Study
from stats.arrays import Float64Array
from stats.decay import RowDecay


@dataclass(frozen=True, slots=True)
class Kinship:
    """Members of one shape and what their pairs say.

    Attributes
    ----------
    ids : tuple of str
    squared : (n, n) float64
        Squared distances on the matrices all members have, each over its median squared norm, averaged.
    signals : mapping of (int, int) to tuple of Signal
        For i < j: what speaks of direction; log-odds above 0 favour i as the parent.
    excluded : (n, n) bool
        [i, j]: untouched rows show that j was not made from i in one run.
    """

    ids: tuple[str, ...]
    squared: Float64Array
    signals: Mapping[tuple[int, int], tuple[Signal, ...]]
    excluded: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

    def log_odds(self, i: int, j: int) -> float:
        """Natural log-odds that i is the parent of j, given the edge, capped."""
        sign, key = (1.0, (i, j)) if i < j else (-1.0, (j, i))
        total = math.fsum(s.log_odds for s in self.signals.get(key, ()))
        return sign * max(-LOG_ODDS_CAP, min(LOG_ODDS_CAP, total))


def kinship(members: Sequence[Study], traits: Mapping[str, Traits]) -> Kinship:
    """Compare all pairs of members of one shape.

    Parameters
    ----------
    members : sequence of Study
        n of them, of one shape class.
    traits : mapping of str to Traits
        By id.

    Returns
    -------
    Kinship

    Notes
    -----
    Cost: O(n^2 p) arithmetic in matrix products for p values, O(n^2 k d) for k rows of tables.
    """
    n = len(members)
    squared = squared_distances([m.matrices or m.tables for m in members])
    signals: dict[tuple[int, int], tuple[Signal, ...]] = {}
    excluded = np.zeros((n, n), dtype=np.bool_)
    for i in range(n):
        for j in range(i + 1, n):
            decay = decay_of(members[i], members[j])
            found = weak_signals(traits[members[i].id], traits[members[j].id])
            signals[i, j] = (*decay_signal(decay), *found)
            excluded[i, j] = is_another_source(decay)
            excluded[j, i] = decay is not None and is_another_source(_reversed(decay))
    return Kinship(tuple(m.id for m in members), squared, signals, excluded)


def squared_distances(models: Sequence[Slices]) -> Float64Array:
    """Squared distances on the arrays every model has at one shape.

    Notes
    -----
    From the differences to the first model, so that close models lose no digits: |x - y|^2 with x, y small.
    """
    n = len(models)
    names = sorted(set.intersection(*(set(m) for m in models))) if models else []
    names = [k for k in names if len({m[k].shape for m in models}) == 1]
    total = np.zeros((n, n)) if names else np.full((n, n), np.inf)
    for name in names:
        first = np.asarray(models[0][name], dtype=np.float64).ravel()
        sizes = [float(np.sum(np.square(m[name], dtype=np.float64))) for m in models]
        gaps = np.stack([np.asarray(m[name], dtype=np.float64).ravel() - first for m in models])
        inner = gaps @ gaps.T
        size = np.diag(inner)
        scale = float(np.median(sizes)) or 1.0
        total += np.maximum(size[:, None] + size[None, :] - 2.0 * inner, 0.0) / scale / len(names)
    np.fill_diagonal(total, 0.0)
    return 0.5 * (total + total.T)


def _reversed(decay: RowDecay) -> RowDecay:
    return RowDecay(
        rows=decay.rows,
        touched=decay.touched,
        ratio=1.0 / decay.ratio,
        match_share=decay.reverse_share,
        reverse_share=decay.match_share,
        n=decay.n,
    )
