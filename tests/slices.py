"""Models as arrays of stored values by layer and role, the way a second reading of them is handed on."""

import numpy as np

import nulls
from lineage.plan import PUBLIC_KEY
from lineage.study import study

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


def study_of(weights, name):
    """The second reading of a model of the fixtures."""
    found = study(nulls.opened(weights, name), PUBLIC_KEY, name=name)
    assert found is not None
    return found
