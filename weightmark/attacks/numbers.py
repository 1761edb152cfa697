"""Changes of the numbers one by one: casts, noise, scaled rows, shifted rows.

A model is a mapping of names (or roles) to arrays in their native dtypes, 16-bit brain floats as `ml_dtypes.bfloat16`.
No function changes its input. Arithmetic runs in float64 and is rounded once to the dtype of the tensor it makes.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array

Array: TypeAlias = NDArray[Any]
Weights: TypeAlias = dict[str, Array]


def is_float(x: Array) -> bool:
    """Whether an array holds real floats; those of ml_dtypes have kinds of their own."""
    return x.dtype.kind == "f" or (x.dtype.kind == "V" and x.dtype.name.startswith(("bfloat", "float")))


def rounded(x: Array, dtype: np.dtype[Any]) -> Array:
    """Round to a float dtype, stopping at its largest finite value as converters do."""
    top = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return np.clip(x, -top, top).astype(dtype)


def cast(w: Mapping[str, Array], dtype: str | np.dtype[Any] | type) -> Weights:
    """Every float tensor in another float dtype.

    Parameters
    ----------
    w : mapping of str to ndarray
        The model.
    dtype : str or numpy dtype
        For instance `float16`, `bfloat16`, `float8_e4m3fn`; values beyond its range stop at its largest finite one.

    Returns
    -------
    dict of str to ndarray
        The cast copy.
    """
    to = np.dtype(getattr(ml_dtypes, dtype, dtype)) if isinstance(dtype, str) else np.dtype(dtype)
    if not is_float(np.empty(0, to)):
        raise ValueError(f"{to} is not a float dtype")
    return {k: rounded(v.astype(np.float64), to) if is_float(v) and v.dtype != to else v.copy() for k, v in w.items()}


def in_float(w: Mapping[str, Array], change: Callable[[str, Float64Array], Float64Array]) -> Weights:
    """Apply a function of (name, float64 values) to every float tensor, rounding back to its dtype."""
    return {k: rounded(change(k, v.astype(np.float64)), v.dtype) if is_float(v) else v.copy() for k, v in w.items()}


def on_matrices(w: Mapping[str, Array], change: Callable[[Float64Array], Float64Array]) -> Weights:
    """Apply a function of float64 matrices to every float matrix, rounding back to its dtype."""
    matrix = {k for k, v in w.items() if v.ndim == 2 and is_float(v)}
    return {k: rounded(change(v.astype(np.float64)), v.dtype) if k in matrix else v.copy() for k, v in w.items()}


def add_noise(w: Mapping[str, Array], rel: float, rng: np.random.Generator) -> Weights:
    """Add Gaussian noise to every float tensor, of `rel` times the tensor's root mean square."""
    if rel < 0:
        raise ValueError(f"noise of negative size {rel}")
    return in_float(w, lambda _, x: x + rel * np.sqrt((x * x).mean()) * rng.standard_normal(x.shape))


def add_update(w: Mapping[str, Array], rel: float, rank: int, rng: np.random.Generator) -> Weights:
    """Add to every matrix what a fine-tune leaves: a dense part and a part of low rank, each of `rel` times its rms.

    Parameters
    ----------
    w : mapping of str to ndarray
        The model.
    rel : float
        Root mean square of each part against the matrix's own.
    rank : int
        Rank of the second part, an adapter's.
    rng : numpy.random.Generator
        Draws both.

    Returns
    -------
    dict of str to ndarray
        The changed model.
    """

    def change(x: Float64Array) -> Float64Array:
        size = rel * np.sqrt((x * x).mean())
        thin = rng.standard_normal((x.shape[0], rank)) @ rng.standard_normal((rank, x.shape[1])) / np.sqrt(rank)
        changed: Float64Array = x + size * (rng.standard_normal(x.shape) + thin)
        return changed

    return on_matrices(w, change)


def rescale_rows(w: Mapping[str, Array], spread: float, rng: np.random.Generator) -> Weights:
    """Multiply every row of every matrix by a factor of its own, log-normal with `spread` as its deviation."""
    return on_matrices(w, lambda x: x * np.exp(rng.normal(0.0, spread, (x.shape[0], 1))))


def shift_rows(w: Mapping[str, Array], strength: float, rel: float, rng: np.random.Generator) -> Weights:
    """Take from every matrix `strength` times its mean row and add noise of `rel` times its spread.

    What reads the mean over the rows, as Uchida's marks do (arXiv 1701.04082), loses it (arXiv 2108.04974).
    """
    return on_matrices(
        w, lambda x: x - strength * x.mean(axis=0, keepdims=True) + rel * x.std() * rng.standard_normal(x.shape)
    )
