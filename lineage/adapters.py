"""Adapters as files of their own: what they fit, and which model of a family they were merged into.

An adapter holds no copy of its base. Names and shapes of its modules fit every model of one architecture, so alone they say
only "compatible with k". A model that is another one plus a multiple of the adapter's product is proof of that merge.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crawl import TensorRef, WeightSource
from crawl.casts import SIGNIFICANT_BITS
from lineage.stored import SMALLEST
from stats.arrays import Float64Array
from stats.levels import half_steps

_PART = re.compile(r"(?:base_model\.model\.)?(.{1,400})\.lora_([AB])(?:\.[A-Za-z0-9_]{1,64})?\.weight")

MOST_MODULES = 6
ROWS = 128
"""Modules of an adapter, spread over it, and rows of each that are read to see whether it was merged."""

SHARE = 0.99
"""Share of the values that must come out within rounding."""

_ALIKE = 0.02
"""Relative spread of the scale over modules: tools use one scale for all, or one for each rank."""

_SLACK = 2.0**-7
"""Relative error of the product where it was computed in an eight-bit significand."""

_VISIBLE = 2.0
"""The product must be so many times larger than rounding for its absence to show."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of low rank.

    Attributes
    ----------
    modules : mapping of str to (TensorRef, TensorRef)
        A and B by the path of the module.
    """

    modules: Mapping[str, tuple[TensorRef, TensorRef]]

    @property
    def rank(self) -> int:
        """Most frequent rank."""
        ranks = [a.shape[0] for a, _ in self.modules.values()]
        return max(sorted(set(ranks)), key=ranks.count)

    @property
    def targets(self) -> tuple[str, ...]:
        """Last parts of the paths."""
        return tuple(sorted({path.rpartition(".")[2] for path in self.modules}))


@dataclass(frozen=True, slots=True)
class Merged:
    """A model that is another one plus a multiple of an adapter's product.

    Attributes
    ----------
    base, merged : str
        Ids.
    scale : float
    share : float
        Of the values read, those within rounding.
    n : int
    """

    base: str
    merged: str
    scale: float
    share: float
    n: int


def adapter_of(source: WeightSource) -> Adapter | None:
    """The adapter that a file holds; None where it holds something else. Nothing is read but the header."""
    parts: dict[str, dict[str, TensorRef]] = {}
    for name, tensor in source.tensors.items():
        found = _PART.fullmatch(name)
        if found is not None and len(tensor.shape) == 2 and tensor.dtype.is_float:
            parts.setdefault(found[1], {})[found[2]] = tensor
    modules = {
        path: (both["A"], both["B"])
        for path, both in sorted(parts.items())
        if both.keys() == {"A", "B"} and both["A"].shape[0] == both["B"].shape[1]
    }
    return Adapter(modules) if modules else None


def targets_in(adapter: Adapter, model: WeightSource) -> dict[str, TensorRef] | None:
    """The tensor of each module in a model of fitting names and shapes; None where some module has none."""
    known = {_plain(name): tensor for name, tensor in model.tensors.items() if name.endswith(".weight")}
    found = {path: known.get(_plain(f"{path}.weight")) for path in adapter.modules}
    fitting = {
        path: tensor
        for path, tensor in found.items()
        if tensor is not None and tensor.shape == (adapter.modules[path][1].shape[0], adapter.modules[path][0].shape[1])
    }
    return fitting if len(fitting) == len(adapter.modules) else None


def _plain(name: str) -> str:
    return name.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")


def merged_into(adapter: Adapter, source: WeightSource, base: WeightSource, other: WeightSource) -> Merged | None:
    """Whether a model is another one plus a positive multiple of an adapter's product.

    Parameters
    ----------
    adapter : Adapter
    source : WeightSource
        Where it lies.
    base, other : WeightSource
        The model without it and the one that may have it.

    Returns
    -------
    Merged or None
        None unless 0.99 of the values are those of the base plus one multiple of the product, within rounding, in every
        module read.

    Notes
    -----
    Null: none; a replay. The scale is fitted, never taken from a config. Cost: 128 rows of six modules of both.
    """
    left, right = targets_in(adapter, base), targets_in(adapter, other)
    if left is None or right is None:
        return None
    paths = list(adapter.modules)
    picked = [
        paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(MOST_MODULES, len(paths))).astype(np.intp))
    ]
    scales, hits, n = [], 0, 0
    for path in picked:
        rows = np.arange(min(ROWS, left[path].shape[0]))
        product = _product(adapter.modules[path], source, rows)
        first, second = (np.asarray(m.rows(t[path], rows), dtype=np.float64) for m, t in ((base, left), (other, right)))
        fitted = _fitted(product, first, second, (left[path], right[path]))
        if fitted is None:
            return None
        scales.append(fitted[0])
        hits, n = hits + fitted[1], n + product.size
    spread = max(scales) - min(scales)
    if hits < SHARE * n or spread > _ALIKE * max(scales):
        return None
    return Merged(base.ref.id, other.ref.id, float(np.mean(scales)), hits / n, n)


def _product(parts: tuple[TensorRef, TensorRef], source: WeightSource, rows: "np.ndarray[Any, Any]") -> Float64Array:
    down = np.asarray(source.read(parts[0]), dtype=np.float64)
    return np.asarray(np.asarray(source.rows(parts[1], rows), dtype=np.float64) @ down)


@np.errstate(over="ignore", invalid="ignore")
def _fitted(
    product: Float64Array, first: Float64Array, second: Float64Array, tensors: tuple[TensorRef, TensorRef]
) -> tuple[float, int] | None:
    """(scale, values within rounding); None where the product would not show, or the scale is not positive."""
    size = float(np.sum(product * product))
    if not np.isfinite(size) or size <= 0.0 or not np.isfinite(first).all() or not np.isfinite(second).all():
        return None
    scale = float(np.sum((second - first) * product)) / size
    half = sum(
        half_steps(v, SIGNIFICANT_BITS.get(t.dtype.name, 24), SMALLEST.get(t.dtype.name, 0.0))
        for v, t in ((first, tensors[0]), (second, tensors[1]))
    )
    moved = scale * product
    if scale <= 0.0 or float(np.mean(moved**2)) < _VISIBLE**2 * float(np.mean(np.square(half))):
        return None
    return scale, int(np.count_nonzero(np.abs(second - first - moved) <= half + _SLACK * np.abs(moved)))
