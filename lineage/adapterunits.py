"""Adapters in a comparison: whether one fits a model, and whether two of them share the weights of their rank units.

The rows of A with the columns of B are the hidden units of a network of two layers without anything between them: drawn alike
and trained alike, so their labels are random in every module by itself, unless one adapter comes from the other or both from
one start. An adapter and a model share no labels and no values: no test is valid, whatever the base.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crawl import ModelRef, OpenOptions, TensorRef, WeightSource, open_model
from lineage.adapters import Adapter, adapter_of, targets_in
from lineage.evidence import Evidence
from lineage.finding import discounted
from lineage.relation import READ_ONLY, Relation
from stats.arrays import Float64Array
from stats.combine import combine_evalues, log_floor_of
from stats.result import Skipped, TestResult
from stats.units import UnitFeatures, unit_processes

MOST_MODULES = 64
MOST_BYTES = 32_000_000
"""Modules of two adapters that are read, spread over them, and bytes of each adapter."""

_NULL = (
    "the labels of the rank units of this module of either adapter are a uniformly random order, given everything else"
)

_SORTED = 3.9
"""Standard deviations of Kendall's tau, summed over modules, beyond which an adapter's units count as sorted: one in 10,000.
Adapters cut out of a model by a singular value decomposition are."""


_BASIS = "rank units in another basis: A times an invertible matrix, B times its inverse, have the same product"
_ALONE = "whether the adapter was trained on this model: it holds no copy of its base"


@dataclass(frozen=True, slots=True)
class Adapted:
    """What adapters among two references say.

    Attributes
    ----------
    entry : dict
        For a document.
    results : tuple of TestResult
        Of two adapters; empty else.
    skipped : tuple of Skipped
    cosines : (float, float) or None
        Mean cosine of paired rows of A, and of paired columns of B, over all modules read.
    """

    entry: dict[str, Any]
    results: tuple[TestResult, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    cosines: tuple[float, float] | None = None

    def told(self, verdict: str) -> dict[str, Any]:
        """What a document of this verdict says beside the tests: the adapters, and what was not covered."""
        if verdict == "identical":
            return {"adapters": self.entry}
        is_pair = self.entry["a"] is not None and self.entry["b"] is not None
        return {"adapters": self.entry, "not_covered": [_BASIS if is_pair else _ALONE]}

    @property
    def relation(self) -> Relation:
        """Of two adapters that share weights: which came first, and whether one was made from the other, is open."""
        a, b = self.cosines or (math.nan, math.nan)
        details = {"shared": "rank units of adapters", "cosine_of_a": round(a, 4), "cosine_of_b": round(b, 4)}
        return Relation(
            "related",
            READ_ONLY,
            details=details,
            calibrated_on={"population": "none: undetermined", "n": 0, "ece": None},
        )


def adapted(a: WeightSource, b: WeightSource, *, max_bytes: int | None = None) -> Adapted | None:
    """Look at two opened references of which one at least is an adapter.

    Parameters
    ----------
    a, b : WeightSource
    max_bytes : int, optional
        Most bytes read of one of them; headers are read in any case.

    Returns
    -------
    Adapted or None
        None where neither is one.

    Raises
    ------
    CrawlError
        Bytes are missing or cannot be read.

    Notes
    -----
    Null of a result: `_NULL` above; r! labellings in a module of rank r, modules drawn separately, so that their e-values are
    multiplied. Holds for adapters whose units are drawn and trained alike (arXiv 2106.09685). Cost: O(modules width rank^2).
    """
    first, second = (None if s.architecture is not None else adapter_of(s) for s in (a, b))
    if first is None and second is None:
        return None
    entry: dict[str, Any] = {
        "a": _described(first, a),
        "b": _described(second, b),
        "fits": None,
        "names_the_other": None,
    }
    if first is not None and second is not None:
        return _of_two((first, a), (second, b), entry, min(MOST_BYTES, max_bytes or MOST_BYTES))
    adapter, source, model = (first, a, b) if first is not None else (second, b, a)
    assert adapter is not None  # noqa: S101 - one of the two is
    entry |= {"fits": targets_in(adapter, model) is not None, "names_the_other": _names(source, model.ref.id)}
    return Adapted(entry)


def adapters_of(
    a: str | ModelRef, b: str | ModelRef, options: OpenOptions | None, max_bytes: int | None
) -> Callable[[], Adapted | None]:
    """A question about adapters that opens both references only when it is asked."""

    def ask() -> Adapted | None:
        with open_model(a, options=options) as left, open_model(b, options=options) as right:
            return adapted(left, right, max_bytes=max_bytes)

    return ask


def with_adapters(evidence: Evidence, found: Adapted) -> Evidence:
    """Evidence of a pair with an adapter: no other exact test was run, since an architecture is unknown.

    Parameters
    ----------
    evidence : Evidence
        Of the ladder.
    found : Adapted

    Returns
    -------
    Evidence
    """
    if not found.results:
        return replace(evidence, skipped=found.skipped)
    results = (*found.results, *evidence.results)
    return replace(
        evidence,
        results=results,
        log_evalue=combine_evalues(results),
        log_floor=log_floor_of(results),
        skipped=found.skipped,
    )


def _described(adapter: Adapter | None, source: WeightSource) -> dict[str, Any] | None:
    if adapter is None:
        return None
    return {
        "rank": adapter.rank,
        "targets": list(adapter.targets),
        "modules": len(adapter.modules),
        "declared": list(source.card.base_models),
    }


def _names(source: WeightSource, other: str) -> bool | None:
    """Whether an adapter's card names the other reference, by its whole name or its last part; None where it names none."""
    parts = [_last(n) for n in source.card.base_models]
    return _last(other) in parts if parts else None


