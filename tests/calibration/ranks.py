"""How often a full fine-tune is taken for a merged adapter, and which ranks are seen; rewrites docs/methods/ranks-measured.md.

Usage: python tests/calibration/ranks.py [--each N]
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from unittest.mock import patch

import ml_dtypes
import numpy as np
from scipy.special import betaincinv

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import derive  # noqa: E402 - the path is set above
import nulls  # noqa: E402
from lineage import updates  # noqa: E402
from lineage.study import Study  # noqa: E402
from stats.rank import delta_rank, singular_values  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "ranks-measured.md"
CODE = ("stats/rank.py", "stats/kernels/singular.py", "lineage/updates.py", "tests/calibration/ranks.py")
FORMATS = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
BITS = {"BF16": 8, "F16": 11, "F32": 24}
SHAPES = {"attn.q": (64, 64), "attn.v": (32, 64), "attn.o": (64, 64), "mlp.up": (96, 64), "mlp.down": (64, 96)}
LAYERS = 1
SIZES = (1e-4, 1e-1)
"""Relative Frobenius size of an update, log-uniform."""


def digest():
    """Digest of the code behind the page, words left out."""
    return hashlib.sha256("".join(nulls._code_of(ROOT / path) for path in CODE).encode()).hexdigest()[:16]


@cache
def profiles():
    """Singular values of what full training changed in matrices of the zoo and the nursery, largest first, largest 1."""
    found = []
    for folder, pairs in _trained().items():
        for parent, child in pairs:
            before, after = (derive.load(folder / i) for i in (parent, child))
            found += [_profile(after[k], before[k]) for k in before if _is_matrix(k) and (after[k] != before[k]).any()]
    return found


def _trained():
    zoo, nursery = ROOT / "fixtures" / "zoo", ROOT / "fixtures" / "nursery"
    models = json.loads((nursery / "truth.json").read_text())["models"]
    dense = [(m["parents"][0], m["id"]) for m in models if m["kind"] in ("fine-tune", "continued-pretraining")]
    return {zoo: [("llama-a", "llama-a-ft1"), ("llama-a", "llama-a-cpt"), ("gpt2-a", "gpt2-a-ft")], nursery: dense}


def _is_matrix(name):
    return any(part in name for part in ("_proj", "c_attn", "c_fc", "c_proj")) and name.endswith("weight")


def _profile(after, before):
    values = singular_values(after.astype(np.float64) - before.astype(np.float64))
    return values / values[0]


def white(rng, shape):
    """Every value by itself."""
    return rng.normal(size=shape)


def heavy(rng, shape):
    """Every value by itself, a few of them large."""
    return rng.standard_t(3, size=shape)


def rows(rng, shape):
    """Rows and columns of sizes of their own."""
    return rng.normal(size=shape) * rng.lognormal(0, 0.7, (shape[0], 1)) * rng.lognormal(0, 0.7, (1, shape[1]))


def slow(rng, shape):
    """Singular values that fall as k^-0.4."""
    return _with(rng, shape, np.arange(1, min(shape) + 1) ** -0.4)


def fast(rng, shape):
    """Singular values that fall as k^-0.8."""
    return _with(rng, shape, np.arange(1, min(shape) + 1) ** -0.8)


def trained(rng, shape):
    """Singular values as training left them in a matrix of the fixtures, stretched to the shape, in directions of their own."""
    profile = profiles()[int(rng.integers(len(profiles())))]
    places = np.linspace(0, profile.size - 1, min(shape))
    return _with(rng, shape, np.interp(places, np.arange(profile.size), profile))


def rounding(_rng, shape):
    """Nothing: the values go through another format on the way."""
    return np.zeros(shape)


SPECTRA = (white, heavy, rows, slow, fast, trained, rounding)


def _with(rng, shape, values):
    k = min(shape)
    left, right = (np.linalg.qr(rng.normal(size=(n, k)))[0] for n in shape)
    return (left * values) @ right.T


def update(rng, spectrum, dtype):
    """(parent, child): nothing but matrices was trained, the case a merged adapter resembles most."""
    size = float(np.exp(rng.uniform(*np.log(SIZES))))
    before, after = {}, {}
    for layer in range(LAYERS):
        for kind, shape in SHAPES.items():
            start = _stored(rng.normal(size=shape) * rng.lognormal(0, 0.3, (shape[0], 1)) * 0.05, dtype)
            step = spectrum(rng, shape)
            norm = np.linalg.norm(step)
            moved = start + step * (size * np.linalg.norm(start) / norm) if norm > 0 else _through(rng, start)
            before[f"{layer}.{kind}"], after[f"{layer}.{kind}"] = start, _stored(moved, dtype)
    return _study("parent", before, dtype), _study("child", after, dtype)


def _through(rng, values):
    """Values through a narrower format, or after a change of one rounding."""
    if rng.random() < 0.5:
        return values.astype(ml_dtypes.float8_e4m3fn).astype(np.float64)
    return values * (1 + rng.uniform(-1, 1, values.shape) * 2.0**-9)


def _stored(values, dtype):
    return values.astype(FORMATS[dtype]).astype(np.float64)


def _study(name, matrices, dtype):
    gains = {f"{i}.norm.attn_in": np.ones(64) for i in range(LAYERS)}
    return Study(name, dtype, dict.fromkeys([*matrices, *gains], dtype), matrices, {}, gains, LAYERS, 0, 0)


def counted(each):
    """By spectrum and format: models, those taken for a merged adapter with the rule and without its gap, and matrices."""
    found = {}
    for number, spectrum in enumerate(SPECTRA):
        for dtype in FORMATS:
            rng, tally = np.random.default_rng([number, *dtype.encode()]), Counter()
            for _ in range(each):
                parent, child = update(rng, spectrum, dtype)
                seen = {k: updates._rank(k, parent, child) for k in parent.matrices}
                with patch.object(updates, "_rank", lambda k, *_, seen=seen: seen[k]):  # not the same twice
                    tally["taken"] += updates.low_rank_update(parent, child) is not None
                tally["models"] += 1
                tally["matrices"] += len(seen)
                tally["low"] += sum(map(updates.is_low, seen.values()))
                tally["few"] += sum(0 < r.rank <= 0.4 * min(r.shape) for r in seen.values())
            found[spectrum.__name__, dtype] = tally
            sys.stderr.write(f"{spectrum.__name__} {dtype}: {dict(tally)}\n")
    return found


def upper_limit(k, n):
    """Exact upper limit of a rate at 95 %, one-sided (Clopper and Pearson)."""
    return float(betaincinv(k + 1, n - k, 0.95))


def seen_ranks(seed=0):
    """Rank of one update of a 384 x 768 matrix by format, true rank and size, in the slice that is read and in the whole."""
    table = {}
    for dtype in FORMATS:
        for rank in (1, 8, 64):
            for size in (0.001, 0.003, 0.01, 0.03):
                rng = np.random.default_rng([seed, rank, *dtype.encode()])
                start = _stored(rng.normal(size=(384, 768)) * 0.02, dtype)
                step = rng.normal(size=(384, rank)) @ rng.normal(size=(rank, 768))
                child = _stored(start + step * (size * np.linalg.norm(start) / np.linalg.norm(step)), dtype)
                bits = {"bits_a": BITS[dtype], "bits_b": BITS[dtype]}
                part, whole = delta_rank(start[:192, :256], child[:192, :256], **bits), delta_rank(start, child, **bits)
                table[dtype, rank, size] = (part, whole)
    return table


def page(found, table, each):
    """The page in words."""
    total = sum(found.values(), Counter())
    lines = [HEADER.format(digest=digest(), each=each, models=total["models"], low=SIZES[0], high=SIZES[1])]
    lines += [f"- *{s.__name__}*: {s.__doc__.strip().rstrip('.')}" for s in SPECTRA]
    lines += ["", "| update | format | models | taken | matrices | low rank | low rank but for the gap |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for (name, dtype), t in found.items():
        lines.append(f"| {name} | {dtype} | {t['models']} | {t['taken']} | {t['matrices']} | {t['low']} | {t['few']} |")
    limits = [upper_limit(total[k], total[n]) for k, n in (("taken", "models"), ("low", "matrices"))]
    lines.append(
        f"\n**{total['taken']} of {total['models']:,} models taken for a merged adapter: a rate below {limits[0]:.1e} at 95 %"
        f" (exact, one-sided).** Of matrices {total['low']:,} of {total['matrices']:,}: below {limits[1]:.1e}; without the gap"
        f" {total['few']:,}.\n"
    )
    lines.append(RANKS)
    for (dtype, rank, size), (part, whole) in table.items():
        cell = [f"{x.low} ({min(x.gap, 9999):.1f}{', low' if updates.is_low(x) else ''})" for x in (part, whole)]
        lines.append(f"| {dtype} | {rank} | {size} | {cell[0]} | {cell[1]} |")
    return "\n".join(lines)


HEADER = """# Ranks of updates, measured

Made by `python tests/calibration/ranks.py --each {each}`; a test fails when the digest below no longer matches the code. The
rule: [steps](steps.md), `lineage/updates.py`; the singular values: `stats/rank.py`.

- digest of the code: `{digest}`
- {models:,} models of one layer of five matrices. Every matrix was changed, everything else is bit-identical: a full
  fine-tune with frozen tables and gains, which a merged adapter resembles most.
- relative size of the change log-uniform between {low:g} and {high:g}, one for all matrices of a model; parent and child
  rounded to the format.
"""
RANKS = """## Ranks seen

One update of a 384 x 768 matrix of normal values of standard deviation 0.02, by its relative size: singular values before
the widest gap at the noise, in brackets that gap, and `low` where that makes a low rank. *As read*: 192 rows, 256 columns.

| format | true rank | size | as read | whole matrix |
|---|---|---|---|---|"""


def main():
    """Count, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=150, help="models of each spectrum and format")
    args = parser.parse_args()
    PAGE.write_text(page(counted(args.each), seen_ranks(), args.each) + "\n")


if __name__ == "__main__":
    main()
