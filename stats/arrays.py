"""Array aliases and the checks every public statistic makes at its door.

Shapes cannot be written in the type; they stand in each docstring. Kernels behind the door trust what was
checked here: C-contiguous, float64, finite.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64Array: TypeAlias = NDArray[np.float64]
"""Any shape; the docstring of the function that takes it says which."""
IntVector: TypeAlias = NDArray[np.int64]


def as_matrix(value: ArrayLike, name: str, *, min_rows: int = 1, min_columns: int = 1) -> Float64Array:
    """Return `value` as a finite C-contiguous float64 matrix.

    Parameters
    ----------
    value : (m, n) array_like
        Any real dtype; no copy is made when it already is a contiguous float64 matrix.
    name : str
        The argument's name, for the error.
    min_rows, min_columns : int
        Smallest shape the caller can use.

    Returns
    -------
    (m, n) float64

    Raises
    ------
    ValueError
        Not two-dimensional, too small, or not finite.
    """
    array = np.ascontiguousarray(value, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix, got {array.ndim} dimension(s)")
    if array.shape[0] < min_rows or array.shape[1] < min_columns:
        raise ValueError(f"{name} must be at least {min_rows} x {min_columns}, got {array.shape[0]} x {array.shape[1]}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values: untestable")
    return array


def as_vector(value: ArrayLike, name: str, *, min_size: int = 1) -> Float64Array:
    """Return `value` as a finite C-contiguous float64 vector; see `as_matrix` for the checks."""
    array = np.ascontiguousarray(value, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a vector, got {array.ndim} dimension(s)")
    if array.size < min_size:
        raise ValueError(f"{name} needs at least {min_size} entries, got {array.size}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values: untestable")
    return array


def as_pair(
    a: ArrayLike, b: ArrayLike, *, min_rows: int = 1, min_columns: int = 2
) -> tuple[Float64Array, Float64Array]:
    """Return two finite matrices of one shape, the paired features of two models."""
    first = as_matrix(a, "a", min_rows=min_rows, min_columns=min_columns)
    second = as_matrix(b, "b", min_rows=min_rows, min_columns=min_columns)
    if first.shape != second.shape:
        raise ValueError(f"a and b must have one shape, got {first.shape} and {second.shape}")
    return first, second
