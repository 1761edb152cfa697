"""The tokens two models have in common: rows of their embeddings, in one order."""

import numpy as np

from crawl import Role
from lineage.body import Body
from lineage.budget import pick_lookups
from lineage.plan import RowKey
from stats.arrays import Float64Array, IntVector


def shared_tokens(a: Body, b: Body, key: RowKey) -> tuple[Float64Array, Float64Array] | None:
    """Embeddings of the tokens looked up in both models.

    Parameters
    ----------
    a, b : Body
    key : RowKey
        Places the rows.

    Returns
    -------
    ((t, d_a), (t, d_b)) float64, or None
        None where a model has no embedding, or rows that are not finite.
    """
    sizes = a.vocabulary, b.vocabulary
    if sizes[0] is None or sizes[1] is None:
        return None
    rows = np.intersect1d(pick_lookups(sizes[0], key), pick_lookups(sizes[1], key))
    first, second = _rows(a, rows), _rows(b, rows)
    return None if first is None or second is None else (first, second)


def _rows(body: Body, rows: IntVector) -> Float64Array | None:
    view = body.source.views.get(Role("embed"))
    if view is None or len(view.shape) != 2 or view.shape[1] != body.architecture.width:
        return None
    values = np.asarray(body.source.view_rows(view, rows), dtype=np.float64)
    return values if np.isfinite(np.sum(values * values)) else None
