"""A closer reading: whole layers of a model by role, one at a time, with the norm gains folded into what reads them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crawl import Architecture, Role, View, WeightSource
from stats.arrays import Float64Array, IntVector

MOST_TOKENS = 4096
"""Embedding rows used to relate two residual streams: four times the width of a small model settles a rotation."""

_READS = {
    "attn.q": "attn_norm",
    "attn.k": "attn_norm",
    "attn.v": "attn_norm",
    "mlp.gate": "mlp_norm",
    "mlp.up": "mlp_norm",
    "router": "mlp_norm",
}
_WRITES = ("attn.o", "mlp.down")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Attributes
    ----------
    index : int
        Its depth.
    reads : mapping of str to (n, d) float64
        Rows over the residual stream, gains folded in: attn.q, attn.k, attn.v, mlp.gate, mlp.up, router.
    writes : mapping of str to (n, d) float64
        What each unit writes into the residual stream, turned so that units are rows: attn.o, mlp.down.
    """

    index: int
    reads: Mapping[str, Float64Array]
    writes: Mapping[str, Float64Array]

    @property
    def hidden_views(self) -> tuple[tuple[str, Float64Array], ...]:
        """The hidden units seen by each matrix that holds them, the sign-free ones last."""
        found = [(k, self.reads[k]) for k in ("mlp.gate", "mlp.up") if k in self.reads]
        found += [("mlp.down", self.writes["mlp.down"])] if "mlp.down" in self.writes else []
        return tuple(found)

    @property
    def n_hidden(self) -> int:
        """Hidden units of its MLP."""
        views = self.hidden_views
        return views[0][1].shape[0] if views else 0


class Body:
    """A model that is looked at closely, layer by layer.

    Attributes
    ----------
    source : WeightSource
    architecture : Architecture
    id : str
    """

    def __init__(self, source: WeightSource, architecture: Architecture) -> None:
        self.source = source
        self.architecture = architecture
        self.id = source.ref.id
        self._kept: dict[int, Layer] = {}
        self._last: tuple[str, Float64Array] | None = None

    def layer(self, index: int) -> Layer:
        """One layer, read once; tensors that are not finite, or whose squares are not, are left out."""
        if index not in self._kept:
            self._kept[index] = self._read(index)
        return self._kept[index]

    def _read(self, index: int) -> Layer:
        reads = {k: self._matrix(k, index, norm=getattr(self.architecture, norm)) for k, norm in _READS.items()}
        writes = {k: self._matrix(k, index, norm=None) for k in _WRITES}
        return Layer(
            index,
            {k: v for k, v in reads.items() if v is not None},
            {k: np.ascontiguousarray(v.T) for k, v in writes.items() if v is not None},
        )

    def embedding(self, rows: IntVector) -> Float64Array | None:
        """Some rows of the embedding, or None."""
        return self._table_rows(self.source.views.get(Role("embed")), rows)

    def table(self, kind: str, tokens: IntVector) -> Float64Array | None:
        """Rows of the tokens asked for, of the embedding or the head; the first rows of a table of positions.

        The head, tied or not, has the final gain folded in.
        """
        tied = kind == "unembed" and self.architecture.tied_head
        view = self.source.views.get(Role("embed" if tied else kind))
        if view is None or len(view.shape) != 2 or view.shape[1] != self.architecture.width:
            return None
        if kind == "embed.position":
            tokens = np.arange(min(view.shape[0], MOST_TOKENS))
        rows = self._table_rows(view, tokens[tokens < view.shape[0]])
        gain = self.gain(None, "norm.final") if kind == "unembed" else None
        rows = rows if gain is None or rows is None else rows * gain
        return rows if rows is not None and np.isfinite(np.sum(rows * rows)) else None

    def _table_rows(self, view: View | None, rows: IntVector) -> Float64Array | None:
        if view is None or len(view.shape) != 2:
            return None
        values = np.asarray(self.source.view_rows(view, rows), dtype=np.float64)
        return values if np.isfinite(np.sum(values * values)) else None

    def has(self, kind: str) -> bool:
        """Whether there is a table of this kind of its own."""
        return Role(kind) in self.source.views

    @property
    def has_experts(self) -> bool:
        """Whether there are experts beyond the first, which no alignment compares."""
        return any(role.expert for role in self.source.views)

    def leftovers(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """Shape and norm of every trained tensor of no role; no order of units and no rotation changes a norm."""
        found = {}
        for name, reason in self.source.unmapped.items():
            tensor = self.source.tensors[name]
            if "buffer" not in reason and tensor.dtype.is_float:
                values = np.asarray(self.source.read(tensor), dtype=np.float64)
                found[name] = (tensor.shape, float(np.sqrt(np.sum(values * values))))
        return found

    @property
    def vocabulary(self) -> int | None:
        """Rows of the embedding; None where it has none."""
        view = self.source.views.get(Role("embed"))
        return None if view is None else view.shape[0]

    @property
    def n_tokens(self) -> int:
        """Rows of the embedding, else of the head; 0 without either."""
        views = [self.source.views.get(Role(kind)) for kind in ("embed", "unembed")]
        return next((v.shape[0] for v in views if v is not None), 0)

    def gain(self, layer: int | None, kind: str | None) -> Float64Array | None:
        """A norm gain over the residual stream, or None where there is none that is finite."""
        view = self.source.views.get(Role(kind, layer)) if kind else None
        if view is None or view.shape != (self.architecture.width,):
            return None
        values = np.asarray(self.source.view_vector(view), dtype=np.float64)
        return values if np.isfinite(values).all() else None

    def _matrix(self, kind: str, layer: int, *, norm: str | None) -> Float64Array | None:
        view = self._view(kind, layer)
        if view is None or len(view.shape) != 2:
            return None
        values = self._whole(view)
        if not np.isfinite(values).all():
            return None
        gain = self.gain(layer, norm)
        values = values if gain is None or kind in _WRITES else values * gain
        return values if np.isfinite(np.sum(values * values)) else None

    def _whole(self, view: View) -> Float64Array:
        """A matrix [out, in], its tensor read in one piece; views of one fused tensor follow each other."""
        tensor = view.tensor
        if self._last is None or self._last[0] != tensor.name:
            stored = np.asarray(self.source.read(tensor), dtype=np.float64)
            self._last = tensor.name, stored.reshape(-1, view.stored_columns)
        n_out, n_in = view.shape
        outputs = view.pick.stored(np.arange(n_out))
        if view.transposed:
            return np.ascontiguousarray(self._last[1][view.base : view.base + n_in][:, outputs].T)
        return np.ascontiguousarray(self._last[1][view.base + outputs][:, :n_in])

    def _view(self, kind: str, layer: int) -> View | None:
        dense = self.source.views.get(Role(kind, layer))
        return dense if dense is not None else self.source.views.get(Role(kind, layer, 0))
