"""Files of this machine, read with `pread`: thread safe, and only the bytes that are asked for."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crawl.errors import (
    CrawlError,
    ModelNotFoundError,
    TruncatedError,
    UnsafePathError,
    UnsupportedFormatError,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crawl.options import OpenOptions
    from crawl.refs import ByteRange, ModelRef

_MOST_FILES = 100_000  # of one folder: far above the 10,000 shards that are read, far below what stalls a listing
_MOST_OPEN = 128  # descriptors: below the usual soft limit of 1,024, above the shards of nearly every model
_SHARED_MARKER = ".huggingface-shared-blobs"


class LocalStore:
    """The files directly inside one folder.

    Links are followed only while they stay inside the folder. One layout is exempt: in the cache of the Hub client a
    snapshot is a folder of links to ``blobs/``, so there links may point anywhere inside the same ``models--*`` folder
    or into the blob store that all models of that cache share.

    Parameters
    ----------
    root : Path
    name : str
        How messages call the folder.
    only : tuple of str
        Names to list, the first being what the caller named himself; empty lists all.

    Attributes
    ----------
    refused : dict
        File name -> why it is not listed (a link that leaves the folder).
    """

    def __init__(self, root: Path, name: str, only: tuple[str, ...] = ()) -> None:
        self.name = name
        self._root = root.resolve()
        self._regions = link_regions(self._root)
        self._only = only
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()
        self.refused: dict[str, str] = {}
        self._paths: dict[str, Path] = {}
        self._sizes = self._listing()

    def _listing(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        try:
            with os.scandir(self._root) as entries:
                for entry in entries:
                    if self._only and entry.name not in self._only:
                        continue
                    if (size := self._admit(entry)) is not None:
                        sizes[entry.name] = size
                    if len(sizes) > _MOST_FILES:
                        raise CrawlError(f"more than {_MOST_FILES} files in one folder", where=self.name)
        except OSError as error:
            raise refusal(error, "the folder cannot be read", self.name) from error
        return dict(sorted(sizes.items()))

    def _admit(self, entry: os.DirEntry[str]) -> int | None:
        path = Path(entry.path)
        try:
            if entry.is_symlink():
                path = path.resolve()
                # a file the caller named himself may be a link to anywhere: the name came from him, not from a model
                if entry.name not in self._only[:1] and not any(
                    path.is_relative_to(region) for region in self._regions
                ):
                    self.refused[entry.name] = "a link that leaves the model folder"
                    return None
            found = path.stat()
        except PermissionError:
            self.refused[entry.name] = "permission denied"
            return None
        except (OSError, RuntimeError, ValueError):  # dangling or looping
            self.refused[entry.name] = "a link that leads nowhere"
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        self._paths[entry.name] = path
        return found.st_size

    def files(self) -> Mapping[str, int]:
        """Return file name -> size in bytes."""
        return self._sizes

    def read(self, file: str, span: ByteRange) -> bytes:
        """Return exactly the bytes of `span`.

        Raises
        ------
        UnsafePathError
            `file` is not one of the listed names.
        TruncatedError
            The file has become shorter.
        """
        with self._reading(file) as handle:
            return self._pread(handle, file, span)

    def read_into(self, file: str, span: ByteRange, buffer: memoryview) -> None:
        """Fill `buffer` with exactly the bytes of `span`; see `read`.

        No file is ever mapped: a mapped file that becomes shorter kills the process instead of raising an error.
        """
        at = span.start
        with self._reading(file) as handle:
            while at < span.stop:
                got = os.preadv(handle, [buffer[at - span.start :]], at)
                if not got:
                    raise self._short(file, at, span)
                at += got

    @contextmanager
    def _reading(self, file: str) -> Iterator[int]:
        """Give the descriptor of a listed file; failures of the system become errors of this package."""
        if file not in self._paths:
            raise UnsafePathError("not a file of this folder", where=f"{self.name}: {file}")
        handle, keep = self._handle(file)
        try:
            yield handle
        except CrawlError:
            raise
        except OSError as error:
            words = (error.strerror or "it failed").lower()
            raise CrawlError(f"reading failed ({words})", where=f"{self.name}: {file}", hint="try again") from error
        finally:
            if not keep:
                os.close(handle)

    def _short(self, file: str, at: int, span: ByteRange) -> TruncatedError:
        return TruncatedError(
            f"the file ends at byte {at}, {span.stop} was expected",
            where=f"{self.name}: {file}",
            hint="it changed while it was read, or the download is incomplete",
        )

    def _pread(self, handle: int, file: str, span: ByteRange) -> bytes:
        parts: list[bytes] = []
        at = span.start
        while at < span.stop:
            part = os.pread(handle, span.stop - at, at)  # the kernel gives at most 2 GiB at once
            if not part:
                raise self._short(file, at, span)
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _handle(self, file: str) -> tuple[int, bool]:
        with self._lock:
            if (known := self._open.get(file)) is not None:
                return known, True
            try:
                # links were followed when the folder was listed; a name that has since become a link is not followed,
                # and one that has become a pipe does not hang the reader
                handle = os.open(self._paths[file], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError as error:
                raise refusal(error, "cannot be opened", f"{self.name}: {file}") from error
            if len(self._open) < _MOST_OPEN:
                self._open[file] = handle
                return handle, True
            return handle, False

    def close(self) -> None:
        """Close every descriptor."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])


def link_regions(root: Path) -> tuple[Path, ...]:
    """Return the folders that links found in `root` (a resolved path) may point into."""
    for parent in (root, *root.parents):
        if parent.name.startswith("models--"):
            shared = parent.parent / "blobs"
            return (parent, shared) if (shared / _SHARED_MARKER).is_file() else (parent,)
    return (root,)


def open_store(ref: ModelRef, options: OpenOptions) -> tuple[LocalStore, ModelRef]:
    """Open a folder, or one file with the config beside it.

    Raises
    ------
    ModelNotFoundError
        There is nothing at that path, or nothing that can be read in places.
    GatedModelError
        This user may not look there.
    """
    del options  # nothing about a local file is optional
    path = Path(ref.location)
    try:
        if ref.scheme == "dir" and path.is_dir():
            return LocalStore(path, ref.location), ref
        if ref.scheme == "file" and path.is_file():
            if path.name.endswith(".json"):
                return LocalStore(path.parent, ref.location), ref
            return LocalStore(path.parent, ref.location, only=(path.name, "config.json")), ref
        raise _nothing_at(path, ref)
    except OSError as error:
        if isinstance(error, CrawlError):
            raise
        raise refusal(error, "cannot be looked at", ref.location) from error


def _nothing_at(path: Path, ref: ModelRef) -> CrawlError:
    if ref.scheme == "file" and path.exists():
        hint = "weights are read in places: give a file on a disk"
        return UnsupportedFormatError("a device or a pipe, not a file", where=ref.location, hint=hint)
    if path.is_symlink():
        hint = "check where it points"
        return ModelNotFoundError("a link that leads nowhere", where=ref.location, hint=hint)
    kind = "folder" if ref.scheme == "dir" else "file"
    return ModelNotFoundError(f"no such {kind}", where=ref.location, hint="check the path")
