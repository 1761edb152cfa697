"""Hash trees: every leaf leads to the root, nothing else does."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightmark import merkle

CONTENTS = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


def naive_root(leaves):
    """RFC 6962: split at the largest power of two below the size."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


@given(CONTENTS, st.data())
def test_every_leaf_leads_to_the_root(contents, data):
    leaves = [merkle.leaf(c) for c in contents]
    root = merkle.root(leaves)
    assert root == naive_root(leaves)
    at = data.draw(st.integers(0, len(leaves) - 1))
    steps = merkle.path(leaves, at)
    assert merkle.climbed(leaves[at], steps) == root
    if steps:
        side, digest = steps[0]
        wrong = ((side, bytes([digest[0] ^ 1]) + digest[1:]), *steps[1:])
        assert merkle.climbed(leaves[at], wrong) != root
    assert merkle.climbed(merkle.leaf(contents[at] + b"!"), steps) != root


def test_published_vector():
    """The three-leaf tree of RFC 6962 by hand."""
    a, b, c = (merkle.leaf(x) for x in (b"a", b"b", b"c"))
    ab = hashlib.sha256(b"\x01" + a + b).digest()
    assert a == hashlib.sha256(b"\x00a").digest()
    assert merkle.root([a, b, c]) == hashlib.sha256(b"\x01" + ab + c).digest()
    assert merkle.path([a, b, c], 2) == (("left", ab),)


def test_refusals():
    with pytest.raises(ValueError, match="at least one"):
        merkle.root([])
    with pytest.raises(ValueError, match="left or right"):
        merkle.climbed(b"", (("up", b""),))
    with pytest.raises(ValueError, match="steps"):
        merkle.climbed(b"", (("left", b""),) * 65)
    with pytest.raises(ValueError, match="leaf 3 of 2"):
        merkle.path([b"", b""], 3)
