"""Which of three models lies between the other two: elements in which one alone differs, and plain distances."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.arrays import IntVector

Words: TypeAlias = NDArray[np.uint64]
"""Masks of elements as bits; the last axis is the words of one block."""

_ROWS = 16
"""Rows of a matrix in one block: units whose counts are taken as independent of one another."""

_CHUNK_BYTES = 1 << 24
"""Largest size of the equality masks held at once."""

_FEWEST = 8
"""Blocks below which no standard error is trusted."""

_RATIO, _Z = 0.9, 6.0
"""A centre's count is this much smaller than the next one, and by this many standard errors."""


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """Odd-one-out counts of triples by block; blocks of further tensors are appended with `+`.

    Attributes
    ----------
    odd : (t, b, 3) int64
        Elements of a block in which the other two models of a triple agree and this one differs.
    size : (b,) int64
        Elements of a block.
    """

    odd: NDArray[np.int64]
    size: IntVector

    def __add__(self, other: "BlockCounts") -> "BlockCounts":
        """Counts over the blocks of both, for the same triples."""
        return BlockCounts(np.concatenate([self.odd, other.odd], axis=1), np.concatenate([self.size, other.size]))


@dataclass(frozen=True, slots=True)
class Triplet:
    """The middle of three models.

    Attributes
    ----------
    counts : (int, int, int)
        Odd-one-out count of each model.
    smallest : int
        Index of the smallest count, the first among equals.
    centre : int or None
        The same, where it stands out; None otherwise.
    z : float
        Second smallest minus smallest count in standard errors; 0 where blocks are too few to tell.
    ratio : float
        Smallest over second smallest count; 1 when both are 0.
    """

    counts: tuple[int, int, int]
    smallest: int
    centre: int | None
    z: float
    ratio: float


@dataclass(frozen=True, slots=True)
class DistanceCentre:
    """The middle of three models by distance.

    Attributes
    ----------
    pendant : (float, float, float)
        Distance of each model from the point where the three paths meet; negative where two updates point apart.
    centre : int
        The model nearest to that point, the first among equals.
    """

    pendant: tuple[float, float, float]
    centre: int


def triplet_centre(odd: ArrayLike, size: ArrayLike) -> Triplet:
    """Middle of three models from odd-one-out counts by block.

    Parameters
    ----------
    odd : (b, 3) array_like of int
        One triple of `odd_counts`.
    size : (b,) array_like of int
        Elements of each block.

    Returns
    -------
    Triplet

    Raises
    ------
    ValueError
        Shapes do not fit, or a block holds more odd elements than elements.

    Notes
    -----
    Null: none; a description with an error bar. An element in which one model alone differs changed on the branch that
    is private to it, and the middle of a path has none; what it counts are coincidences of the two others. The counts
    of two models differ by the equal elements of their pairs with the third, so the smallest lies opposite the pair
    with the fewest equal elements: a distance that sees whether an element changed, not how far. A few large elements
    cannot mislead it; a smaller step that undoes part of a larger one in most elements can, as it does distances.
    The standard error is that of the difference over blocks, in proportion to their sizes, or that of independent
    elements if larger. A centre needs a ratio below 0.9 and z above 6, on at least 8 blocks. It presumes that the
    middle model is among the three: where it is not, siblings whose changes differ in size give false centres. So do
    rows that no data trains, which weight decay moves alike in all children: leave tables of tokens out.
    Cost: O(b).
    """
    counts, sizes = np.asarray(odd, dtype=np.int64), np.asarray(size, dtype=np.int64)
    if counts.ndim != 2 or counts.shape[1] != 3 or sizes.shape != counts.shape[:1]:
        raise ValueError(f"odd must be (b, 3) and size (b,), got {counts.shape} and {sizes.shape}")
    if (counts < 0).any() or (counts.sum(axis=1) > sizes).any():
        raise ValueError("a block cannot hold more odd elements than elements")
    total = counts.sum(axis=0)
    first, second, _ = np.argsort(total, kind="stable").tolist()
    lead, gap = int(total[first]), int(total[second] - total[first])
    error = _standard_error(counts[:, second] - counts[:, first], sizes, lead + int(total[second]))
    z = gap / error if gap and sizes.size >= _FEWEST else 0.0
    ratio = lead / int(total[second]) if gap else 1.0
    x, y, w = total.tolist()
    return Triplet((x, y, w), first, first if ratio < _RATIO and z > _Z else None, z, ratio)


