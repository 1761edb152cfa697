"""What is done to marked weights: by converters, trainers and mergers without intent, and by thieves with it.

An attack is one row of `ATTACKS`: its name and a function of the marked model, of what the attacker holds besides, and
of a generator. Functions of arrays stand in the modules of this package; the suites of fixtures use the same ones.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from weightmark.attacks import grids, structure
from weightmark.attacks.dummies import add_cliques, add_zero_units, split_units
from weightmark.attacks.lowrank import extract_adapter, truncate
from weightmark.attacks.merges import merge_dare, merge_ties
from weightmark.attacks.mixing import merge_linear, merge_slerp
from weightmark.attacks.numbers import (
    Array,
    Weights,
    add_noise,
    add_update,
    cast,
    in_float,
    on_matrices,
    rescale_rows,
    shift_rows,
)
from weightmark.attacks.pruning import prune_2_4, prune_global, prune_magnitude, prune_random
from weightmark.axes import Heads, residual_axes

Change: TypeAlias = Callable[[Mapping[str, Array], "Held", np.random.Generator], Weights]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What an attacker holds besides the marked model.

    Attributes
    ----------
    base : mapping of str to ndarray
        The unmarked model, as far as it is public: the other parent of a merge.
    heads : Heads or None
        Numbers of heads; attacks on heads need them.
    mark : callable
        A model and a number to that model under the foreign key of this number, by the scheme that is attacked.
    """

    base: Mapping[str, Array]
    heads: Heads | None
    mark: Callable[[Mapping[str, Array], int], Weights]


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the suite.

    Attributes
    ----------
    name : str
        Stable, lower case: it appears in reports.
    change : callable
        The marked model, what the attacker holds and a generator to the attacked model.
    aligned : bool
        The verifier finds the relabelling against the unmarked reference first and undoes it.
    in_fixture : bool
        Belongs to the table that every change of the code is held to.
    """

    name: str
    change: Change
    aligned: bool = False
    in_fixture: bool = True


def chain(*changes: Change) -> Change:
    """One attack after the other."""

    def change(w: Mapping[str, Array], held: Held, rng: np.random.Generator) -> Weights:
        made = dict(w)
        for each in changes:
            made = each(made, held, rng)
        return made

    return change


def _noise(rel: float) -> Change:
    return lambda w, _, rng: add_noise(w, rel, rng)


def _magnitude(share: float) -> Change:
    return lambda w, _, __: prune_magnitude(w, share)


def _random(share: float) -> Change:
    return lambda w, _, rng: prune_random(w, share, rng)


def _whole(bits: int, group: int | None) -> Change:
    """Symmetric levels by row, or by the largest group of at most `group` columns that divides a row."""

    def change(w: Mapping[str, Array], _: Held, __: np.random.Generator) -> Weights:
        return on_matrices(w, lambda x: grids.symmetric(x, bits, math.gcd(group, x.shape[1]) if group else None))

    return change


def _gguf(kind: str) -> Change:
    return lambda w, _, __: on_matrices(w, lambda x: grids.gguf(x, kind))


def _overwritten(n: int) -> Change:
    def change(w: Mapping[str, Array], held: Held, _: np.random.Generator) -> Weights:
        made = dict(w)
        for i in range(n):
            made = held.mark(made, i)
        return made

    return change


def _colluding(n: int) -> Change:
    """The mean of the marked model and n - 1 copies of its base under other keys."""

    def change(w: Mapping[str, Array], held: Held, _: np.random.Generator) -> Weights:
        copies = [held.mark(held.base, i) for i in range(n - 1)]
        return merge_linear([w, *copies], [1.0 / n] * n)

    return change


def _sibling(held: Held, rng: np.random.Generator) -> Weights:
    """Another fine-tune of the same base."""
    return add_update(held.base, 0.05, 16, rng)


def _stranger(w: Mapping[str, Array], rng: np.random.Generator) -> Weights:
    """An unrelated model of the same sizes: every array's own values in an order of chance."""
    return in_float(w, lambda _, x: rng.permutation(x.ravel()).reshape(x.shape))


def _arc(t: float) -> Change:
    return lambda w, held, _: merge_slerp(dict(w), dict(held.base), t)


