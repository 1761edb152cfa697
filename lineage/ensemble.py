"""A model and what it may be made of, on common tensors: inner products, distances, and how coarsely values are stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from crawl.casts import SIGNIFICANT_BITS, can_replay, round_to
from lineage.stored import Arrays
from stats.arrays import Float64Array, IntVector
from stats.mixing import BLOCK, BlockGram, block_gram

MOST = 16
"""Candidates looked at, the nearest ones."""

SAMPLE = 1 << 20
"""Elements that inner products are taken over; beyond it every second, third, ... element of each tensor."""

PROBE = 1 << 16
"""Elements that ways of merging are tried on before the best is tried on everything."""

_SHARED = 0.5
"""Share of the model's elements that candidates must have in common with it."""

_COARSE = ("BF16", "F16")
_SMALLEST = {"F16": 2.0**-24, "BF16": 2.0**-133, "F32": 2.0**-149}
"""Steps of the smallest stored numbers."""


@dataclass(frozen=True, slots=True)
class MergeParent:
    """One source of a merge.

    Attributes
    ----------
    id : str
    coefficient : float
        Its weight: of values in a linear or spherical merge, of differences from the base elsewhere.
    per_layer : mapping of int to float
        The weight by layer where it is not the same in all; empty where it is.
    """

    id: str
    coefficient: float
    per_layer: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merge:
    """What a model is made of.

    Attributes
    ----------
    method : str or None
        `linear`, `slerp`, `task-arithmetic`, `ties`, `dare`, `dare-ties`, `model-stock`, `passthrough`. None when the
        candidates explain a part of the model and nothing shows that it was merged from them.
    parents : tuple of MergeParent
        By falling weight; empty without a method.
    base : str or None
        The model differences are taken from, where the method has one.
    replay_share : float
        Share of values that the method reproduces bit for bit.
    explained : float
        Share of the squared difference from the nearest candidate that the fit explains.
    parameters : mapping
        What the method needs beside weights: densities, arithmetic, what supports the answer.
    """

    method: str | None
    parents: tuple[MergeParent, ...]
    base: str | None
    replay_share: float
    explained: float
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ensemble:
    """A model with its candidates.

    Attributes
    ----------
    child : mapping of str to ndarray
    candidates : mapping of str to mapping
        The nearest ones, nearest first.
    dtype : str
        Format the child's values were rounded to: the stored one, or a coarser one that holds them all.
    stored : str
        The stored format.
    names : tuple of str
        Tensors that all have in one shape, sorted.
    distances : tuple of float
        Squared distance of each candidate from the child.
    gram : BlockGram
        Columns: child minus nearest candidate, each candidate minus the nearest, the nearest itself.
    owners : (b,) int64
        Position in `names` of the tensor each block of `gram` belongs to.
    """

    child: Arrays
    candidates: Mapping[str, Arrays]
    dtype: str
    stored: str
    names: tuple[str, ...]
    distances: tuple[float, ...]
    gram: BlockGram
    owners: IntVector

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the candidates in the order of the columns."""
        return tuple(self.candidates)

    @cached_property
    def by_tensor(self) -> BlockGram:
        """The inner products with one block a tensor."""
        starts = np.flatnonzero(np.diff(self.owners, prepend=-1))
        return BlockGram(np.add.reduceat(self.gram.products, starts), np.add.reduceat(self.gram.sizes, starts))

    @cached_property
    def sample(self) -> Float64Array:
        """(1 + k, n): the child and every candidate at about PROBE elements spread over all tensors."""
        return self.sampled(range(1 + len(self.candidates)), PROBE)[0]

    def sampled(self, chosen: Sequence[int], most: int) -> tuple[Float64Array, IntVector]:
        """Some of the child (0) and its candidates (from 1) at about so many elements spread over all tensors.

        Parameters
        ----------
        chosen : sequence of int
        most : int

        Returns
        -------
        (m, n) float64
        (n,) int64
            Position in `names` of the tensor each element belongs to.
        """
        every = max(1, sum(self.child[n].size for n in self.names) // most)
        everyone = [self.child, *self.candidates.values()]
        values = [np.concatenate([flat(everyone[i][n])[::every] for n in self.names]) for i in chosen]
        sizes = [-(-self.child[n].size // every) for n in self.names]
        return np.stack(values), np.repeat(np.arange(len(self.names)), sizes)

    def rows(self, chosen: Sequence[int], *, free: bool) -> Float64Array:
        """Combinations of the columns that make a regression of the child on chosen candidates.

        Everything is taken relative to the first of them, so that its own weight is what the others leave of one; with
        `free` the last combination is the first candidate itself, whose weight is what all of them exceed one by.
        """
        k = len(self.candidates)
        first, others = chosen[0], chosen[1:]
        out = np.zeros((1 + len(others) + free, k + 2))
        for row, column in enumerate((0, *(1 + c for c in others))):
            out[row, column] += 1.0
            out[row, 1 + first] -= 1.0
        if free:
            out[-1, [1 + first, k + 1]] = 1.0
        return out


def layer_of(name: str) -> int | None:
    """Layer of a tensor's name; None for what stands outside of layers."""
    head = name.partition(".")[0]
    return int(head) if head.isdigit() else None


