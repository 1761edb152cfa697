"""Reshaped models of every kind: how to make them, the layer map that is true of them, and the name of the kind."""

import numpy as np

import derive
from disguised import everything, weights

LLAMA = "llama-a"


def _tuned(w, seed=0):
    """What a brief fine-tune leaves: a change of a tenth."""
    return derive.add_noise(w, 0.1, np.random.default_rng(seed))


def _relearned(w):
    """A reshaped model on which training went on."""
    return _tuned(w, 3)


CASES = {
    "dropped": (lambda w: derive.drop_layers(w, [1]), [0, 2, 3], "depth-prune"),
    "dropped at both ends": (lambda w: derive.drop_layers(w, [0, 3]), [1, 2], "depth-prune"),
    "dropped and tuned": (lambda w: _tuned(derive.drop_layers(w, [2])), [0, 1, 3], "depth-prune"),
    "repeated": (lambda w: derive.repeat_layers(w, [0, 1, 2, 1, 2, 3]), [0, 1, 2, 1, 2, 3], "depth-upscale"),
    "repeated and tuned": (
        lambda w: _tuned(derive.repeat_layers(w, [0, 1, 2, 3, 1, 2, 3])),
        [0, 1, 2, 3, 1, 2, 3],
        "depth-upscale",
    ),
    "reordered": (lambda w: derive.repeat_layers(w, [0, 2, 1, 3]), [0, 2, 1, 3], "related"),
    "reordered and tuned": (lambda w: _tuned(derive.repeat_layers(w, [3, 0, 1, 2])), [3, 0, 1, 2], "related"),
    "one layer twice": (lambda w: derive.repeat_layers(w, [0, 1, 1, 3]), [0, 1, 1, 3], "frankenmerge"),
    "two sources": (
        lambda w: derive.stack(w, weights("llama-b"), [(0, 0), (0, 1), (1, 2), (1, 3)]),
        [0, 1, None, None],
        "partial-copy",
    ),
    "two sources, in turns, tuned": (
        lambda w: _tuned(derive.stack(w, weights("llama-c"), [(1, 0), (0, 1), (1, 2), (0, 3)])),
        [None, 1, None, 3],
        "partial-copy",
    ),
    "width pruned": (lambda w: derive.prune_width(w, 100), [0, 1, 2, 3], "width-prune"),
    "width pruned and tuned": (lambda w: _tuned(derive.prune_width(w, 80)), [0, 1, 2, 3], "width-prune"),
    "vocabulary grown": (
        lambda w: derive.extend_vocab(w, 16, np.random.default_rng(0)),
        [0, 1, 2, 3],
        "vocab-change",
    ),
    "foreign embedding": (lambda w: derive.swap_embedding(w, weights("llama-b")), [0, 1, 2, 3], "embedding-swap"),
    "embedding alone": (lambda w: derive.swap_embedding(weights("llama-b"), w), [None] * 4, "partial-copy"),
    "dropped and rewritten": (
        lambda w: everything(derive.drop_layers(w, [1]), np.random.default_rng(5)),
        [0, 2, 3],
        "depth-prune",
    ),
    "width pruned and permuted": (
        lambda w: derive.permute_hidden(derive.prune_width(w, 100), np.random.default_rng(6)),
        [0, 1, 2, 3],
        "width-prune",
    ),
}
