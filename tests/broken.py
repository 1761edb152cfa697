"""Deliberately broken twins of the tests. Each is a mistake found in published code or easily made; the gate must catch all."""

import math
from collections.abc import Callable

import numpy as np

import derive
from nulls import LEVELS, ROOT, limit
from stats.axes import Axis
from stats.eprocess import cosine_grid, permutation_eprocess
from stats.residual import column_test
from stats.split import align
from stats.tails import log_factorial
from stats.units import UnitFeatures

N = 2000


def _cosines(rng: np.random.Generator, n: int, d: int, dead: float = 0.0) -> np.ndarray:
    a, b = rng.normal(size=(2, n, d))
    a[rng.random(n) < dead] = 0
    b[rng.random(n) < dead] = 0
    a, b = (m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-30) for m in (a, b))
    return a @ b.T


def sound(rng: np.random.Generator) -> float:
    """The test itself, under the same draws: must pass the gate the twins fail."""
    return permutation_eprocess([_cosines(rng, 24, 32)], grid=cosine_grid(32.0)).log_pvalue


def maxima_multiplied(rng: np.random.Generator) -> float:
    """Running maxima of six blocks multiplied, as if a maximum were an e-value."""
    processes = [permutation_eprocess([_cosines(rng, 24, 32)], grid=cosine_grid(32.0)) for _ in range(6)]
    return min(0.0, -sum(max(0.0, float(p.trajectory.max())) for p in processes))


def one_group_multiplied(rng: np.random.Generator) -> float:
    """Six tests that share one set of labels multiplied instead of averaged."""
    order = rng.permutation(12)
    scores = _cosines(rng, 12, 32)[:, order]
    noisy = [scores + 0.05 * rng.normal(size=scores.shape) for _ in range(6)]
    return min(0.0, -sum(permutation_eprocess([s], grid=cosine_grid(32.0)).log_evalue for s in noisy))


def ties_by_index(rng: np.random.Generator) -> float:
    """Units matched by a plain argmax over tied scores of dead units; 30 % of units are dead in both models."""
    scores = np.round(_cosines(rng, 24, 32, dead=0.3), 12)
    taken: list[int] = []
    for row in scores:
        free = [j for j in range(24) if j not in taken]
        taken.append(max(free, key=lambda j: (row[j], -j)))
    hits = sum(j == i for i, j in enumerate(taken))
    return min(0.0, -log_factorial(hits))


def wrong_n(rng: np.random.Generator) -> float:
    """The number of candidates not lowered as labels are revealed."""
    scores = _cosines(rng, 24, 32)
    process = permutation_eprocess([scores], grid=cosine_grid(32.0))
    return min(0.0, process.log_pvalue - sum(math.log(24 / k) for k in range(1, 25)))


def rows_chosen_after_looking(rng: np.random.Generator) -> float:
    """The 16 of 200 units that agree best, tested as if they had been fixed in advance."""
    scores = _cosines(rng, 200, 32)
    best = np.argsort(-np.diagonal(scores))[:16]
    return permutation_eprocess([scores[np.ix_(best, best)]], grid=cosine_grid(32.0)).log_pvalue


def zero_padding(rng: np.random.Generator) -> float:
    """The narrower model padded with zero rows: gate and up then pair the padding by norm, alike on both sides."""
    wide, narrow = 24, 16
    scale_a, scale_b = np.exp(0.3 * rng.normal(size=wide)), np.exp(0.3 * rng.normal(size=narrow))
    picks = []
    for _ in range(2):
        a = rng.normal(size=(wide, 8)) * scale_a[:, None]
        b = np.concatenate([rng.normal(size=(narrow, 8)) * scale_b[:, None], np.zeros((wide - narrow, 8))])
        cost = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
        picks.append(cost.argmin(axis=1))
    hits = int((picks[0] == picks[1]).sum())
    return min(0.0, -log_factorial(hits))


