"""Which of several models is the sum of the others: the one that carries the rounding error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lineage.ensemble import Ensemble, assemble, flat, format_of, layer_of, spacing
from lineage.recipes import Attempt, Kitchen, best_attempt
from lineage.relation import LOG_ODDS_CAP
from lineage.stored import Arrays
from stats.arrays import Float64Array
from stats.mixing import BlockGram, fit_each

WHOLE = 1024
"""Elements from which a tensor has coefficients of its own; smaller ones take those of all tensors together."""

_STRAY = 0.02
_REACH = 64.0
"""Share of values that may lie outside of the rounding interval, and how many intervals wide they are thought to lie:
tools that round after every operation leave such values, and so does a coefficient that is slightly off."""

_SLACK = 0.99
"""What lies at the very end of the interval counts only when a replay rounds it the right way: with human weights the
errors are multiples of a tenth of a step, and the ends are common."""

_LEAST_FACTOR = 0.01
_INSIDE = 0.6
"""Share of values that must lie inside the rounding interval of the best role: less is no sum, but some likeness."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which of three models was computed from the other two.

    Attributes
    ----------
    child : str or None
        `a`, `b` or `c`; None when undecided.
    log_odds : float
        Natural log-odds against the next best role, at most 14; 0 when undecided.
    inside : tuple of float
        Share of values whose residual fits into the rounding of a, of b and of c.
    """

    child: str | None
    log_odds: float
    inside: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Roles:
    """Evidence for each model of a linear relation to be the one that was computed; the child comes first.

    Attributes
    ----------
    log_evidence : tuple of float
        Natural log, up to a constant common to all.
    inside : tuple of float
        Share of contested values whose residual fits into the rounding of that model.
    contested : int
        Values at which the models do not all agree.
    """

    log_evidence: tuple[float, ...]
    inside: tuple[float, ...]
    contested: int

    @property
    def log_odds(self) -> float:
        """Of the child against the best other role; negative when another model carries the error, 0 when none does."""
        if max(self.inside) < _INSIDE:
            return 0.0
        gap = self.log_evidence[0] - max(self.log_evidence[1:])
        return max(-LOG_ODDS_CAP, min(LOG_ODDS_CAP, gap))


def which_is_merge(a: Arrays, b: Arrays, c: Arrays, dtype: str) -> Attribution:
    """Say which of three models is the rounded combination of the other two.

    Parameters
    ----------
    a, b, c : mapping of str to ndarray
        Stored values by tensor.
    dtype : str
        Stored format, as in safetensors headers; values that lie on a coarser 16-bit grid are taken as of that format.

    Returns
    -------
    Attribution

    Notes
    -----
    The one that was computed lies within half a step of its number format of the combination. The same equation
    solved for another model carries that error divided by its coefficient: too wide for its own rounding when the
    coefficient is small, suspiciously narrow when it is large. The likelihood takes the error as uniform over the
    interval of each role. Null: none. Cost: O(n).
    """
    found = assemble(c, {"a": a, "b": b}, dtype)
    if found is None or len(found.candidates) < 2 or not any(found.distances):
        return Attribution(None, 0.0, (0.0, 0.0, 0.0))
    roles = weigh_roles(found, (0, 1), best_attempt(kitchen_of(found, (0, 1))))
    order = ("c", *found.ids)
    best = max(range(3), key=lambda i: roles.log_evidence[i])
    gap = roles.log_evidence[best] - max(e for i, e in enumerate(roles.log_evidence) if i != best)
    decided = roles.contested > 0 and roles.inside[best] >= _INSIDE and gap >= 1.0
    by_name = dict(zip(order, roles.inside, strict=True))
    inside = (by_name["a"], by_name["b"], by_name["c"])
    return Attribution(order[best], min(LOG_ODDS_CAP, gap), inside) if decided else Attribution(None, 0.0, inside)


def kitchen_of(models: Ensemble, chosen: Sequence[int]) -> Kitchen:
    """The child as a target, chosen candidates as sources, with their weights measured."""
    sources = tuple(list(models.candidates.values())[c] for c in chosen)
    pooled = weights_of(models, chosen, pooled=True)[0]
    return Kitchen(models.child, sources, models.names, models.dtype, weights_of(models, chosen), pooled)


def weights_of(models: Ensemble, chosen: Sequence[int], *, pooled: bool = False) -> Float64Array:
    """Coefficients of chosen candidates in every tensor; small tensors take the pooled ones.

    Parameters
    ----------
    models : Ensemble
    chosen : sequence of int
        Positions of the candidates.
    pooled : bool
        Whether all tensors take the pooled ones.

    Returns
    -------
    (t, k) float64
    """
    moved = models.by_tensor.combined(models.rows(chosen, free=True))
    k = len(chosen)
    everything = np.broadcast_to(moved.total, moved.products.shape)
    products = everything if pooled else _fallback(moved, [layer_of(n) for n in models.names], everything)
    fitted, _ = fit_each(BlockGram(products, moved.sizes))
    first = 1.0 - fitted[:, : k - 1].sum(axis=1) + fitted[:, k - 1]
    return np.concatenate([first[:, None], fitted[:, : k - 1]], axis=1)


def _fallback(gram: BlockGram, layers: Sequence[int | None], everything: Float64Array) -> Float64Array:
    """Inner products of each tensor; those of its layer, or of all, where it is too small to say much by itself."""
    out = gram.products.copy()
    for i, layer in enumerate(layers):
        if gram.sizes[i] >= WHOLE:
            continue
        mates = [j for j, other in enumerate(layers) if layer is not None and other == layer]
        enough = gram.sizes[mates].sum() >= WHOLE
        out[i] = gram.products[mates].sum(axis=0) if enough else everything[i]
    return out


def weigh_roles(models: Ensemble, chosen: Sequence[int], child: Attempt) -> Roles:
    """Evidence for the child, and for each chosen candidate, to be the one that was computed from the others.

    Parameters
    ----------
    models : Ensemble
    chosen : sequence of int
        Positions of the candidates.
    child : Attempt
        How the child may have been computed from them.

    Returns
    -------
    Roles
        From the tensors of the probe; every role is given the weights and the arithmetic that suit it best.
    """
    sources = [list(models.candidates.values())[c] for c in chosen]
    everyone = [models.child, *sources]
    each = _spread(child.recipe.weights, len(models.names))
    relation = np.concatenate([-np.ones((len(each), 1)), each], axis=1)  # of child and sources, zero up to rounding
    evidence, inside = [], []
    contested = 0
    for role, target in enumerate(everyone):
        others = [i for i in range(len(everyone)) if i != role]
        factor = relation[:, role]
        if np.abs(factor).min() < _LEAST_FACTOR:  # hardly takes part somewhere: nobody would compute it from the rest
            evidence.append(-math.inf)
            inside.append(0.0)
            continue
        weights = -relation[:, others] / factor[:, None]
        dtype = models.dtype if role == 0 else format_of({n: target[n] for n in models.names}, models.stored)
        kitchen = Kitchen(
            target, tuple(everyone[i] for i in others), models.names, dtype, weights, weights.mean(axis=0)
        )
        attempt = child if role == 0 else best_attempt(kitchen, families=("linear", "task", "slerp"))
        found = _evidence(kitchen, attempt, np.abs(factor))
        evidence.append(found[0])
        inside.append(found[1])
        contested = found[2] if role == 0 else contested
    return Roles(tuple(evidence), tuple(inside), contested)


def _evidence(kitchen: Kitchen, attempt: Attempt, factor: Float64Array) -> tuple[float, float, int]:
    """Log-evidence of one role, share of contested values inside its rounding, and how many are contested."""
    evidence, hits, n = 0.0, 0, 0
    table = _spread(attempt.recipe.weights, len(kitchen.names))
    for i in kitchen.probe:
        name = kitchen.names[i]
        target, values = flat(kitchen.target[name]), kitchen.values(name)
        differ = np.any([v != target for v in values], axis=0)
        replayed = attempt.recipe.compute(attempt.how, values, i)
        residual = target - sum(w * v for w, v in zip(table[i], values, strict=True))
        width = spacing(target, kitchen.dtype)
        fits = ((np.abs(residual) <= 0.5 * _SLACK * width) | (replayed == target)) & differ
        inside, count = int(np.count_nonzero(fits)), int(np.count_nonzero(differ))
        evidence += inside * math.log1p(-_STRAY) + (count - inside) * math.log(_STRAY / _REACH)
        evidence -= float(np.sum(np.log(width[differ]))) + count * math.log(factor[i])
        hits, n = hits + inside, n + count
    return evidence, hits / max(1, n), n


def _spread(table: Float64Array, n: int) -> Float64Array:
    return np.broadcast_to(table, (n, table.shape[1]))
