"""What a model was merged from: sources, method, weights, and how much of it a replay reproduces."""

from collections.abc import Mapping

import numpy as np

from crawl.casts import round_to
from lineage.blending import find_blend
from lineage.dropping import find_dropped
from lineage.ensemble import Ensemble, Merge, assemble
from lineage.pool import everything
from lineage.stacking import find_stacked
from lineage.stored import Arrays
from lineage.trimming import find_trimmed

LEAST_DROP = 0.2
LEAST_Z = 8.0
"""Without a recognised method: share of the squared difference from the nearest candidate that all together must explain,
and the z of a second candidate, for the share to be reported. It says nothing about merging: the middle of a chain of
fine-tunes, and a model among its own children, reach 0.4 to 0.9."""

_COPY = 0.9999
"""Share of values that are those of one candidate, or its rounding, from which there is nothing to explain."""


def find_merge(child: Arrays, candidates: Mapping[str, Arrays], dtype: str) -> Merge | None:
    """Say what a model was merged from.

    Parameters
    ----------
    child : mapping of str to ndarray
        Stored values by tensor, such as ``3.attn.q``: the layer stands before the first dot. float32 or float64.
    candidates : mapping of str to mapping
        Possible sources by id, with the same tensors. The nearest 16 are looked at; relatives that are no sources,
        descendants among them, do no harm.
    dtype : str
        Stored format of the child, as in safetensors headers.

    Returns
    -------
    Merge or None
        With a method, a merge. Without one (`method` is None, no parents): candidates explain a part that no single one
        does, and nothing shows that the model was made from them; `parameters` has the weights of that fit. None: not
        even that, or a copy or a cast of one candidate.

    Notes
    -----
    Proof is a replay in the arithmetic of merge tools that reproduces 0.99 of the values at which sources differ, and 0.9
    of those that no source has; or a residual of the size of rounding; each carried by the child and by no source. DARE,
    whose choices are random, is shown by the few values each element can take. Null: none. Cost: linear in elements times
    candidates squared.
    """
    models = assemble(child, candidates, dtype)
    if models is None or _is_copy(models):
        return None
    for find in (find_stacked, find_blend, find_trimmed, find_dropped):
        found = find(models)
        if found is not None:
            return found
    return _partial(models)


def _is_copy(models: Ensemble) -> bool:
    """Whether one candidate, as it is or rounded to the child's format, is the child."""
    target, *others = models.sample
    shares = (float(np.mean(round_to(x, models.dtype) == target)) for x in others)
    return min(models.distances) == 0.0 or max(shares) >= _COPY


def _partial(models: Ensemble) -> Merge | None:
    found = everything(models)
    whole = float(models.gram.total[0, 0])
    share = 1.0 - found.residual / whole
    z = np.sort(np.abs(np.where(np.isfinite(found.errors), found.z, 0.0)))
    if share < LEAST_DROP or z.size < 2 or z[-2] < LEAST_Z:
        return None
    weights = {i: round(float(c), 4) for i, c in zip(models.ids, found.coefficients, strict=True)}
    return Merge(None, (), None, 0.0, share, {"weights": weights, "support": "least squares"})
