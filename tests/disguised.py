"""Rewrites of every fixture family, and the document of two models in memory, the closer look included."""

import json
from functools import cache

import numpy as np

import derive
from lineage.budget import LIMITS
from lineage.comparing import CompareOptions, compare_signed, look_closely
from lineage.plan import PUBLIC_KEY
from lineage.reading import sign
from lineage.stepping import answered
from nulls import ROOT, opened, without_power

ZOO = ROOT / "fixtures" / "zoo"
HEADS = {"n_heads": 4, "n_kv": 2}
_NAMES = {
    "permuted": {"hidden-permutation", "head-permutation"},
    "turned": {"residual-rotation", "gain-folding"},
    "rescaled": {"rescale", "sign"},
    "all": {"hidden-permutation", "head-permutation", "residual-rotation", "gain-folding", "rescale", "sign"},
}


def names_of(family, rewrite):
    """What a closer look should call a rewrite: only a norm without a mean can be rotated, only one before the sum folded."""
    found = _NAMES[rewrite.partition(" ")[0]]
    if family != "llama":
        found = {"residual-permutation" if n == "residual-rotation" else n for n in found}
    return found - ({"gain-folding"} if family == "bert" else set())


def permuted(w, rng):
    heads = HEADS if derive.architecture(w) == "llama" else {"n_heads": 4}
    return derive.permute_heads(derive.permute_hidden(w, rng), rng, **heads)


def turned(w, rng):
    """The residual stream in another basis: rotated where the norm allows it, else permuted."""
    if derive.architecture(w) == "llama":
        return derive.rotate_residual(w, rng)
    return derive.permute_residual(derive.fold_gains(w) if derive.architecture(w) == "gpt2" else w, rng)


def rescaled(w, rng):
    if derive.architecture(w) == "llama":
        return derive.rescale_vo(derive.rescale_mlp(w, rng), rng, **HEADS)
    return derive.rescale_vo(w, rng)


def everything(w, rng):
    return turned(rescaled(permuted(w, rng), rng), rng)


def noisy(w, rng):
    return derive.add_noise(everything(w, rng), 0.02, rng)


REWRITES = {"permuted": permuted, "turned": turned, "rescaled": rescaled, "all": everything, "all and noise": noisy}
# Fine-tunes and a long continued pre-training stand for what a thief does after, or before, rewriting.
FAMILIES = {
    "llama": (
        [("llama-a", n) for n in ("llama-a", "llama-a-ft1", "llama-a-ft1-ft", "llama-a-cpt", "llama-a-lora")],
        [("llama-a", "llama-b"), ("llama-a", "llama-c"), ("llama-b", "llama-c"), ("llama-a", "llama-a-student")],
    ),
    "gpt2": (
        [("gpt2-a", n) for n in ("gpt2-a", "gpt2-a-ft", "gpt2-a-ft-ft", "gpt2-a-cpt")],
        [("gpt2-a", "gpt2-b"), ("gpt2-a-ft", "gpt2-b"), ("gpt2-a-cpt", "gpt2-b")],
    ),
    "bert": (
        [("bert-a", n) for n in ("bert-a", "bert-a-ft")],
        [("bert-a", "bert-b"), ("bert-a-ft", "bert-b")],
    ),
}


_LOADED = {}


def weights(name):
    if name not in _LOADED:
        _LOADED[name] = derive.load(ZOO / name)
    return _LOADED[name]


@cache
def config(name):
    return json.loads((ZOO / name / "config.json").read_text())


def compared(first, second, config_a, config_b, limits=LIMITS, files=(None, None)):
    """The document of two models in memory, the closer look included; a model of the zoo is signed once as the first.

    `files` stand beside the weights of each.
    """
    name = next((n for n, w in _LOADED.items() if w is first and config_a == config(n)), None)
    if name is not None and files[0] is None:
        return _compared(*_known(name), second, config_b, limits, files[1])
    with opened(first, "a", config_a, files[0]) as left:
        return _compared(left, sign(left), second, config_b, limits, files[1])


def _compared(left, a, second, config_b, limits=LIMITS, beside=None):
    options = CompareOptions(limits=limits)
    with opened(second, "b", config_b, beside) as right:
        b = sign(right)
        closer = lambda found: look_closely(left, right, a, b, options, found)  # noqa: E731
        return compare_signed(a, b, options, closer=closer, steps=answered((left, a), (right, b), PUBLIC_KEY))


@cache
def _known(name):
    source = opened(weights(name), "a", config(name))
    return source, sign(source)


@cache
@without_power()
def answer(a, b, rewrite):
    """The document of a pair whose second model was rewritten."""
    rng = np.random.default_rng([*a.encode(), *b.encode(), *rewrite.encode()])
    return _compared(*_known(a), REWRITES[rewrite](weights(b), rng), config(b))


def table() -> str:
    """Markdown: verdicts below every rewrite, and the gap in agreement between kin and strangers, family by family."""
    lines = [
        "\n## Rewrites that keep the function\n",
        "The second model of each pair is rewritten; kin are the base itself and its descendants, strangers differ in seed,",
        "data, or were distilled. `agreement` is the share of hidden units whose two views name one partner once the rewrite is",
        "undone, where a closer look was made.\n",
        "| family | rewrite | kin: related, resembles, missed | weakest log10 p, agreement | strangers: accused | strongest log10 p, agreement |",
        "|---|---|---|---|---|---|",
    ]
    for family, (kin, strangers) in FAMILIES.items():
        for rewrite in REWRITES:
            one, two = ([answer(a, b, rewrite) for a, b in pairs] for pairs in (kin, strangers))
            verdicts = [d["verdict"] for d in one]
            counted = ", ".join(str(verdicts.count(v)) for v in ("related", "resembles", "no-evidence"))
            accused = sum(d["verdict"] != "no-evidence" for d in two)
            weakest, strongest = _edge(one, max, min), _edge(two, min, max)
            lines.append(
                f"| {family} | {rewrite} | {counted} of {len(one)} | {weakest} | {accused} of {len(two)} | {strongest} |"
            )
    return "\n".join(lines) + "\n"


def _edge(documents, of_p, of_agreement):
    seen = [t["statistic"] for d in documents for t in d["tests"] if t["method"] == "unit-agreement"]
    told = f"{of_agreement(seen):.3f}" if seen else "not looked at"
    return f"{of_p(d['log10_p'] for d in documents):.1f}, {told}"


if __name__ == "__main__":
    import sys

    sys.stdout.write(table())
