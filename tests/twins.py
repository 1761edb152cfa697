"""Families made of measured updates: what real training did to other models, put on new bases in trees of known form.

An update is the difference of a child and its parent in the nursery, with its size, spectrum, and rows that no data
touched. Siblings share a part of their updates, drawn so that their cosine is one measured between real siblings.
"""

import json
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from crawl import open_model
from crawl.casts import round_to
from lineage.plan import PUBLIC_KEY
from lineage.study import Study, study
from nulls import ROOT

NURSERY = ROOT / "fixtures" / "nursery"
SIBLING_COSINES = (0.05, 0.35)
"""Range of the cosine between updates of real siblings: 0.09 to 0.35 published, 0.03 to 0.31 in the nursery and zoo."""


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


@cache
def updates(families):
    """(difference of every array, touched rows of the embedding, kind) of each trained edge of some families."""
    found = []
    for m in truth().values():
        if m["parents"] and m["family"] in families:
            parent, child = read(m["parents"][0]), read(m["id"])
            before, after = every(parent), every(child)
            gap = {k: after[k] - before[k] for k in before}
            e, f = before["embed"], after["embed"]
            ratio = np.sum(e * f, axis=1) / np.maximum(np.sum(e * e, axis=1), 1e-30)
            rest = np.linalg.norm(f - ratio[:, None] * e, axis=1) / np.maximum(np.linalg.norm(f, axis=1), 1e-30)
            still = rest < 0.006
            found.append((gap, still, float(np.median(ratio[still])) if still.any() else 1.0, m["kind"]))
    return found


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


class Grower:
    """Grows one family from a base and a pool of updates."""

    def __init__(self, seed, families):
        self.rng = np.random.default_rng(seed)
        self.pool = list(updates(families))
        order = self.rng.permutation(len(self.pool))
        self.pool = [self.pool[i] for i in order]
        bases = [m["id"] for m in truth().values() if not m["parents"] and m["family"] in families]
        self.base = read(bases[int(self.rng.integers(len(bases)))])
        self.common = {}
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
        update = self.pool.pop(0)
        self.pool.append(update)
        return update

    def child(self, parent):
        """A trained child: an update of its own and a part it shares with its siblings."""
        gap, still, ratio, kind = self.draw()
        if parent not in self.common:
            self.common[parent] = self.draw()[0]
        shared = self.common[parent]
        cosine = 0.0 if kind in ("lora-merge", "partial") else float(self.rng.uniform(*SIBLING_COSINES))
        before, after = every(self.family.studies[parent]), {}
        for k, x in before.items():
            own, other = gap[k], shared[k]
            size = np.linalg.norm(own) / max(float(np.linalg.norm(other)), 1e-30)
            after[k] = x + np.sqrt(1.0 - cosine) * own + np.sqrt(cosine) * size * other
        rows = slice(None) if still.all() else still
        after["embed"][rows] = before["embed"][rows] * ratio
        return self.add(rebuilt(self.base, after, self.names.pop()), (parent,), kind)

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


def vthr(seed, families):
    """A tree of 21: a base, four children, four children of each (the form of arXiv 2405.18432)."""
    grower = Grower(seed, families)
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
