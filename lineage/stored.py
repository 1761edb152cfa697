"""Models as arrays of stored values: which of them are matrices, which are tables, how coarse their format really is."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crawl.casts import SIGNIFICANT_BITS, can_replay, round_to
from stats.arrays import Float64Array

Values: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Values]
"""Stored values by tensor, such as ``3.attn.q`` or ``embed``: floats that hold them exactly (float32 does for every format
of up to 32 bits), rows over inputs. Parts of a matrix begin where a group of 256 begins."""

SMALLEST: Mapping[str, float] = {
    "BF16": 2.0**-133,
    "F16": 2.0**-24,
    "F32": 2.0**-149,
    "F64": 2.0**-1074,
    "F8_E4M3": 2.0**-9,
    "F8_E5M2": 2.0**-16,
}
"""Distance between the smallest numbers of a format."""

_TABLES = ("embed", "unembed")
_PROBE = 1 << 16
"""Values of a tensor that are asked whether a narrower format would hold them."""


def kind_of(name: str) -> str:
    """Role kind of a tensor's name: what follows the number of its layer."""
    layer, dot, rest = name.partition(".")
    return rest if dot and layer.isdigit() else name


def is_table(name: str) -> bool:
    """Whether a tensor is a table of tokens or positions, or a head."""
    return kind_of(name).partition(".")[0] in _TABLES


def matrices(arrays: Arrays) -> dict[str, Float64Array]:
    """Matrices of numbers, sorted by name, as float64; those with a value that is not finite are left out."""
    found = {k: np.asarray(arrays[k], dtype=np.float64) for k in sorted(arrays) if np.ndim(arrays[k]) == 2}
    return {k: v for k, v in found.items() if v.size and np.isfinite(v).all()}


def paired(parent: Arrays, child: Arrays) -> list[tuple[str, Float64Array, Float64Array]]:
    """(name, values of the parent, values of the child) of matrices of one shape, sorted by name."""
    left, right = matrices(parent), matrices(child)
    return [(k, left[k], right[k]) for k in left if k in right and left[k].shape == right[k].shape]


def significant(dtype: str) -> int:
    """Significant bits of a format, those of float64 where it is unknown."""
    return SIGNIFICANT_BITS.get(dtype, 53)


def narrowest(arrays: Arrays, dtype: str, formats: tuple[str, ...] = ("BF16", "F16")) -> str:
    """The coarsest format that holds every matrix value looked at.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    dtype : str
        Stored format.
    formats : tuple of str
        Narrower formats to try, coarsest first.

    Returns
    -------
    str
        The stored format where nothing narrower does: values that were rounded once and stored wider are as coarse as
        before.
    """
    probes = [v.ravel()[:: max(1, v.size // _PROBE)] for v in matrices(arrays).values()]
    for name in formats:
        if (
            probes
            and significant(name) < significant(dtype)
            and all(np.array_equal(round_to(p, name), p) for p in probes)
        ):
            return name
    return dtype


def rounded(values: NDArray[Any], dtype: str) -> Float64Array:
    """Values rounded to a format; as they are where its rounding cannot be replayed."""
    return round_to(values, dtype) if can_replay(dtype) else np.asarray(values, dtype=np.float64)
