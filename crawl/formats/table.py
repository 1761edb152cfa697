"""What every format gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawl.refs import TensorRef
    from crawl.stores import ByteStore


@dataclass(frozen=True, slots=True)
class FileTable:
    """What a weight file says about itself: its tensors in file order, and free text."""

    tensors: tuple[TensorRef, ...]
    metadata: Mapping[str, str]


class Format(Protocol):
    """How one container is read."""

    name: str

    def is_like(self, head: bytes, size: int) -> bool:
        """Say from the first bytes whether the file is of this format."""

    def table(self, store: ByteStore, file: str) -> FileTable:
        """Read and check the header of a file."""
