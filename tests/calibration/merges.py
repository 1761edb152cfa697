"""Densities and weights of merges with dropped entries, as they are told; rewrites docs/methods/dropped-measured.md.

Usage: python tests/calibration/merges.py
"""

import hashlib
import sys
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import derive  # noqa: E402 - the path is set above
import nulls  # noqa: E402
from lineage.merging import find_merge  # noqa: E402
from slices import slices  # noqa: E402
from weightmark.attacks import merges  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "dropped-measured.md"
CODE = ("lineage/dropcases.py", "lineage/dropping.py", "stats/masking.py", "tests/calibration/merges.py")
PARENTS = ("llama-a-ft1", "llama-a-cpt")
OTHERS = ("llama-a", "llama-a-ft1-ft", "llama-a-lora", "llama-b")
WEIGHTS = (0.83, 0.47)
DENSITIES = (
    (0.1, 0.1),
    (0.1, 0.9),
    (0.2, 0.8),
    (0.3, 0.3),
    (0.37, 0.63),
    (0.5, 0.5),
    (0.7, 0.7),
    (0.9, 0.9),
    (0.9, 0.3),
)
WAYS = {"dare": {}, "dare-ties": {"signs": True}, "dare, by norm": {"by_norm": True}}


def digest():
    """Digest of the code behind the page, words left out."""
    return hashlib.sha256("".join(nulls._code_of(ROOT / path) for path in CODE).encode()).hexdigest()[:16]


@cache
def model(name, dtype):
    """Two layers of a model of the zoo in a number format."""
    return derive.cast(derive.drop_layers(derive.load(ROOT / "fixtures" / "zoo" / name), [1, 2]), dtype)


def told(dtype, densities, how):
    """(method, largest error of a density, largest error of a weight) of one merge; None for what was not found."""
    base, *parents = (model(n, dtype) for n in ("llama-a", *PARENTS))
    settings = list(zip(densities, WEIGHTS, strict=True))
    made, stored = slices(merges.merge_dare(base, parents, settings, np.random.default_rng(0), **how))
    found = find_merge(made, {n: slices(model(n, dtype))[0] for n in (*PARENTS, *OTHERS)}, stored)
    if found is None or found.method is None or {p.id for p in found.parents} != set(PARENTS):
        return None if found is None else found.method, None, None
    weights = {p.id: p.coefficient for p in found.parents}
    kept = found.parameters["densities"]
    off = [(abs(kept[p] - d), abs(weights[p] - w)) for p, (d, w) in zip(PARENTS, settings, strict=True)]
    return found.method, max(d for d, _ in off), max(w for _, w in off)


def page(found):
    """The page in words, from (method, error of densities, error of weights) by way, format and densities."""
    lines = []
    for (way, dtype, densities), (method, *errors) in found.items():
        cells = ["not found" if e is None else f"{e:.4f}" for e in errors]
        lines.append(f"| {way} | {dtype} | {densities[0]}, {densities[1]} | {method or '-'} | {' | '.join(cells)} |")
    seen = [errors for _, *errors in found.values() if None not in errors]
    worst = [max(e) for e in zip(*seen, strict=True)]
    counts = {"cases": len(found), "seen": len(seen), "digest": digest()}
    return HEADER.format(**counts, density=worst[0], weight=worst[1]) + "\n".join(lines) + "\n"


def main():
    """Measure every case and write the page."""
    found = {}
    for way, how in WAYS.items():
        for dtype in ("bfloat16", "float16"):
            for densities in DENSITIES:
                found[way, dtype, densities] = told(dtype, densities, how)
                sys.stderr.write(f"{way} {dtype} {densities}: {found[way, dtype, densities]}\n")
    PAGE.write_text(page(found))


HEADER = """# Dropped entries, measured

Made by `python tests/calibration/merges.py`; a test fails when the digest below no longer matches the code. How: [merges](merges.md).

- digest of the code: `{digest}`
- {cases} merges of a fine-tune and a continued pre-training of one base (two layers, 119,104 values), with weights 0.83 and 0.47; other
  relatives and a stranger among the candidates. Entries dropped at random and scaled by the density (*dare*), signs elected
  (*dare-ties*), or every tensor scaled to keep its sum of sizes (*by norm*).
- {seen} of {cases} found, with both sources; of these the largest error of a density **{density:.4f}** (asked 0.03), of a weight
  **{weight:.4f}** (asked 0.02). What is not found is stated as a share without a method.

| merge | format | densities | told | error of density | error of weight |
|---|---|---|---|---|---|
"""


if __name__ == "__main__":
    main()
