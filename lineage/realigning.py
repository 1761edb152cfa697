"""A suspect's matrices in the places of the model it is held against: every rewrite undone that a mapping shows.

The mapping is fitted to the *unmarked* reference. Fitted to marked weights it would turn any suspect towards the mark.
"""

import numpy as np

from crawl import Architecture, Role, WeightSource
from lineage.aligned import paired
from lineage.aligning import Alignment, LayerMap, align
from lineage.body import Body, Layer
from lineage.disguise import transforms
from lineage.streams import turned
from lineage.tokens import shared_rows
from lineage.unmixing import unmix
from stats.arrays import Float64Array, IntVector

LARGEST = 1 << 30
"""Parameters of a model that is aligned: both are held whole, at eight bytes each."""

_NORMS = {
    "attn.q": "attn_norm",
    "attn.k": "attn_norm",
    "attn.v": "attn_norm",
    "mlp.gate": "mlp_norm",
    "mlp.up": "mlp_norm",
}
_WRITES = ("attn.o", "mlp.down")


def realigned(reference: WeightSource, suspect: WeightSource) -> tuple[dict[str, Float64Array], tuple[str, ...]] | None:
    """Matrices of a suspect by the roles and places of a reference.

    Parameters
    ----------
    reference : WeightSource
        The unmarked model.
    suspect : WeightSource

    Returns
    -------
    dict of role to (out, in) float64, tuple of str
        Units without a partner are rows (or columns) of zeros; and the names of what was undone. None where either is of
        no known architecture or too large, or nothing of them is alike.

    Notes
    -----
    Undone: residual permutation, signs and rotation, hidden units and their scales and signs, heads, folded gains, and,
    where heads are known, rotary turns and scales of queries and keys and mixtures inside values. Cost: see
    `lineage.aligning.align`.
    """
    sources = (reference, suspect)
    if any(s.architecture is None or s.n_parameters > LARGEST for s in sources):
        return None
    a, b = (Body(s, s.architecture) for s in sources if s.architecture is not None)
    found = align(a, b, shared_rows(a, b))
    if not found.matched:
        return None
    return in_place(a, b, found), transforms(a, b, found)


def in_place(a: Body, b: Body, found: Alignment) -> dict[str, Float64Array]:
    """Matrices of b by the roles and places of a, through a mapping from b to a."""
    out: dict[str, Float64Array] = {}
    best: dict[int, LayerMap] = {}
    for m in found.matched:
        if m.a is not None and (m.a not in best or m.agreement > best[m.a].agreement):
            best[m.a] = m
    for index, m in sorted(best.items()):
        base, other = a.layer(index), turned(b.layer(m.b), found.residual)
        matrices = {kind: y for kind, _, y in paired(base, other, m)}
        unmix(matrices, base, a.architecture)
        for kind, y in matrices.items():
            rows = m.units.a if kind.startswith("mlp.") and m.units is not None else np.arange(len(y))
            out[str(Role(kind, index))] = _placed(a, base, kind, rows, y)
    return out


def _placed(a: Body, base: Layer, kind: str, rows: IntVector, values: Float64Array) -> Float64Array:
    """Paired rows at their places in the whole matrix, as it is stored: gains taken out, written units as columns."""
    whole = base.writes[kind] if kind in _WRITES else base.reads[kind]
    made = np.zeros_like(whole)
    made[rows] = values
    if kind in _WRITES:
        return np.ascontiguousarray(made.T)
    gain = a.gain(base.index, _norm(a.architecture, kind))
    if gain is None:
        return made
    return made * np.divide(1.0, gain, out=np.zeros_like(gain), where=gain != 0.0)


def _norm(architecture: Architecture, kind: str) -> str | None:
    name: str | None = getattr(architecture, _NORMS[kind])
    return name
