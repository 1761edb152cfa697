"""Merges that are sums with the same weights throughout a tensor: linear, spherical, task arithmetic, model stock."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lineage.attributing import Roles, kitchen_of, weigh_roles, weights_of
from lineage.ensemble import Ensemble, Merge, MergeParent, flat, layer_of, spacing
from lineage.pool import explained
from lineage.recipes import SURE, Attempt, Recipe, best_attempt, task_recipe
from lineage.replaying import is_proof
from lineage.weighing import sharpen
from stats.arrays import Float64Array
from stats.mixing import fit_each
from stats.selecting import pursuit

ROUNDING = 12.0
"""Residual, in variances of the child's rounding, up to which a sum is taken seriously: one rounding leaves 1, a tool
that rounds after every operation up to 3. Trained relatives of the fixtures leave 300 and more."""

EXPLAINED = 0.98
FAR = 50.0
"""Without a replay: share of the squared difference from the nearest candidate that must be explained, and how many
variances of rounding that difference must have. The mean of 16 children explains 0.94 of their parent."""

MOST_PARENTS = 6

_WORSE = 1.3
"""A source is left out when the residual does not grow by more than this factor."""

_ENOUGH = 1.5
"""Sources are added until the residual is this near to what all candidates together leave."""

_THINNED = 4
_MOST_GROWN = 4
_GROWS = 0.03
_NEEDED = 0.03
"""Of the sample every fourth value is looked at, up to four sources, each of which must bring this much more inside. Those
of a smaller weight are left out again."""

_RIVALS = 6


@dataclass(frozen=True)
class _Search:
    """Residuals of sets of candidates."""

    models: Ensemble
    floor: Float64Array

    def ratio(self, chosen: Sequence[int]) -> float:
        """Squares left in variances of the child's rounding, with weights free in every tensor."""
        gram = self.models.by_tensor.combined(self.models.rows(chosen, free=True))
        _, left = fit_each(gram)
        n, p = gram.sizes, gram.products.shape[1] - 1
        large = n >= 4 * p
        if not large.any():
            return math.inf
        scaled = left[large] * n[large] / (n[large] - p)
        return float(scaled.sum() / self.floor[large].sum())

    def fewest(self, everything: float) -> tuple[int, ...]:
        """A small set that leaves about as little as all candidates together."""
        k = len(self.models.candidates)
        enough = _ENOUGH * everything * float(self.floor.sum())
        added = pursuit(self.models.by_tensor, range(2, k + 1), start=(k + 1,), most=MOST_PARENTS, enough=enough)
        chosen = self.thinned((0, *(c - 1 for c in added)))
        for _ in range(MOST_PARENTS):
            swapped = min(self.swaps(chosen), default=(math.inf, chosen))
            if swapped[0] >= 0.95 * self.ratio(chosen):
                break
            chosen = self.thinned(swapped[1])
        return chosen

    def sets(self, everything: float) -> Iterator[tuple[int, ...]]:
        """Sets of sources worth a replay."""
        chosen = self.fewest(everything)
        if len(chosen) > 1:
            yield chosen
        if self.ratio((0,)) < FAR:
            yield from (c for c in self.grown() if c != chosen)
        if len(chosen) > 1:
            yield from (c for ratio, c in sorted(self.swaps(chosen))[:_RIVALS] if ratio <= ROUNDING)

    def grown(self) -> Iterator[tuple[int, ...]]:
        """Sets for differences of the size of rounding, where only the values inside the rounding interval tell.

        From the nearest candidate on, each time with the candidate that brings most values inside.
        """
        child, *others = self.models.sample[:, ::_THINNED]
        chosen: tuple[int, ...] = (0,)
        share = 0.0
        while len(chosen) < _MOST_GROWN:
            tried = []
            for c in (c for c in range(len(others)) if c not in chosen):
                start = weights_of(self.models, (*chosen, c), pooled=True)[0]
                found = sharpen(child, [others[i] for i in (*chosen, c)], start, self.models.dtype)
                tried.append((-found[1], c, found[0]))
            if not tried or -min(tried)[0] < share + _GROWS:
                break
            best, c, weights = min(tried)
            chosen, share = (*chosen, c), -best
            yield tuple(sorted(chosen))
            needed = tuple(sorted(i for i, w in zip(chosen, weights, strict=True) if abs(w) >= _NEEDED))
            if 1 < len(needed) < len(chosen):
                yield needed

    def thinned(self, chosen: tuple[int, ...]) -> tuple[int, ...]:
        """Sources without which little more is left are taken out, the least missed first."""
        while len(chosen) > 1:
            least, without = min((self.ratio(c), c) for c in _without_one(chosen))
            if least > _WORSE * self.ratio(chosen) + 0.05:
                break
            chosen = without
        return chosen

    def swaps(self, chosen: tuple[int, ...]) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Sets with one source exchanged."""
        for i in range(len(chosen)):
            for other in range(len(self.models.candidates)):
                if other not in chosen:
                    tried = tuple(sorted((*chosen[:i], other, *chosen[i + 1 :])))
                    yield self.ratio(tried), tried


def find_blend(models: Ensemble) -> Merge | None:
    """Recognise a child that is a sum of candidates up to the rounding of its number format.

    Parameters
    ----------
    models : Ensemble

    Returns
    -------
    Merge or None

    Notes
    -----
    A replay is proof when it reproduces 0.99 of the contested values, and 0.9 of those that no source has. Without one,
    a residual of rounding's size must be left of a difference of 50 times that. Either way the child, and no source,
    must carry the rounding error. Cost: O(n k^2).
    """
    search = _Search(models, rounding_floor(models))
    everything = search.ratio(range(len(models.candidates)))
    if everything > ROUNDING:
        return None
    sets = list(search.sets(everything))
    if not sets:
        return None
    members, attempt = _best(models, sets)
    roles = weigh_roles(models, members, attempt)
    ratio = search.ratio(members)
    if roles.log_odds <= 1.0 or not (is_proof(attempt.hits) or _is_rounding(search, ratio)):
        return None
    return _merge(models, members, attempt, roles, ratio)


def rounding_floor(models: Ensemble) -> Float64Array:
    """Sum over the sampled values of each tensor of the variance that rounding to the child's format adds."""
    floor = []
    sizes = models.by_tensor.sizes
    for name, n in zip(models.names, sizes, strict=True):
        width = spacing(flat(models.child[name]), models.dtype)
        floor.append(float(np.mean(width * width)) / 12.0 * int(n))
    return np.array(floor)


