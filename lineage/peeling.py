"""What was done to a model, step by step: exact steps replayed, outermost last, and what is left below them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from crawl.casts import SIGNIFICANT_BITS
from lineage.casting import Chain, find_chain
from lineage.change import Change
from lineage.masks import OLDER, Pruned, find_mask, masked, shared_below_masks
from lineage.quantising import Quantised, hidden_quantisation, is_trained_copy, quantised_copy
from lineage.relation import EXACT, GRID_HISTORY, LOG_ODDS_CAP, Relation, Signal, relate_change
from lineage.signature import Signature
from lineage.stored import Arrays, paired
from lineage.study import WHOLE, Study
from lineage.updates import low_rank_update
from stats.arrays import Float64Array
from stats.distance import PairSums, pair_sums
from stats.quantised import Levels

_ASKED = 3
"""Matrices of a model that are asked first whether they lie on a grid."""

_MOST = 9
"""Matrices of a model, spread over it, that are replayed as quantised copies."""

_COMPENSATED = "gptq-like"
"""Errors made good by later columns: codes that were set to zero look a little like that."""

_ZEROS = 0.02
_DISTINCT = 0.7
_ROW = 256
"""Difference of the shares of zeros, and ratio of the numbers of distinct values in a row, from which a pair of large
models is read a second time to see whether one was pruned or quantised."""


Below: TypeAlias = Callable[[Study, Study], "tuple[Relation, Peeled] | None"]
Grids: TypeAlias = dict[str, Levels | None]
"""Levels of matrices by name."""


@dataclass(frozen=True, slots=True)
class Peeled:
    """How a child was made from a parent.

    Attributes
    ----------
    steps : tuple of str
        From parent to child, outermost last.
    details : mapping
        What was replayed.
    log_odds : float
        That the parent is the parent, natural; 0 where nothing tells.
    signal : str
        Name of what tells.
    """

    steps: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    log_odds: float = 0.0
    signal: str = ""

    @property
    def kind(self) -> str:
        """Of the relation: the innermost step, which changed what the model is."""
        return self.steps[0]


def is_worth_peeling(a: Signature, b: Signature, change: Change, *, near: bool = True) -> bool:
    """Whether a second reading may show steps: small models near at hand, or traces of steps in what the ladder read.

    Traces are another format, some kinds of matrices left bit-identical, zeros, and rows of few values on one side only.
    """
    if not change.same_shape or change.matrices.n == 0:
        return False
    if a.dtype != b.dtype or (near and max(a.n_parameters, b.n_parameters) <= WHOLE):
        return True
    kinds = [s.unchanged_share for k, s in change.by_role.items() if not k.startswith(("norm.", "bias."))]
    if max(kinds, default=0.0) == 1.0 > min(kinds, default=1.0):
        return True
    return any(_has_trace(a.census[k], b.census[k]) for k in a.census.keys() & b.census.keys())


def _has_trace(x: Float64Array, y: Float64Array) -> bool:
    if x.shape != y.shape or not x.size:
        return False
    zeros = [float(np.mean(v == 0.0)) for v in (x, y)]
    values = sorted(np.unique(v[0, :_ROW]).size for v in (x, y))
    return abs(zeros[0] - zeros[1]) >= _ZEROS or values[0] <= _DISTINCT * values[1]


def replayed(parent: Study, child: Study) -> Peeled | None:
    """Steps that give a child from a parent bit for bit, or code for code.

    Parameters
    ----------
    parent, child : Study
        Of one shape.

    Returns
    -------
    Peeled or None
        Casts; pruning, then casts; quantisation; pruning, then quantisation; a merged adapter, then a cast.

    Notes
    -----
    Null: none. Cost: as `find_chain`, `find_mask`, `quantised_copy` and `low_rank_update`, each only where a look at a
    few values does not rule it out.
    """
    if parent.shape_class != child.shape_class:
        return None
    mask = _mask(parent, child)  # before adapters: units set to zero are a change of low rank
    found = _cast(parent, child) or _pruned(mask) or _adapter(parent, child)
    return found or (_quantised(parent, child, mask, {}) if is_on_grid(child) else None)


def made_steps(parent: Study, child: Study, grids: Grids | None) -> Peeled | None:
    """The steps of `replayed` that leave a copy: pruning and quantisation, not casts and adapters.

    `grids` holds what was found of a child on a grid before, for the next candidate; None for a child on none.
    """
    mask = _mask(parent, child)
    return _pruned(mask) or (None if grids is None else _quantised(parent, child, mask, grids))


def has_zeros(child: Study) -> bool:
    """Whether a model has zeros as pruning leaves them."""
    zeros = [float((v == 0.0).mean()) for v in child.matrices.values()]
    return max(zeros, default=0.0) >= _ZEROS


def is_on_grid(child: Study) -> bool:
    """Whether a model was quantised before, whoever its parent is."""
    return _grid(child) is not None


def peeled(a: Study, b: Study) -> Relation | None:
    """The relation of a pair by its steps.

    Parameters
    ----------
    a, b : Study
        A related pair.

    Returns
    -------
    Relation or None
        None where no step is exact and nothing is left of one: the size of the change decides.
    """
    if a.shape_class != b.shape_class:
        return None
    for parent, child, sign in ((a, b, 1.0), (b, a, -1.0)):
        found = replayed(parent, child)
        if found is not None:
            signals = (Signal(found.signal, sign * found.log_odds),) if found.log_odds else ()
            return Relation(found.kind, 1.0, (), found.steps, signals, found.details, EXACT)
    shared = shared_below_masks(a.slices, b.slices)
    if shared is not None:
        return Relation("sibling", 1.0, (), ("sibling",), (), shared, EXACT)
    finders: tuple[Below, ...] = (_near_grid, _below_mask, _below_grid)
    for find, (parent, child, sign) in product(finders, ((a, b, 1.0), (b, a, -1.0))):
        below = find(parent, child)
        if below is not None:
            plain, found = below
            signals = (Signal(found.signal, sign * found.log_odds),) if found.log_odds else ()
            details = {**plain.details, **found.details}
            told = (plain.probability, plain.alternatives, found.steps, signals, details, plain.calibrated_on)
            return Relation(found.kind, *told)
    return None


def refined(parent: Study, child: Study) -> Peeled | None:
    """Steps of an edge of a tree that the size of its change does not tell: adapters, and what lies below a mask."""
    if parent.shape_class != child.shape_class:
        return None
    adapter = _adapter(parent, child)
    if adapter is not None:
        return adapter
    below = _below_mask(parent, child)
    return None if below is None else below[1]


def _cast(parent: Study, child: Study) -> Peeled | None:
    before, after = _everything(parent), _everything(child)
    if before.keys() != after.keys():
        return None
    chain = find_chain([(before[k], after[k], child.dtypes[k]) for k in sorted(after)])
    if chain is None or not chain.is_rounding:
        return None
    details = {"from": parent.dtype, "to": child.dtype, **_replay(chain)}
    return Peeled(("cast",) * len(chain.formats), details, LOG_ODDS_CAP, "rounding-residual")


def _pruned(mask: Pruned | None) -> Peeled | None:
    if mask is None or mask.chain is None:
        return None
    casts = ("cast",) * len(mask.chain.formats)
    return Peeled(("prune", *casts), {**mask.details, **_replay(mask.chain)}, mask.log_odds, "mask")


def _quantised(parent: Study, child: Study, mask: Pruned | None, grids: Grids) -> Peeled | None:
    """A quantised copy; below a mask where rounding gives the kept codes, and without the mask does not."""
    copy = _copy(parent.matrices, child, grids)
    if mask is not None and (copy is None or copy.method == _COMPENSATED):
        below = _copy(masked(parent.matrices, child.matrices), child, grids)
        if below is not None and below.method != _COMPENSATED:
            details = {**mask.details, "kept_equal": None, **_quantisation(below)}
            return Peeled(("prune", "quantized"), details, LOG_ODDS_CAP, "replay")
    return None if copy is None else Peeled(("quantized",), _quantisation(copy), LOG_ODDS_CAP, "replay")


def _adapter(parent: Study, child: Study) -> Peeled | None:
    found = low_rank_update(parent, child)
    if found is None:
        return None
    narrower = SIGNIFICANT_BITS.get(child.dtype, 53) < SIGNIFICANT_BITS.get(parent.dtype, 53)
    return Peeled(("lora-merge", "cast") if narrower else ("lora-merge",), found.details)


def _below_mask(parent: Study, child: Study) -> tuple[Relation, Peeled] | None:
    """Training and pruning, in the order that the mask tells."""
    found = _mask(parent, child)
    if found is None or found.ratio < OLDER or _grid(child) is not None:
        return None  # values as small as the change elsewhere may have grown from zeros
    before = masked(parent.matrices, child.matrices)
    plain = relate_change(_change_of(before, child.matrices))
    steps = ("prune", plain.kind) if found.pattern.by_size else (plain.kind, "prune")
    order = "the mask is that of the parent's sizes" if found.pattern.by_size else "the mask is not that of the parent"
    return plain, Peeled(steps, {**found.details, "order": order}, found.log_odds, "values-at-zeros")


def _near_grid(parent: Study, child: Study) -> tuple[Relation, Peeled] | None:
    """Training of a quantised model that left it near its grid."""
    if _grid(parent) is None or _grid(child) is not None:
        return None
    if not is_trained_copy(parent.matrices, _few(child.matrices, _MOST), parent.dtype):
        return None
    plain = relate_change(_change_of(parent.matrices, child.matrices))
    told = {"grid": "the child lies near the codes of its parent, nearer than rounding leaves anything"}
    return plain, Peeled((plain.kind,), told, GRID_HISTORY, "grid-history")


def _below_grid(parent: Study, child: Study) -> tuple[Relation, Peeled] | None:
    """Training and quantisation, where only one side lies on a grid."""
    grid = _grid(child) if _grid(parent) is None else None
    if grid is None:
        return None
    plain = relate_change(_change_of(parent.matrices, child.matrices))
    told = {"order": "not told by two models: a quantised model that was trained much leaves the same"}
    return plain, Peeled((plain.kind, "quantized"), {**_quantisation(grid), **told})


def _mask(parent: Study, child: Study) -> Pruned | None:
    return find_mask(_everything(parent), _everything(child), child.dtypes)


def _copy(before: Arrays, child: Study, grids: Grids) -> Quantised | None:
    return quantised_copy(before, _few(child.matrices, _MOST), child.dtype, grids)


def _grid(model: Study) -> Quantised | None:
    """The grid of a model; a few of its matrices are asked."""
    return hidden_quantisation(_few(model.matrices, _ASKED), model.dtype)


def _few(matrices: Arrays, most: int) -> Arrays:
    """Some of the matrices, of different kinds and layers: what was done to a model shows in each."""
    names = sorted(matrices)
    picked = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).astype(np.intp)) if names else ()
    return {names[i]: matrices[names[i]] for i in picked}


def _everything(model: Study) -> Arrays:
    return {**model.slices, **model.vectors}


def _replay(chain: Chain) -> dict[str, Any]:
    return {"through": list(chain.formats), "replay_share": round(chain.share, 6), "values": chain.n}


def _quantisation(copy: Quantised) -> dict[str, Any]:
    return {"method": copy.method, "bits": copy.bits, "group": copy.group, "replay_share": copy.replay}


def _change_of(before: Arrays, after: Arrays) -> Change:
    total, by_role = PairSums(), dict[str, PairSums]()
    for name, x, y in paired(before, after):
        sums, kind = pair_sums(x, y), name.partition(".")[2]
        total, by_role[kind] = total + sums, by_role.get(kind, PairSums()) + sums
    return Change(matrices=total, by_role=by_role, gain_correlation=None, same_shape=True)
