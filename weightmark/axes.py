"""Which axis of each role runs along the hidden units, the heads and the residual stream.

Roles are named as `crawl.Role` prints them (`L0003.mlp.gate`); arrays are [out, in], vectors have one axis.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PREFIX = re.compile(r"(L\d{4,}\.)(E\d{2,}\.)?(.+)")

HIDDEN = {"mlp.gate": 0, "mlp.up": 0, "mlp.down": 1, "bias.mlp.gate": 0, "bias.mlp.up": 0}
QUERIES = {"attn.q": 0, "bias.attn.q": 0, "attn.o": 1}
KEYS = {"attn.k": 0, "bias.attn.k": 0}
VALUES = {"attn.v": 0, "bias.attn.v": 0}
WRITERS = {"attn.o": 0, "mlp.down": 0, "bias.attn.o": 0, "bias.mlp.down": 0}
READERS = {
    "attn.q": 1, "attn.k": 1, "attn.v": 1, "mlp.gate": 1, "mlp.up": 1, "router": 1,
    "embed": 1, "unembed": 1, "embed.position": 1, "embed.type": 1,
}  # fmt: skip
GAINS = ("norm.attn_in", "norm.attn_out", "norm.mlp_in", "norm.mlp_out", "norm.final", "norm.embed")

MATRICES = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down")
SMALLEST = 64
"""Matrices with a shorter side carry nothing: adapters, tiny heads, routers."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of queries and of keys and values; the second divides the first."""

    queries: int
    kv: int

    def __post_init__(self) -> None:
        if self.kv < 1 or self.queries % self.kv:
            raise ValueError(f"{self.kv} key-value heads do not divide {self.queries} query heads")


def split_role(role: str) -> tuple[str, str]:
    """The place (`L0003.`, `L0003.E07.`, or nothing) and the kind of a role."""
    found = _PREFIX.fullmatch(role)
    return ("", role) if found is None else (found[1] + (found[2] or ""), found[3])


def places(roles: Iterable[str], kind: str) -> list[str]:
    """Every place that holds a role of this kind, sorted."""
    return sorted(place for place, found in map(split_role, roles) if found == kind)


def along(weights: Mapping[str, object], place: str, axes: Mapping[str, int]) -> dict[str, int]:
    """The roles of one place among `axes` that the model has, each with its axis."""
    return {place + kind: axis for kind, axis in axes.items() if place + kind in weights}


def matrices(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Roles of the matrices of attention and MLPs, of experts too, with at least 64 rows and columns; sorted."""
    return tuple(
        sorted(r for r, s in shapes.items() if split_role(r)[1] in MATRICES and len(s) == 2 and min(s) >= SMALLEST)
    )


def residual_axes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The axis along the residual stream of every role that has one."""
    found = {}
    for role, shape in shapes.items():
        _, kind = split_role(role)
        if kind in WRITERS or kind in READERS:
            found[role] = WRITERS.get(kind, READERS.get(kind, 0)) if len(shape) > 1 else 0
        elif kind in GAINS or kind.removeprefix("bias.") in GAINS:
            found[role] = 0
    return found
