"""From names and shapes to roles: what each tensor does in its network.

Only names and shapes decide. A claim of the model's config is used in two places where they cannot: the number of
heads (to take apart interleaved attention, and to report it), and the stored form of Gemma 1's gains. Each such fact is
listed in `Architecture.hints`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from crawl.architectures import ROWS, Positions, Row
from crawl.refs import Role, TensorRef
from crawl.rolecheck import check_layers, check_stack
from crawl.splits import Group, Layout, UnfitError, query_rows, views_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawl.card import ModelCard
    from crawl.views import View

_EXPERT = re.compile(r"\.experts\.([0-9]{1,6})\.")
_LAYER = re.compile(r"([0-9]{1,6})\.(.+)")
_ZERO = re.compile(r"(?<![^.])0\.")
# Tensors that hold no trained numbers: masks, frequencies, positions.
_BUFFER = re.compile(
    r"(.*\.)?(rotary_emb\.inv_freq|inv_freq|masked_bias|position_ids|rotary_emb\.(cos|sin)_cached|attn\.bias|attention\.bias)"
)
# What quantisers put beside or in place of a weight: it cannot be read without undoing the scheme.
_PACKED = re.compile(
    r"(weight|qweight|qzeros|scales|g_idx|weight_packed|weight_shape|weight_zero_point|SCB|weight_format"
    r"|weight_scale(_inv|_2)?|weight_global_scale|biases)|weight\.(absmax|quant_map|nested_.*|quant_state\..*)"
)
_AUXILIARY = re.compile(r"(input|output|k|v|q|activation)_(scale|zero_point|global_scale)|[kqv]_scale")
_WEIGHT_NAMES = {"weight": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What kind of network the tensors make up.

    Attributes
    ----------
    name : str
        Name of the row that recognised it.
    glu : bool
        The MLP is gated.
    mlp_norm, attn_norm : str or None
        Kind of the norm whose output feeds the MLP, and the attention; None where the residual itself does.
    norm_type : {"rms", "layer"}
    positions : {"rotary", "learned", "alibi", "none"}
    activation_sign_free_up : bool
        The sign of a row of ``mlp.up`` can be moved into ``mlp.down`` without a change of the function.
    n_layers, width : int
        Layers, and dimensions of the residual.
    tied_head : bool
        There is no ``unembed`` tensor.
    n_heads, n_kv : int or None
        Heads of queries, from a claim that divides the arrays, and of keys, from their shapes; None without a claim.
    hints : tuple of str
        Every fact above, or in a view, that was taken from a claim.
    """

    name: str
    glu: bool
    mlp_norm: str | None
    attn_norm: str | None
    norm_type: Literal["rms", "layer"]
    positions: Positions
    activation_sign_free_up: bool
    n_layers: int
    width: int
    tied_head: bool
    n_heads: int | None
    n_kv: int | None
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    """The outcome: an architecture or None, the views by role, and why the other tensors have none."""

    architecture: Architecture | None
    views: Mapping[Role, View]
    unmapped: Mapping[str, str]


def map_roles(tensors: Mapping[str, TensorRef], card: ModelCard) -> Mapped:
    """Recognise the architecture and give each of its arrays a role.

    Parameters
    ----------
    tensors : mapping of str to TensorRef
        All tensors of one model; no data is read.
    card : ModelCard
        Layout hints only.

    Returns
    -------
    Mapped
        Without an architecture there are no views, and every tensor is unmapped with the reason of the row that came
        nearest.
    """
    nearest = (0, "its names belong to no known architecture")
    zeros = _layer_zero(tensors)
    for row in ROWS:
        root = _root(row, zeros)
        if root is None:
            continue
        n_known, stray = _known_in_layer_zero(row, zeros[f"{root}{row.stack}0."])
        if stray is not None:
            nearest = max(nearest, (n_known, f"not {row.name}: {stray!r} is a parameter it does not have"))
            continue
        sorted_out = _Sorting(row, root, tensors)
        try:
            return _mapped(sorted_out, card)
        except UnfitError as error:
            nearest = max(nearest, (n_known, f"not {row.name}: {error}"))
    return Mapped(None, {}, dict.fromkeys(tensors, nearest[1]))


