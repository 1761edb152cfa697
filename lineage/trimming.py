"""Merges that keep the largest differences from a base and elect a sign for every element (TIES, arXiv 2306.01708)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from crawl.casts import round_to
from lineage.ensemble import PROBE, Ensemble, Merge, MergeParent, flat, spacing
from lineage.pool import bases_of, explained, sources_of
from lineage.replaying import PROOF, Arithmetic, Hits, Kept, arithmetics, count_hits, elected, is_proof
from lineage.stored import Arrays
from lineage.weighing import human_weights
from stats.arrays import Float64Array

MOST_PARENTS = 4

_DENSITIES = np.arange(1, 21) / 20
_FINE, _BINS = 0.01, 100
_LEAST_ZEROS = 0.005
"""Share of elements equal to the base below which densities are not read off them."""

_FEW = 50
"""Elements a ratio is taken over at least."""

_ALIKE = 0.02
_PROMISING = 0.5
"""Share of contested elements that the best first guess must come near to, within one step of the number format."""

_SURE = 0.9995
_GAIN = 2e-4
_LOSS = 2e-3
"""A move must reproduce this much more: ties at a cut, which are left out, make shares of neighbours differ by less.
Weights people choose may reproduce this much less on the probe, whose arithmetic need not be the tool's."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Parameters of a trimmed merge.

    Attributes
    ----------
    densities : tuple of float
        Share of each parent's differences that is kept, in every tensor.
    weights : tuple of float
    mean : bool
        Whether the sum is divided by the weights that took part.
    scale : float
        Factor on the mixed difference.
    """

    densities: tuple[float, ...]
    weights: tuple[float, ...]
    mean: bool
    scale: float = 1.0


@dataclass(frozen=True)
class _Case:
    """A base and parents on the tensors of the probe, joined.

    `first` and `last` are the places, as shares of a tensor, of the first and the last difference of an element's size by
    falling size: which of them a trim keeps cannot be known when it cuts between the two.
    """

    base: int
    parents: tuple[int, ...]
    child: Float64Array
    origin: Float64Array
    models: tuple[Float64Array, ...]
    first: tuple[Float64Array, ...]
    last: tuple[Float64Array, ...]
    steps: Float64Array
    how: Arithmetic

    def near(self, trim: Trim) -> float:
        """Share of contested elements reproduced to a step, plus that reproduced exactly, halved."""
        kept = [f < d for f, d in zip(self.first, trim.densities, strict=True)]
        certain = np.all([k == (r < d) for k, r, d in zip(kept, self.last, trim.densities, strict=True)], axis=0)
        made = elected(self.how, self.origin, self.models, trim.weights, kept, mean=trim.mean, scale=trim.scale)
        gap = np.abs(made - self.child)[certain]
        return 0.5 * float(np.mean(gap <= self.steps[certain]) + np.mean(gap == 0.0)) if gap.size else 0.0


def find_trimmed(models: Ensemble) -> Merge | None:
    """Recognise a TIES merge by computing it again.

    Parameters
    ----------
    models : Ensemble

    Returns
    -------
    Merge or None

    Notes
    -----
    Bases are the candidates that most elements equal exactly; parents those with a weight in least squares. Densities
    show in where elements begin to equal the base, weights in what is kept of single differences and of agreeing ones;
    both are then moved until most elements come out. Only a replay is accepted. Elements of the size at which the trim
    cuts through a tie are left out of it. Cost: O(n k log n) for the sorts, and a few hundred passes over a probe.
    """
    cases = sorted(_cases(models), key=lambda c: -c[0])
    for score, case, guess in cases[:2]:
        if score < _PROMISING:
            break
        found = _refined(case, guess, (0.05, 0.05, _FINE))
        hits, how = _replayed(models, case, found)
        if PROOF / 2 <= hits.contested_share < _SURE:
            found = _refined(replace(case, how=how), found, (_FINE,))
            hits, how = _replayed(models, case, found)
        if is_proof(hits):
            return _merge(models, case, found, hits, how)
    return None


def _cases(models: Ensemble) -> Iterator[tuple[float, _Case, Trim]]:
    """Every base with every set of parents, and a first guess of its parameters."""
    for base in bases_of(models):
        pool = [i for i, _ in sources_of(models, base)][:MOST_PARENTS]
        if len(pool) < 2:
            continue
        every = _case(models, base, tuple(pool))
        for chosen in _subsets(len(pool)):
            case = replace(
                every,
                parents=tuple(pool[i] for i in chosen),
                models=tuple(every.models[i] for i in chosen),
                first=tuple(every.first[i] for i in chosen),
                last=tuple(every.last[i] for i in chosen),
            )
            guess = max(_guesses(case), key=case.near)
            yield case.near(guess), case, guess


def _subsets(k: int) -> list[tuple[int, ...]]:
    """The first two, three, four of k sources, and the other pairs of the first three."""
    nested = [tuple(range(n)) for n in range(2, k + 1)]
    return list(dict.fromkeys([*nested, *combinations(range(min(k, 3)), 2)]))


def _case(models: Ensemble, base: int, parents: tuple[int, ...]) -> _Case:
    arrays = list(models.candidates.values())
    names = _probe(models, [arrays[i] for i in (base, *parents)])
    exact = all(
        np.array_equal(round_to(arrays[i][n], models.dtype), arrays[i][n]) for i in (base, *parents) for n in names
    )
    how = Arithmetic(models.dtype, "F64", casts=not exact)
    values = {i: [how.load(flat(arrays[i][n])) for n in names] for i in (base, *parents)}
    places = [[_places(x - o) for x, o in zip(values[i], values[base], strict=True)] for i in parents]
    first, last = (tuple(np.concatenate([p[side] for p in each]) for each in places) for side in (0, 1))
    child = np.concatenate([flat(models.child[n]) for n in names])
    origin = np.concatenate(values[base])
    joined = tuple(np.concatenate(values[i]) for i in parents)
    differ = np.any([m != origin for m in joined], axis=0)
    return _Case(
        base,
        parents,
        child[differ],
        origin[differ],
        tuple(m[differ] for m in joined),
        tuple(f[differ] for f in first),
        tuple(f[differ] for f in last),
        spacing(child[differ], models.dtype),
        how,
    )


def _probe(models: Ensemble, sources: Sequence[Arrays]) -> list[str]:
    """Whole tensors of about PROBE elements together, spread over those that most sources changed."""
    moved = {n: sum(not np.array_equal(s[n], sources[0][n]) for s in sources[1:]) for n in models.names}
    best = [n for n in models.names if moved[n] == max(moved.values())]
    step = max(1, sum(models.child[n].size for n in best) // PROBE)
    kept: list[str] = []
    for name in (best[i] for s in range(step) for i in range(s, len(best), step)):
        if sum(models.child[n].size for n in kept) < PROBE:
            kept.append(name)
    return sorted(kept)


def _places(delta: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Places of the first and of the last element of each one's size by falling size, as shares of all."""
    size = -np.abs(delta)
    order = np.sort(size)
    first, after = (np.searchsorted(order, size, side=side) for side in ("left", "right"))
    still = delta == 0.0  # kept or not, nothing is added
    return np.where(still, 1.0, first / delta.size), np.where(still, 1.0, (after - 1) / delta.size)


