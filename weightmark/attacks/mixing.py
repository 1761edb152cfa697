"""Models mixed in float64 and rounded once: weighted sums, arcs, sums of differences, averages of many copies."""

from collections.abc import Mapping, Sequence

import numpy as np

from weightmark.attacks.numbers import Array, Weights, rounded


def check_alike(models: Sequence[Mapping[str, Array]]) -> None:
    """Refuse models of different names or shapes, saying where they first differ."""
    shapes = [{k: v.shape for k, v in m.items()} for m in models]
    for other in shapes[1:]:
        differing = sorted(k for k in shapes[0].keys() | other.keys() if shapes[0].get(k) != other.get(k))
        if differing:
            raise ValueError(f"the models differ in names or shapes, first at {differing[0]}")


def merge_linear(models: Sequence[Mapping[str, Array]], coefficients: Sequence[float]) -> Weights:
    """Weighted sum of models, in the dtypes of the first.

    Parameters
    ----------
    models : sequence of dict
        Models of the same names and shapes.
    coefficients : sequence of float
        One per model; they need not sum to one.

    Returns
    -------
    dict of str to ndarray
        The merge.
    """
    if not models or len(models) != len(coefficients):
        raise ValueError(f"{len(models)} models and {len(coefficients)} coefficients")
    check_alike(models)

    def total(name: str) -> Array:
        made: Array = np.zeros(models[0][name].shape)
        for c, m in zip(coefficients, models, strict=True):
            made = made + c * m[name].astype(np.float64)
        return made

    return {k: rounded(total(k), v.dtype) for k, v in models[0].items()}


def merge_slerp(a: Mapping[str, Array], b: Mapping[str, Array], t: float) -> Weights:
    """Spherical interpolation of each tensor, flattened; straight where the two are nearly parallel.

    Parameters
    ----------
    a, b : dict of str to ndarray
        Models of the same names and shapes.
    t : float
        0 gives `a`, 1 gives `b`.

    Returns
    -------
    dict of str to ndarray
        The merge, in the dtypes of `a`.
    """
    check_alike([a, b])
    out = {}
    for k, v in a.items():
        x, y = v.astype(np.float64), b[k].astype(np.float64)
        scale = np.linalg.norm(x) * np.linalg.norm(y)
        angle = np.arccos(np.clip((x * y).sum() / scale, -1, 1)) if scale else 0.0
        if np.sin(angle) < 1e-6:
            mixed = (1 - t) * x + t * y
        else:
            mixed = (np.sin((1 - t) * angle) * x + np.sin(t * angle) * y) / np.sin(angle)
        out[k] = rounded(mixed, v.dtype)
    return out


def task_arithmetic(base: Mapping[str, Array], models: Sequence[Mapping[str, Array]], scale: float) -> Weights:
    """The base plus `scale` times the sum of the models' differences from it, in the dtypes of the base."""
    if not models:
        raise ValueError("no models to add")
    return merge_linear([base, *models], [1 - scale * len(models), *[scale] * len(models)])
