"""Whether a sorted model really is what its names say: complete layers, and widths that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawl.refs import Role
from crawl.splits import READS_RESIDUAL, WRITES_RESIDUAL, Group, UnfitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawl.architectures import Row
    from crawl.views import View

Layers = dict[int, dict[tuple[str, int | None], Group]]
_OWN_WIDTH = ("norm.q", "norm.k", "norm.embed")


def check_stack(row: Row, outside: Mapping[str, Group], layers: Layers) -> int:
    """Return the residual width, as a norm of layer 0 has it.

    Raises
    ------
    UnfitError
        The layers are not numbered from 0 without holes, there is no embedding, or nothing says the width.
    """
    if sorted(layers) != list(range(len(layers))):
        raise UnfitError(f"{len(layers)} layers that are not numbered from 0 without holes")
    if not {"embed", "embed.patch"} & set(outside):
        raise UnfitError("there is no embedding")
    for group in layers.get(0, {}).values():
        weight = group.parts.get("weight")
        if group.recipe.startswith("norm.") and group.recipe not in _OWN_WIDTH and weight is not None:
            if len(weight.shape) != 1 or not weight.shape[0]:
                raise UnfitError(f"{weight.name!r} has shape {list(weight.shape)}")
            return weight.shape[0]
    raise UnfitError(f"layer 0 has none of the norms of {row.name}")


def check_layers(row: Row, layers: Layers, views: Mapping[Role, View], width: int) -> None:
    """Check that every layer holds what the row needs, and that all shapes fit together.

    Raises
    ------
    UnfitError
        Something is missing or does not fit.
    """
    for layer, groups in layers.items():
        _check_kinds(row, layer, groups)
        _check_experts(layer, groups)
        _check_sizes(layer, groups, views)
    for role, view in views.items():
        _check_width(role, view, width)


def _check_kinds(row: Row, layer: int, groups: Mapping[tuple[str, int | None], Group]) -> None:
    held = {kind for group in groups.values() if group.parts.get("weight") or group.packed for kind in group.kinds}
    for kind in row.needs:
        if kind not in held:
            raise UnfitError(f"layer {layer} has no {kind}")


def _check_experts(layer: int, groups: Mapping[tuple[str, int | None], Group]) -> None:
    by_expert: dict[int, set[str]] = {}
    for group in groups.values():
        if group.expert is not None:
            by_expert.setdefault(group.expert, set()).update(group.kinds)
    if not by_expert:
        return
    if not any(group.recipe == "router" for group in groups.values()):
        raise UnfitError(f"layer {layer} has experts and no router")
    complete = {kind for kinds in by_expert.values() for kind in kinds}
    if sorted(by_expert) != list(range(len(by_expert))) or any(kinds != complete for kinds in by_expert.values()):
        raise UnfitError(f"the experts of layer {layer} are not complete")


def _check_width(role: Role, view: View, width: int) -> None:
    kind = role.kind
    n_in, n_out = view.shape[-1], view.shape[0]
    if kind.startswith("bias."):
        ok = len(view.shape) == 1 and (kind[5:] not in WRITES_RESIDUAL or n_out == width)
    elif kind.startswith("norm."):
        ok = len(view.shape) == 1 and (n_out == width or kind in _OWN_WIDTH)
    elif kind in READS_RESIDUAL or kind in {"embed", "embed.position", "embed.type", "embed.cls", "unembed"}:
        ok = n_in == width and (len(view.shape) == 2 or kind == "embed.cls")
    elif kind in WRITES_RESIDUAL or kind == "embed.patch":
        ok = len(view.shape) == 2 and n_out == width
    else:
        ok = True
    if not ok:
        raise UnfitError(f"{view.tensor.name!r} has shape {list(view.tensor.shape)} where the width is {width}")


def _check_sizes(layer: int, groups: Mapping[tuple[str, int | None], Group], views: Mapping[Role, View]) -> None:
    """Check that what one module writes is as long as what the next one reads, and a bias as its weight."""
    experts = {group.expert for group in groups.values()}
    pairs = [("attn.q", "attn.o"), ("mlp.up", "mlp.down"), ("mlp.gate", "mlp.down")]
    pairs += [("mlp.shared.up", "mlp.shared.down"), ("mlp.shared.gate", "mlp.shared.down")]
    for expert in experts:
        for first, second in pairs:
            a, b = views.get(Role(first, layer, expert)), views.get(Role(second, layer, expert))
            if a is not None and b is not None and a.shape[0] != b.shape[-1]:
                raise UnfitError(f"{first} of layer {layer} gives {a.shape[0]} numbers, {second} takes {b.shape[-1]}")
        k, v = views.get(Role("attn.k", layer)), views.get(Role("attn.v", layer))
        if k is not None and v is not None and k.shape != v.shape:
            raise UnfitError(f"keys and values of layer {layer} differ in shape")
    for group in groups.values():
        for kind in group.kinds:
            weight = views.get(Role(kind, layer, group.expert))
            bias = views.get(Role(f"bias.{kind}", layer, group.expert))
            if weight is not None and bias is not None and weight.shape[0] != bias.shape[0]:
                raise UnfitError(f"{bias.tensor.name!r} is not as long as the output of its weight")
