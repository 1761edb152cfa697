"""Families drawn by a generator, with tables whose rows are touched as tokens of texts are: complete, or one ancestor short."""

import numpy as np

from crawl.casts import round_to
from lineage.study import Study

ROWS, WIDTH = 1152, 16


def step(parent, common, rng):
    """A child: some rows of the table touched, the others decayed, and an update that siblings partly share."""
    table, matrices = parent
    chance = np.minimum(1.0, rng.uniform(200, 600) / (1.0 + np.arange(ROWS)) ** rng.uniform(0.8, 1.1) * 0.3)
    touched = rng.random(ROWS) < chance
    size = 10.0 ** rng.uniform(-2.0, -1.0)
    after = table * (1.0 - rng.choice([0.0, 0.001, 0.01]))
    after[touched] += size * np.abs(table).mean() * rng.normal(size=(int(touched.sum()), WIDTH))
    share = rng.uniform(0.0, 0.35)
    moved = [
        m + size * np.std(m) * (np.sqrt(1.0 - share) * rng.normal(size=m.shape) + np.sqrt(share) * c)
        for m, c in zip(matrices, common, strict=True)
    ]
    return after, moved


def grove(seed, n=12, dtype="BF16"):
    """(studies by id, parents by id) of one family of n, the form drawn."""
    rng = np.random.default_rng(seed)
    models = [(rng.normal(size=(ROWS, WIDTH)), [rng.normal(size=(24, 24)) for _ in range(4)])]
    parents, common = [-1], {}
    favour = rng.uniform(0.2, 0.8)
    for i in range(1, n):
        p = int(rng.integers(max(1, i // 4))) if rng.random() < favour else int(rng.integers(i))
        common.setdefault(p, [rng.normal(size=m.shape) for m in models[0][1]])
        table, matrices = step(models[p], common[p], rng)
        models.append((round_to(table, dtype), [round_to(m, dtype) for m in matrices]))
        parents.append(p)
    names = [f"g{k:02d}" for k in rng.permutation(n)]
    studies = {names[i]: as_study(names[i], *models[i], dtype) for i in range(n)}
    return studies, {names[i]: names[p] if p >= 0 else None for i, p in enumerate(parents)}


def as_study(name, table, matrices, dtype):
    arrays = {f"{k}.attn.q": round_to(m, dtype) for k, m in enumerate(matrices)}
    dtypes = dict.fromkeys((*arrays, "embed"), dtype)
    return Study(name, dtype, dtypes, arrays, {"embed": round_to(table, dtype)}, {}, len(matrices), 0, 0)


def short(studies, parents, seed):
    """The same without an ancestor of at least two children and three neighbours; its id and children."""
    children = {k: [c for c, p in parents.items() if p == k] for k in parents}
    inner = sorted(k for k in parents if len(children[k]) >= 2 and len(children[k]) + (parents[k] is not None) >= 3)
    gone = inner[int(np.random.default_rng(seed).integers(len(inner)))]
    return {k: s for k, s in studies.items() if k != gone}, gone, children[gone]
