"""What a closer look may read of two models: all of them, or a sample of bounded size. Decided from shapes alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crawl import Role, View, WeightSource
from lineage.plan import RowKey, pick_run
from stats.arrays import IntVector

N_UNITS = 128
"""Neighbouring hidden units of each layer of a that look for partners: two in three may be lost and ten still agree."""

N_TOKENS = 256
"""Rows of an embedding that relate two residual streams: twice as many found nothing more on the fixtures."""

CHUNK, SMALL_CHUNK, REMOTE_CHUNK = 1 << 19, 1 << 16, 1 << 23
"""Bytes read at once, of large matrices, of small ones, and over the network: what is held beside the answers."""

REMOTE_TOKENIZER = 16_000_000
"""Bytes of a tokenizer that is fetched over the network to join tokens by string: most are below 12 MB."""

_HIGHEST_TOKEN = 4096
"""Token rows lie below this id, as those of a signature."""

_SHARE = 0.3
"""Part of the limit that a few units of many layers may take: with it a model of 7B shows one layer to every layer."""

_FEWEST = 20
"""Units a sample must be able to find in the other model: below it a resemblance could hardly be told from none."""

_KINDS = ("mlp.gate", "mlp.up", "mlp.down")


@dataclass(frozen=True, slots=True)
class Limits:
    """Stored bytes a closer look may read of one model.

    Attributes
    ----------
    whole, whole_remote, whole_thorough : int
        Size up to which a model is read whole: from a disk, over the network, and with `--thorough`. All of it is then
        held at once, in float64, at eight bytes a parameter.
    sampled, sampled_remote : int
        Most bytes read of a larger model. With `--thorough` every layer of it is looked at, whatever that takes.
    """

    whole: int = 16 << 20
    whole_remote: int = 8 << 20
    whole_thorough: int = 64 << 20
    sampled: int = 256_000_000
    sampled_remote: int = 64_000_000


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Sample:
    """A run of neighbouring hidden units in some layers.

    Attributes
    ----------
    layers : tuple of int
    n_units : int
        All units where a layer has no more.
    """

    layers: tuple[int, ...]
    n_units: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read of two models that are too large to be read whole.

    Attributes
    ----------
    kinds : tuple of str
        The two matrices by which hidden units are told.
    few : Sample
        Of a: a few units of many layers.
    many : Sample
        Of b: all or many units of a few layers.
    """

    kinds: tuple[str, ...]
    few: Sample
    many: Sample


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one comparison may spend.

    Attributes
    ----------
    thorough : bool
        Every layer, whatever it takes.
    max_bytes : int or None
        Most bytes read in all of each model.
    limits : Limits
    """

    thorough: bool = False
    max_bytes: int | None = None
    limits: Limits = LIMITS

    def whole(self, source: WeightSource) -> bool:
        """Whether a model may be read whole: small ones always, larger ones with `thorough`, within `max_bytes`."""
        size = sum(len(t.span) for t in source.tensors.values())
        if self.max_bytes is not None and source.bytes_read + 2 * size + tokenizer_bytes(source) > self.max_bytes:
            return False
        if self.thorough:
            return size <= self.limits.whole_thorough
        return size <= (self.limits.whole_remote if _is_remote(source) else self.limits.whole)

    def room(self, source: WeightSource) -> int | None:
        """Bytes of a sample left for matrices once tokens and gains are paid for; None without a limit."""
        remote = _is_remote(source)
        most = None if self.thorough else self.limits.sampled_remote if remote else self.limits.sampled
        if self.max_bytes is not None:
            left = self.max_bytes - source.bytes_read
            most = left if most is None else min(most, left)
        arch = source.architecture
        if most is None or arch is None:
            return most
        item = max((t.dtype.bits // 8 for t in source.tensors.values()), default=1)
        return max(0, most - tokenizer_bytes(source) - item * arch.width * (3 * N_TOKENS + 2 * arch.n_layers + 1))


def plan_sample(a: WeightSource, b: WeightSource, allowed: Allowance) -> Plan | None:
    """What to read of two models of known architecture that are not read whole.

    Parameters
    ----------
    a, b : WeightSource
    allowed : Allowance

    Returns
    -------
    Plan or None
        None where too few units could be found, or where hidden units are not seen by two matrices of both models.

    Notes
    -----
    Depends on shapes and formats alone, never on a value. Both depths are sampled by one rule, so that layers in their
    places meet.
    """
    kinds = tuple(k for k in _KINDS if all(_layers_with(s, (k,)) for s in (a, b)))[:2]
    if len(kinds) < 2:
        return None
    few, many = _few(a, kinds, allowed.room(a)), _many(b, kinds, allowed.room(b))
    if few is None or many is None:
        return None
    n_a, n_b = (hidden(s, kinds, p.layers[0]) for s, p in ((a, few), (b, many)))
    return Plan(kinds, few, many) if findable(few.n_units, n_a, many.n_units, n_b) >= min(_FEWEST, n_a) else None


def tokenizer_bytes(source: WeightSource) -> int:
    """What reading the strings of a model's tokens costs; 0 where they are not read."""
    size = source.vocabulary_bytes
    return 0 if _is_remote(source) and size > REMOTE_TOKENIZER else size


