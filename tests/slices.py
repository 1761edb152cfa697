"""Models as arrays of stored values by layer and role, the way a second reading of them is handed on."""

import numpy as np

import nulls

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


def slices(weights):
    """(arrays, dtype): matrices and vectors of a model of the fixtures, outputs first, as float64."""
    source = nulls.opened(weights, "model")
    assert source.architecture is not None
    found = {}
    for role, view in source.views.items():
        name = role.kind if role.layer is None else f"{role.layer}.{role.kind}"
        read = source.view_vector if len(view.shape) == 1 else lambda v: source.view_rows(v, np.arange(v.shape[0]))
        found[name] = np.asarray(read(view), dtype=np.float64)
    return found, source.dtype
