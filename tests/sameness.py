"""What the tests of the rewrites hold against each other: bits of two models, and their logits on one line of text."""

import numpy as np

import forward
from layout import architecture

TOKENS = np.frombuffer(b"class Reader:\n    def read(self, size=-1):\n", np.uint8).astype(np.int64)
HEADS = {"llama": {"n_heads": 4, "n_kv": 2}, "gpt2": {"n_heads": 4}, "bert": {"n_heads": 4}}
EPS = {"llama": 1e-5, "gpt2": 1e-5, "bert": 1e-12}


def logits(w):
    shape = architecture(w)
    return forward.logits(w, TOKENS, eps=EPS[shape], **HEADS[shape])


def rng():
    return np.random.default_rng(7)


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def equal(a, b):
    return a.keys() == b.keys() and all(same_bits(a[k], b[k]) for k in a)