def _standard_error(gap: IntVector, size: IntVector, counted: int) -> float:
    """Of a sum of differences over blocks, but no less than that of independent elements, `counted` of them odd."""
    share = size / max(1, int(size.sum()))
    rest = gap - int(gap.sum()) * share
    between = float(np.sum(rest * rest)) * gap.size / max(1, gap.size - 1)
    return math.sqrt(max(between, float(counted)))


def odd_counts(
    arrays: Sequence[ArrayLike], triples: Sequence[tuple[int, int, int]], *, block_rows: int = _ROWS
) -> BlockCounts:
    """Odd-one-out counts of many triples of models over one tensor.

    Parameters
    ----------
    arrays : sequence of (m, ...) array_like, one shape and one dtype
        The tensor in every model, rounded to the coarsest of their formats beforehand; codes of a quantised tensor are
        as good. A vector is one row. Formats of numpy and of ml_dtypes.
    triples : sequence of (int, int, int)
        Positions in `arrays`.
    block_rows : int
        Rows in a block.

    Returns
    -------
    BlockCounts
        Blocks in order of rows; of several tensors they are joined with `+`.

    Raises
    ------
    ValueError
        Fewer than one array or triple, shapes or dtypes differ, a value is not finite, or a triple does not name three
        different arrays.

    Notes
    -----
    Values are compared, so the two zeros agree. A pair's equality is found once, as bits, however many triples hold it;
    a triple then costs an AND and a count of bits. Masks of all pairs are held for at most 16 MiB of blocks at a time, and
    of one block at least. Cost: O(p N) for p pairs and N elements, and O(t N / 64) for t triples.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> base = rng.normal(size=(256, 64)).astype(np.float16)
    >>> changed = rng.random((2, *base.shape)) < 0.5
    >>> left, right = np.where(changed, rng.normal(size=changed.shape), base).astype(np.float16)
    >>> found = odd_counts([left, base, right], [(0, 1, 2)])
    >>> print(f"the middle is model {triplet_centre(found.odd[0], found.size).centre}")
    the middle is model 1
    """
    chosen = _triples(triples, len(arrays))
    pairs = sorted({(min(i, j), max(i, j)) for t in chosen for i, j in ((t[0], t[1]), (t[0], t[2]), (t[1], t[2]))})
    at = {pair: k for k, pair in enumerate(pairs)}
    opposite = np.array([[at[min(i, j), max(i, j)] for i, j in ((y, z), (x, z), (x, y))] for x, y, z in chosen])
    keys, size = _blocks(arrays, block_rows)
    odd = np.empty((len(chosen), size.size, 3), dtype=np.int64)
    for start, stop, masks in _masks(keys, size, pairs):
        equal = _bits(masks)[opposite]
        for t, sides in enumerate(opposite):
            equal[t] -= _bits(masks[sides[0]] & masks[sides[1]])
        odd[:, start:stop] = equal.transpose(0, 2, 1)
    return BlockCounts(odd, size)


def pair_equal_blocks(
    arrays: Sequence[ArrayLike], pairs: Sequence[tuple[int, int]], *, block_rows: int = _ROWS
) -> NDArray[np.int64]:
    """Elements of equal value in each block, for many pairs of models.

    Parameters
    ----------
    arrays : sequence of (m, ...) array_like, one shape and one dtype
        As for `odd_counts`.
    pairs : sequence of (int, int)
        Positions in `arrays`.
    block_rows : int
        Rows in a block.

    Returns
    -------
    (p, b) int64

    Raises
    ------
    ValueError
        As `odd_counts`.

    Notes
    -----
    Cost: O(p N) for p pairs and N elements; memory as `odd_counts`.
    """
    if not pairs or not all(0 <= i < len(arrays) for pair in pairs for i in pair):
        raise ValueError(f"pairs must name arrays, 0 to {len(arrays) - 1}")
    keys, size = _blocks(arrays, block_rows)
    equal = np.empty((len(pairs), size.size), dtype=np.int64)
    for start, stop, masks in _masks(keys, size, pairs):
        equal[:, start:stop] = _bits(masks)
    return equal