def _extraction(rank: int) -> Change:
    """Low-rank extraction of the difference from a public base; rank in 1 / 2048 of the smaller side, at least one."""

    def change(w: Mapping[str, Array], held: Held, _: np.random.Generator) -> Weights:
        sides = [min(v.shape) for v in w.values() if v.ndim == 2]
        return extract_adapter(w, held.base, max(1, rank * max(sides) // 2048))

    return change


def _heads(held: Held) -> Heads:
    if held.heads is None:
        raise ValueError("this attack needs the numbers of heads, which the model does not tell")
    return held.heads


def _rotated(kind: Callable[[int, np.random.Generator], Array]) -> Change:
    def change(w: Mapping[str, Array], _: Held, rng: np.random.Generator) -> Weights:
        axes = residual_axes(structure.shapes_of(w))
        role = next(iter(axes))
        return structure.rotate_residual(w, kind(w[role].shape[axes[role]], rng))

    return change


_hidden: Change = lambda w, _, rng: structure.permute_hidden(w, rng)  # noqa: E731 - used by several rows
_residual: Change = lambda w, _, rng: structure.permute_residual(w, rng)  # noqa: E731 - used by several rows

ATTACKS: tuple[Attack, ...] = (
    Attack("none", lambda w, _, __: dict(w)),
    Attack("cast-f16-bf16", lambda w, _, __: cast(cast(w, "float16"), "bfloat16")),
    Attack("noise-0.1", _noise(0.1)),
    Attack("noise-0.3", _noise(0.3)),
    Attack("noise-1.0", _noise(1.0)),
    Attack("fine-tune", lambda w, _, rng: add_update(w, 0.05, 16, rng)),
    Attack("prune-magnitude-50", _magnitude(0.5)),
    Attack("prune-magnitude-75", _magnitude(0.75)),
    Attack("prune-magnitude-90", _magnitude(0.9)),
    Attack("prune-magnitude-95", _magnitude(0.95)),
    Attack("prune-magnitude-99", _magnitude(0.99)),
    Attack("prune-global-50", lambda w, _, __: prune_global(w, 0.5), in_fixture=False),
    Attack("prune-random-50", _random(0.5)),
    Attack("prune-random-90", _random(0.9)),
    Attack("prune-2-4", lambda w, _, __: prune_2_4(w)),
    Attack("int8-row", _whole(8, None)),
    Attack("int4-g64", _whole(4, 64)),
    Attack("q4_0", _gguf("Q4_0")),
    Attack("q8_0", _gguf("Q8_0"), in_fixture=False),
    Attack("nf4", lambda w, _, __: on_matrices(w, lambda x: grids.nf4(x, math.gcd(64, x.shape[1]))), in_fixture=False),
    Attack("fp8", lambda w, _, __: on_matrices(w, grids.fp8), in_fixture=False),
    Attack("int3-g64", _whole(3, 64)),
    Attack("int2-g64", _whole(2, 64)),
    Attack("one-bit", lambda w, _, __: on_matrices(w, grids.signs)),
    Attack("overwrite-1", _overwritten(1)),
    Attack("overwrite-10", _overwritten(10)),
    Attack("merge-base-0.5", lambda w, held, _: merge_linear([w, held.base], [0.5, 0.5])),
    Attack("merge-sibling-0.5", lambda w, held, rng: merge_linear([w, _sibling(held, rng)], [0.5, 0.5])),
    Attack("merge-stranger-0.5", lambda w, _, rng: merge_linear([w, _stranger(w, rng)], [0.5, 0.5])),
    Attack("slerp-base-0.5", _arc(0.5), in_fixture=False),
    Attack(
        "ties",
        lambda w, held, rng: merge_ties(
            dict(held.base), [dict(w), _sibling(held, rng)], [(0.5, 0.5), (0.5, 0.5)], rng, steps="double"
        ),
        in_fixture=False,
    ),
    Attack("dare-90", lambda w, held, rng: merge_dare(dict(held.base), [dict(w)], [(0.1, 1.0)], rng, steps="double")),
    Attack("svd-1/2", lambda w, _, __: truncate(w, 1 / 2)),
    Attack("svd-1/4", lambda w, _, __: truncate(w, 1 / 4)),
    Attack("svd-1/8", lambda w, _, __: truncate(w, 1 / 8)),
    Attack("svd-1/16", lambda w, _, __: truncate(w, 1 / 16)),
    Attack("extract-r32", _extraction(32)),
    Attack("extract-r64", _extraction(64)),
    Attack("extract-r256", _extraction(256)),
    Attack("collude-2", _colluding(2)),
    Attack("collude-5", _colluding(5)),
    Attack("collude-10", _colluding(10)),
    Attack("rescale-rows", lambda w, _, rng: rescale_rows(w, 1.0, rng)),
    Attack("weight-shift", lambda w, _, rng: shift_rows(w, 2.0, 0.1, rng), in_fixture=False),
    Attack("permute-hidden", _hidden),
    Attack("permute-hidden-aligned", _hidden, aligned=True),
    Attack("permute-residual-aligned", _residual, aligned=True),
    Attack("permute-heads-aligned", lambda w, h, rng: structure.permute_heads(w, _heads(h), rng), aligned=True),
    Attack("flip-signs-aligned", lambda w, _, rng: structure.flip_signs(w, rng), aligned=True, in_fixture=False),
    Attack("rescale-hidden-aligned", lambda w, _, rng: structure.rescale_hidden(w, 10.0, rng), aligned=True),
    Attack("turn-rotary-aligned", lambda w, h, rng: structure.turn_rotary(w, _heads(h), 2.0, rng), aligned=True),
    Attack("mix-values-aligned", lambda w, h, rng: structure.mix_values(w, _heads(h), rng), aligned=True),
    Attack("rotate-aligned", _rotated(structure.haar), aligned=True),
    Attack("hadamard-aligned", _rotated(structure.hadamard), aligned=True, in_fixture=False),
    Attack("zero-units-aligned", lambda w, _, rng: add_zero_units(w, 0.1, rng), aligned=True, in_fixture=False),
    Attack("cliques-aligned", lambda w, _, rng: add_cliques(w, 0.1, rng), aligned=True, in_fixture=False),
    Attack("split-units-aligned", lambda w, _, rng: split_units(w, 0.1, rng), aligned=True, in_fixture=False),
    Attack("noise+prune+int4", chain(_noise(0.1), _magnitude(0.5), _whole(4, 64))),
    Attack("permute+rotate-aligned", chain(_hidden, _rotated(structure.haar)), aligned=True, in_fixture=False),
)  # fmt: skip
"""The suite, in the order of its table."""

BY_NAME = {attack.name: attack for attack in ATTACKS}

SUITES: dict[str, tuple[str, ...]] = {
    "quick": ("none", "noise-0.3", "prune-magnitude-50", "int4-g64", "merge-base-0.5", "permute-hidden"),
    "fixture": tuple(a.name for a in ATTACKS if a.in_fixture),
    "all": tuple(a.name for a in ATTACKS),
}