def _best(models: Ensemble, sets: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], Attempt]:
    """The set of sources, and the way to combine them, that reproduce most; sources without a weight are left out."""
    tried: list[tuple[float, tuple[int, ...], Attempt]] = []
    waiting = list(dict.fromkeys(sets))
    while waiting:
        members = waiting.pop(0)
        attempt = best_attempt(kitchen_of(models, members))
        typical = attempt.recipe.weights.mean(axis=0)
        needed = tuple(m for m, w in zip(members, typical, strict=True) if abs(w) >= _NEEDED)
        if 1 < len(needed) < len(members):
            waiting.insert(0, needed)
            continue
        tried.append((attempt.hits.contested_share, members, attempt))
        if attempt.hits.contested_share >= SURE:
            break
    _, members, attempt = max(tried, key=lambda t: t[0])
    return members, attempt


def _is_rounding(search: _Search, ratio: float) -> bool:
    alone = search.ratio((0,))
    return ratio <= ROUNDING and alone >= FAR and 1.0 - ratio / alone >= EXPLAINED


def _without_one(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return (chosen[:i] + chosen[i + 1 :] for i in range(len(chosen)))


def _merge(models: Ensemble, members: tuple[int, ...], attempt: Attempt, roles: Roles, ratio: float) -> Merge:
    recipe = _named(models, members, attempt)
    sizes = np.array([models.child[n].size for n in models.names], dtype=np.float64)
    told = recipe.weights if recipe.shares is None else recipe.shares
    table = np.broadcast_to(told, (len(models.names), len(members)))
    typical = (sizes[:, None] * table).sum(axis=0) / sizes.sum()
    parents = [
        MergeParent(
            models.ids[c], _rounded(typical[i]), {} if recipe.uniform else _by_layer(models, table[:, i], sizes)
        )
        for i, c in enumerate(members)
        if i != recipe.base
    ]
    parameters = {
        **recipe.parameters,
        "arithmetic": attempt.how.name,
        "support": "replay" if is_proof(attempt.hits) else "rounding residual",
        "contested_share": round(attempt.hits.contested_share, 6),
        "residual_in_roundings": round(ratio, 4),
        "log_odds_of_role": round(roles.log_odds, 3),
    }
    return Merge(
        method=recipe.method,
        parents=tuple(sorted(parents, key=lambda p: (-abs(p.coefficient), p.id))),
        base=None if recipe.base is None else models.ids[members[recipe.base]],
        replay_share=attempt.hits.share,
        explained=explained(models, members),
        parameters=parameters,
    )


def _named(models: Ensemble, members: tuple[int, ...], attempt: Attempt) -> Recipe:
    """The recipe under the name and with the base that its weights call for, where arithmetic does not tell."""
    recipe = attempt.recipe
    if recipe.method not in {"linear", "task-arithmetic"}:
        return recipe
    weights = recipe.weights.mean(axis=0)
    is_extrapolated = weights.min() < 0.0
    if recipe.method == "task-arithmetic" and not is_extrapolated:
        return recipe
    base = _centre(models, members) if len(members) > 2 and abs(float(weights.sum()) - 1.0) < _SUM else None
    if base is not None and not is_extrapolated and recipe.uniform:
        hits = kitchen_of(models, members).score(task_recipe(recipe.weights[0], base), attempt.how)
        base = base if hits.contested_share >= attempt.hits.contested_share - _SAME else None
    if base is None and is_extrapolated:
        base = int(weights.argmin())
    return recipe if base is None else replace(recipe, method="task-arithmetic", base=base)


_SAME = 5e-4
"""Share of contested values by which two ways to compute one sum may differ for the arithmetic not to tell them apart."""

_SUM = 1e-6
_CENTRAL = 0.35
"""Cosine between differences from a common ancestor; between differences from one of its children it is larger."""


def _centre(models: Ensemble, members: tuple[int, ...]) -> int | None:
    """The one member from which the others lie in directions of their own, and no candidate lies between them better."""
    found = []
    for i, c in enumerate(members):
        others = [m for m in members if m != c]
        inner = _products_from(models, c, others)
        size = np.sqrt(np.diag(inner))
        cosines = (inner / np.outer(size, size))[np.triu_indices(len(others), 1)]
        spread = [float(np.trace(_products_from(models, x, others))) for x in range(len(models.ids)) if x not in others]
        if np.abs(cosines).max() < _CENTRAL and np.trace(inner) <= min(spread):
            found.append(i)
    return found[0] if len(found) == 1 else None


def _products_from(models: Ensemble, origin: int, others: Sequence[int]) -> Float64Array:
    """Inner products of differences of candidates from one of them."""
    rows = models.rows((origin, *others), free=False)[1:]
    return np.asarray(np.einsum("ri,ij,sj->rs", rows, models.gram.total, rows))


def _by_layer(models: Ensemble, weights: Float64Array, sizes: Float64Array) -> dict[int, float]:
    layers = [layer_of(n) for n in models.names]
    out = {}
    for layer in sorted({x for x in layers if x is not None}):
        mine = np.array([x == layer for x in layers])
        out[layer] = _rounded(float((weights[mine] * sizes[mine]).sum() / sizes[mine].sum()))
    return out


def _rounded(value: float) -> float:
    return round(float(value), 6)
