"""Names for what was done to a model: the transforms that a mapping shows."""

from collections.abc import Sequence

import numpy as np

from lineage.aligning import Alignment, LayerMap
from lineage.body import Body
from stats.arrays import Float64Array
from stats.matching import cosines, mutual_matches

_OFF_INDEX = 0.5
"""Share of pairs with two different indices above which hidden units are called permuted; a few stray by chance."""

_FLAT = 1.0 / 3.0
"""Relative spread of gains over that of the partner's below which they were folded away: training keeps it above."""

_RESIDUAL = {"permutation": "residual-permutation", "rotation": "residual-rotation"}


def transforms(a: Body, b: Body, found: Alignment) -> tuple[str, ...]:
    """Names of the rewrites between two models, sorted.

    Parameters
    ----------
    a, b : Body
    found : Alignment
        The mapping from b to a.

    Returns
    -------
    tuple of str
        Of the contract's list; empty when the mapping is the identity. A sample shows neither heads, nor experts, nor the
        scales of values.
    """
    maps = found.matched
    names = moved(found.residual.kind, maps)
    if maps and _is_folded(a, b, maps):
        names.add("gain-folding")
    if found.whole and any(_experts_moved(a, b, m, found) for m in maps):
        names.add("expert-permutation")
    return tuple(sorted(names))


def moved(residual: str, maps: Sequence[LayerMap]) -> set[str]:
    """Names of what the maps of the matched layers and the kind of the residual mapping show by themselves."""
    names = {_RESIDUAL[residual]} if residual in _RESIDUAL and maps else set()
    if any(_is_permuted(m) for m in maps):
        names.add("hidden-permutation")
    if any(m.kv is not None and not np.array_equal(m.kv, np.arange(m.kv.size)) for m in maps):
        names.add("head-permutation")
    scales = [s for m in maps for s in (m.mlp, m.values) if s is not None]
    if any(s.is_rescaled for s in scales):
        names.add("rescale")
    if any(s.is_flipped for s in scales):
        names.add("sign")
    return names


def _is_permuted(m: LayerMap) -> bool:
    if m.units is None or not m.units.a.size:
        return False
    if m.units.n_a != m.units.n_b:  # a pruned width keeps the order of what is left
        return bool(np.mean(np.diff(m.units.b) < 0) > _OFF_INDEX / 2)
    return bool(np.mean(m.units.a != m.units.b) > _OFF_INDEX)


def _is_folded(a: Body, b: Body, maps: Sequence[LayerMap]) -> bool:
    """Whether one model has trained gains where those of the other are constant, or nearly so."""
    for m in maps:
        for norm in ("mlp_norm", "attn_norm"):
            kind = getattr(a.architecture, norm)
            if kind is None or kind != getattr(b.architecture, norm):
                continue
            first, second = a.gain(m.a, kind), b.gain(m.b, kind)
            if first is not None and second is not None:
                low, high = sorted((_spread(first), _spread(second)))
                if low < _FLAT * high:
                    return True
    return False


def _spread(gain: Float64Array) -> float:
    return float(np.std(gain)) / max(float(np.mean(np.abs(gain))), 1e-300)


def _experts_moved(a: Body, b: Body, m: LayerMap, found: Alignment) -> bool:
    if m.a is None:
        return False
    first, second = a.layer(m.a).reads.get("router"), b.layer(m.b).reads.get("router")
    if first is None or second is None or first.shape != second.shape:
        return False
    turn = found.residual.turn
    pairs = mutual_matches(cosines(first, second if turn is None else second @ turn))
    return pairs.share > _OFF_INDEX and not pairs.is_identity
