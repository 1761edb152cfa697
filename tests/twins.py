"""Families made of measured updates: what real training did to other models, put on new bases in trees of known form.

An update is the difference of a child and its parent in the nursery. It is put on another model with what was measured
about it: its relative size, its spectrum, the rows that no data touched, the change of norm and of kurtosis of each
matrix (both ways, as often as they were measured), a cosine with a common part of its siblings, and one with the update
before it. Nothing else ties a twin to an answer.
"""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations, permutations
from types import MappingProxyType

import numpy as np

from crawl import open_model
from crawl.casts import round_to
from lineage.metadata import Claims
from lineage.plan import PUBLIC_KEY
from lineage.study import Study, study
from nulls import ROOT

NURSERY = ROOT / "fixtures" / "nursery"
UPSET = 2 / 112
"""Share of edges between two owners whose parent is dated later (see `lineage.metadata.OTHER_OWNER`)."""


@dataclass
class Family:
    """Members, their true parents, and coefficients of merges."""

    studies: dict[str, Study]
    parents: dict[str, tuple[str, ...]]
    kinds: dict[str, str]
    coefficients: dict[tuple[str, str], float] = field(default_factory=dict)


@cache
def truth():
    return {m["id"]: m for m in json.loads((NURSERY / "truth.json").read_text())["models"]}


@cache
def read(name):
    with open_model(str(NURSERY / name)) as source:
        return study(source, PUBLIC_KEY, name=name)


def real_family(number):
    """A family of the nursery as it was trained."""
    members = [m for m in truth().values() if m["family"] == number]
    return Family(
        {m["id"]: read(m["id"]) for m in members},
        {m["id"]: tuple(m["parents"]) for m in members},
        {m["id"]: m["kind"] for m in members},
    )


@dataclass(frozen=True)
class Update:
    """A trained edge: the difference of every array, and what was measured of it."""

    gap: dict[str, np.ndarray]
    kind: str
    still: np.ndarray
    ratio: float
    sizes: dict[str, float]
    shapes: dict[str, tuple[float, float]]


@cache
def updates(families):
    """Update of each trained edge of some families."""
    return [
        measured(read(m["parents"][0]), read(m["id"]), m["kind"])
        for m in truth().values()
        if m["parents"] and m["family"] in families
    ]


def measured(parent, child, kind):
    before, after = every(parent), every(child)
    e, f = before["embed"], after["embed"]
    ratio = np.sum(e * f, axis=1) / np.maximum(np.sum(e * e, axis=1), 1e-30)
    rest = np.linalg.norm(f - ratio[:, None] * e, axis=1) / np.maximum(np.linalg.norm(f, axis=1), 1e-30)
    still = rest < 0.006
    return Update(
        gap={k: after[k] - before[k] for k in before},
        kind=kind,
        still=still,
        ratio=float(np.median(ratio[still])) if still.any() else 1.0,
        sizes={k: float(np.linalg.norm(before[k])) for k in before},
        shapes={k: tuple(np.subtract(shape(after[k]), shape(before[k]))) for k in parent.matrices},
    )


def shape(x):
    """Log of the norm and log of the fourth standardised moment."""
    gap = x - x.mean()
    square = gap * gap
    return np.log(np.linalg.norm(x)), np.log(np.mean(np.square(square / square.mean())))


@cache
def cosines(families):
    """Cosines of updates of siblings of each two kinds, and of an update and the one before it."""
    siblings, chains = {}, []
    edges = [m for m in truth().values() if m["parents"] and m["family"] in families]
    gaps = dict(zip([m["id"] for m in edges], updates(families), strict=True))
    for a, b in combinations(edges, 2):
        if a["parents"] == b["parents"]:
            found = cosine(gaps[a["id"]], gaps[b["id"]])
            for pair in {(a["kind"], b["kind"]), (b["kind"], a["kind"])}:
                siblings.setdefault(pair[0], []).append(max(0.0, found))
    for a, b in permutations(edges, 2):
        if b["parents"] == [a["id"]]:
            chains.append(cosine(gaps[a["id"]], gaps[b["id"]]))
    return MappingProxyType(siblings), tuple(chains)


