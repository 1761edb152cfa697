"""Whether two models hold the same values, in any container: every byte compared, never a sample."""

import numpy as np

from crawl import TensorRef, WeightSource

_LOCAL_LIMIT = 8 << 30
_REMOTE_LIMIT = 64 << 20
"""Largest model that is read whole by default: eight gigabytes from a disk, 64 megabytes over the network."""

_BLOCK_BYTES = 1 << 22
"""Four megabytes a block: large enough for full disk speed, small enough for any machine."""


def same_values(a: WeightSource, b: WeightSource, *, max_bytes: int | None = None) -> bool | None:
    """Compare two models tensor by tensor.

    Parameters
    ----------
    a, b : WeightSource
        Opened models.
    max_bytes : int, optional
        Most bytes read of one model, those it has read already included; by default eight gigabytes of a local
        model and 64 megabytes of a remote one.

    Returns
    -------
    bool or None
        True: equal stored bits in every tensor, in one dtype and shape, whatever the shards, their order, and a prefix
        of the names. None: too large to read within `max_bytes`, so not known.

    Notes
    -----
    Content hashes of the Hub settle it without a byte where both sides list the same set. Reads in blocks.
    """
    names = _partners(a, b)
    if names is None:
        return False
    hashes = a.content_hashes(), b.content_hashes()
    if all(hashes) and sorted(hashes[0].values()) == sorted(hashes[1].values()):
        return True
    if not all(_affords(s, max_bytes) for s in (a, b)):
        return None
    return all(_same_tensor(a, a.tensors[left], b, b.tensors[right]) for left, right in sorted(names.items()))


def _partners(a: WeightSource, b: WeightSource) -> dict[str, str] | None:
    """Tensor of b for each tensor of a: of the same name, else of the same roles; None when some has no like."""
    if a.header_digest() == b.header_digest():
        return {name: name for name in a.tensors}
    mine, theirs = _by_roles(a), _by_roles(b)
    if mine is None or theirs is None or mine.keys() != theirs.keys():
        return None
    pairs = {mine[roles]: theirs[roles] for roles in mine}
    like = all(
        (a.tensors[x].dtype, a.tensors[x].shape) == (b.tensors[y].dtype, b.tensors[y].shape) for x, y in pairs.items()
    )
    return pairs if like else None


def _by_roles(source: WeightSource) -> dict[str, str] | None:
    """Tensor by the roles it holds; None when a tensor other than a buffer has no role."""
    if any("buffer" not in reason for reason in source.unmapped.values()):
        return None
    roles: dict[str, list[str]] = {}
    for role, view in source.views.items():
        roles.setdefault(view.tensor.name, []).append(str(role))
    return {" ".join(sorted(held)): name for name, held in roles.items()}


def _affords(source: WeightSource, max_bytes: int | None) -> bool:
    if max_bytes is not None:
        return source.bytes_read + _size(source) <= max_bytes
    return _size(source) <= (_REMOTE_LIMIT if source.ref.scheme == "hub" else _LOCAL_LIMIT)


def _size(source: WeightSource) -> int:
    return sum(len(t.span) for t in source.tensors.values())


def _same_tensor(a: WeightSource, left: TensorRef, b: WeightSource, right: TensorRef) -> bool:
    if len(left.span) <= _BLOCK_BYTES or not left.shape:
        return bool(np.array_equal(a.read_raw(left), b.read_raw(right)))
    rows = max(1, _BLOCK_BYTES * left.shape[0] // len(left.span))
    return all(
        np.array_equal(_stored_rows(a, left, start, rows), _stored_rows(b, right, start, rows))
        for start in range(0, left.shape[0], rows)
    )


def _stored_rows(
    source: WeightSource, tensor: TensorRef, start: int, rows: int
) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    stop = min(start + rows, tensor.shape[0])
    return np.asarray(source.rows(tensor, np.arange(start, stop), stored=True))
