"""Which of two models came first: weak signals, each with the weight it earned on trained families and no more.

Every signal compares a trait of the two models that training moves one way more often than the other. None is a test.
The weights are those of a logistic regression on families 0 to 7 of the nursery (docs/methods/tree.md, which
also counts how often each was right on the others); a signal whose trait is equal in both says nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crawl.casts import SIGNIFICANT_BITS
from lineage.relation import Signal
from lineage.stored import Arrays
from lineage.study import Study
from stats.additive import orthogonal_growth, participation
from stats.arrays import Float64Array
from stats.decay import RowDecay, row_decay

EARNED: Mapping[str, tuple[float, float]] = {
    "effective-rank": (1.63, 1.83),
    "gain-drift": (0.33, 0.0),
    "mlp-kurtosis": (0.0, 1.62),
}
"""Natural log-odds of each weak signal, by the regression: of its mean over matrices, and when all matrices agree.

Growth of the norm is not among them: right on 112 of 118 edges of the nursery, on 6 of 13 of the zoo, whose recipe decays
weights more; it would tell recipes, not ages."""

GROWTH_LOG_ODDS = 2.4
"""Natural log-odds of growth by just the update where the update is of low rank: 5 of 5 merged adapters of the fitted
families, half a case added to either side. Weight decay would take it back, but it moves every dimension, and a frozen
matrix has none."""

LOW_RANK = 0.18
"""Share of the dimensions a matrix can use below which an update counts as low-rank: merged adapters of the nursery use
0.03 to 0.14, all other updates of the fitted families 0.28 and more (medians over the matrices that changed)."""

_LOOKED = 12
_LOOKED_COLUMNS = 256
"""Matrices of a pair, and columns of each, that are looked at for this."""

DECAY_LOG_ODDS = 4.0
"""Rows no data touched shrink and never grow under weight decay; kept to what a rare optimiser could undo."""

REPLAYED = 0.98
NOT_REPLAYED = 0.95
"""Share of untouched values whose rounding must be replayed, and the share below which another source is certain."""

_STILL = 1e-3
"""Relative change of a ratio below which rows count as frozen."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What weak signals look at, of one model.

    Attributes
    ----------
    effective_rank : mapping of str to float
        Log of the effective rank of each matrix: the entropy of its normalised singular values.
    kurtosis : mapping of str to float
        Log of the fourth standardised moment of each MLP matrix.
    gain_drift : float
        Distance of the norm gains from 1 and of the norm biases from 0, where training starts them.
    """

    effective_rank: Mapping[str, float]
    kurtosis: Mapping[str, float]
    gain_drift: float


def traits_of(study: Study) -> Traits:
    """Measure the traits of one model on its slices.

    Notes
    -----
    Cost: one singular value decomposition of each matrix slice, O(m n min(m, n)).
    """
    matrices = {k: np.asarray(v, dtype=np.float64) for k, v in sorted(study.matrices.items())}
    return Traits(
        effective_rank={k: _log_effective_rank(v) for k, v in matrices.items()},
        kurtosis={k: _log_kurtosis(v) for k, v in matrices.items() if ".mlp." in k},
        gain_drift=_drift(study.vectors),
    )


def weak_signals(a: Traits, b: Traits) -> tuple[Signal, ...]:
    """Signals of two models of one shape: log-odds above 0 favour a as the parent.

    Notes
    -----
    Effective rank rises with training, gains drift from where they start, and fourth moments of MLP matrices fall
    (arXiv 2405.18432). Antisymmetric in a and b.
    """
    found = {
        "effective-rank": _gaps(a.effective_rank, b.effective_rank),
        "gain-drift": [b.gain_drift - a.gain_drift],
        "mlp-kurtosis": [-gap for gap in _gaps(a.kurtosis, b.kurtosis)],
    }
    told = (Signal(k, _log_odds(gaps, *EARNED[k])) for k, gaps in found.items())
    return tuple(s for s in told if s.log_odds != 0.0)


def growth_signal(a: Study, b: Study) -> tuple[Signal, ...] | None:
    """What the norms of two models say whose difference is of low rank; None where it is not.

    A merged adapter is a product that knows nothing of the matrix it is added to: it is all but orthogonal to it, and the
    squared norm grows by just its own. Effective rank and kurtosis tell of training that moves all dimensions, and are
    wrong about adapters as often as right.

    Notes
    -----
    Antisymmetric in a and b. Cost: one product of 256 columns for each of twelve matrices.
    """
    changed = [
        (x, y)
        for x, y in ((a.matrices[k], b.matrices[k]) for k in sorted(a.matrices.keys() & b.matrices.keys()))
        if x.shape == y.shape and not np.array_equal(x, y)
    ]
    looked = (
        [changed[i] for i in np.unique(np.linspace(0, len(changed) - 1, _LOOKED).astype(np.intp))] if changed else []
    )
    pairs = [tuple(np.asarray(v[:, :_LOOKED_COLUMNS], dtype=np.float64) for v in pair) for pair in looked]
    pairs = [(x, y) for x, y in pairs if np.any(x != y)]
    if not pairs or float(np.median([participation(y - x) for x, y in pairs])) > LOW_RANK:
        return None
    growth = float(np.median([orthogonal_growth(x, y) for x, y in pairs]))
    told = GROWTH_LOG_ODDS * max(-1.0, min(1.0, growth))
    return (Signal("orthogonal-growth", told),) if told != 0.0 else ()


def decay_of(a: Study, b: Study) -> RowDecay | None:
    """The table in which most rows were left untouched between two models, replayed; None where there is none.

    Notes
    -----
    A table all of whose rows are untouched was frozen and says nothing. The output matrix of a model is no such table:
    every token pushes all of its rows.
    """
    best: RowDecay | None = None
    for kind in ("embed", "embed.position"):
        if kind in a.tables and kind in b.tables and a.tables[kind].shape == b.tables[kind].shape:
            bits = (SIGNIFICANT_BITS.get(s.dtypes[kind], 53) for s in (a, b))
            found = row_decay(a.tables[kind], b.tables[kind], bits_a=next(bits), bits_b=next(bits))
            if found is not None and found.touched > 0 and (best is None or found.rows > best.rows):
                best = found
    return best


def decay_signal(decay: RowDecay | None) -> tuple[Signal, ...]:
    """The direction untouched rows tell: the shrunk side is the child.

    Only where the shrunk rows are the rounded multiple of the others. Rows that somebody scaled up are not: there the
    larger ones carry the rounding, and nothing is told. Changes of a few parts in a thousand can be replayed both ways.
    """
    if decay is None or abs(decay.ratio - 1.0) <= _STILL:
        return ()
    shrunk = decay.match_share if decay.ratio < 1.0 else decay.reverse_share
    if shrunk < REPLAYED:
        return ()
    return (Signal("untouched-rows", math.copysign(DECAY_LOG_ODDS, 1.0 - decay.ratio)),)


def is_another_source(decay: RowDecay | None) -> bool:
    """Whether untouched rows show that b was not made from a in one run: they shrank, and their rounding differs."""
    return decay is not None and abs(decay.ratio - 1.0) > _STILL and decay.match_share < NOT_REPLAYED


def _gaps(a: Mapping[str, float], b: Mapping[str, float]) -> list[float]:
    return [b[k] - a[k] for k in sorted(a.keys() & b.keys())]


def _log_odds(gaps: Sequence[float], mean: float, agreement: float) -> float:
    """What gaps of a trait tell: the sign of their mean, and how many more of those that are not 0 rise than fall."""
    moved = [gap for gap in gaps if gap != 0.0]
    if not moved or not all(math.isfinite(gap) for gap in moved):
        return 0.0
    total = math.fsum(moved)
    share = sum(math.copysign(1.0, gap) for gap in moved) / len(moved)
    return (math.copysign(mean, total) if total != 0.0 else 0.0) + agreement * share


def _log_effective_rank(matrix: Float64Array) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    total = float(values.sum())
    if not (0.0 < total < math.inf):
        return 0.0
    share = values / total
    share = share[share > 0.0]
    return -float(np.sum(share * np.log(share)))


def _log_kurtosis(matrix: Float64Array) -> float:
    gap = matrix - matrix.mean()
    square = gap * gap
    spread = float(square.mean())
    return math.log(float(np.square(square / spread).mean())) if spread > 0.0 else 0.0


def _drift(vectors: Arrays) -> float:
    total = 0.0
    for name in sorted(vectors):
        if "norm." in name:
            gap = np.asarray(vectors[name], dtype=np.float64) - (0.0 if "bias." in name else 1.0)
            total += float(np.sum(gap * gap))
    return math.sqrt(total)