def cosine(a, b):
    """Of two updates over all matrices, each over the size of the matrix."""
    inner = lambda x, y: sum(np.sum(x.gap[k] * y.gap[k]) / a.sizes[k] ** 2 for k in a.shapes)  # noqa: E731
    return float(inner(a, b) / np.sqrt(inner(a, a) * inner(b, b)))


def every(s):
    return {k: np.asarray(v, dtype=np.float64) for k, v in {**s.matrices, **s.tables, **s.vectors}.items()}


def rebuilt(base, arrays, name, dtype="BF16"):
    """A study of other values."""
    stored = {k: round_to(v, dtype) for k, v in arrays.items()}
    part = lambda group: {k: stored[k] for k in group}  # noqa: E731
    return replace(
        base,
        id=name,
        dtype=dtype,
        dtypes=dict.fromkeys(base.dtypes, dtype),
        matrices=part(base.matrices),
        tables=part(base.tables),
        vectors=part(base.vectors),
    )


def reshaped(x, after, change):
    """Move a matrix along itself and along its outliers, in turns, until norm and kurtosis changed as measured."""
    size, tail = (a + b for a, b in zip(shape(x), change, strict=True))
    outward = x**3 / np.mean(x**4) * np.mean(x**2) - x
    outward *= np.linalg.norm(after - x) / max(float(np.linalg.norm(outward)), 1e-30)
    for reach in (1.0, 0.1, 0.01, 0.001):
        along = np.sum(after * x) / np.sum(x * x)
        rest = after - along * x
        room = np.exp(2.0 * size) - np.sum(rest * rest)
        if room > 0.0:
            after = rest + np.sqrt(room / np.sum(x * x)) * x
        tried = np.linspace(-reach, reach, 41)
        after = after + tried[np.argmin([abs(shape(after + s * outward)[1] - tail) for s in tried])] * outward
    return after