def findable(few: int, n_a: int, many: int, n_b: int) -> float:
    """Units of `few` of n_a that are expected among `many` of n_b, when the smaller layer is part of the larger one."""
    return min(few, n_a) * min(1.0, n_b / n_a) * min(1.0, many / n_b)


def pick_units(n: int, count: int, key: RowKey) -> IntVector:
    """A run of `count` units below n; a longer run holds the shorter one."""
    first = pick_run("look", n, N_UNITS, key)
    start = min(int(first[0]), n - min(count, n))
    return start + np.arange(min(count, n))


def pick_lookups(n: int, key: RowKey) -> IntVector:
    """Token rows of a table of n: at most `N_TOKENS`, in four runs, the same whatever is added at its end."""
    size = min(1 << (max(n, 1).bit_length() - 1), _HIGHEST_TOKEN)
    if size <= N_TOKENS:
        return np.arange(size)
    part = size // 4
    return np.concatenate([i * part + pick_run(f"look/{i}", part, N_TOKENS // 4, key) for i in range(4)])


def matrix(source: WeightSource, kind: str, layer: int) -> View | None:
    """The matrix of a kind in a layer, the dense one or that of the first expert."""
    view = source.views.get(Role(kind, layer)) or source.views.get(Role(kind, layer, 0))
    return view if view is not None and len(view.shape) == 2 else None


def hidden(source: WeightSource, kinds: Sequence[str], layer: int) -> int:
    """Hidden units of a layer."""
    view = matrix(source, kinds[0], layer)
    return 0 if view is None else view.shape[1] if kinds[0] == "mlp.down" else view.shape[0]


def _layers_with(source: WeightSource, kinds: Sequence[str]) -> tuple[int, ...]:
    """Layers that hold all these matrices, in numbers of at least a byte."""
    depth = source.architecture.n_layers if source.architecture is not None else 0
    found = []
    for layer in range(depth):
        views = [matrix(source, kind, layer) for kind in kinds]
        if all(v is not None and v.tensor.dtype.bits >= 8 and v.tensor.dtype.decoded for v in views):
            found.append(layer)
    return tuple(found)


def _few(source: WeightSource, kinds: Sequence[str], room: int | None) -> Sample | None:
    layers = _layers_with(source, kinds)
    if not layers:
        return None
    if room is not None:
        cost = max(_cost(source, kinds, layer, N_UNITS) for layer in layers)
        layers = _spread(layers, int(_SHARE * room) // max(1, cost))
    return Sample(layers, N_UNITS) if layers else None


def _many(source: WeightSource, kinds: Sequence[str], room: int | None) -> Sample | None:
    sampled = _few(source, kinds, room)
    if sampled is None:
        return None
    most = max(hidden(source, kinds, layer) for layer in sampled.layers)
    if room is None:
        return Sample(sampled.layers, most)
    cost = max(_cost(source, kinds, layer, most) for layer in sampled.layers)
    if room >= cost:
        return Sample(_spread(sampled.layers, room // cost), most)
    if _is_remote(source) and any(_is_scattered(source, k, sampled.layers[0]) for k in kinds):
        return None
    return Sample(_spread(sampled.layers, 1), most * room // cost)


def _cost(source: WeightSource, kinds: Sequence[str], layer: int, n_units: int) -> int:
    """Bytes of some units of a layer; units that are scattered over a file come with all others over the network."""
    total = 0
    for kind in kinds:
        view = matrix(source, kind, layer)
        if view is not None:
            n, width = (view.shape[1], view.shape[0]) if kind == "mlp.down" else view.shape
            count = n if _is_remote(source) and _is_scattered(source, kind, layer) else min(n, n_units)
            total += count * width * view.tensor.dtype.bits // 8
    return total


def _is_scattered(source: WeightSource, kind: str, layer: int) -> bool:
    view = matrix(source, kind, layer)
    return view is not None and view.transposed != (kind == "mlp.down")


def _is_remote(source: WeightSource) -> bool:
    return source.ref.scheme == "hub"


def _spread(layers: Sequence[int], count: int) -> tuple[int, ...]:
    """The middles of `count` equal parts, all layers when there are no more."""
    if count >= len(layers):
        return tuple(layers)
    return tuple(layers[(2 * i + 1) * len(layers) // (2 * count)] for i in range(count))
