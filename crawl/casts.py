"""Rounding replayed: what a value becomes when it is stored in another number format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from crawl.dtypes import DTYPES

if TYPE_CHECKING:
    import numpy.typing as npt

_TARGETS: dict[str, Any] = {
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}

SIGNIFICANT_BITS: dict[str, int] = {"F8_E5M2": 3, "F8_E4M3": 4, "BF16": 8, "F16": 11, "F32": 24, "F64": 53}
"""Bits of the significand, the hidden one included: what a format can tell apart near 1."""


def can_replay(dtype: str) -> bool:
    """Whether rounding to this format can be replayed element by element."""
    return dtype in _TARGETS


def round_to(values: npt.NDArray[np.floating[Any]], dtype: str) -> npt.NDArray[np.float64]:
    """Round to nearest, ties to even, as every framework's cast does.

    Parameters
    ----------
    values : ndarray of float
        Any shape.
    dtype : str
        Name as in safetensors headers; one `can_replay` accepts.

    Returns
    -------
    ndarray of float64
        The rounded values. Overflow gives infinities in BF16, F16 and F32, NaN in F8_E4M3, as the casts do.

    Raises
    ------
    ValueError
        The format cannot be replayed.
    """
    if dtype not in _TARGETS:
        raise ValueError(f"rounding to {dtype} cannot be replayed")
    source = np.asarray(values)
    with np.errstate(over="ignore", invalid="ignore"):
        # Stored values of up to 32 bits are float32 exactly; a direct cast from float64 would round the same once.
        return np.asarray(
            source.astype(np.float32 if dtype != "F64" else np.float64).astype(_TARGETS[dtype]).astype(np.float64)
        )


def stored_bits(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """Encode values as a format stores them: what `decode` undoes.

    Parameters
    ----------
    values : ndarray of float
        Any shape; values of the format, others are rounded to nearest.
    dtype : str
        One `can_replay` accepts.

    Returns
    -------
    ndarray
        Little-endian, of `values`' shape, in the integer or float type that reads of stored bits return.

    Raises
    ------
    ValueError
        The format cannot be replayed.
    """
    if dtype not in _TARGETS:
        raise ValueError(f"values cannot be stored as {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        typed = np.asarray(values).astype(_TARGETS[dtype])
    return np.ascontiguousarray(typed).view(DTYPES[dtype].raw)