def token_axis_permuted(rng: np.random.Generator) -> float:
    """Embedding rows of two independently trained models tested as if tokens were interchangeable units."""
    a, b = rng.choice(40, size=2, replace=False)
    tables = [_embedding(int(i)) for i in (a, b)]
    tokens = rng.choice(128, size=48, replace=False)
    shuffled = [t[tokens] for t in tables]
    kinship = [t @ t.T for t in shuffled]  # rotation-free, so that two bases can be compared at all
    return column_test(kinship[0], kinship[1], axis=Axis.RESIDUAL).log_pvalue


def matched_on_held(rng: np.random.Generator) -> float:
    """The split test with its rows matched on all residual dimensions: the labels tested have chosen the pairs."""
    part = UnitFeatures(rng.normal(size=(32, 60)), rng.normal(size=(32, 60)))
    found = align([part], max_pairs=12)
    held = np.arange(16, 32)
    return column_test(part.a[np.ix_(held, found.a)].T, part.b[np.ix_(held, found.b)].T, centred=False).log_pvalue


def own_label_among_anchors(rng: np.random.Generator) -> float:
    """The anchored test with the unit being revealed among its anchors: the true candidate's cosine with it is one."""
    rows = rng.normal(size=(2, 16, 32))
    kin = [m @ m.T for m in (r / np.linalg.norm(r, axis=1, keepdims=True) for r in rows)]
    scores = np.stack([kin[0][t, : t + 1] @ kin[1][:, : t + 1].T for t in range(16)])
    return permutation_eprocess([scores], grid=cosine_grid(32.0)).log_pvalue


_TABLES: dict[int, np.ndarray] = {}


def best_run_taken(rng: np.random.Generator) -> float:
    """The best of sixteen runs of the other model taken, as if it had been named beforehand, instead of their mean."""
    a, b = rng.normal(size=(2, 128, 16))
    b = b[rng.permutation(128)]
    total = 0.0
    for r in range(4):
        query = a[8 * r : 8 * r + 8]
        found = [
            permutation_eprocess([_unit(query) @ _unit(b[8 * k : 8 * k + 8]).T], grid=cosine_grid(16.0)).log_evalue
            for k in range(16)
        ]
        total += max(found)
    return min(0.0, -total)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _embedding(i: int) -> np.ndarray:
    if i not in _TABLES:
        weights = derive.load(ROOT / "fixtures" / "zoo" / f"micro-{i:02d}")
        table = weights["model.embed_tokens.weight"].astype(np.float64)
        _TABLES[i] = table - table.mean(axis=0)
    return _TABLES[i]


TWINS: dict[str, Callable[[np.random.Generator], float]] = {
    "maxima of several blocks multiplied": maxima_multiplied,
    "e-values of one label group multiplied": one_group_multiplied,
    "ties broken by index": ties_by_index,
    "number of candidates not lowered": wrong_n,
    "rows chosen after looking": rows_chosen_after_looking,
    "zero padding of the narrower model": zero_padding,
    "token axis permuted": token_axis_permuted,
    "best run of the other model taken": best_run_taken,
    "rows matched on the dimensions tested": matched_on_held,
    "own label among the anchors": own_label_among_anchors,
}


def counts(twin: Callable[[np.random.Generator], float], n: int = N) -> list[int]:
    """Rejections of a twin under its null, per level."""
    rng = np.random.default_rng(0)
    values = np.array([twin(rng) for _ in range(n)])
    return [int((values <= math.log(level)).sum()) for level in LEVELS]


def fails(found: list[int], n: int = N) -> bool:
    """Whether the gate catches these counts."""
    return any(c > limit(n, level) for c, level in zip(found, LEVELS, strict=True))


def table() -> str:
    """Markdown: the sound test passes, every twin is caught."""
    lines = [
        f"\n## Broken twins under their null, {N:,} draws each\n",
        "| twin | " + " | ".join(f"at {v:g} (limit)" for v in LEVELS) + " | caught |",
        "|---|" + "---|" * (len(LEVELS) + 1),
    ]
    for name, twin in {"none: the sound e-process": sound, **TWINS}.items():
        found = counts(twin)
        cells = " | ".join(f"{c} ({limit(N, v)})" for c, v in zip(found, LEVELS, strict=True))
        lines.append(f"| {name} | {cells} | {'yes' if fails(found) else 'no'} |")
    return "\n".join(lines) + "\n"
