"""Many generated models in families of mixed size, as files: trained starts, and updates that real training made.

Starts are training runs of one configuration that share nothing (bases of the nursery and the micro-runs of the zoo);
children are fine-tunes by updates measured between trained models, quantised and cast leaves, merges and copies.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache

import numpy as np

import derive
from nulls import ROOT, _code_of

NURSERY, ZOO = ROOT / "fixtures" / "nursery", ROOT / "fixtures" / "zoo"

SIZES = (34, 1, 13, 2, 21, 1, 3, 8, 1, 5, 2)
"""Sizes of the families, over and over: a few large ones, many small ones, models on their own."""

FORMS = (
    ("fan", 0.35),
    ("snake", 0.2),
    ("any", 0.25),
    ("quantised", 0.08),
    ("cast", 0.05),
    ("merge", 0.04),
    ("copy", 0.03),
)
"""What the next member of a family is, with its share."""


@dataclass
class Tree:
    """One family: weights by name, and the true parents of each."""

    models: dict[str, dict] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def starts():
    """Names of trained models without common origin, one shape."""
    bases = [f"nursery/{m['id']}" for m in _nursery() if not m["parents"]]
    return tuple(bases) + tuple(f"zoo/{p.name}" for p in sorted(ZOO.glob("micro-*")))


@cache
def updates():
    """What dense training changed, by tensor, of trained edges of the nursery."""
    found = []
    for m in _nursery():
        if m["kind"] in ("fine-tune", "continued-pretraining"):
            before, after = (derive.load(NURSERY / i) for i in (m["parents"][0], m["id"]))
            found.append({k: after[k].astype(np.float64) - before[k].astype(np.float64) for k in before})
    return found


class Nursery:
    """Updates for one family: those of training, with their units in an order of its own.

    Families that took the very same updates would have something in common, and be found.
    """

    def __init__(self, rng):
        self.rng = rng
        self.seed = int(rng.integers(1 << 32))

    def child(self, weights):
        """A model trained on: every value of the update a little larger or smaller, so that no two are in proportion."""
        step = self.turned(int(self.rng.integers(len(updates()))))
        return {
            k: (v.astype(np.float64) + step[k] * self.rng.lognormal(-0.2, 0.5, v.shape)).astype(v.dtype)
            for k, v in weights.items()
        }

    def turned(self, number):
        """An update in the order of this family."""
        rng = np.random.default_rng(self.seed)
        step = derive.permute_residual(derive.permute_hidden(updates()[number], rng), rng)
        return derive.permute_values(derive.permute_heads(step, rng, 4, 2), rng, 4, 2)


def family(start, size, rng):
    """A family of so many members."""
    tree, nursery = Tree({"root": derive.load(ROOT / "fixtures" / start)}, {"root": ()}), Nursery(rng)
    trained, tip = ["root"], "root"
    while len(tree.models) < size:
        name = f"m{len(tree.models):03d}"
        what = rng.choice([n for n, _ in FORMS], p=[p for _, p in FORMS])
        if what == "merge" and len(trained) < 4:
            what = "fan"
        above = {"fan": trained[0], "snake": tip}.get(what, trained[int(rng.integers(len(trained)))])
        if what in ("fan", "snake", "any"):
            tree.models[name], tree.parents[name], tip = nursery.child(tree.models[above]), (above,), name
            trained.append(name)
        elif what == "merge":
            pair = sorted(rng.choice(trained[1:], 2, replace=False).tolist())
            tree.models[name] = derive.merge_linear([tree.models[i] for i in pair], [0.6, 0.4])
            tree.parents[name] = tuple(pair)
        else:
            tree.models[name], tree.parents[name] = _made(what, tree.models[above]), (above,)
    return tree


def _made(what, weights):
    if what == "quantised":
        return derive.quantize_rtn(weights, 4, 32)
    if what == "cast":
        return derive.cast(weights, "float8_e4m3fn")
    return {k: v.copy() for k, v in weights.items()}


def grown(n, seed=0, sizes=SIZES):
    """(family, member, weights, true parents) of so many models, families of mixed size."""
    rng = np.random.default_rng(seed)
    left, number = n, 0
    while left:
        size = min(left, sizes[number % len(sizes)])
        tree = family(starts()[number], size, rng)
        for name, weights in tree.models.items():
            yield f"f{number:02d}", name, weights, tree.parents[name]
        left, number = left - size, number + 1


def planted(folder, models):
    """Write models as files; true parents by id."""
    parents = {}
    for home, name, weights, above in models:
        derive.save(weights, folder / home / name)
        parents[f"{home}/{name}"] = tuple(f"{home}/{p}" for p in above)
    return parents


def one_family(n, seed=0):
    """A family of so many: a star whose every third child goes on as a chain."""
    rng = np.random.default_rng(seed)
    tree = Tree({"root": derive.load(ROOT / "fixtures" / starts()[0])}, {"root": ()})
    tip, nursery = "root", Nursery(rng)
    for i in range(1, n):
        above = tip if i % 12 in (1, 2, 3) and tip != "root" else "root"
        name = f"m{i:03d}"
        tree.models[name], tree.parents[name], tip = nursery.child(tree.models[above]), (above,), name
    for name, weights in tree.models.items():
        yield "f00", name, weights, tree.parents[name]


CHOOSES = ("screening", "grouping", "tested", "linking", "distances")
"""Modules that decide which pairs are tested."""


def digest():
    """Digest of the code that chooses pairs and of what grows here."""
    files = [ROOT / "lineage" / f"{name}.py" for name in CHOOSES] + [ROOT / "tests" / "orchard.py"]
    return hashlib.sha256("".join(_code_of(p) for p in files).encode()).hexdigest()[:16]


@cache
def _nursery():
    return json.loads((NURSERY / "truth.json").read_text())["models"]
