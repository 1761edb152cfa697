"""Whole models as arrays by role, in the formats they are stored in: for marks that are tried in memory."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from crawl import View, WeightSource
from lineage.errors import UsageError
from weightmark.attacks.numbers import Weights
from weightmark.axes import Heads
from weightmark.files import views_of

MOST_PARAMETERS = 500_000_000
"""Several copies of the model are held at once, and attacks compute in float64."""

_DTYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}


def held_weights(source: WeightSource) -> tuple[Weights, Heads | None]:
    """Every array of a model by role in the dtype it is stored in, and its heads where they are known.

    Raises
    ------
    UsageError
        The model is too large, or holds numbers that are not plain floats.
    """
    if source.n_parameters > MOST_PARAMETERS:
        reason = f"{source.n_parameters:,} parameters; at most {MOST_PARAMETERS:,} are held several times in memory"
        raise UsageError(reason, where=str(source.ref), hint="measure a smaller model of the family")
    views = views_of(source)
    arch = source.architecture
    heads = Heads(arch.n_heads, arch.n_kv) if arch is not None and arch.n_heads and arch.n_kv else None
    return {role: _array(source, view) for role, view in views.items()}, heads


def _array(source: WeightSource, view: View) -> NDArray[Any]:
    dtype = _DTYPES.get(view.tensor.dtype.name)
    if dtype is None:
        reason = f"numbers stored as {view.tensor.dtype.name}; marks are measured in {', '.join(_DTYPES)}"
        raise UsageError(reason, where=view.tensor.name, hint="convert the model first")
    if len(view.shape) == 1:
        return np.array(source.view_vector(view)).astype(dtype)
    return np.array(source.view_rows(view, np.arange(view.shape[0]))).astype(dtype)