def flat(values: "np.ndarray[Any, np.dtype[Any]]") -> Float64Array:
    """One tensor as a float64 vector."""
    return np.asarray(values, dtype=np.float64).ravel()


def spacing(values: Float64Array, dtype: str) -> Float64Array:
    """Distance between neighbouring stored numbers at each value."""
    power = (np.ascontiguousarray(values).view(np.uint64) & np.uint64(0x7FF0000000000000)).view(np.float64)
    return np.maximum(power * 2.0 ** (1 - SIGNIFICANT_BITS[dtype]), _SMALLEST.get(dtype, 2.0**-149))


def format_of(arrays: Arrays, dtype: str) -> str:
    """The coarsest of the 16-bit formats that holds every value, or the stored one."""
    fits = [
        d for d in _COARSE if all(np.array_equal(round_to(v, d), flat(v).reshape(v.shape)) for v in arrays.values())
    ]
    wider = [d for d in fits if SIGNIFICANT_BITS[d] < SIGNIFICANT_BITS.get(dtype, 0)]
    return wider[0] if wider else dtype


def assemble(child: Arrays, candidates: Mapping[str, Arrays], dtype: str) -> Ensemble | None:
    """Bring a model and its candidates onto common tensors.

    Parameters
    ----------
    child : mapping of str to ndarray
    candidates : mapping of str to mapping
        By id; those that share less than half of the child's elements are left out.
    dtype : str
        Stored format of the child, as in safetensors headers.

    Returns
    -------
    Ensemble or None
        None without a candidate of the child's shapes, for formats whose rounding cannot be replayed, and for
        values that are not finite.
    """
    if not can_replay(dtype) or dtype not in SIGNIFICANT_BITS or not child:
        return None
    names, usable = _common(child, candidates)
    if not usable or not all(np.isfinite(child[n]).all() for n in names):
        return None
    distances = {i: sum(float(np.sum((flat(child[n]) - flat(m[n])) ** 2)) for n in names) for i, m in usable.items()}
    near = sorted(usable, key=lambda i: (distances[i], i))[:MOST]
    models = {i: usable[i] for i in near}
    stride = max(1, -(-sum(child[n].size for n in names) // SAMPLE))
    grams, owners = _products(child, list(models.values()), names, stride)
    mine = {n: child[n] for n in names}
    return Ensemble(
        mine, models, format_of(mine, dtype), dtype, names, tuple(distances[i] for i in near), grams, owners
    )


def _common(child: Arrays, candidates: Mapping[str, Arrays]) -> tuple[tuple[str, ...], dict[str, Arrays]]:
    """Tensors that the child and every usable candidate have, and these candidates."""
    names, usable = set(child), {}
    whole = sum(v.size for v in child.values())
    for name in sorted(candidates):
        model = candidates[name]
        shared = {n for n in names if n in model and model[n].shape == child[n].shape}
        shared = {n for n in shared if np.isfinite(model[n]).all()}
        if sum(child[n].size for n in shared) > _SHARED * whole:
            names, usable[name] = shared, model
    return tuple(sorted(names)), usable


def _products(
    child: Arrays, models: Sequence[Arrays], names: Iterable[str], stride: int
) -> tuple[BlockGram, IntVector]:
    grams: list[BlockGram] = []
    owners: list[int] = []
    for i, columns in enumerate(_columns(child, models, names, stride)):
        grams.append(block_gram(columns, block=BLOCK))
        owners += [i] * grams[-1].sizes.size
    joined = BlockGram(np.concatenate([g.products for g in grams]), np.concatenate([g.sizes for g in grams]))
    return joined, np.array(owners, dtype=np.int64)


def _columns(child: Arrays, models: Sequence[Arrays], names: Iterable[str], stride: int) -> Iterator[Float64Array]:
    for name in names:
        nearest = flat(models[0][name])[::stride]
        rows = [flat(child[name])[::stride] - nearest]
        rows += [flat(m[name])[::stride] - nearest for m in models]
        yield np.vstack([*rows, nearest])
