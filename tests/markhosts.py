"""Hosts for marks at fixture size, the parts that are measured on them, and what the design expected."""

import inspect
from typing import NamedTuple

import ml_dtypes
import numpy as np

from crawl import Architecture
from lineage.benching import undo_of
from weightmark.attacks import SUITES
from weightmark.axes import Heads

EPS = 0.1
"""Times the root of a million weights it comes to the statistic at which the expected shares were measured."""


def heavy(rng, rows, columns):
    """Heavy-tailed rows of differing size, and one column in a hundred three times as large."""
    x = rng.standard_t(8, (rows, columns)) * np.exp(rng.normal(0, 0.3, (rows, 1)))
    x[:, rng.choice(columns, max(1, columns // 100), replace=False)] *= 3.0
    return (0.02 * x).astype(ml_dtypes.bfloat16)


def squares():
    """Four square matrices, a million weights."""
    rng = np.random.default_rng(2027)
    return {f"L0000.attn.{kind}": heavy(rng, 512, 512) for kind in "qkvo"}, None, None


def block():
    """One Llama-shaped layer of a million weights with tables of 1,024 tokens, eight heads, gains near one."""
    rng = np.random.default_rng(2028)
    d, hidden = 256, 1024
    shapes = {"attn.q": (d, d), "attn.k": (d, d), "attn.v": (d, d), "attn.o": (d, d)}
    shapes |= {"mlp.gate": (hidden, d), "mlp.up": (hidden, d), "mlp.down": (d, hidden)}
    made = {f"L0000.{kind}": heavy(rng, *shape) for kind, shape in shapes.items()}
    made |= {table: heavy(rng, 1024, d) for table in ("embed", "unembed")}
    gains = ("L0000.norm.attn_in", "L0000.norm.mlp_in", "norm.final")
    made |= {gain: np.exp(rng.normal(0, 0.1, d)).astype(ml_dtypes.bfloat16) for gain in gains}
    arch = Architecture(
        name="llama", glu=True, mlp_norm="norm.mlp_in", attn_norm="norm.attn_in", norm_type="rms", positions="rotary",
        activation_sign_free_up=True, n_layers=1, width=d, tied_head=False, n_heads=8, n_kv=8, hints=(),
    )  # fmt: skip
    return made, Heads(8, 8), undo_of(arch)


HOSTS = {"block": block, "squares": squares}


def source_of(part):
    """The code of a part's host and its settings, for the digest."""
    return (
        inspect.getsource(heavy) + inspect.getsource(HOSTS[part.host]) + repr((part._replace(title="", words=""), EPS))
    )


class Wanted(NamedTuple):
    """Share of the statistic that should be left, and whether the mark should be found at all."""

    kept: float | None
    found: bool = True


class Part(NamedTuple):
    """One table of the page."""

    name: str
    title: str
    words: str
    host: str
    scheme: str
    attacks: tuple
    informed: bool = False
    payload: int = 14


NUMBERS = tuple(a for a in SUITES["fixture"] if not a.endswith("aligned") and a != "permute-hidden")
ALIGNED = (
    "permute-hidden-aligned", "permute-residual-aligned", "rescale-hidden-aligned", "turn-rotary-aligned",
    "mix-values-aligned", "rotate-aligned",
)  # fmt: skip
GRAM = (
    "none", "permute-hidden", "flip-signs-aligned", "noise-0.3", "noise-1.0", "prune-magnitude-50", "int4-g64",
    "merge-base-0.5", "fine-tune", "rescale-rows", "rotate-aligned", "collude-2",
)  # fmt: skip
PARTS = (
    Part(
        "dss",
        "`dss`, blind",
        "Four bfloat16 matrices of 512 x 512: Student's t with 8 degrees of freedom, rows of log-normal size (0.3), one "
        "column in a hundred three times as large. Nothing but the suspect is read.",
        "squares",
        "dss",
        NUMBERS,
    ),
    Part(
        "dss-informed",
        "`dss`, with the unmarked original",
        "The same copies, read against the unmarked original.",
        "squares",
        "dss",
        ("none", "noise-1.0", "prune-magnitude-99", "merge-sibling-0.5", "extract-r32"),
        informed=True,
    ),
    Part(
        "dss-rewrites",
        "`dss`, blind, after rewrites that keep the function",
        "One Llama-shaped bfloat16 layer of a million weights, drawn as above. Rewrites whose names end in aligned are "
        "found against the unmarked original and taken back first. Hidden units in another order leave the attention, a quarter "
        "of the weights, in its place.",
        "block",
        "dss",
        ("none", "permute-hidden", *ALIGNED),
    ),
    Part(
        "gram",
        "`gram`, blind",
        "The same layer; queries, keys, values, gate and up carry the mark, 720,896 weights. Nothing is aligned but the "
        "rotation.",
        "block",
        "gram",
        GRAM,
        payload=0,
    ),
    Part(
        "gram-informed",
        "`gram`, with the unmarked original",
        "The same copies, read against the unmarked original.",
        "block",
        "gram",
        ("none", "permute-hidden", "noise-1.0", "int4-g64", "merge-base-0.5"),
        informed=True,
        payload=0,
    ),
    Part(
        "perm",
        "`perm`, with the unmarked original",
        "The same layer: 1,024 hidden units and 256 residual dimensions, one byte of payload. No value changes.",
        "block",
        "perm",
        ("none", "noise-1.0", "prune-magnitude-90", "int4-g64", "permute-hidden"),
        informed=True,
        payload=1,
    ),
)

_SHARES = {
    "none": 1.0, "cast-f16-bf16": 1.0, "noise-0.1": 0.993, "noise-0.3": 0.947, "noise-1.0": 0.668, "fine-tune": 0.996,
    "prune-magnitude-50": 0.937, "prune-magnitude-75": 0.758, "prune-magnitude-90": 0.514, "prune-magnitude-95": 0.364,
    "prune-magnitude-99": 0.145, "prune-random-50": 0.721, "prune-random-90": 0.332, "prune-2-4": 0.901, "int8-row": 1.0,
    "int4-g64": 0.988, "q4_0": 0.995, "int3-g64": 0.939, "int2-g64": 0.593, "one-bit": 0.904, "overwrite-1": 1.0,
    "overwrite-10": 0.987, "merge-base-0.5": 0.498, "merge-sibling-0.5": 0.497, "merge-stranger-0.5": 0.691,
    "dare-90": 0.987, "svd-1/2": 0.926, "svd-1/4": 0.750, "svd-1/8": 0.556, "svd-1/16": 0.396, "extract-r32": 0.049,
    "extract-r64": 0.094, "extract-r256": 0.341, "collude-2": 0.508, "collude-5": 0.213, "collude-10": 0.114,
    "rescale-rows": 1.0, "noise+prune+int4": 0.925,
}  # fmt: skip
WANTED = {("dss", attack): Wanted(kept, found=attack != "extract-r32") for attack, kept in _SHARES.items()}
WANTED |= {("dss-rewrites", attack): Wanted(1.0) for attack in ("none", *ALIGNED)}
WANTED |= {("dss-rewrites", "permute-hidden"): Wanted(0.0, found=False)}
WANTED |= {(part, attack): Wanted(1.0) for part in ("gram", "gram-informed") for attack in ("none", "permute-hidden")}
WANTED |= {("perm", "permute-hidden"): Wanted(None, found=False)}
