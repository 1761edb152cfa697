"""Shared initialisation or descent: how much of what training wrote into one model is still in the other."""

from collections.abc import Iterator

import numpy as np

from lineage.aligned import paired
from lineage.aligning import Alignment
from lineage.body import Body, Layer
from lineage.streams import turned
from stats.arrays import Float64Array

_SMALLEST = 16
_NOTHING = 1e-9
_LARGEST = 1024
"""Rows of a matrix looked at: a singular value decomposition of more is slow and says the same."""


def retention_ratio(a: Body, b: Body, found: Alignment) -> float | None:
    """How much of the strongest directions of one model the other keeps, over what it keeps of the weaker half.

    Parameters
    ----------
    a, b : Body
    found : Alignment
        Layers are compared through it with their partner; a layer without one with that of the same depth, as it is.

    Returns
    -------
    float or None
        Median over matrices; the larger of the two directions. None where no matrix has a partner of one shape.

    Notes
    -----
    keep_i = u_i' B v_i / s_i for A = sum s_i u_i v_i'. Training writes into the leading directions, the initial weights
    fill all: two models that share only their start keep little of each other's leading directions. A score, no test.
    """
    forward: list[float] = []
    backward: list[float] = []
    for m in found.layers:
        index = m.b if m.a is None else m.a
        if index >= a.architecture.n_layers:
            continue
        first, second = a.layer(index), turned(b.layer(m.b), found.residual)
        pairs = _in_place(first, second) if m.a is None else paired(first, second, m)
        for _, x, y in pairs:
            if min(x.shape) >= _SMALLEST:
                forward.append(_kept(x[:_LARGEST], y[:_LARGEST]))
                backward.append(_kept(y[:_LARGEST], x[:_LARGEST]))
    ratios = [float(np.median(kept)) for kept in (forward, backward) if kept]
    ratios = [r for r in ratios if np.isfinite(r)]  # subnormal weights leave nothing to divide by
    return max(ratios, default=None)


def _in_place(a: Layer, b: Layer) -> Iterator[tuple[str, Float64Array, Float64Array]]:
    left, right = {**a.reads, **a.writes}, {**b.reads, **b.writes}
    for kind in sorted(left.keys() & right.keys()):
        if left[kind].shape == right[kind].shape:
            yield kind, left[kind], right[kind]


def _kept(a: Float64Array, b: Float64Array) -> float:
    """What b keeps of a's leading sixteenth of directions over what it keeps of the weaker half."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    keep = np.einsum("ij,ij->j", u, b @ vt.T) / np.maximum(s, _NOTHING * max(s[0], 1e-300))
    top, low = keep[: max(1, s.size // 16)].mean(), keep[s.size // 2 :].mean()
    return float(top / low) if abs(low) > _NOTHING else float(top > 0.0)
