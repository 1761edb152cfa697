"""A hash tree over the keys of single tensors: one root commits to all, a path shows one without the others.

Leaves and nodes are hashed under different first bytes, so that no node can be passed off as a leaf; a lone node moves
up unchanged (RFC 6962, section 2.1).
"""

import hashlib
from collections.abc import Sequence

Path = tuple[tuple[str, bytes], ...]
"""From the leaf up: on which side the other half stands (`left` or `right`), and its digest."""

_LONGEST = 64
"""No tree of more than 2^64 leaves exists: a longer path is refused unread."""


def leaf(content: bytes) -> bytes:
    """Digest of one leaf."""
    return hashlib.sha256(b"\x00" + content).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _above(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + list(level[-1:]) if len(level) % 2 else pairs


def root(leaves: Sequence[bytes]) -> bytes:
    """Digest over leaf digests in their order.

    Raises
    ------
    ValueError
        There are none.
    """
    if not leaves:
        raise ValueError("a hash tree needs at least one leaf")
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> Path:
    """What leads from one leaf to the root.

    Parameters
    ----------
    leaves : sequence of bytes
        Leaf digests.
    index : int
        Which leaf.

    Returns
    -------
    tuple of (side, digest)
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"leaf {index} of {len(leaves)}")
    steps: list[tuple[str, bytes]] = []
    level, at = list(leaves), index
    while len(level) > 1:
        other = at ^ 1
        if other < len(level):
            steps.append(("right" if other > at else "left", level[other]))
        level, at = _above(level), at // 2
    return tuple(steps)


def climbed(start: bytes, steps: Path) -> bytes:
    """The root that a leaf and its path lead to.

    Raises
    ------
    ValueError
        A side is neither left nor right, or the path is longer than any tree.
    """
    if len(steps) > _LONGEST:
        raise ValueError(f"a path of {len(steps)} steps")
    at = start
    for side, digest in steps:
        if side not in {"left", "right"}:
            raise ValueError(f"a side is left or right, not {side!r}")
        at = _node(digest, at) if side == "left" else _node(at, digest)
    return at
