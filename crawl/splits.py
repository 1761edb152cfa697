"""Turn one module's tensors into views: split what is fused, transpose what is stored ``[in, out]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crawl.refs import Role
from crawl.views import Pick, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crawl.refs import TensorRef

# Where the outputs of a module with two axes lead, and so which axis must equal the residual width.
READS_RESIDUAL = ("attn.q", "attn.k", "attn.v", "mlp.gate", "mlp.up", "mlp.shared.gate", "mlp.shared.up", "router")
WRITES_RESIDUAL = ("attn.o", "mlp.down", "mlp.shared.down")
_MOST_EXPERTS = 4096  # four times the most that are known in one layer


class UnfitError(Exception):
    """The model is not of the row that was tried; the text says why."""


@dataclass(slots=True)
class Group:
    """The tensors of one module: weight, bias, or the pieces a quantiser made of them."""

    recipe: str
    layer: int | None
    expert: int | None
    parts: dict[str, TensorRef] = field(default_factory=dict)
    packed: list[TensorRef] = field(default_factory=list)
    extra: list[TensorRef] = field(default_factory=list)

    def add(self, part: str, tensor: TensorRef) -> None:
        """File a tensor under its part of the module."""
        if part == "packed":
            self.packed.append(tensor)
        elif part in self.parts:
            self.extra.append(tensor)
        else:
            self.parts[part] = tensor

    @property
    def kinds(self) -> list[str]:
        """The role kinds its weight holds."""
        return self.recipe.replace("*", "+").split("+")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the split of one module depends on beside its own tensors.

    Attributes
    ----------
    width : int
        Residual dimensions.
    conv1d : bool
        Matrices are stored ``[in, out]``.
    n_heads : int or None
        Needed to take apart heads that interleave query, key and value.
    query_rows : int or None
        Outputs of the queries, as the output projection of the same layer says.
    """

    width: int
    conv1d: bool
    n_heads: int | None
    query_rows: int | None


def query_rows(groups: Iterable[Group], layout: Layout) -> int | None:
    """Return how many numbers the output projection of a layer reads; None where it cannot be told."""
    for group in groups:
        weight = group.parts.get("weight")
        if group.recipe == "attn.o" and weight is not None and len(weight.shape) == 2:
            return weight.shape[0 if layout.conv1d else 1]
    return None


def views_of(group: Group, layout: Layout, unmapped: dict[str, str]) -> list[View]:
    """Return the views of one module.

    Parameters
    ----------
    group : Group
    layout : Layout
    unmapped : dict
        Gets the name of each tensor without a view, and why.

    Raises
    ------
    UnfitError
        A tensor has a shape that no array of its role can have.
    """
    for tensor in group.extra:
        unmapped[tensor.name] = "a second tensor for the same module"
    if group.packed:
        for tensor in [*group.packed, *group.parts.values()]:
            unmapped[tensor.name] = "quantised: its numbers mean nothing without their scales"
        return []
    views: list[View] = []
    for part, tensor in group.parts.items():
        if not tensor.dtype.is_float or tensor.dtype.bits < 8 or tensor.dtype.name == "F8_E8M0":
            unmapped[tensor.name] = f"stored as {tensor.dtype.name}, which is not a trained number format"
            continue
        prefix = "bias." if part == "bias" and not group.recipe.startswith("bias.") else ""
        reason = _split(views, group, tensor, prefix, layout)
        if reason:
            unmapped[tensor.name] = reason
    return views


