"""Layers seen through probes: rows are read in pieces, and of each only its answers to a few directions are kept."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crawl import View, WeightSource
from lineage.body import Body, Layer
from lineage.budget import CHUNK, REMOTE_CHUNK, SMALL_CHUNK, hidden, matrix, pick_units
from lineage.plan import RowKey
from lineage.streams import pair_dimensions
from stats.arrays import Float64Array, IntVector
from stats.matching import levelled_tokens

N_DIRECTIONS = 128
"""Random directions by which a residual stream is read as it is; a narrower one is read by its own dimensions."""

PLAIN, RELABELLED, BY_TOKENS = "identity", "permutation", "rotation"
"""Readings of two residual streams: as they are, relabelled, and in any basis, by the tokens both models have."""


@dataclass(frozen=True, slots=True)
class Probes:
    """Directions in the residual stream of one model.

    Attributes
    ----------
    readings : tuple of (str, (d, f) float64)
        Name of the reading and its directions, the plainest first.
    """

    readings: tuple[tuple[str, Float64Array], ...]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Some hidden units of one layer.

    Attributes
    ----------
    layer : int
        Which layer.
    units : (m,) int64
        Which units.
    n_hidden : int
        How many the layer has.
    seen : mapping of str to Layer
        For each reading a layer whose rows are answers in place of weights.
    """

    layer: int
    units: IntVector
    n_hidden: int
    seen: dict[str, Layer]


def probes_of(widths: tuple[int, int], tokens: tuple[Float64Array, Float64Array] | None) -> tuple[Probes, Probes]:
    """The probes of two models.

    Parameters
    ----------
    widths : (int, int)
        Of their residual streams: only streams of one width can be one as they are, or relabelled.
    tokens : ((t, d_a), (t, d_b)) float64, or None
        Embeddings of the tokens both models have, in one order.

    Returns
    -------
    (Probes, Probes)
        With the same readings.
    """
    a: list[tuple[str, Float64Array]] = []
    b: list[tuple[str, Float64Array]] = []
    if widths[0] == widths[1]:
        fixed = _directions(widths[0])
        a.append((PLAIN, fixed))
        b.append((PLAIN, fixed))
    if tokens is not None and tokens[0].shape[0] > 1:
        paired = pair_dimensions(*tokens) if widths[0] == widths[1] else None
        if paired is not None:
            order, signs = paired
            a.append((RELABELLED, fixed))
            b.append((RELABELLED, signs[:, None] * fixed[order]))
        a.append((BY_TOKENS, levelled_tokens(tokens[0])))
        b.append((BY_TOKENS, levelled_tokens(tokens[1])))
    return Probes(tuple(a)), Probes(tuple(b))


def _directions(width: int) -> Float64Array:
    if width <= N_DIRECTIONS:
        return np.eye(width)
    return np.random.Generator(np.random.PCG64(width)).standard_normal((width, N_DIRECTIONS))


def sketch(body: Body, kinds: tuple[str, ...], layer: int, n_units: int, probes: Probes, key: RowKey) -> Sketch:
    """Read a run of hidden units of one layer through probes.

    Parameters
    ----------
    body : Body
    kinds : tuple of str
        The matrices read.
    layer : int
    n_units : int
        How many units.
    probes : Probes
    key : RowKey
        Places the run.

    Returns
    -------
    Sketch
        Without the matrices whose answers are not finite.

    Notes
    -----
    Gains are folded into what reads the stream. Cost: the bytes of the run; memory of one piece and of the answers,
    m times the number of directions.
    """
    n_hidden = hidden(body.source, kinds, layer)
    units = pick_units(n_hidden, n_units, key)
    directions = np.concatenate([d for _, d in probes.readings], axis=1)
    found: dict[str, Float64Array] = {}
    for kind in kinds:
        view = matrix(body.source, kind, layer)
        if view is None:
            continue
        gain = None if kind == "mlp.down" else body.gain(layer, body.architecture.mlp_norm)
        turned = directions if gain is None else gain[:, None] * directions
        seen = answers(body.source, view, kind, units, turned)
        if np.isfinite(np.sum(seen * seen)):
            found[kind] = seen
    return Sketch(layer, units, n_hidden, dict(_cut(layer, probes, found)))


def _cut(layer: int, probes: Probes, found: dict[str, Float64Array]) -> Iterator[tuple[str, Layer]]:
    """The answers of each reading, as a layer of its own."""
    start = 0
    for name, directions in probes.readings:
        stop = start + directions.shape[1]
        part = {k: np.ascontiguousarray(v[:, start:stop]) for k, v in found.items()}
        yield (
            name,
            Layer(
                layer,
                {k: v for k, v in part.items() if k != "mlp.down"},
                {k: v for k, v in part.items() if k == "mlp.down"},
            ),
        )
        start = stop


def answers(source: WeightSource, view: View, kind: str, units: IntVector, directions: Float64Array) -> Float64Array:
    """(m, f) products of the rows of units with all directions; every stored row is read once, in order."""
    writes = kind == "mlp.down"
    out = np.zeros((units.size, directions.shape[1]))
    by_unit = view.transposed == writes
    width, item = directions.shape[0], view.tensor.dtype.bits // 8
    stride = width if by_unit else units.size
    most = REMOTE_CHUNK if source.ref.scheme == "hub" else min(CHUNK, max(SMALL_CHUNK, len(view.tensor.span) // 128))
    step = max(1, most // max(1, stride * item))
    for start in range(0, units.size if by_unit else width, step):
        part = slice(start, start + step)
        if by_unit:
            out[part] = _rows(source, view, units[part], slice(0, width), writes=writes) @ directions
        else:
            out += _rows(source, view, units, part, writes=writes) @ directions[part]
    return out


def _rows(source: WeightSource, view: View, units: IntVector, part: slice, *, writes: bool) -> Float64Array:
    """(m, w) a part of the rows of some units."""
    if writes:
        return np.asarray(source.view_columns(view, units, rows=part), dtype=np.float64).T
    return np.asarray(source.view_rows(view, units, columns=part), dtype=np.float64)
