"""Keys that marked nothing, on matrices that behave well or badly: what `dss` reads of them."""

import hashlib

import numpy as np

import marked
from weightmark.keys import Key
from weightmark.payload import codeword
from weightmark.schemes import SCHEMES, dss

ROLE = "L0000.mlp.up"
CASES = ("unmarked", "marked", "outliers", "constant rows", "a third of zeros")
WORDS = {
    "unmarked": "heavy-tailed rows of differing size, low rank added",
    "marked": "the same under the mark of another key, relative size 0.05",
    "outliers": "every 64th column a hundred times as large",
    "constant rows": "every third row one value throughout",
    "a third of zeros": "three weights of ten exactly 0",
}


def key(number):
    """Key of this number."""
    master = hashlib.sha256(f"wrong key {number}".encode()).digest()
    params = dict(SCHEMES["dss"].params("default")) | {"eps": 0.05}
    return Key(scheme="dss", scheme_version=1, channel="0", master=master, params=params, payload=b"owner")


def matrix(what, rows=32, columns=256):
    """One matrix of a case, float32."""
    rng = np.random.default_rng(21)
    w = marked.planted(rng, rows=max(64, rows), columns=columns, layers=1)[ROLE]
    if what == "marked":
        w = SCHEMES["dss"].embed({ROLE: w}, key(-1))[ROLE]
    w = w[:rows].copy()
    if what == "outliers":
        w[:, ::64] *= 100.0
    if what == "constant rows":
        w[::3] = 0.01
    if what == "a third of zeros":
        w[rng.random(w.shape) < 0.3] = 0.0
    return w


def read(w, n, start=0):
    """(statistics, natural logs of p) under keys number start .. start + n - 1."""
    code = codeword(b"owner")
    t, p = np.empty(n), np.empty(n)
    for i in range(n):
        k = key(start + i)
        sums = dss.scanned(w, 0, ROLE, k)
        t[i] = sums.statistic(code)
        p[i] = dss.log_sign_tail(t[i])
    return t, p