class Grower:
    """Grows one family from a base and a pool of updates."""

    def __init__(self, seed, families, kinds=None):
        self.rng = np.random.default_rng(seed)
        pool = [u for u in updates(families) if kinds is None or u.kind in kinds]
        self.pool = [pool[i] for i in self.rng.permutation(len(pool))]
        self.whole = [u for u in updates(families) if u.kind in ("fine-tune", "continued-pretraining")]
        self.siblings, self.chains = cosines(families)
        bases = [m["id"] for m in truth().values() if not m["parents"] and m["family"] in families]
        self.base = read(bases[int(self.rng.integers(len(bases)))])
        self.common, self.last, self.drawn = {}, {}, 0
        self.family = Family({}, {}, {})
        self.names = [f"m{i:03d}" for i in self.rng.permutation(500)]

    def add(self, study_, parents, kind):
        name = study_.id
        self.family.studies[name] = study_
        self.family.parents[name] = tuple(parents)
        self.family.kinds[name] = kind
        return name

    def root(self):
        return self.add(rebuilt(self.base, every(self.base), self.names.pop()), (), "base")

    def draw(self):
        """The next update; one that was drawn before comes with other signs of rows and columns, or twins would be copies."""
        update = self.pool.pop(0)
        self.pool.append(update)
        self.drawn += 1
        return update if self.drawn <= len(self.pool) else self.turned(update)

    def turned(self, update):
        signs = lambda n: self.rng.choice([-1.0, 1.0], n)  # noqa: E731
        gap = {k: signs(len(v))[:, None] * v * signs(v.shape[1]) if v.ndim == 2 else v for k, v in update.gap.items()}
        return replace(update, gap=gap)

    def child(self, parent):
        """A trained child: an update of its own, a part it shares with its siblings, and one along the step before."""
        update = self.draw()
        if parent not in self.common:
            self.common[parent] = self.whole[int(self.rng.integers(len(self.whole)))]
        shared = float(self.rng.choice(self.siblings.get(update.kind, [0.0])))
        along = float(self.rng.choice(self.chains))
        shared = max(0.0, min(shared, 0.95 - along * along))
        before, after = every(self.family.studies[parent]), {}
        for k, x in before.items():
            own = update.gap[k] * np.linalg.norm(x) / max(update.sizes[k], 1e-30)
            if update.kind == "lora-merge" or not own.any():
                after[k] = x + own
                continue
            mixed = np.sqrt(1.0 - shared - along * along) * own
            mixed += np.sqrt(shared) * sized(self.common[parent].gap[k], own)
            if parent in self.last:
                mixed += along * sized(self.last[parent][k], own)
            after[k] = x + sized(mixed, own)
            if k in update.shapes:
                after[k] = reshaped(x, after[k], update.shapes[k])
        rows = slice(None) if update.still.all() else update.still
        after["embed"][rows] = before["embed"][rows] * update.ratio
        name = self.add(rebuilt(self.base, after, self.names.pop()), (parent,), update.kind)
        self.last[name] = {k: after[k] - before[k] for k in after}
        return name

    def quantised(self, parent, bits=4):
        arrays = every(self.family.studies[parent])
        levels = 2 ** (bits - 1) - 1
        for k in self.base.matrices:
            parts = arrays[k].reshape(arrays[k].shape[0], -1, 32)
            scale = np.abs(parts).max(-1, keepdims=True) / levels
            scale[scale == 0.0] = 1.0
            arrays[k] = (np.rint(parts / scale) * scale).reshape(arrays[k].shape)
        return self.add(rebuilt(self.base, arrays, self.names.pop()), (parent,), "quantized")

    def merged(self, first, second):
        weight = float(self.rng.choice([0.3, 0.5, 0.7]))
        a, b = every(self.family.studies[first]), every(self.family.studies[second])
        name = self.names.pop()
        self.family.coefficients[first, name], self.family.coefficients[second, name] = weight, 1.0 - weight
        mixed = {k: weight * a[k] + (1.0 - weight) * b[k] for k in a}
        return self.add(rebuilt(self.base, mixed, name), (first, second), "merge")


def sized(x, like):
    """An array at the size of another."""
    return x * (np.linalg.norm(like) / max(float(np.linalg.norm(x)), 1e-30))


def dated(family, seed):
    """Claims of every member: each has an owner of its own and is dated in the order of making, few edges upset."""
    rng = np.random.default_rng(seed)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    at = {}
    for n, (name, parents) in enumerate(family.parents.items()):
        at[name] = min(at[p] for p in parents) - 0.5 if parents and rng.random() < UPSET else float(n)
    return {name: Claims(name, frozenset(), start + timedelta(days=day)) for name, day in at.items()}


def vthr(seed, families, kinds=None):
    """A tree of 21: a base, four children, four children of each (the form of arXiv 2405.18432)."""
    grower = Grower(seed, families, kinds)
    root = grower.root()
    for _ in range(4):
        child = grower.child(root)
        for _ in range(4):
            grower.child(child)
    return grower.family


def atlas(seed, families, n=24):
    """Fans, snakes, 30 % quantised leaves and 5 % merges (the shares of arXiv 2503.10633)."""
    grower = Grower(seed, families)
    trained, tip = [grower.root()], None
    while len(grower.family.studies) < n:
        kind = grower.rng.choice(["fan", "snake", "random", "quantised", "merge"], p=[0.35, 0.15, 0.15, 0.3, 0.05])
        if kind == "quantised":
            grower.quantised(trained[int(grower.rng.integers(len(trained)))], bits=int(grower.rng.choice([4, 8])))
        elif kind == "merge" and len(trained) > 3:
            first, second = grower.rng.choice(trained[1:], 2, replace=False)
            grower.merged(str(first), str(second))
        else:
            parent = trained[0] if kind == "fan" else tip if kind == "snake" and tip else None
            tip = grower.child(parent or trained[int(grower.rng.integers(len(trained)))])
            trained.append(tip)
    return grower.family
