"""Squared distances between models, all on one common set of arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from lineage.signature import Signature
from lineage.stored import Arrays
from stats.arrays import Float64Array


@np.errstate(over="ignore", invalid="ignore")
def squared_distances(models: Sequence[Arrays]) -> Float64Array:
    """Squared distances on the arrays every model has at one shape.

    Parameters
    ----------
    models : sequence of mapping of str to ndarray
        Values by name, of n models.

    Returns
    -------
    (n, n) float64
        Mean over common arrays of the squared difference over the array's median squared norm; infinite off the diagonal
        when nothing is common.

    Notes
    -----
    Distances on different tensor sets are not comparable: in a published table of nine 7B models, leaving out
    the embedding for the pairs whose vocabularies differ makes a leaf look like a hub. Squares, because they add
    along a path when successive updates are orthogonal. From the differences to the first model, so that close models
    lose few digits. Arrays with a value that is not finite are left out.
    """
    n = len(models)
    names = _common(models)
    total = np.zeros((n, n)) if names else np.full((n, n), np.inf)
    for name in names:
        total += _block(models, name) / len(names)
    np.fill_diagonal(total, 0.0)
    return 0.5 * (total + total.T)


@np.errstate(over="ignore", invalid="ignore")
def block_distances(models: Sequence[Arrays]) -> Float64Array:
    """Squared distances on each common array by itself, whose mean is that of `squared_distances`.

    Parameters
    ----------
    models : sequence of mapping of str to ndarray
        Values by name, of n models.

    Returns
    -------
    (b, n, n) float64
        In the order of names.
    """
    n, names = len(models), _common(models)
    return np.stack([_block(models, name) for name in names]) if names else np.zeros((0, n, n))


def _common(models: Sequence[Arrays]) -> list[str]:
    """Names of the arrays that every model has, at one shape and all finite."""
    names = sorted(set.intersection(*(set(m) for m in models))) if models else []
    return [k for k in names if len({m[k].shape for m in models}) == 1 and all(np.isfinite(m[k]).all() for m in models)]


def _block(models: Sequence[Arrays], name: str) -> Float64Array:
    """Squared distances on one array, over its median squared norm."""
    first = np.asarray(models[0][name], dtype=np.float64).ravel()
    sizes = [float(np.sum(np.square(m[name], dtype=np.float64))) for m in models]
    gaps = np.stack([np.asarray(m[name], dtype=np.float64).ravel() - first for m in models])
    inner = gaps @ gaps.T
    size = np.diag(inner)
    scale = float(np.median(sizes)) or 1.0
    return np.asarray(np.maximum(size[:, None] + size[None, :] - 2.0 * inner, 0.0) / scale)


def shape_of(signature: Signature) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What distances to a model rest on: names and shapes of its arrays of finite values."""
    return tuple(sorted((k, v.shape) for k, v in _matrices(signature).items() if np.isfinite(v).all()))


def family_distances(signatures: Sequence[Signature]) -> Float64Array:
    """Squared distances on what was read of matrices and tables for the ladder; see `squared_distances`."""
    return squared_distances([_matrices(s) for s in signatures])


def _matrices(signature: Signature) -> Mapping[str, Float64Array]:
    found: dict[str, Float64Array] = dict(signature.census)
    for block in signature.blocks:
        found.update({f"block {block.layer} {kind}": values for kind, values in block.parts.items()})
    found.update({f"values {v.layer}": v.parts for v in signature.values})
    for kind, table in signature.tables.items():
        found[f"table {kind} {table.n_rows}"] = table.values
    return found
