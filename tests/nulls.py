"""Null pairs through the real path below the command line: stored bytes -> open_store -> sign -> compare_signed.

Natural pairs are independent training runs with the labels training gave them. Relabelled and stressed pairs take two
different runs, damage both in a nasty way, then relabel the second one at random: exact nulls by construction.
"""

import ast
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.special import bdtrc

import derive
from crawl import ModelRef, WeightSource, open_store
from lineage.comparing import CompareOptions, compare_signed
from lineage.reading import sign
from lineage.signature import Signature
from stats.result import TestResult

ROOT = Path(__file__).parent.parent
LEVELS = (0.05, 0.01, 0.001, 0.0001)
GATE_ERROR = 1e-6


@dataclass
class Memory:
    """A byte store over a dict."""

    name: str
    content: dict[str, bytes]

    def files(self):
        return {k: len(v) for k, v in self.content.items()}

    def read(self, file, span):
        return self.content[file][span.start : span.stop]


def signature_of(weights: dict[str, np.ndarray], name: str) -> Signature:
    """Store, open and sign a model without a disk."""
    store = Memory(name, {"model.safetensors": derive.to_bytes(weights)})
    with open_store(store, ModelRef("dir", name)) as source:
        return sign(source)


def limit(n: int, level: float) -> int:
    """Largest count a correct test shows at this level but for one time in a million: the gate's limit."""
    k = 0
    while bdtrc(k, n, level) > GATE_ERROR:
        k += 1
    return k


@dataclass
class Tally:
    """p-values by method, and verdicts."""

    log10_p: dict[str, list[float]] = field(default_factory=partial(defaultdict, list))
    verdicts: dict[str, int] = field(default_factory=partial(defaultdict, int))
    skipped: int = 0

    def add(self, document: dict) -> None:
        """Count one document."""
        self.verdicts[document["verdict"]] += 1
        self.log10_p["combined"].append(document["log10_p"])
        self.skipped += any("sorted units" in s["reason"] for s in document["skipped"])
        for test in document["tests"]:
            self.log10_p[test["method"]].append(test["log10_p"])

    def merge(self, other: "Tally") -> None:
        """Count what another tally has counted."""
        self.skipped += other.skipped
        for verdict, n in other.verdicts.items():
            self.verdicts[verdict] += n
        for method, values in other.log10_p.items():
            self.log10_p[method] += values

    def log10_p_of(self, results: Iterable[TestResult]) -> None:
        """Count the results of one draw."""
        for result in results:
            self.log10_p[result.method].append(result.log_pvalue / math.log(10))

    def rows(self) -> Iterator[tuple[str, int, list[int], list[int], float]]:
        """(method, n, counts, limits, smallest log10 p) per method; levels whose limit would be all of n are kept."""
        for method, values in sorted(self.log10_p.items()):
            found = np.array(values)
            counts = [int((found <= math.log10(level)).sum()) for level in LEVELS]
            yield method, len(values), counts, [limit(len(values), level) for level in LEVELS], float(found.min())

    def excess(self) -> list[str]:
        """Every level at which a method rejects more often than its limit."""
        return [
            f"{method}: {c} of {n} at {level} (limit {m})"
            for method, n, counts, limits, _ in self.rows()
            for level, c, m in zip(LEVELS, counts, limits, strict=True)
            if c > m
        ]


def micro_runs() -> dict[str, dict[str, np.ndarray]]:
    """Weights of every independent micro-run, by id."""
    zoo = ROOT / "fixtures" / "zoo"
    names = sorted(m["id"] for m in json.loads((zoo / "truth.json").read_text())["models"] if m["kind"] == "micro")
    return {name: derive.load(zoo / name) for name in names}


def without_power():
    """Documents made in here do not say what a non-finding would have missed.

    That is a simulation, a third of the time a pair of strangers takes, and no verdict and no p-value depends on it.
    """
    return patch("lineage.comparing.detectable_similarity", lambda *_: None)


@without_power()
def judged(a: Signature, b: Signature) -> dict:
    """The document of one pair, at the default options."""
    return compare_signed(a, b, CompareOptions())


def natural(runs: dict[str, dict[str, np.ndarray]]) -> Iterator[dict]:
    """Documents of all pairs of runs, labels as training left them."""
    signed = {name: signature_of(weights, name) for name, weights in runs.items()}
    for a, b in combinations(signed, 2):
        yield judged(signed[a], signed[b])


def _matrices(name: str) -> bool:
    return name.endswith(("proj.weight", "embed_tokens.weight", "lm_head.weight"))


def plain(weights, rng):
    """Nothing but the relabelling."""
    return weights


