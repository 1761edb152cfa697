"""Shared initialisation or descent: how much of what training wrote into one model is still in the other."""

import numpy as np

from lineage.aligning import Alignment
from lineage.body import Body
from lineage.streams import turned
from stats.arrays import Float64Array

MIN_RETENTION = 0.6
"""Below this only a start is shared. Trained families: shared starts 0.23 to 0.55, ancestors and siblings from 0.91."""

_KINDS = ("attn.q", "attn.k", "attn.v", "mlp.gate", "mlp.up")
_LARGEST = 1024
"""Rows of a matrix looked at: a singular value decomposition of more is slow and says the same."""


def retention_ratio(a: Body, b: Body, found: Alignment) -> float | None:
    """Mean share of the strongest directions of one model kept by the other, over that of its weakest half.

    Parameters
    ----------
    a, b : Body
    found : Alignment
        Layers are compared with their partner, else at the same depth. The rest of the mapping is not used but the
        residual stream: hidden units and heads must stand in their places.

    Returns
    -------
    float or None
        The larger of the two directions; None where no matrix has a partner of one shape.

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
        first, second = a.layer(index).reads, turned(b.layer(m.b), found.residual).reads
        for kind in _KINDS:
            x, y = first.get(kind), second.get(kind)
            if x is None or y is None or x.shape != y.shape or min(x.shape) < 16:
                continue
            forward.append(_kept(x[:_LARGEST], y[:_LARGEST]))
            backward.append(_kept(y[:_LARGEST], x[:_LARGEST]))
    if not forward:
        return None
    return max(float(np.mean(forward)), float(np.mean(backward)))


def _kept(a: Float64Array, b: Float64Array) -> float:
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    if s[-1] <= 1e-12 * s[0]:
        s = np.maximum(s, 1e-12 * max(s[0], 1e-300))
    keep = np.einsum("ij,ij->j", u, b @ vt.T) / s
    top, low = keep[: max(1, s.size // 16)].mean(), keep[s.size // 2 :].mean()
    return float(top / low) if abs(low) > 1e-9 else float(top > 0.0)