def _layer_zero(tensors: Mapping[str, TensorRef]) -> Mapping[str, list[str]]:
    """Return, for each beginning of a name that ends in a layer number 0, what follows it."""
    rests: dict[str, list[str]] = {}
    for name in tensors:
        for found in _ZERO.finditer(name):
            rests.setdefault(name[: found.end()], []).append(name[found.end() :])
    return rests


def _root(row: Row, zeros: Mapping[str, list[str]]) -> str | None:
    """Return the root under which layer 0 of this row's stack is found; the one with most names if several are."""
    best = max(row.roots, key=lambda root: len(zeros.get(f"{root}{row.stack}0.", ())))
    return best if f"{best}{row.stack}0." in zeros else None


def _known_in_layer_zero(row: Row, rests: list[str]) -> tuple[int, str | None]:
    """Return how many names of layer 0 the row knows, and one it does not: most rows are out after this."""
    n_known, stray = 0, None
    for rest in rests:
        plain = _EXPERT.sub(".experts.{e}.", rest)
        if any(module in row.inside for module, _ in _readings(plain)):
            n_known += 1
        elif not _BUFFER.fullmatch(rest) and not _AUXILIARY.fullmatch(rest.rpartition(".")[2]):
            stray = stray or rest
    return n_known, stray


class _Sorting:
    """Sorts the tensors of one model into the layers of one row."""

    def __init__(self, row: Row, root: str, tensors: Mapping[str, TensorRef]) -> None:
        self.row = row
        self.layers: dict[int, dict[tuple[str, int | None], Group]] = {}
        self.outside: dict[str, Group] = {}
        self.unmapped: dict[str, str] = {}
        self.stray: str | None = None
        self.refused: str | None = None
        stack = f"{root}{row.stack}"
        for name, tensor in tensors.items():
            if _BUFFER.fullmatch(name):
                self.unmapped[name] = "a buffer: not trained"
            elif name.startswith(stack):
                self._numbered(name[len(stack) :], tensor)
            else:
                self._outside(name, root, tensor)

    def _numbered(self, rest: str, tensor: TensorRef) -> None:
        if found := _LAYER.fullmatch(rest):
            self._inside(int(found[1]), found[2], tensor)
        else:
            self.stray = self.stray or tensor.name

    def _inside(self, layer: int, rest: str, tensor: TensorRef) -> None:
        expert = None
        if found := _EXPERT.search(rest):
            expert = int(found[1])
            rest = rest[: found.start(1)] + "{e}" + rest[found.end(1) :]
        for module, part in _readings(rest):
            recipe = self.row.inside.get(module)
            if recipe is None:
                continue
            groups = self.layers.setdefault(layer, {})
            groups.setdefault((module, expert), Group(recipe, layer, expert)).add(part, tensor)
            return
        if _AUXILIARY.fullmatch(rest.rsplit(".", 1)[-1]):
            self.unmapped[tensor.name] = "a scale of activations"
        elif self.stray is None:
            self.stray = tensor.name

    def _outside(self, name: str, root: str, tensor: TensorRef) -> None:
        if name.startswith(self.row.refuses):
            self.refused = self.refused or name
            return
        under = name.removeprefix(root) if name.startswith(root) else None
        for table, rest in ((self.row.outside, under), (self.row.heads, name)):
            for module, part in _readings(rest) if rest is not None else ():
                if module in table:
                    recipe = table[module]
                    self.outside.setdefault(recipe, Group(recipe, None, None)).add(part, tensor)
                    return
        self.unmapped[name] = "outside the layers that are recognised"


