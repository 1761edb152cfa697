"""Where bytes come from: the `ByteStore` protocol, its counting wrapper, and the table of stores."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from crawl.errors import ModelNotFoundError, TruncatedError
from crawl.refs import ByteRange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawl.options import OpenOptions
    from crawl.refs import ModelRef


class ByteStore(Protocol):
    """A place that holds files and gives exact ranges of them.

    A store may also have these, and is asked for them once: ``gap`` (bytes worth fetching to save a request, default
    0), ``head`` (length of the first read of a file, kept in memory, default 0: no such block), ``hashes`` (file ->
    SHA-256 as the place states it), ``refused`` (file -> why it may not be read), ``shard_headers`` (index file ->
    headers of all its shards, or None), ``extra_requests`` (requests made outside `read`), ``read_into`` (as `read`, into a writable buffer of exactly that length) and ``close``.
    """

    @property
    def name(self) -> str:
        """What people call this place; used in error messages."""

    def files(self) -> Mapping[str, int]:
        """Return file name -> size in bytes."""

    def read(self, file: str, span: ByteRange) -> bytes:
        """Return exactly the bytes of `span`, or raise `TruncatedError`."""


@runtime_checkable
class Closing(Protocol):
    """A store that holds something open."""

    def close(self) -> None:
        """Let go of it."""


@runtime_checkable
class Filling(Protocol):
    """A store that reads into memory it is handed."""

    def read_into(self, file: str, span: ByteRange, buffer: memoryview) -> None:
        """Fill `buffer` with exactly the bytes of `span`, or raise `TruncatedError`."""


class CountingStore:
    """Stands in front of every store: checks that each answer has the asked length, and counts.

    Attributes
    ----------
    bytes_read, reads : int
        What `read` returned, and how often it was called with a range that is not empty. Thread safe.
    """

    def __init__(self, inner: ByteStore) -> None:
        self._inner = inner
        self._filling = inner if isinstance(inner, Filling) else None
        self._lock = threading.Lock()
        self._files = dict(inner.files())
        self.name = inner.name
        self.gap: int = getattr(inner, "gap", 0)
        self.hashes: Mapping[str, str] = dict(getattr(inner, "hashes", {}))
        self.refused: Mapping[str, str] = dict(getattr(inner, "refused", {}))
        self.bytes_read = 0
        self.reads = 0

    @property
    def requests(self) -> int:
        """Reads, and what the store asked beside them (listings, repeats)."""
        extra: int = getattr(self._inner, "extra_requests", 0)
        return self.reads + extra

    def files(self) -> Mapping[str, int]:
        """Return file name -> size in bytes."""
        return self._files

    def read(self, file: str, span: ByteRange) -> bytes:
        """Return exactly the bytes of `span`.

        Raises
        ------
        ModelNotFoundError
            The store lists no such file.
        TruncatedError
            The range ends behind the file, or the store gave another number of bytes.
        """
        where = self._checked(file, span)
        if not len(span):
            return b""
        data = self._inner.read(file, span)
        if len(data) != len(span):
            raise TruncatedError(
                f"{len(data)} bytes came where {len(span)} were asked, from byte {span.start}",
                where=where,
                hint="the file changed or the transfer broke: try again",
            )
        self._count(len(data))
        return data

    def read_into(self, file: str, span: ByteRange, buffer: memoryview) -> None:
        """Fill `buffer` with exactly the bytes of `span`; see `read`.

        Raises
        ------
        ValueError
            The buffer has another length.
        """
        if len(buffer) != len(span):
            raise ValueError(f"a buffer of {len(buffer)} bytes for {len(span)}")
        if self._filling is None:
            buffer[:] = self.read(file, span)
            return
        self._checked(file, span)
        if len(span):
            self._filling.read_into(file, span, buffer)
            self._count(len(span))

    def shard_headers(self, index: str) -> Mapping[str, Mapping[str, Any]] | None:
        """Return the headers of all shards of an index where the place gives them at once, else None."""
        ask = getattr(self._inner, "shard_headers", None)
        found: Mapping[str, Mapping[str, Any]] | None = None if ask is None else ask(index)
        return found

    def _checked(self, file: str, span: ByteRange) -> str:
        """Return the place for messages, after checking that the range lies inside a known file."""
        where = f"{self.name}: {file}"
        size = self._files.get(file)
        if size is None:
            raise ModelNotFoundError("no such file", where=where)
        if span.stop > size:
            raise TruncatedError(f"bytes {span.start} to {span.stop} asked of a file of {size} bytes", where=where)
        return where

    def _count(self, n: int) -> None:
        with self._lock:
            self.bytes_read += n
            self.reads += 1

    def close(self) -> None:
        """Close the store behind."""
        if isinstance(self._inner, Closing):
            self._inner.close()


class HeadCache:
    """Keeps the first block of each file, so that a header costs one read instead of two.

    Parameters
    ----------
    inner : CountingStore
    head : int
        Length of that block in bytes; 0 switches it off.
    """

    _KEPT = 64  # blocks: at 100 kB each 6 MB, however many shards a model has

    def __init__(self, inner: CountingStore, head: int) -> None:
        self._inner = inner
        self._head = head
        self._blocks: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self.name = inner.name
        self.gap = inner.gap
        self.refused = inner.refused

    def files(self) -> Mapping[str, int]:
        """Return file name -> size in bytes."""
        return self._inner.files()

    def shard_headers(self, index: str) -> Mapping[str, Mapping[str, Any]] | None:
        """Return the headers of all shards of an index where the place gives them at once, else None."""
        return self._inner.shard_headers(index)

    def read(self, file: str, span: ByteRange) -> bytes:
        """Return exactly the bytes of `span`; what lies in the first block is fetched once."""
        size = self._inner.files().get(file, 0)
        head = min(self._head, size)
        if span.start >= head or span.stop > size:
            return self._inner.read(file, span)
        with self._lock:
            block = self._blocks.get(file)
        if block is None:
            block = self._inner.read(file, ByteRange(0, head))
            with self._lock:
                while len(self._blocks) >= self._KEPT:
                    self._blocks.pop(next(iter(self._blocks)))
                self._blocks[file] = block
        inside = block[span.start : span.stop]
        return inside if span.stop <= head else inside + self._inner.read(file, ByteRange(head, span.stop))


# scheme -> where its `open_store` is; loaded on use, because the Hub client is heavy
STORES: Mapping[str, str] = {
    "dir": "crawl.stores.local",
    "file": "crawl.stores.local",
    "hub": "crawl.stores.hub",
}


def open_place(ref: ModelRef, options: OpenOptions) -> tuple[ByteStore, ModelRef]:
    """Open the store a reference points to, and return it with the resolved reference."""
    place: tuple[ByteStore, ModelRef] = import_module(STORES[ref.scheme]).open_store(ref, options)
    return place
