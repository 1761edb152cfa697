"""Search vectors of models that do not exist: strangers, near copies and descendants as alike as measured ones.

Similarities are measured on the fixtures: shares of equal signs in each field, and correlations of the finer numbers, of
every trained edge and of its rewritten, pruned and otherwise changed versions. A planted descendant flips the signs of
its parent as often as those of one measured pair, all fields of the same pair together.
"""

import itertools
import json
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

import derive
from crawl import open_model
from disguised import everything, permuted, turned
from lineage.index.records import Entry
from lineage.index.vectors import FIELDS, FREE, LABELLED, N_FINE, N_SIGNS, Vector, spans, vector_of
from lineage.reading import sign
from nulls import ROOT, signature_of

SPANS = spans()
N_BYTES = N_SIGNS // 8


@dataclass(frozen=True)
class Pair:
    """How alike one measured pair is: share of equal signs by field (None where it is not compared), finer correlations."""

    agreement: dict
    fine: tuple[float, float]
    same_layout: bool


@cache
def truth():
    models = {}
    for folder in ("zoo", "nursery"):
        models |= {
            m["id"]: folder for m in json.loads((ROOT / "fixtures" / folder / "truth.json").read_text())["models"]
        }
    return models


@cache
def edges():
    """(parent, child, kind) of every trained edge."""
    found = []
    for folder in ("zoo", "nursery"):
        for m in json.loads((ROOT / "fixtures" / folder / "truth.json").read_text())["models"]:
            found += [(parent, m["id"], m["kind"]) for parent in m["parents"]]
    return found


@cache
def signed(name):
    with open_model(str(ROOT / "fixtures" / truth()[name] / name)) as source:
        return sign(source)


@cache
def vector(name):
    return vector_of(signed(name))


def compared(a: Vector, b: Vector) -> Pair:
    """How alike two vectors are."""
    agreement = {}
    for name, bits in FIELDS.items():
        fits = a.layout == b.layout if name in LABELLED else a.tokens == b.tokens
        known = fits and a.has(name) and b.has(name)
        gap = int(np.bitwise_count(a.signs[SPANS[name]] ^ b.signs[SPANS[name]]).sum())
        agreement[name] = 1.0 - gap / bits if known else None
    fine = tuple(_correlation(x, y) for x, y in zip(a.fine, b.fine, strict=True))
    return Pair(agreement, fine, a.layout == b.layout)


def _correlation(x, y):
    u, v = x.astype(float), y.astype(float)
    size = np.sqrt((u @ u) * (v @ v))
    return float(u @ v / size) if size else 0.0


def narrowed(signature, keep):
    """The model with half of its residual dimensions: what a search sees of a pruning of the residual stream."""
    architecture = replace(signature.architecture, width=len(keep))
    tables = {k: replace(t, values=np.ascontiguousarray(t.values[:, keep])) for k, t in signature.tables.items()}
    vectors = {k: v[keep] for k, v in signature.vectors.items()}
    return replace(
        signature, architecture=architecture, tables=tables, vectors=vectors, blocks=(), values=(), experts=()
    )


