"""The door to bytes for writing: a copy of a model, changed in place under another name, and final all at once or never."""

import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from crawl import View, WeightSource
from crawl.casts import can_replay, stored_bits
from crawl.ranges import runs
from weightmark.errors import UnfitModelError, WritingError

_WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".h5", ".onnx", ".msgpack")
"""Other weight files beside the marked ones hold the same model without the mark, and are not copied."""


class Draft:
    """A copy of a local model on its way to its final name.

    A context manager: what was not settled when it ends is removed, and nothing is left. Headers, order, formats and the
    split into files are those of the source, because its files are copied first and only values are written over.

    Parameters
    ----------
    source : WeightSource
        A local model; never written to.
    out : Path
        The folder to be; must not exist, or be empty.

    Attributes
    ----------
    left_out : tuple of str
        Files beside the model that are not copied: other weight files.
    """

    def __init__(self, source: WeightSource, out: Path) -> None:
        if source.ref.scheme == "hub":
            raise UnfitModelError(
                "a model on the Hub cannot be marked in place", where=str(source.ref), hint="fetch it"
            )
        self.out = out.absolute()
        self._source = source
        place = Path(source.ref.location)
        self._place = place if source.ref.scheme == "dir" else place.parent
        self._files = sorted(source.files)
        beside = [] if source.ref.scheme == "file" else self._beside()
        self.left_out = tuple(n for n in beside if n.endswith(_WEIGHT_ENDINGS) or n.startswith("."))
        self._names = [*self._files, *(n for n in beside if n not in self.left_out)]
        self._folder = self.out.parent / f".{self.out.name}-{secrets.token_hex(6)}"
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        with self._told():
            if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
                raise WritingError("this path exists", where=str(self.out), hint="name a folder that is not there yet")
            if self._source.ref.scheme == "dir" and self.out.resolve().is_relative_to(self._place.resolve()):
                raise WritingError(
                    "inside the model that is marked", where=str(self.out), hint="name a folder beside it"
                )
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir()
        try:
            with self._told():
                for name in self._names:
                    (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self._place / name, self._folder / name)
                self._open = {name: os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC) for name in self._files}
        except BaseException:
            self._drop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def put(self, view: View, start: int, values: npt.NDArray[np.floating[Any]]) -> None:
        """Write rows of a matrix, or a vector, from `start` on.

        Parameters
        ----------
        view : View
        start : int
            Number of the first logical output.
        values : (m, in) or (m,) float
            As `view_rows` and `view_vector` give them.

        Raises
        ------
        UnfitModelError
            The number format is one marks are not stored in.
        WritingError
            The disk refuses.
        """
        dtype = view.tensor.dtype
        if not can_replay(dtype.name):
            raise UnfitModelError(f"{dtype.name} numbers are not written", where=view.tensor.name)
        held = values[:, None] - view.offset if len(view.shape) == 1 else values
        bits = stored_bits(held, dtype.name)
        outputs = view.pick.stored(np.arange(start, start + len(held)))
        columns, item = view.stored_columns, dtype.bits // 8
        if len(view.shape) == 1:
            self._put_runs(view, outputs, bits, first=0, item=item, columns=1)
        elif view.transposed:
            for i, line in enumerate(np.ascontiguousarray(bits.T)):
                self._put_runs(view, outputs, line[:, None], first=(view.base + i) * columns, item=item, columns=1)
        else:
            self._put_runs(view, outputs, bits, first=view.base * columns, item=item, columns=columns)

    def settle(self) -> None:
        """Make the copy final under its name."""
        with self._told():
            for handle in self._open.values():
                os.fsync(handle)
            if self.out.is_dir():
                self.out.rmdir()
            self._folder.replace(self.out)

    def _put_runs(
        self,
        view: View,
        outputs: npt.NDArray[np.integer[Any]],
        bits: npt.NDArray[Any],
        *,
        first: int,
        item: int,
        columns: int,
    ) -> None:
        """Write bits (m, columns) at element first + output * columns, neighbours at once."""
        at = 0
        for start, stop in runs(outputs.tolist()):
            data = np.ascontiguousarray(bits[at : at + stop - start]).tobytes()
            self._write(view.tensor.file, view.tensor.span.start + (first + start * columns) * item, data)
            at += stop - start

    def _write(self, file: str, offset: int, data: bytes) -> None:
        with self._told():
            rest = memoryview(data)
            while rest:
                written = os.pwrite(self._open[file], rest, offset)
                rest, offset = rest[written:], offset + written

    def _beside(self) -> list[str]:
        return [
            e.name
            for e in sorted(os.scandir(self._place), key=lambda e: e.name)
            if e.is_file() and e.name not in self._files
        ]

    def _drop(self) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open = {}
        shutil.rmtree(self._folder, ignore_errors=True)

    def _told(self) -> "_Told":
        return _Told(self.out)


class _Told:
    """Turn what the system says into a sentence about the copy."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, WritingError):
            words = (error.strerror or "it failed").lower()
            raise WritingError(
                f"the marked copy cannot be written ({words}); nothing is left of it",
                where=str(self._out),
                hint="make room, or choose another place",
            ) from error
