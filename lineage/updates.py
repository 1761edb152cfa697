"""What an update between a parent and a child touched, and whether it is one of low rank: a merged adapter."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crawl.casts import SIGNIFICANT_BITS
from lineage.stored import rounded
from lineage.study import Study
from stats.rank import DeltaRank, delta_rank

_LARGEST_SHARE = 0.4
"""Rank over the smaller side up to which an update counts as low."""

LEAST_GAP = 2.0
"""Last singular value above the edges over the next one, from which a rank is one: below a merged adapter lies rounding, and
those of the trained fixtures have 32 and more; 1,199 matrices of their full fine-tunes have at most 1.66."""

_AGREE = 0.6
_LOW = 0.8
"""Share of the changed matrices whose rank is the most frequent one, give or take one, and share that are of low rank."""

_SPREAD = 0.05
"""Share of a matrix's values that an adapter changes at least: an edit of single values has low rank, too."""

_WINDOW = 256


@dataclass(frozen=True, slots=True)
class LowRank:
    """A merged adapter.

    Attributes
    ----------
    rank : int
        Most frequent rank of the changed matrices.
    targets : tuple of str
        Kinds of matrices it changed.
    ranks : mapping of str to int
        By matrix.
    """

    rank: int
    targets: tuple[str, ...]
    ranks: Mapping[str, int] = field(default_factory=dict)

    @property
    def details(self) -> dict[str, Any]:
        """For a document."""
        return {"rank": self.rank, "targets": list(self.targets)}


def low_rank_update(parent: Study, child: Study) -> LowRank | None:
    """Whether a child is its parent with an adapter of low rank merged into some kinds of matrices.

    Parameters
    ----------
    parent, child : Study
        Of one shape.

    Returns
    -------
    LowRank or None
        None unless everything else is bit-identical, rounded to the format of the child where that is coarser, and of the
        changed matrices four in five have low rank with a gap below it, three in five the same give or take one.

    Notes
    -----
    Ranks count singular values above what rounding to the stored formats leaves (`stats.rank.delta_rank`). Symmetric in
    both models: no direction. Cost: one decomposition of at most 256 x 256 for each changed matrix.
    """
    if parent.shape_class != child.shape_class or parent.dtypes.keys() != child.dtypes.keys():
        return None
    before = {k: rounded(v, child.dtypes[k]) for k, v in {**parent.slices, **parent.vectors}.items()}
    rest = [k for group in (child.tables, child.vectors) for k, v in group.items() if not np.array_equal(before[k], v)]
    changed = [k for k in sorted(child.matrices) if not np.array_equal(before[k], child.matrices[k])]
    if rest or not changed:
        return None
    if any(np.mean(before[k] != child.matrices[k]) < _SPREAD for k in changed):
        return None
    kinds = {k.partition(".")[2] for k in changed}
    found = {k: _rank(k, parent, child) for k in changed}
    ranks = {k: r.low for k, r in found.items()}
    low = [r.low for r in found.values() if is_low(r)]
    if len(low) < _LOW * len(changed):
        return None
    mode = Counter(low).most_common(1)[0][0]
    if sum(abs(r - mode) <= 1 for r in low) < _AGREE * len(changed):
        return None
    return LowRank(mode, tuple(sorted(kinds)), ranks)


def is_low(found: DeltaRank) -> bool:
    """Whether one difference is of low rank: few singular values above the edges, and a gap below them."""
    return 0 < found.low <= _LARGEST_SHARE * min(found.shape) and found.gap >= LEAST_GAP


def _rank(name: str, parent: Study, child: Study) -> DeltaRank:
    bits = [SIGNIFICANT_BITS.get(s.dtypes[name], 53) for s in (parent, child)]
    a, b = (np.asarray(s.matrices[name][:_WINDOW, :_WINDOW], dtype=np.float64) for s in (parent, child))
    return delta_rank(a, b, bits_a=bits[0], bits_b=bits[1])