def _split(views: list[View], group: Group, tensor: TensorRef, prefix: str, layout: Layout) -> str:
    """Add the views of one tensor; return why there are none, or an empty text.

    Raises
    ------
    UnfitError
        It has a shape that no array of its role can have.
    """
    kinds = group.kinds
    if 0 in tensor.shape:
        raise UnfitError(f"{tensor.name!r} has no elements")
    if len(tensor.shape) == 3 and ".experts." in tensor.name:
        return _experts(views, group, tensor, prefix, layout.width)
    if kinds[0].startswith("embed") or len(tensor.shape) > 2:
        return _table(views, group, tensor, prefix)
    vector = len(tensor.shape) == 1
    if not tensor.shape or (vector and not prefix and kinds[0].startswith(("attn", "mlp", "router"))):
        raise UnfitError(f"{tensor.name!r} has shape {list(tensor.shape)}")
    transposed = layout.conv1d and not vector
    n_out = tensor.shape[1 if transposed else 0]
    picks, reason = _picks(group.recipe, n_out, layout)
    for kind, (pick, count) in zip(kinds, picks, strict=False):
        n_in = tensor.shape[0 if transposed else 1] if not vector else 0
        shape = (count,) if vector else (count, n_in)
        views.append(View(Role(prefix + kind, group.layer, group.expert), tensor, shape, transposed, pick))
    return reason


def _picks(recipe: str, n_out: int, layout: Layout) -> tuple[Sequence[tuple[Pick, int]], str]:
    """Return where each array of a recipe lies along the output axis, and how long it is."""
    n_parts = recipe.count("+") + recipe.count("*") + 1
    if n_parts == 1:
        return [(Pick(0, max(n_out, 1), 0), n_out)], ""
    if "*" in recipe:
        return _interleaved(n_parts, n_out, layout.n_heads)
    first = n_out // n_parts if n_parts == 2 else layout.query_rows
    rest, left = divmod(n_out - (first or 0), n_parts - 1)
    if first is None or left or min(first, rest) <= 0 or (n_parts == 2 and first != rest):
        raise UnfitError(f"{n_out} rows cannot be split into {recipe}")
    counts = [first, *[rest] * (n_parts - 1)]
    return [(Pick(sum(counts[:i]), count, 0), count) for i, count in enumerate(counts)], ""


def _interleaved(n_parts: int, n_out: int, n_heads: int | None) -> tuple[Sequence[tuple[Pick, int]], str]:
    if n_heads is None:
        return [], "heads interleave query, key and value, and no head count is claimed"
    if n_out % (n_parts * n_heads):
        return [], f"{n_out} rows are not {n_parts} times {n_heads} heads"
    size = n_out // (n_parts * n_heads)
    return [(Pick(i * size, size, n_parts * size), size * n_heads) for i in range(n_parts)], ""


def _table(views: list[View], group: Group, tensor: TensorRef, prefix: str) -> str:
    """Embeddings, position tables and patch filters: any shape that flattens to ``[n, width]`` or ``[out, in]``."""
    shape = tensor.shape
    while len(shape) > 1 and shape[0] == 1 and group.recipe != "embed":
        shape = shape[1:]
    if not shape:
        raise UnfitError(f"{tensor.name!r} is a scalar")
    if len(shape) > 2:
        if group.recipe != "embed.patch":
            raise UnfitError(f"{tensor.name!r} has shape {list(tensor.shape)}")
        rest = 1
        for size in shape[1:]:
            rest *= size
        shape = (shape[0], rest)
    pick = Pick(0, max(shape[0], 1), 0)
    views.append(View(Role(prefix + group.recipe, group.layer, group.expert), tensor, shape, False, pick))
    return ""


def _experts(views: list[View], group: Group, tensor: TensorRef, prefix: str, width: int) -> str:
    """Split experts that are stacked in one tensor ``[E, a, b]``; the axis of residual width says which way they lie."""
    n_experts, a, b = tensor.shape
    reads = group.kinds[0] in READS_RESIDUAL
    if n_experts > _MOST_EXPERTS:
        return f"{n_experts} experts, more than {_MOST_EXPERTS}"
    if prefix or (a == width) == (b == width):
        return "stacked experts whose orientation cannot be told"
    transposed = (a == width) if reads else (b == width)
    n_out, n_in = (b, a) if transposed else (a, b)
    parts = len(group.kinds)
    if n_out % parts:
        return f"{n_out} outputs cannot be split into {group.recipe}"
    size = n_out // parts
    for expert in range(n_experts):
        for i, kind in enumerate(group.kinds):
            role = Role(kind, group.layer, expert)
            pick = Pick(i * size, size, 0)
            views.append(View(role, tensor, (size, n_in), transposed, pick, base=expert * a))
    return ""
