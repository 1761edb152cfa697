"""What bytes mean: the `Format` protocol, the table of formats, and recognition by content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawl.errors import MalformedHeaderError, UnsupportedFormatError
from crawl.formats.safetensors import SafetensorsFormat
from crawl.refs import ByteRange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawl.formats.table import Format
    from crawl.stores import ByteStore


FORMATS: Mapping[str, Format] = {
    "safetensors": SafetensorsFormat(),
}

# Containers that are recognised and refused by name: (offset, first bytes, name).
_NOT_READ = (
    (0, b"GGUF", "GGUF"),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch checkpoint or NumPy archive)"),
    (0, b"\x80\x02", "a Python pickle (an old PyTorch checkpoint)"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 (Keras)"),
    (0, b"\x93NUMPY", "a NumPy array file"),
    (4, b"TFL3", "TensorFlow Lite"),
    (0, b"ustar", "a tar archive"),
    (0, b"ggml", "GGML"),
    (0, b"lmgg", "GGML"),
    (0, b"tjgg", "GGML"),
)
_LFS_POINTER = b"version https://git-lfs"
_HEAD = 64


def sniff(store: ByteStore, file: str) -> Format:
    """Find the format of a file from its first bytes, never from its name.

    Raises
    ------
    MalformedHeaderError
        The file is empty, or too short for any header.
    UnsupportedFormatError
        It is a known format that is not read, a Git LFS pointer, or nothing known.
    """
    where = f"{store.name}: {file}"
    size = store.files().get(file, 0)
    head = store.read(file, ByteRange(0, min(size, _HEAD)))
    for candidate in FORMATS.values():
        # first: a header of 640 bytes begins with the two bytes of a pickle
        if candidate.is_like(head, size):
            return candidate
    for offset, magic, name in _NOT_READ:
        if head[offset : offset + len(magic)] == magic:
            raise UnsupportedFormatError(
                f"{name}: this format is not read yet", where=where, hint="convert it to safetensors"
            )
    if head.startswith(_LFS_POINTER):
        raise UnsupportedFormatError(
            "a Git LFS pointer, not the weights", where=where, hint="fetch the weights with git lfs pull"
        )
    for candidate in FORMATS.values():
        if file.endswith(f".{candidate.name}"):
            return candidate
    if size < 8:
        raise MalformedHeaderError(f"{size} bytes are too few for a weight file", where=where)
    raise UnsupportedFormatError("not a weight file format that is known", where=where, hint="give a safetensors file")