def _last(name: str) -> str:
    return name.strip().partition("@")[0].rstrip("/").rpartition("/")[2].casefold()


def _of_two(
    a: tuple[Adapter, WeightSource], b: tuple[Adapter, WeightSource], entry: dict[str, Any], most: int
) -> Adapted:
    """The test of the units of all modules of one shape."""
    (first, source_a), (second, source_b) = a, b
    common = [p for p in sorted(first.modules.keys() & second.modules.keys()) if _alike(first, second, p)]
    entry["fits"] = bool(common)
    told = f"{len(common)} of {max(len(first.modules), len(second.modules))} modules have one shape and rank in both"
    if not common:
        return Adapted(entry, skipped=(Skipped(tensor="rank units", reason=told),))
    each = max(sum(t.n_elements * 4 for t in first.modules[p]) for p in common)
    n = min(MOST_MODULES, len(common), most // each)
    paths = [common[i * len(common) // n] for i in range(n)] if n else []
    units = {p: (_units(first.modules[p], source_a), _units(second.modules[p], source_b)) for p in paths}
    sound = {p: u for p, u in units.items() if all(np.isfinite(np.sum(x * x)) for side in u for x in side)}
    skipped = (
        [Skipped(tensor="rank units", reason=told)]
        if len(common) < max(len(first.modules), len(second.modules))
        else []
    )
    if len(sound) < len(common):
        skipped.append(
            Skipped(tensor="rank units", reason=f"{len(sound)} of {len(common)} modules were read and are finite")
        )
    if not sound:
        return Adapted(entry, skipped=tuple(skipped))
    if all(_is_sorted([u[side] for u in sound.values()]) for side in (0, 1)):
        reason = "sorted units: index and norm rise or fall together in both adapters"
        return Adapted(entry, skipped=(*skipped, Skipped(tensor="rank units", reason=reason)))
    return Adapted(entry, tuple(discounted(_tested(sound))), tuple(skipped), _cosines(list(sound.values())))


def _alike(first: Adapter, second: Adapter, path: str) -> bool:
    """Whether a module has one shape in both, and two units at least."""
    shapes = [[t.shape for t in adapter.modules[path]] for adapter in (first, second)]
    return shapes[0] == shapes[1] and shapes[0][0][0] >= 2


def _units(parts: tuple[TensorRef, TensorRef], source: WeightSource) -> tuple[Float64Array, Float64Array]:
    """A turned and B: features first, units second."""
    down, up = (np.asarray(source.read(t), dtype=np.float64) for t in parts)
    return np.ascontiguousarray(down.T), up


_Units = tuple[Float64Array, Float64Array]


def _tested(units: dict[str, tuple[_Units, _Units]]) -> list[TestResult]:
    """One result: labels of modules are drawn separately, so that their e-values are multiplied."""
    found = []
    for path, (left, right) in units.items():
        parts = [UnitFeatures(x, y) for x, y in zip(left, right, strict=True) if x.any() and y.any()]
        found += [r for r, _ in unit_processes([parts] if parts else [], label_group=path)]
    if not found:
        return []
    log_e, log_floor = combine_evalues(found), log_floor_of(found)
    made = replace(
        found[0],
        method="adapter-units",
        null=_NULL,
        statistic=float(np.mean([r.statistic for r in found])),
        n=sum(r.n for r in found),
        log_evalue=log_e,
        log_floor=log_floor,
        log_pvalue=min(0.0, max(-log_e, log_floor)),
        label_group="adapter",
        scope=f"rank units of {len(found)} modules",
    )
    return [made]


def _is_sorted(units: Sequence[_Units]) -> bool:
    """Whether units of an adapter rise or fall with their index in what they move: Kendall's tau summed over modules."""
    total = variance = 0.0
    for down, up in units:
        size = np.linalg.norm(down, axis=0) * np.maximum(np.linalg.norm(up, axis=0), 1e-300)
        r = size.size
        order = np.sign(size[None, :] - size[:, None])[np.triu_indices(r, 1)]
        total += float(order.mean())
        variance += 2.0 * (2 * r + 5) / (9.0 * r * (r - 1))
    return abs(total) > _SORTED * math.sqrt(variance)


def _cosines(units: Sequence[tuple[_Units, _Units]]) -> tuple[float, float]:
    found = []
    for part in (0, 1):
        pairs = [(left[part], right[part]) for left, right in units]
        inner = sum(float(np.sum(x * y)) for x, y in pairs)
        size = math.sqrt(sum(float(np.sum(x * x)) for x, _ in pairs) * sum(float(np.sum(y * y)) for _, y in pairs))
        found.append(inner / size if size > 0.0 else 0.0)
    return found[0], found[1]