def _guesses(case: _Case) -> Iterator[Trim]:
    """Parameters read off the elements that only one parent, or all of them in one direction, can have made."""
    moved = case.child - case.origin
    deltas = [m - case.origin for m in case.models]
    densities = tuple(_density(moved == 0.0, r, d) for r, d in zip(case.first, deltas, strict=True))
    kept = [(r < p - _FINE) & (d != 0.0) for r, p, d in zip(case.last, densities, deltas, strict=True)]
    gone = [(r > p + _FINE) | (d == 0.0) for r, p, d in zip(case.first, densities, deltas, strict=True)]
    k = len(deltas)
    alone = [
        _factor(moved, deltas[i], kept[i] & np.all([gone[j] for j in range(k) if j != i], axis=0)) for i in range(k)
    ]
    together = _weights(moved, deltas, np.all(kept, axis=0) & _one_sign(deltas))
    yield Trim(densities, (1.0 / k,) * k, True)
    if together is None:
        return
    total = math.fsum(together)
    seen = [a for a in alone if a is not None]
    scale = _snapped(float(np.median(seen))) if seen else 1.0
    if total > 0.0:
        shares = np.array(together) / total
        for weights in [*human_weights(shares), shares]:
            yield Trim(densities, tuple(weights.tolist()), True, scale)
    for weights in [*human_weights(np.array(together)), np.array(together)]:
        yield Trim(densities, tuple(weights.tolist()), False)


def _density(zero: Kept, ranks: Float64Array, delta: Float64Array) -> float:
    """Rank at which elements begin to equal the base: the split into two levels that leaves the least."""
    if not zero.size or zero.mean() < _LEAST_ZEROS:
        return 1.0
    place = np.minimum((ranks * _BINS).astype(np.int64), _BINS - 1)
    use = delta != 0.0
    counts = np.bincount(place[use], minlength=_BINS).astype(np.float64)
    zeros = np.bincount(place[use & zero], minlength=_BINS).astype(np.float64)
    below, above = np.cumsum(counts), counts.sum() - np.cumsum(counts)
    low, high = np.cumsum(zeros), zeros.sum() - np.cumsum(zeros)
    between = low**2 / np.maximum(below, 1.0) + high**2 / np.maximum(above, 1.0)
    between[high / np.maximum(above, 1.0) <= low / np.maximum(below, 1.0)] = -math.inf
    return float((int(between[:-1].argmax()) + 1) / _BINS) if np.isfinite(between[:-1]).any() else 1.0


def _factor(moved: Float64Array, delta: Float64Array, where: Kept) -> float | None:
    if np.count_nonzero(where) < _FEW:
        return None
    return float(np.sum(moved[where] * delta[where]) / np.sum(delta[where] ** 2))


