"""Pruned copies: entries of a model that another one has as zeros, with everything else as it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lineage.casting import SHARE, Chain, find_chain
from lineage.stored import Arrays, Values, is_table, paired
from stats.arrays import Float64Array
from stats.pruning import Mask, Pattern, find_pattern

LEAST = 0.05
"""Share of the entries of the pruned matrices that must have become zero: fewer is an edit of single values."""

_PRUNED = 0.02
"""Share of its entries from which a matrix counts as pruned."""

_FILLED = 1e-4
"""Share of the zeros of a parent that may be no zeros in its child: training fills them all, pruning none."""

BY_SIZE = 12.0
"""Log-odds that the dense side is the parent where its values give the mask. The other way round somebody filled the zeros
with values that all lie below a threshold between them and the rest. No training does that; whoever wants to plant an
ancestor can, and two files cannot tell."""

BY_CHOICE = 6.0
"""The same where the mask is no function of the values: free entries of a pruned model can be trained alone
(arXiv 1711.05769), which leaves the same pair of files. Rare: one in four hundred is generous."""

OLDER = 3.0
"""Values at the zeros, in units of the change elsewhere, above which no training put them there."""

BY_RATIO = 4.0
"""Log-odds that the dense side did not come from the sparse one where values at the zeros are so large."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """A mask between two models.

    Attributes
    ----------
    sparsity : float
        Share of zeros in the pruned matrices of the child.
    removed : float
        Share of their entries that were something else in the parent.
    pattern : Pattern
    chain : Chain or None
        Roundings that give the kept entries and all other arrays; None where they were changed otherwise.
    ratio : float
        Root mean square of the parent at the zeros over that of the change of the kept entries.
    """

    sparsity: float
    removed: float
    pattern: Pattern
    chain: Chain | None
    ratio: float

    @property
    def log_odds(self) -> float:
        """That the dense side is the parent, natural."""
        if self.chain is not None:
            return BY_SIZE if self.pattern.by_size else BY_CHOICE
        return BY_RATIO if self.ratio >= OLDER else 0.0

    @property
    def details(self) -> dict[str, Any]:
        """For a document."""
        return {
            "sparsity": round(self.sparsity, 6),
            "removed": round(self.removed, 6),
            "pattern": self.pattern.name,
            "mask_from_sizes": self.pattern.by_size,
            "larger_kept": round(self.pattern.auc, 4),
            "kept_equal": None if self.chain is None else round(self.chain.share, 6),
        }


def find_mask(parent: Arrays, child: Arrays, dtypes: Mapping[str, str]) -> Pruned | None:
    """Whether a child has zeros where its parent has none, and nowhere the other way round.

    Parameters
    ----------
    parent, child : mapping of str to ndarray
        Stored values of the same arrays of both, vectors included.
    dtypes : mapping of str to str
        Stored format of each array of the child.

    Returns
    -------
    Pruned or None
        None where too few entries became zero, or zeros of the parent are none in the child: two masks that do not lie in
        one another are no parent and child.

    Notes
    -----
    Null: none; a replay of the kept entries. Zeros of tables alone are no pruning: rows of tokens never seen are often
    zero. Cost: a sort of each pruned matrix.
    """
    pairs = paired(parent, child)
    pruned = {k: (p, c) for k, p, c in pairs if np.mean((c == 0.0) & (p != 0.0)) >= _PRUNED}
    if all(is_table(k) for k in pruned):
        return None
    gone = [(c == 0.0) & (p != 0.0) for p, c in pruned.values()]
    n = sum(g.size for g in gone)
    removed = sum(int(g.sum()) for g in gone) / n
    zeros = sum(int(np.count_nonzero(p == 0.0)) for _, p, _ in pairs)
    filled = sum(int(np.count_nonzero((p == 0.0) & (c != 0.0))) for _, p, c in pairs)
    if removed < LEAST or removed == 1.0 or filled > _FILLED * zeros:
        return None
    return Pruned(
        sparsity=sum(int(np.count_nonzero(c == 0.0)) for _, c in pruned.values()) / n,
        removed=removed,
        pattern=find_pattern([p for p, _ in pruned.values()], gone),
        chain=_kept_chain(parent, child, dtypes, set(pruned)),
        ratio=_ratio(list(pruned.values()), gone),
    )


def shared_below_masks(a: Arrays, b: Arrays) -> dict[str, Any] | None:
    """Numbers of two pruned copies of one model: equal wherever both have a value, each with values the other lacks.

    Parameters
    ----------
    a, b : mapping of str to ndarray
        Stored values of the same arrays of both, in one format.

    Returns
    -------
    dict or None
        Shares of values that only one side has. None where one could have been made from the other, or values differ.
    """
    pairs = [(x, y) for _, x, y in paired(a, b)]
    n = sum(x.size for x, _ in pairs)
    only_a = sum(int(np.count_nonzero((x != 0.0) & (y == 0.0))) for x, y in pairs)
    only_b = sum(int(np.count_nonzero((x == 0.0) & (y != 0.0))) for x, y in pairs)
    both = sum(int(np.count_nonzero((x != 0.0) & (y != 0.0))) for x, y in pairs)
    unequal = sum(int(np.count_nonzero((x != 0.0) & (y != 0.0) & (x != y))) for x, y in pairs)
    if min(only_a, only_b) < LEAST * max(n, 1) or not both or unequal > (1.0 - SHARE) * both:
        return None
    found = {"only_a": only_a / n, "only_b": only_b / n, "shared_equal": 1.0 - unequal / both}
    return {k: round(v, 6) for k, v in found.items()}


def masked(parent: Arrays, child: Arrays) -> dict[str, Values]:
    """A parent with the zeros of a child in its matrices."""
    return {**parent, **{name: np.where(c == 0.0, 0.0, p) for name, p, c in paired(parent, child)}}


def _kept_chain(parent: Arrays, child: Arrays, dtypes: Mapping[str, str], pruned: set[str]) -> Chain | None:
    """Roundings that give all entries but those set to zero."""
    if parent.keys() != child.keys():
        return None
    pairs = []
    for name in sorted(child):
        before, after = np.asarray(parent[name]), np.asarray(child[name])
        if before.shape != after.shape:
            return None
        if name in pruned:
            kept = after != 0.0
            before, after = before[kept], after[kept]
        if after.size:
            pairs.append((before, after, dtypes[name]))
    return find_chain(pairs)


def _ratio(pairs: list[tuple[Float64Array, Float64Array]], gone: list[Mask]) -> float:
    there = np.concatenate([p[g] for (p, _), g in zip(pairs, gone, strict=True)])
    kept = np.concatenate([(p - c)[c != 0.0] for p, c in pairs])
    change = float(np.sqrt(np.mean(kept**2))) if kept.size else 0.0
    return float(np.sqrt(np.mean(there**2))) / change if change > 0.0 else float("inf")