def _readings(name: str) -> list[tuple[str, str]]:
    """Return the ways to read a name as module and part: the whole name is one; then weight, bias, packed pieces."""
    module, _, last = name.rpartition(".")
    readings = [(name, "weight")]
    if last in _WEIGHT_NAMES:
        readings.append((module, _WEIGHT_NAMES[last]))
    elif _PACKED.fullmatch(last):
        readings.append((module, "packed"))
    elif ".weight." in name and _PACKED.fullmatch(name[name.index(".weight.") + 1 :]):
        readings.append((name[: name.index(".weight.")], "packed"))
    return readings


def _mapped(found: _Sorting, card: ModelCard) -> Mapped:
    row = found.row
    if found.refused is not None:
        raise UnfitError(f"{found.refused!r} shows another architecture")
    if found.stray is not None:
        raise UnfitError(f"{found.stray!r} is a parameter it does not have")
    width = check_stack(row, found.outside, found.layers)
    claimed = _claimed_heads(card, width)
    unmapped = dict(found.unmapped)
    views = _views(found, Layout(width, row.conv1d, claimed, None), unmapped)
    check_layers(row, found.layers, views, width)
    heads = _heads(views, claimed)
    hints = ["n_heads: num_attention_heads"] if heads[0] is not None else []
    offset, source = (row.offset, "names") if row.offset else (0.0, "")
    if row.name == "llama" and "gemma" in (card.claims.get("model_type"), card.claims.get("text_model_type")):
        offset, source = 1.0, "claim"
        hints.append("gains stored as g - 1: model_type")
    if offset:
        views = {role: _shifted(view, offset, source) for role, view in views.items()}
    architecture = _architecture(row, views, width, len(found.layers), heads, tuple(hints))
    return Mapped(architecture, views, unmapped)


def _views(found: _Sorting, layout: Layout, unmapped: dict[str, str]) -> dict[Role, View]:
    """Return all views by role; reasons of what has none go into `unmapped`."""
    views: dict[Role, View] = {}
    for layer in sorted(found.layers):
        groups = found.layers[layer].values()
        here = replace(layout, query_rows=query_rows(groups, layout))
        for group in groups:
            for view in views_of(group, here, unmapped):
                if views.setdefault(view.role, view) is not view:
                    raise UnfitError(f"two tensors for {view.role}, one is {view.tensor.name!r}")
    for group in found.outside.values():
        for view in views_of(group, replace(layout, conv1d=False), unmapped):
            if views.setdefault(view.role, view) is not view:
                unmapped[view.tensor.name] = f"a second tensor for {view.role}"
    return views


def _shifted(view: View, offset: float, source: str) -> View:
    if not view.role.kind.startswith("norm."):
        return view
    return replace(view, offset=offset, offset_source=source)


def _claimed_heads(card: ModelCard, width: int) -> int | None:
    n_heads = card.integer("num_attention_heads")
    return n_heads if n_heads is not None and n_heads <= width else None


def _heads(views: Mapping[Role, View], claimed: int | None) -> tuple[int | None, int | None]:
    """Return the numbers of query heads and of key heads; None where the claim does not divide the arrays."""
    q, k = views.get(Role("attn.q", 0)), views.get(Role("attn.k", 0))
    if claimed is None or q is None or k is None or q.shape[0] % claimed:
        return None, None
    n_kv, left = divmod(k.shape[0], q.shape[0] // claimed)
    return (None, None) if left or not n_kv or claimed % n_kv else (claimed, n_kv)


def _architecture(
    row: Row,
    views: Mapping[Role, View],
    width: int,
    n_layers: int,
    heads: tuple[int | None, int | None],
    hints: tuple[str, ...],
) -> Architecture:
    has_bias = Role("bias.norm.mlp_in", 0) in views
    return Architecture(
        name=row.name,
        glu=row.glu,
        mlp_norm=row.mlp_norm,
        attn_norm=row.attn_norm,
        norm_type="layer" if has_bias else row.norm_type,
        positions=row.positions,
        activation_sign_free_up=row.glu,
        n_layers=n_layers,
        width=width,
        tied_head=Role("unembed") not in views,
        n_heads=heads[0],
        n_kv=heads[1],
        hints=hints,
    )
