"""Quantised copies in dequantised files: the grid a model lies on, and whether it is another model, rounded to it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from lineage.codes import Copy, Format, copy_of, levels_of
from lineage.formulas import Recipe
from lineage.stored import Arrays, is_table, matrices, narrowest, paired, rounded
from stats.quantised import Levels

_MOST = 0.5
"""Share of the matrices that must lie on a grid for a model to be called quantised."""

_EXPLAINED = 0.9
"""Share of the changed matrices that must be quantised copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """How a model was quantised.

    Attributes
    ----------
    method : str or None
        `rtn` (nearest code), `awq` (nearest code after columns were scaled), `gptq-like` (errors made good by later
        columns), `nf4` or another table, or a legacy type of GGUF (`Q4_0` ...). None where the parent is not known.
    levels : str
        Kind of levels, as in `stats.quantised.Levels`.
    bits : int
    group : int or None
        Values that share a scale; None for a whole row.
    axis : str
        `inputs` or `outputs`: what a group runs along.
    symmetric : bool or None
    scale : str or None
        Format of the scales that reproduce the copy; `fitted` where no formula gives them.
    replay : float or None
        Share of values a formula reproduces bit for bit, or of codes where scales were fitted.
    share : float
        Of the matrices (of the changed ones with a parent), those that agree with all this.
    methods : mapping of str to str
        Method of each tensor that is a quantised copy.
    """

    method: str | None
    levels: str
    bits: int
    group: int | None
    axis: str
    symmetric: bool | None
    scale: str | None = None
    replay: float | None = None
    share: float
    methods: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "quantized"


def hidden_quantisation(arrays: Arrays, dtype: str) -> Quantised | None:
    """Whether a model that stores plain numbers was quantised before.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Stored values; parts of matrices begin where a group begins.
    dtype : str
        Stored number format.

    Returns
    -------
    Quantised or None
        Bits, group and symmetry that most matrices outside tables share. None when fewer than half lie on a grid.

    Notes
    -----
    Null: none; exact up to the rounding of the stored format. Cost: `stats.quantised.find_levels` for each matrix.
    """
    store = narrowest(arrays, dtype)
    every = matrices(arrays)
    asked = {k: v for k, v in every.items() if not is_table(k)} or every
    found: dict[str, Levels] = {}
    for missed, (name, values) in enumerate(asked.items(), start=1):
        levels = levels_of(values, store)
        if levels is not None:
            found[name] = levels
        if missed - len(found) > (1.0 - _MOST) * len(asked):
            return None
    if not found:
        return None
    common = _common(found.values())
    agree = sum(_agrees(levels, common, asked[k].shape) for k, levels in found.items())
    return _described(common, agree / len(asked))


def quantised_copy(
    parent: Arrays, child: Arrays, dtype: str, levels: dict[str, Levels | None] | None = None
) -> Quantised | None:
    """Whether one model is another one, quantised and stored as plain numbers.

    Parameters
    ----------
    parent, child : mapping of str to ndarray
        Stored values of the same parts of both.
    dtype : str
        Stored number format of the child.
    levels : dict, optional
        Grids of the child's matrices by name, those found before: filled here, for the next candidate.

    Returns
    -------
    Quantised or None
        None when the child is no quantised copy of this parent: of a relative's, of a stranger's, or none at all.

    Notes
    -----
    Null: none. A tensor counts when its values lie on a grid, the parent's do not, and one of these holds: a formula
    gives at least 0.999 of the child's values bit for bit; rounding the parent to the child's steps gives 0.999 of the
    codes; it does after rows and columns are scaled; or the steps are those of the parent's own groups and errors are
    larger than rounding leaves, as when later columns make good those of earlier ones. Errors must be as large as
    rounding leaves them: what was trained a little from a quantised model rounds to it as well, and is its child. At least
    nine tenths of the changed matrices must count. Rounding cannot be undone, so the direction is exact. Cost: dozens of formulas on eight
    rows, one on 256, for each matrix.
    """
    formats = Format(narrowest(parent, "F64", ("BF16", "F16", "F32")), narrowest(child, dtype))
    changed = [(k, p, c) for k, p, c in paired(parent, child) if not np.array_equal(rounded(p, dtype), c)]
    copies: dict[str, Copy] = {}
    known: Recipe | None = None
    grids = {} if levels is None else levels
    for i, (name, before, after) in enumerate(changed):
        if name not in grids:
            grids[name] = levels_of(after, formats.child)
        found = copy_of(before, after, formats, grids[name], known)
        if found is not None and found.is_rounding:
            copies[name], known = found, found.recipe or known
        if i + 1 - len(copies) > (1.0 - _EXPLAINED) * len(changed):
            return None
    return _summary(copies, len(changed)) if copies else None


def is_trained_copy(quantised: Arrays, other: Arrays, dtype: str) -> bool:
    """Whether a model has the codes of a quantised one, and lies nearer to them than rounding leaves anything.

    Parameters
    ----------
    quantised, other : mapping of str to ndarray
        Stored values of the same parts of both.
    dtype : str
        Stored number format of the quantised model.

    Returns
    -------
    bool
        True where it was trained a little from the quantised model, dequantised: an adapter trained on four bits and
        merged, say (arXiv 2305.14314). Cost: as `quantised_copy`.
    """
    formats = Format(narrowest(other, "F64", ("BF16", "F16", "F32")), narrowest(quantised, dtype))
    changed = [(p, c) for _, p, c in paired(other, quantised) if not np.array_equal(rounded(p, dtype), c)]
    near = 0
    for i, (before, after) in enumerate(changed):
        found = copy_of(before, after, formats, levels_of(after, formats.child))
        near += found is not None and not found.is_rounding
        if i + 1 - near > (1.0 - _EXPLAINED) * len(changed):
            return False
    return bool(changed)


def _summary(copies: Mapping[str, Copy], n_changed: int) -> Quantised:
    """What most of the copied tensors have in common; columns scaled in some are columns scaled in the model."""
    counts = Counter(c.method for c in copies.values())
    method = "awq" if 4 * counts["awq"] >= len(copies) else max(sorted(counts), key=lambda m: counts[m])
    of_it = [c for c in copies.values() if c.method == method]
    common = _common(c.levels for c in of_it)
    scales = Counter(c.scale for c in of_it)
    return replace(
        _described(common, sum(_agrees(c.levels, common, c.shape) for c in copies.values()) / n_changed),
        method=method,
        scale=max(sorted(scales), key=lambda s: scales[s]),
        replay=float(np.mean([c.replay for c in of_it])),
        methods={k: c.method for k, c in copies.items()},
    )


def _described(common: Levels, share: float) -> Quantised:
    return Quantised(
        method=None,
        levels=common.kind,
        bits=common.bits,
        group=common.group,
        axis=common.axis,
        symmetric=common.symmetric,
        share=share,
    )


def _common(found: Iterable[Levels]) -> Levels:
    """The description that most tensors share."""
    counts = Counter(replace(levels, surprise=0.0) for levels in found)
    return max(sorted(counts, key=repr), key=lambda levels: counts[levels])


def _agrees(levels: Levels, common: Levels, shape: tuple[int, ...]) -> bool:
    """Whether a tensor fits the description; a group as long as its row is a whole row as well."""
    length = shape[1] if levels.axis == "inputs" else shape[0]
    same_group = (levels.group or length) == (common.group or length)
    return same_group and (levels.kind, levels.bits, levels.axis) == (common.kind, common.bits, common.axis)
