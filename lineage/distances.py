"""Squared distances between the members of a family, all on one common tensor set."""

from collections.abc import Mapping, Sequence

import numpy as np

from lineage.signature import Signature
from stats.arrays import Float64Array
from stats.distance import pair_sums


@np.errstate(over="ignore", invalid="ignore")
def family_distances(signatures: Sequence[Signature]) -> Float64Array:
    """Squared distances on the tensors every member has at one shape.

    Parameters
    ----------
    signatures : sequence of Signature
        The members, n of them.

    Returns
    -------
    (n, n) float64
        Mean over common tensors of the squared difference over the tensor's median squared norm; infinite
        everywhere when there is no common tensor.

    Notes
    -----
    Distances on different tensor sets are not comparable: in a published table of nine 7B models, leaving out
    the embedding for the pairs whose vocabularies differ makes a leaf look like a hub. Squares, because they add
    along a path when successive updates are orthogonal.
    """
    n = len(signatures)
    arrays = [_matrices(s) for s in signatures]
    names = sorted(set.intersection(*(set(m) for m in arrays))) if arrays else []
    names = [
        k for k in names if len({m[k].shape for m in arrays}) == 1 and all(np.isfinite(m[k]).all() for m in arrays)
    ]
    distances = np.zeros((n, n)) if names else np.full((n, n), np.inf)
    for name in names:
        scale = float(np.median([np.sum(m[name] ** 2) for m in arrays])) or 1.0
        for i in range(n):
            for j in range(i):
                gap = pair_sums(arrays[i][name], arrays[j][name]).dd / scale / len(names)
                distances[i, j] += gap
                distances[j, i] += gap
    np.fill_diagonal(distances, 0.0)
    return distances


def _matrices(signature: Signature) -> Mapping[str, Float64Array]:
    found: dict[str, Float64Array] = dict(signature.census)
    for block in signature.blocks:
        found.update({f"block {block.layer} {kind}": values for kind, values in block.parts.items()})
    found.update({f"values {v.layer}": v.parts for v in signature.values})
    for kind, table in signature.tables.items():
        found[f"table {kind} {table.n_rows}"] = table.values
    return found
