"""Rewrites of every fixture family, and the document of two models in memory, the closer look included."""

import json
from functools import cache

import derive
from lineage.comparing import CompareOptions, compare_signed, look_closely
from lineage.reading import sign
from nulls import ROOT, opened

ZOO = ROOT / "fixtures" / "zoo"
HEADS = {"n_heads": 4, "n_kv": 2}
NAMES = {
    "permuted": {"hidden-permutation", "head-permutation"},
    "turned": {"residual-rotation", "gain-folding"},
    "rescaled": {"rescale", "sign"},
    "all": {"hidden-permutation", "head-permutation", "residual-rotation", "gain-folding", "rescale", "sign"},
}


def permuted(w, rng):
    heads = HEADS if derive.architecture(w) == "llama" else {"n_heads": 4}
    return derive.permute_heads(derive.permute_hidden(w, rng), rng, **heads)


def turned(w, rng):
    """The residual stream in another basis: rotated where the norm allows it, else permuted."""
    if derive.architecture(w) == "llama":
        return derive.rotate_residual(w, rng)
    return derive.permute_residual(derive.fold_gains(w), rng)


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
}


@cache
def weights(name):
    return derive.load(ZOO / name)


@cache
def config(name):
    return json.loads((ZOO / name / "config.json").read_text())


def compared(first, second, config_a, config_b):
    """The document of two models in memory, the closer look included."""
    options = CompareOptions()
    with opened(first, "a", config_a) as left, opened(second, "b", config_b) as right:
        a, b = sign(left), sign(right)
        return compare_signed(a, b, options, closer=lambda found: look_closely(left, right, a, b, options, found))
