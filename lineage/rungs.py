"""The rungs on residual dimensions: norm gains and embedding-like tables, from two signatures to test results."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from lineage.align import common_rows, is_usable, residual_axis
from lineage.finding import Finding, discounted, mixture
from lineage.plan import MAX_CENSUS_COLUMNS
from lineage.signature import Signature, Table, VectorKey
from stats.arrays import Float64Array
from stats.residual import column_test, gain_test
from stats.result import Skipped, TestResult

_MAP_FREE_WINDOW = 32
"""Labels per window of the map-free gains, which test every pair of layers: 4 x 4 processes for the price of two."""


def gains(a: Signature, b: Signature) -> Finding:
    """Norm gains (and norm biases): same index, the final ones by themselves, and every layer against every layer."""
    results: list[TestResult] = []
    skipped: list[Skipped] = []

    def run(method: str, pairs: Sequence[tuple[VectorKey, VectorKey]], scope: str) -> None:
        if not pairs:
            return
        left = np.stack([a.vectors[i] for i, _ in pairs])
        right = np.stack([b.vectors[j] for _, j in pairs])
        _collect(
            results,
            skipped,
            scope,
            lambda: replace(gain_test(left, right, axis=residual_axis(b), scope=scope), method=method),
        )

    keys = [k for k in _keys(a, b) if _is_sound(a.vectors[k], b.vectors[k])]
    odd = [k for k in _keys(a, b) if k not in keys]
    skipped += [Skipped(tensor=f"{k[1]} of layer {k[0]}", reason="NaN, infinite or overflowing values") for k in odd]
    outer = [(k, k) for k in keys if k[0] is None]
    run("final-gain", outer, ", ".join(k[1] for k, _ in outer))
    inner = [(k, k) for k in keys if k[0] is not None]
    if a.n_layers == b.n_layers:
        run("norm-gains", inner, f"{len(inner)} vectors of {len({k[0] for k, _ in inner})} layers")
    map_free = _map_free_gains(a, b)
    if map_free is not None:
        results.append(map_free)
    if not results and not skipped:
        skipped.append(Skipped(tensor="norm gains", reason="no norm gain or bias of residual width in both models"))
    return Finding(tuple(discounted(results)), tuple(skipped))


def _map_free_gains(a: Signature, b: Signature) -> TestResult | None:
    """Mean over all pairs of layers of the e-value of their gains: blind to which layer became which."""
    kinds = sorted({k[1] for k in a.vectors if k[0] is not None} & {k[1] for k in b.vectors if k[0] is not None})
    layers_a = sorted({k[0] for k in a.vectors if k[0] is not None})
    layers_b = sorted({k[0] for k in b.vectors if k[0] is not None})
    same_depth = a.n_layers == b.n_layers
    found: list[TestResult] = []
    for i, j in product(layers_a, layers_b):
        keys = [k for k in kinds if (i, k) in a.vectors and (j, k) in b.vectors]
        keys = [k for k in keys if is_usable(a.vectors[i, k], b.vectors[j, k])]
        if not keys or (same_depth and i == j):
            continue
        left, right = np.stack([a.vectors[i, k] for k in keys]), np.stack([b.vectors[j, k] for k in keys])
        found.append(gain_test(left, right, axis=residual_axis(b), window=_MAP_FREE_WINDOW))
    if not found:
        return None
    return mixture(found, None, "norm-gains-map-free", f"{len(found)} pairs of layers")


def tables(a: Signature, b: Signature) -> Finding:
    """Columns of embeddings, heads, learned positions and patch projections."""
    results: list[TestResult] = []
    skipped: list[Skipped] = []
    for kind in sorted(a.tables.keys() | b.tables.keys()):
        first, second = _table(a, kind), _table(b, kind)
        if first is None or second is None:
            skipped.append(Skipped(tensor=kind, reason=f"only {(b if first is None else a).id} has one"))
            continue
        left, right = common_rows(first, second)
        scope = f"{left.shape[0]} rows of {kind}"
        name = {"embed": "embedding-columns", "unembed": "head-columns"}.get(
            kind, f"{kind.removeprefix('embed.')}-columns"
        )
        test = partial(column_test, left, right, axis=residual_axis(b), method=name, scope=scope)
        _collect(results, skipped, kind, test)
    return Finding(tuple(discounted(results)), tuple(skipped))


def _table(signature: Signature, kind: str) -> Table | None:
    """A table; the embedding where a head is tied to it."""
    tied = kind == "unembed" and signature.architecture is not None and signature.architecture.tied_head
    return signature.tables.get("embed" if tied else kind)


def attention(a: Signature, b: Signature) -> Finding:
    """Columns of query and key rows, read in the same places: a table of residual dimensions that has no tokens.

    Rows of values and of the MLP are left out: their own labels are tested elsewhere, and labels must not be each
    other's features in a circle. Positions of rotary dimensions are no labels; heads in another order only cost power.
    """
    left: list[Float64Array] = []
    right: list[Float64Array] = []
    for role in sorted(a.census.keys() & b.census.keys()):
        x, y = a.census[role], b.census[role]
        if role.endswith((".attn.q", ".attn.k")) and x.shape == y.shape and x.shape[1] == _census_width(a):
            left.append(x)
            right.append(y)
    if not left:
        return Finding(
            skipped=(Skipped(tensor="attention", reason="no query or key rows at one place in both models"),)
        )
    results: list[TestResult] = []
    skipped: list[Skipped] = []
    scope = f"{sum(x.shape[0] for x in left)} query and key rows"
    test = partial(
        column_test,
        np.concatenate(left),
        np.concatenate(right),
        axis=residual_axis(b),
        method="attention-columns",
        scope=scope,
    )
    _collect(results, skipped, "attention", test)
    return Finding(tuple(discounted(results)), tuple(skipped))


def _census_width(signature: Signature) -> int:
    """Columns of a census row that runs along the residual stream."""
    return min(signature.width, MAX_CENSUS_COLUMNS)


def _collect(results: list[TestResult], skipped: list[Skipped], tensor: str, test: Callable[[], TestResult]) -> None:
    """Run one test; an input it refuses becomes a skipped tensor with the reason."""
    try:
        results.append(test())
    except ValueError as error:
        skipped.append(Skipped(tensor=tensor, reason=str(error)))


def _is_sound(*vectors: Float64Array) -> bool:
    return all(bool(np.isfinite(np.sum(v * v))) for v in vectors)


def _keys(a: Signature, b: Signature) -> list[VectorKey]:
    return sorted(a.vectors.keys() & b.vectors.keys(), key=lambda k: (-1 if k[0] is None else k[0], k[1]))