def _weights(moved: Float64Array, deltas: Sequence[Float64Array], where: Kept) -> list[float] | None:
    if np.count_nonzero(where) < _FEW:
        return None
    columns = np.stack([d[where] for d in deltas])
    inner = np.einsum("in,jn->ij", columns, columns)
    found = np.linalg.lstsq(inner, np.einsum("in,n->i", columns, moved[where]), rcond=1e-12)[0]
    return [float(x) for x in found]


def _one_sign(deltas: Sequence[Float64Array]) -> Kept:
    signs = np.sign(np.stack(deltas))
    return np.asarray(np.abs(signs.sum(axis=0)) == len(deltas))


def _snapped(value: float) -> float:
    near = round(value * 20) / 20
    return near if abs(near - value) < _ALIKE else value


def _refined(case: _Case, trim: Trim, steps: Sequence[float]) -> Trim:
    """Parameters moved one at a time until no move reproduces more: by the steps given."""
    best, score = trim, case.near(trim)
    for step in steps:
        for tried in _moves(best, step):
            found = case.near(tried)
            if found > score + _GAIN:
                best, score = tried, found
    return _plain(case, best, score)


def _plain(case: _Case, trim: Trim, score: float) -> Trim:
    """The same with weights people choose, where these reproduce about as much."""
    for weights in human_weights(np.array(trim.weights)):
        tried = replace(trim, weights=tuple(weights.tolist()))
        if case.near(tried) >= score - _LOSS:
            return tried
    return trim


def _moves(trim: Trim, step: float) -> Iterator[Trim]:
    k = len(trim.densities)
    for i in range(k):
        near = {round(round(trim.densities[i] / step) * step + m * step, 4) for m in range(-3, 4)}
        for density in sorted({*near, *(_DENSITIES.tolist() if step > _FINE else ())}):
            if 0.0 < density <= 1.0:
                yield replace(trim, densities=(*trim.densities[:i], density, *trim.densities[i + 1 :]))
    for i in range(k):
        for m in (-2, -1, 1, 2):
            weight = round(round(trim.weights[i] / step) * step + m * step, 4)
            weights = [*trim.weights[:i], weight, *trim.weights[i + 1 :]]
            if trim.mean and k == 2:
                weights[1 - i] = 1.0 - weight
            if weight > 0.0:
                yield replace(trim, weights=tuple(weights))


def _replayed(models: Ensemble, case: _Case, trim: Trim) -> tuple[Hits, Arithmetic]:
    """The most a replay reproduces on all tensors, and the arithmetic it takes."""
    arrays = list(models.candidates.values())
    best: tuple[Hits, Arithmetic] | None = None
    for how in arithmetics(models.dtype, casts=case.how.casts):
        total = Hits()
        for name in models.names:
            total += _replay(
                how, trim, flat(models.child[name]), [flat(arrays[i][name]) for i in (case.base, *case.parents)]
            )
        if best is None or total.contested_share > best[0].contested_share:
            best = total, how
        if best[0].contested_share >= _SURE:
            break
    if best is None:
        raise ValueError("no arithmetic for this format")
    return best


def _replay(how: Arithmetic, trim: Trim, child: Float64Array, values: Sequence[Float64Array]) -> Hits:
    origin = how.load(values[0])
    certain = np.ones(child.shape, dtype=np.bool_)
    kept = []
    for model, density in zip(values[1:], trim.densities, strict=True):
        size = np.abs(how.step(how.load(model) - origin))
        k = int(density * size.size + 1e-9)
        if k >= size.size:
            kept.append(np.ones(size.shape, dtype=np.bool_))
            continue
        edge = np.partition(size, size.size - k)[size.size - k] if k else math.inf
        kept.append(size >= edge)
        if edge > 0.0 and np.count_nonzero(size >= edge) > k:
            certain &= size != edge  # the cut goes through a tie: tools keep any of these
    made = elected(how, values[0], values[1:], trim.weights, kept, mean=trim.mean, scale=trim.scale)
    return count_hits(made, child, values, certain)


def _merge(models: Ensemble, case: _Case, trim: Trim, hits: Hits, how: Arithmetic) -> Merge:
    ids = [models.ids[i] for i in case.parents]
    parents = [MergeParent(i, round(w, 6)) for i, w in zip(ids, trim.weights, strict=True)]
    parameters = {
        "densities": {i: round(d, 4) for i, d in zip(ids, trim.densities, strict=True)},
        "normalize": trim.mean,
        "lambda": round(trim.scale, 6),
        "arithmetic": how.name,
        "support": "replay",
        "contested_share": round(hits.contested_share, 6),
    }
    return Merge(
        method="ties",
        parents=tuple(sorted(parents, key=lambda p: (-abs(p.coefficient), p.id))),
        base=models.ids[case.base],
        replay_share=hits.share,
        explained=explained(models, (case.base, *case.parents)),
        parameters=parameters,
    )
