"""SHA-256 of whole weight files, read in blocks."""

import hashlib

from crawl import ByteRange, WeightSource

_BLOCK_BYTES = 1 << 22
"""Four megabytes a block: full disk speed, and no more memory than that."""


def file_digests(source: WeightSource) -> list[dict[str, str]]:
    """SHA-256 of each weight file, sorted by name: as the Hub states it, else by reading the file.

    Parameters
    ----------
    source : WeightSource
        An opened model.

    Returns
    -------
    list of {"file", "sha256"}
    """
    stated = source.content_hashes()
    return [{"file": f, "sha256": stated.get(f) or _digest(source, f)} for f in sorted(source.files)]


def _digest(source: WeightSource, file: str) -> str:
    digest = hashlib.sha256()
    size = source.file_size(file)
    room = memoryview(bytearray(min(size, _BLOCK_BYTES)))
    for start in range(0, size, _BLOCK_BYTES):
        part = room[: min(_BLOCK_BYTES, size - start)]
        source.read_into(file, ByteRange(start, start + len(part)), part)
        digest.update(part)
    return digest.hexdigest()
