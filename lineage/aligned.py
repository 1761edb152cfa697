"""Two models compared through their mapping: what is left of the difference once every rewrite is undone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from crawl.casts import SIGNIFICANT_BITS
from lineage.aligning import Alignment, LayerMap, by_head
from lineage.body import Body, Layer
from lineage.scales import Scales
from lineage.streams import turned
from lineage.tokens import Shared
from stats.arrays import Float64Array
from stats.distance import PairSums, pair_sums


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two models agree after alignment.

    Attributes
    ----------
    sums : PairSums
        Over all paired elements of the layers that have a partner.
    by_role : dict of str to PairSums
        The same by role kind.
    exactness : str or None
        "bits" when every paired value is equal, "rounding" when what is left is what rounding to the stored format
        leaves, in each role by itself, else None.
    complete : bool
        Whether every matrix and every unit of both models took part, the tables of tokens and positions, and, by their
        norms, all tensors that have no role.
    """

    sums: PairSums
    by_role: dict[str, PairSums]
    exactness: str | None
    complete: bool


def agreement_after(a: Body, b: Body, found: Alignment, shared: Shared, dtype: str) -> Agreement:
    """Compare every paired layer after undoing the mapping.

    Parameters
    ----------
    a, b : Body
    found : Alignment
        The mapping from b to a.
    shared : Shared
        The tokens both have.
    dtype : str
        Stored number format of the coarser of the two.

    Returns
    -------
    Agreement
        Elements of units that found no partner are left out.
    """
    by_role: dict[str, PairSums] = {}
    complete = len(found.matched) == len(found.layers) == a.architecture.n_layers and shared.whole
    for m in found.matched:
        base, other = a.layer(m.a or 0), turned(b.layer(m.b), found.residual)
        kinds = set()
        for kind, x, y in paired(base, other, m):
            by_role[kind] = by_role.get(kind, PairSums()) + pair_sums(x, y)
            kinds.add(kind)
        whole = m.units is not None and m.units.a.size == m.units.n_a == m.units.n_b
        complete = complete and whole and kinds >= _matrices(base) | _matrices(other)
    for kind, x, y in _tables(a, b, found, shared):
        complete = complete and x.shape == y.shape
        if x.shape == y.shape:
            by_role[kind] = pair_sums(x, y)
    total = PairSums()
    for kind in sorted(by_role):
        total += by_role[kind]
    complete = complete and not (a.has_experts or b.has_experts) and _same_leftovers(a, b, dtype)
    return Agreement(total, by_role, _exactness(by_role, dtype), complete)


def _same_leftovers(a: Body, b: Body, dtype: str) -> bool:
    """Whether tensors of no role have partners of one name, shape and norm."""
    first, second = a.leftovers(), b.leftovers()
    edge = 2.0 ** -SIGNIFICANT_BITS.get(dtype, 24)
    return first.keys() == second.keys() and all(
        first[k][0] == second[k][0] and abs(first[k][1] - second[k][1]) <= edge * max(first[k][1], 1e-300)
        for k in first
    )


def _exactness(by_role: Mapping[str, PairSums], dtype: str) -> str | None:
    if not by_role:
        return None
    if all(sums.equal == sums.n for sums in by_role.values()):
        return "bits"
    edge = 2.0 ** -SIGNIFICANT_BITS.get(dtype, 24)
    return "rounding" if all(sums.relative_change <= edge for sums in by_role.values()) else None


def _matrices(layer: Layer) -> set[str]:
    return set(layer.reads) | set(layer.writes)


def _tables(a: Body, b: Body, found: Alignment, shared: Shared) -> Iterator[tuple[str, Float64Array, Float64Array]]:
    """Tables of tokens and positions in one residual basis, the head with the final gain folded in."""
    turn = found.residual.turn
    for kind in ("embed", "embed.position", "unembed"):
        x, y = a.table(kind, shared.a), b.table(kind, shared.b)
        if x is None or y is None:
            if a.has(kind) or b.has(kind):
                yield kind, np.zeros((0, 1)), np.zeros((1, 0))  # one side alone, or not finite: nothing equals it
            continue
        yield kind, x, y if turn is None or y.shape[1] != turn.shape[0] else y @ turn


def paired(base: Layer, other: Layer, m: LayerMap) -> Iterator[tuple[str, Float64Array, Float64Array]]:
    """(kind, rows of a, rows of b) of everything a layer map pairs; `other` is in the residual basis of a."""
    left, right = {**base.reads, **base.writes}, {**other.reads, **other.writes}
    if m.units is not None:
        for kind in ("mlp.gate", "mlp.up", "mlp.down"):
            if kind in left and kind in right and left[kind].shape[1] == right[kind].shape[1]:
                yield kind, left[kind][m.units.a], unscaled(right[kind][m.units.b], m.mlp, kind)
    yield from _attention(left, right, m)


def _attention(
    left: dict[str, Float64Array], right: dict[str, Float64Array], m: LayerMap
) -> Iterator[tuple[str, Float64Array, Float64Array]]:
    for kind, heads in (("attn.k", m.kv), ("attn.v", m.kv), ("attn.q", m.queries), ("attn.o", m.queries)):
        x, y = left.get(kind), right.get(kind)
        if x is None or y is None or x.shape != y.shape:
            continue
        y = y if heads is None else y[by_head(x.shape[0], heads)]
        if kind == "attn.o" and m.values is not None and m.kv is not None:
            size = m.values.undone.reshape(m.kv.size, -1)
            y = y * np.repeat(size, x.shape[0] // size.size, axis=0).reshape(-1, 1)
        yield kind, x, unscaled(y, m.values, kind)


def unscaled(rows: Float64Array, scales: Scales | None, kind: str) -> Float64Array:
    """Rows with their free scale undone; what a unit writes was scaled by the inverse."""
    if scales is None or kind not in {"mlp.up", "mlp.down", "attn.v"}:
        return rows
    size = scales.undone[:, None]
    return rows * size if kind == "mlp.down" else rows / size