def distance_centre(xy: float, xz: float, yz: float) -> DistanceCentre:
    """Middle of three models by their squared distances.

    Parameters
    ----------
    xy, xz, yz : float
        Squared distances between the three, which add along a path when successive updates are orthogonal.

    Returns
    -------
    DistanceCentre

    Raises
    ------
    ValueError
        A distance is negative, NaN or infinite.

    Notes
    -----
    The middle lies opposite the longest side. It is missed once the cosine of the two updates is below minus half the
    ratio of the shorter to the longer. Cost: O(1).
    """
    sides = (xy, xz, yz)
    if not all(math.isfinite(s) and s >= 0.0 for s in sides):
        raise ValueError(f"squared distances must be finite and not negative, got {sides}")
    pendant = (0.5 * (xy + xz - yz), 0.5 * (xy + yz - xz), 0.5 * (xz + yz - xy))
    return DistanceCentre(pendant, min(range(3), key=lambda i: (pendant[i], i)))


def _triples(triples: Sequence[tuple[int, int, int]], n: int) -> list[tuple[int, int, int]]:
    if not triples or not all(len({*t}) == 3 and min(t) >= 0 and max(t) < n for t in triples):
        raise ValueError(f"triples must name three different arrays each, 0 to {n - 1}")
    return [(int(x), int(y), int(z)) for x, y, z in triples]


def _blocks(arrays: Sequence[ArrayLike], rows: int) -> tuple[list[NDArray[Any]], IntVector]:
    """Each array as rows of whole blocks whose integers are equal exactly where values are; and the blocks' sizes."""
    tables = [np.asarray(a) for a in arrays]
    if rows < 1 or not tables or not all(t.size for t in tables):
        raise ValueError("arrays must hold elements and block_rows be positive")
    tables = [t.reshape(1, -1) if t.ndim < 2 else t.reshape(t.shape[0], -1) for t in tables]
    if any(t.shape != tables[0].shape or t.dtype != tables[0].dtype for t in tables):
        raise ValueError("arrays must have one shape and one dtype")
    m, columns = tables[0].shape
    starts = np.arange(0, m, rows)
    return [_keys(t) for t in tables], np.minimum(rows, m - starts) * columns


def _keys(table: NDArray[Any]) -> NDArray[Any]:
    """Stored bits as integers, with one zero."""
    if table.dtype.kind in "iub":
        return table
    if not np.isfinite(table).all():
        raise ValueError("arrays hold NaN or infinite values: untestable")
    unsigned = np.dtype(f"u{table.dtype.itemsize}")
    bits = np.ascontiguousarray(table).view(unsigned)
    return np.where(bits == unsigned.type(1 << (8 * unsigned.itemsize - 1)), unsigned.type(0), bits)


def _masks(
    keys: list[NDArray[Any]], size: IntVector, pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, Words]]:
    """Equality of pairs as bits (p, blocks, words), a stretch of blocks at a time: first block, end, masks."""
    width = int(size[0])
    words = -(-width // 64)
    step = max(1, min(_CHUNK_BYTES // (8 * words * len(pairs)), _CHUNK_BYTES // width))
    flat = [k.ravel() for k in keys]
    for start in range(0, size.size, step):
        stop = min(start + step, size.size)
        masks = np.zeros((len(pairs), stop - start, 8 * words), dtype=np.uint8)
        same = np.zeros((stop - start) * width, dtype=np.bool_)
        here = slice(start * width, min(stop * width, flat[0].size))
        for k, (i, j) in enumerate(pairs):
            np.equal(flat[i][here], flat[j][here], out=same[: here.stop - here.start])
            masks[k, :, : -(-width // 8)] = np.packbits(same.reshape(stop - start, width), axis=1)
        yield start, stop, masks.view(np.uint64)


def _bits(masks: Words) -> NDArray[np.int64]:
    """Set bits of the last axis."""
    return np.asarray(np.bitwise_count(masks).sum(axis=-1, dtype=np.int64))
