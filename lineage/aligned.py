"""Two models compared through their mapping: what is left of the difference once every rewrite is undone."""

from collections.abc import Iterator
from dataclasses import dataclass

from crawl.casts import SIGNIFICANT_BITS
from lineage.aligning import Alignment, LayerMap, Scales, by_head
from lineage.body import Body, Layer
from lineage.streams import turned
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
        leaves, else None.
    """

    sums: PairSums
    by_role: dict[str, PairSums]
    exactness: str | None


def agreement_after(a: Body, b: Body, found: Alignment, dtype: str) -> Agreement:
    """Compare every paired layer after undoing the mapping.

    Parameters
    ----------
    a, b : Body
    found : Alignment
        The mapping from b to a.
    dtype : str
        Stored number format of the coarser of the two.

    Returns
    -------
    Agreement
        Elements of units that found no partner are left out.
    """
    by_role: dict[str, PairSums] = {}
    for m in found.matched:
        base, other = a.layer(m.a or 0), turned(b.layer(m.b), found.residual)
        for kind, x, y in paired(base, other, m):
            by_role[kind] = by_role.get(kind, PairSums()) + pair_sums(x, y)
    total = PairSums()
    for kind in sorted(by_role):
        total += by_role[kind]
    return Agreement(total, by_role, _exactness(total, dtype))


def _exactness(total: PairSums, dtype: str) -> str | None:
    if not total.n:
        return None
    if total.equal == total.n:
        return "bits"
    edge = 2.0 ** -SIGNIFICANT_BITS.get(dtype, 24)
    return "rounding" if total.relative_change <= edge else None


def paired(base: Layer, other: Layer, m: LayerMap) -> Iterator[tuple[str, Float64Array, Float64Array]]:
    """(kind, rows of a, rows of b) of everything a layer map pairs; `other` is in the residual basis of a."""
    left, right = {**base.reads, **base.writes}, {**other.reads, **other.writes}
    if m.units is not None:
        for kind in ("mlp.gate", "mlp.up", "mlp.down"):
            if kind in left and kind in right and left[kind].shape[1] == right[kind].shape[1]:
                yield kind, left[kind][m.units.a], _unscaled(right[kind][m.units.b], m.mlp, kind)
    yield from _attention(left, right, m)


def _attention(
    left: dict[str, Float64Array], right: dict[str, Float64Array], m: LayerMap
) -> Iterator[tuple[str, Float64Array, Float64Array]]:
    for kind in ("attn.k", "attn.v"):
        x, y = left.get(kind), right.get(kind)
        if x is None or y is None or x.shape != y.shape:
            continue
        if m.kv is not None:
            y = y[by_head(x.shape[0], m.kv)]
        yield kind, x, _unscaled(y, m.values, kind)


def _unscaled(rows: Float64Array, scales: Scales | None, kind: str) -> Float64Array:
    """Rows with their free scale undone; what a unit writes was scaled by the inverse."""
    if scales is None or kind not in {"mlp.up", "mlp.down", "attn.v"}:
        return rows
    size = scales.undone[:, None]
    return rows * size if kind == "mlp.down" else rows / size