def heavy_tails(weights, rng):
    """Every value cubed in sign: a few entries decide every cosine."""
    return derive.in_float(weights, lambda k, v: np.sign(v) * np.abs(v) ** 3 * 1e3 if _matrices(k) else v)


def hubs(weights, rng):
    """One strong common direction in all rows of every matrix: every unit resembles every other."""

    def change(k, v):
        return v + 5 * v.std() * np.sin(np.arange(v.shape[1])) if _matrices(k) else v

    return derive.in_float(weights, change)


def dead_units(weights, rng):
    """30 % all-zero hidden units and residual dimensions: ties everywhere."""
    made = {k: v.copy() for k, v in weights.items()}
    width = made["model.embed_tokens.weight"].shape[1]
    dims = rng.random(width) < 0.3
    for k, values in made.items():
        if k.endswith(("gate_proj.weight", "up_proj.weight")):
            values[rng.random(values.shape[0]) < 0.3] = 0
        elif k.endswith(("embed_tokens.weight", "lm_head.weight")):
            values[:, dims] = 0
        elif values.ndim == 1:
            values[dims] = 0
    return made


def outlier_dims(weights, rng):
    """Two residual dimensions thirty times as large everywhere, at the same place in every model."""

    def change(k, v):
        scale = np.ones(v.shape[-1])
        scale[[3, 17]] = 30.0
        return v * scale if (_matrices(k) and not k.endswith("down_proj.weight")) or v.ndim == 1 else v

    return derive.in_float(weights, change)


def sorted_one(weights, rng):
    """Hidden units sorted by norm; the relabelling of the second model then undoes it there."""
    return derive.sort_hidden_by_norm(weights)


STRESSES: dict[str, Callable] = {
    "relabelled": plain,
    "heavy tails": heavy_tails,
    "hubs": hubs,
    "dead units": dead_units,
    "outlier dims": outlier_dims,
    "one sorted by norm": sorted_one,
}


def stressed(runs: dict[str, dict[str, np.ndarray]], case: str, n: int, seed: int = 0) -> Iterator[dict]:
    """n documents of one stress: pairs drawn so that every run is used equally often on each side."""
    names = list(runs)
    rng = np.random.default_rng([seed, *case.encode()])
    left = {a: signature_of(STRESSES[case](runs[a], rng), a) for a in names}
    for i in range(n):
        a, step = names[i % len(names)], 1 + int(rng.integers(len(names) - 1))
        b = names[(i + step) % len(names)]
        right = derive.relabel(STRESSES[case](runs[b], rng), rng)
        yield judged(left[a], signature_of(right, b))


def both_sorted(runs: dict[str, dict[str, np.ndarray]], n: int) -> Iterator[dict]:
    """Pairs in which both models' hidden units are sorted by norm: to be skipped, not tested."""
    signed = [signature_of(derive.sort_hidden_by_norm(w), name) for name, w in runs.items()]
    for i, (a, b) in enumerate(combinations(signed, 2)):
        if i >= n:
            return
        yield judged(a, b)


LADDER = (
    "align",
    "blocks",
    "copies",
    "evidence",
    "finding",
    "plan",
    "positions",
    "probing",
    "reading",
    "rungs",
    "signature",
    "valuereading",
    "valuetests",
)
DESCRIBES = {
    "__init__",
    "additive",
    "arborescence",
    "carriers",
    "chunks",
    "code",
    "decay",
    "distance",
    "dither",
    "forest",
    "grids",
    "layering",
    "levels",
    "masking",
    "masks",
    "matching",
    "matrixtree",
    "minsum",
    "mixing",
    "passing",
    "power",
    "pruning",
    "published",
    "quantised",
    "quartets",
    "rank",
    "rooting",
    "scaling",
    "selecting",
    "singular",
    "triplets",
}
"""Modules of `stats` no p-value of the ladder depends on."""


def code_digest(root: Path = ROOT) -> str:
    """Digest of all code a p-value depends on, words left out: a committed table with another digest is stale."""
    files = [p for p in sorted((root / "stats").rglob("*.py")) if p.stem not in DESCRIBES]
    files += [root / "lineage" / f"{name}.py" for name in LADDER]
    return hashlib.sha256("".join(_code_of(p) for p in files).encode()).hexdigest()[:16]


def _code_of(path: Path) -> str:
    """A module without docstrings, comments and layout."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    return ast.unparse(tree)


def opened(
    weights: dict[str, np.ndarray], name: str, config: dict | None = None, files: dict[str, bytes] | None = None
) -> WeightSource:
    """A model in memory, opened; with a config where the number of heads matters, and other files beside it."""
    content = {"model.safetensors": derive.to_bytes(weights), **(files or {})}
    if config is not None:
        content["config.json"] = json.dumps(config).encode()
    return open_store(Memory(name, content), ModelRef("dir", name))