def changes(rng):
    """Name and function of each change of a child's weights; only what its architecture allows is made."""
    return {
        "permuted": lambda w: permuted(w, rng),
        "rotated": lambda w: turned(w, rng),
        "permuted, rescaled and rotated": lambda w: everything(w, rng),
        "hidden width pruned": lambda w: derive.prune_width(w, _hidden(w) // 2),
        "depth pruned": lambda w: derive.drop_layers(w, [0]),
        "vocabulary grown": lambda w: derive.extend_vocab(w, 16, rng),
        "quantised": lambda w: derive.quantize_rtn(w, 4, 32),
    }


def _hidden(w):
    return next(v.shape[0] for k, v in w.items() if k.endswith("gate_proj.weight"))


def measured(most=None, rng=None):
    """Class to list of `Pair`: trained edges by kind, then each change made to children of either kind.

    `most` edges of each kind are taken, all of them without it.
    """
    rng = rng or np.random.default_rng(0)
    found, taken = {}, {}
    for parent, child, kind in edges():
        taken[kind] = taken.get(kind, 0) + 1
        if most is not None and taken[kind] > most:
            continue
        found.setdefault(kind, []).append(compared(vector(parent), vector(child)))
    for kind in ("fine-tune", "continued-pretraining"):
        chosen = [e for e in edges() if e[2] == kind and signed(e[1]).architecture.name == "llama"]
        for parent, child, _ in chosen[: most or 12]:
            weights = derive.load(ROOT / "fixtures" / truth()[child] / child)
            for name, change in changes(rng).items():
                other = vector_of(signature_of(change(weights), "x"))
                found.setdefault(f"{kind}, {name}", []).append(compared(vector(parent), other))
            keep = np.sort(rng.permutation(signed(child).width)[: signed(child).width // 2])
            other = vector_of(narrowed(signed(child), keep))
            found.setdefault(f"{kind}, residual width pruned", []).append(compared(vector(parent), other))
    return found


def strangers(names=None):
    """Pairs of independent training runs that are compared in every field."""
    names = names or [f"micro-{i:02d}" for i in range(40)]
    return [compared(vector(a), vector(b)) for a, b in itertools.combinations(names, 2)]


@dataclass
class Law:
    """What strangers have in common without being related: mean and spread of a model's share in what all have."""

    signs: dict
    fine: tuple

    @staticmethod
    def of(pairs):
        """Fitted to the first two moments of measured strangers, less what chance alone spreads."""
        signs = {}
        for name in FREE:
            signs[name] = _shares([2.0 * p.agreement[name] - 1.0 for p in pairs], FIELDS[name])
        return Law(signs, tuple(_shares([p.fine[i] for p in pairs], N_FINE) for i in (0, 1)))


def _shares(values, n):
    """(mean, sd) of the shares whose products have the mean and the spread of the values."""
    mean, spread = max(float(np.mean(values)), 1e-4), max(float(np.var(values)) - 1.0 / n, 1e-8)
    share = np.sqrt(mean)
    return float(share), float(min(np.sqrt(spread / 2.0) / share, share))


class World:
    """Draws vectors of one law."""

    def __init__(self, law, rng, n_tokens=6):
        self.law, self.rng = law, rng
        self.base = rng.integers(0, 256, (n_tokens, N_BYTES), dtype=np.uint8)
        self.common = rng.standard_normal((n_tokens, 2, N_FINE)).astype(np.float32)

    def unrelated(self, n, tokens):
        """(n, bytes) signs and (n, 2, `N_FINE`) int8 of strangers, each with its set of tokens."""
        signs = self.rng.integers(0, 256, (n, N_BYTES), dtype=np.uint8)
        for name in FREE:
            share = self._share(self.law.signs[name], n)
            flips = self.rng.random((n, FIELDS[name]), dtype=np.float32) < 0.5 * (1.0 - share[:, None])
            signs[:, SPANS[name]] = self.base[tokens][:, SPANS[name]] ^ np.packbits(flips, axis=1)
        fine = np.empty((n, 2, N_FINE), dtype=np.int8)
        for i in (0, 1):
            share = self._share(self.law.fine[i], n)[:, None]
            noise = self.rng.standard_normal((n, N_FINE), dtype=np.float32)
            fine[:, i] = _steps(share * self.common[tokens, i] + np.sqrt(1.0 - share**2) * noise)
        return signs, fine

    def _share(self, law, n):
        return np.clip(self.rng.normal(*law, n), 0.0, 0.9).astype(np.float32)

    def descendant(self, signs, fine, pair):
        """Signs and finer numbers of one descendant, as alike to its parent as a measured pair."""
        out = signs.copy()
        for name, bits in FIELDS.items():
            agree = pair.agreement[name]
            flips = self.rng.random(bits) < (0.5 if agree is None else 1.0 - agree)
            out[SPANS[name]] = signs[SPANS[name]] ^ np.packbits(flips)
        made = np.empty_like(fine)
        for i, r in enumerate(pair.fine):
            noise = self.rng.standard_normal(N_FINE)
            made[i] = _steps(r * fine[i] / 20.0 + np.sqrt(max(0.0, 1.0 - r * r)) * noise)
        return out, made


def _steps(values):
    return np.clip(np.rint(20.0 * values), -127, 127).astype(np.int8)


def made(signs, fine, layout, tokens):
    """A vector of a planted model; layouts and sets of tokens by number."""
    held = (1 << len(FIELDS)) - 1
    return Vector(layout.to_bytes(16, "big"), tokens.to_bytes(16, "big"), held, signs, fine)


def entry(number, vector):
    """An entry that holds nothing but a vector."""
    name = f"planted/m{number:07d}@{number:040x}"
    repo = name.partition("@")[0]
    return Entry(name, f"hf://{name}", repo, f"{number:040x}", "listed", "planted", vector=vector.to_bytes())
