"""How far apart a related pair is, measured on what was read. Describes; never tests."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from crawl.casts import SIGNIFICANT_BITS
from lineage.align import common_rows, is_usable
from lineage.signature import Signature
from stats.arrays import Float64Array
from stats.distance import PairSums, pair_sums


@dataclass(frozen=True, slots=True)
class Change:
    """Differences between two signatures on their common tensors.

    Attributes
    ----------
    matrices : PairSums
        Pooled over matrices and tables.
    by_role : mapping of str to PairSums
        Per role kind, gains included.
    gain_correlation : float or None
        Correlation of parameters that start constant (gains and norm biases): a common initialisation gives
        them nothing, descent does. None when either model has none that were trained.
    same_shape : bool
        Whether every tensor read has a partner of the same shape.
    retention : float or None
        Retention ratio (`lineage.retention`) where whole matrices were read.
    """

    matrices: PairSums
    by_role: Mapping[str, PairSums]
    gain_correlation: float | None
    same_shape: bool
    retention: float | None = None


@np.errstate(over="ignore", invalid="ignore")
def measure_change(a: Signature, b: Signature) -> Change:
    """Sums over everything both signatures hold at the same role and shape."""
    total = PairSums()
    by_role: dict[str, PairSums] = {}
    for kind, left, right, is_vector in common_arrays(a, b):
        sums = pair_sums(left, right)
        by_role[kind] = by_role.get(kind, PairSums()) + sums
        total = total if is_vector else total + sums
    same = a.n_layers == b.n_layers and _shapes(a) == _shapes(b)
    return Change(matrices=total, by_role=by_role, gain_correlation=_gain_correlation(a, b), same_shape=same)


def common_arrays(a: Signature, b: Signature) -> Iterator[tuple[str, Float64Array, Float64Array, bool]]:
    """(role kind, values of a, values of b, whether a vector), finite ones only, in a fixed order."""
    for key in sorted(a.vectors.keys() & b.vectors.keys(), key=str):
        yield from _if_comparable(key[1], a.vectors[key], b.vectors[key], is_vector=True)
    for role in sorted(a.census.keys() & b.census.keys()):
        yield from _if_comparable(role.partition(".")[2], a.census[role], b.census[role], is_vector=False)
    for left, right in zip(a.blocks, b.blocks, strict=False):
        for kind in sorted(left.parts.keys() & right.parts.keys()) if left.layer == right.layer else ():
            yield from _if_comparable(kind, left.parts[kind], right.parts[kind], is_vector=False)
    for kind in sorted(a.tables.keys() & b.tables.keys()):
        yield from _if_comparable(kind, *common_rows(a.tables[kind], b.tables[kind]), is_vector=False)


def is_equal(a: Signature, b: Signature) -> bool:
    """Whether every value read agrees and nothing read lacks a partner."""
    return a.slices_digest == b.slices_digest and _shapes(a) == _shapes(b)


def is_comparable(a: Signature, b: Signature) -> bool:
    """Whether everything read of both is finite and of one shape: what is not would be left out of a replay."""
    return _shapes(a) == _shapes(b) and _is_finite(a) and _is_finite(b)


def is_wider(first: str, second: str) -> bool:
    """Whether the first number format has more significant bits than the second."""
    return SIGNIFICANT_BITS.get(first, 0) > SIGNIFICANT_BITS.get(second, 0)


def _is_finite(signature: Signature) -> bool:
    """Whether every value read is a number."""
    arrays = [*signature.vectors.values(), *signature.census.values(), *(t.values for t in signature.tables.values())]
    arrays += [values for block in signature.blocks for values in block.parts.values()]
    return all(bool(np.isfinite(v).all()) for v in arrays)


def _if_comparable(
    kind: str, left: Float64Array, right: Float64Array, *, is_vector: bool
) -> Iterator[tuple[str, Float64Array, Float64Array, bool]]:
    if left.shape == right.shape and left.size and np.isfinite(left).all() and np.isfinite(right).all():
        yield kind, left, right, is_vector


def _shapes(signature: Signature) -> list[tuple[str, int, tuple[int, ...]]]:
    shapes = [(str(k), 0, v.shape) for k, v in signature.vectors.items()]
    shapes += [(k, 0, v.shape) for k, v in signature.census.items()]
    shapes += [(k, t.n_rows, t.values.shape) for k, t in signature.tables.items()]
    shapes += [(f"block {b.layer}", b.n_units, ()) for b in signature.blocks]
    return sorted(shapes)


def _gain_correlation(a: Signature, b: Signature) -> float | None:
    left: list[Float64Array] = []
    right: list[Float64Array] = []
    for key in sorted(a.vectors.keys() & b.vectors.keys(), key=str):
        x, y = a.vectors[key], b.vectors[key]
        if x.shape == y.shape and is_usable(x, y):
            left.append(x - x.mean())
            right.append(y - y.mean())
    if not left:
        return None
    x, y = np.concatenate(left), np.concatenate(right)
    size = math.sqrt(float(np.sum(x * x)) * float(np.sum(y * y)))
    return float(np.sum(x * y)) / size if size > 0.0 else None
