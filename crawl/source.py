"""An opened model: its tensors, its roles, and ways to read exactly the bytes that are wanted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np

from crawl.assembly import assemble
from crawl.card import ModelCard, add_readme, read_config
from crawl.dtypes import decode, raw
from crawl.errors import UnsupportedDtypeError
from crawl.gather import checked_index, checked_slice, gather
from crawl.roles import Architecture, Mapped, map_roles
from crawl.stores import ByteStore, CountingStore, HeadCache
from crawl.vocabulary import LARGEST, Vocabulary, read_vocabulary, vocabulary_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from crawl.dtypes import FloatArray, RawArray
    from crawl.refs import ByteRange, ModelRef, Role, TensorRef
    from crawl.views import IntVector, View


class WeightSource:
    """One model, opened. A context manager; every read is counted and thread safe.

    Attributes
    ----------
    ref : ModelRef
        Pinned to a commit where the place has commits.
    tensors : mapping of str to TensorRef
        In file order.
    files : tuple of str
        The weight files.
    """

    def __init__(self, store: ByteStore, ref: ModelRef) -> None:
        self._counting = CountingStore(store)
        self._store = HeadCache(self._counting, getattr(store, "head", 0))
        self.ref = ref
        self._created: object = getattr(store, "created", None)
        parts = assemble(self._store, ref)
        self._prefix = parts.prefix
        self.files: tuple[str, ...] = parts.files
        self.tensors: Mapping[str, TensorRef] = MappingProxyType({t.name: t for t in parts.tensors})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and connections."""
        self._counting.close()

    @cached_property
    def card(self) -> ModelCard:
        """What the model claims about itself."""
        return add_readme(self._config, self._store, self._prefix, self._created)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The strings behind the rows of the embedding, where a tokenizer lists them; read when first asked for."""
        return read_vocabulary(self._store, self._prefix)

    @property
    def vocabulary_bytes(self) -> int:
        """What reading the vocabulary costs; 0 where there is none, or none that would be read."""
        _, size = vocabulary_file(self._store, self._prefix)
        return size if size <= LARGEST else 0

    @cached_property
    def _config(self) -> ModelCard:
        return read_config(self._store, self._prefix)

    @cached_property
    def _mapped(self) -> Mapped:
        return map_roles(self.tensors, self._config)

    @property
    def architecture(self) -> Architecture | None:
        """What kind of network it is; None when it is not recognised."""
        return self._mapped.architecture

    @property
    def views(self) -> Mapping[Role, View]:
        """The array of each role; empty when the architecture is not recognised."""
        return self._mapped.views

    @property
    def unmapped(self) -> Mapping[str, str]:
        """Tensors without a role, and why."""
        return self._mapped.unmapped

    @property
    def bytes_read(self) -> int:
        """Bytes fetched so far, headers and claims included."""
        return self._counting.bytes_read

    @property
    def requests(self) -> int:
        """Reads of the store so far; on the Hub, every request."""
        return self._counting.requests

    @property
    def n_parameters(self) -> int:
        """Number of stored elements."""
        return sum(t.n_elements for t in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The number format that holds most bytes, e.g. ``BF16``; empty for a model without tensors."""
        held: Counter[str] = Counter()
        for tensor in self.tensors.values():
            held[tensor.dtype.name] += len(tensor.span)
        return min(held, key=lambda name: (-held[name], name), default="")

    def header_digest(self) -> str:
        """Return the SHA-256 (hex) of all names, dtypes and shapes, sorted by name.

        Independent of files, shards and order: a resharded model has the same digest.
        """
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            digest.update(json.dumps([name, tensor.dtype.name, list(tensor.shape)]).encode("ascii") + b"\n")
        return digest.hexdigest()

    def content_hashes(self) -> Mapping[str, str]:
        """Return the SHA-256 of each weight file where the place states it; nothing is read."""
        return {file: self._counting.hashes[file] for file in self.files if file in self._counting.hashes}

    def read(self, t: TensorRef) -> FloatArray:
        """Read a tensor whole.

        Returns
        -------
        ndarray of float32
            Of the stored shape, C-contiguous, read-only; float64 for F64 and for integers of 32 bits and more.

        Raises
        ------
        UnsupportedDtypeError
            The numbers are complex.
        """
        self._check_real(t)
        return decode(self._store.read(t.file, t.span), t.dtype, t.shape)

    def read_raw(self, t: TensorRef) -> RawArray:
        """Read a tensor's stored bits.

        Returns
        -------
        ndarray
            Read-only: BF16 as uint16, 8-bit floats as uint8, packed formats as a flat uint8 vector, others as stored.
        """
        return raw(self._store.read(t.file, t.span), t.dtype, t.shape)

    def read_into(self, file: str, span: ByteRange, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes of `span` of a weight file, as they are stored."""
        self._counting.read_into(file, span, buffer)

    def file_size(self, file: str) -> int:
        """Return the bytes of a weight file."""
        return self._counting.files()[file]

    def rows(
        self,
        t: TensorRef,
        index: Sequence[int] | IntVector,
        *,
        columns: slice | None = None,
        stored: bool = False,
    ) -> RawArray:
        """Read positions along the first stored axis.

        Parameters
        ----------
        t : TensorRef
        index : (m,) integers
            In [0, t.shape[0]), any order, repeats allowed; rows that touch are one read.
        columns : slice, optional
            Without step; only for two axes.
        stored : bool
            Native bits instead of floats.

        Returns
        -------
        (m, ...) ndarray
            float32 (see `read`), C-contiguous, read-only.

        Raises
        ------
        ValueError
            The tensor has no axis, or `index` or `columns` does not fit.
        """
        self._check_real(t, stored=stored)
        if not t.shape or (columns is not None and len(t.shape) != 2):
            raise ValueError(f"rows: {t.name!r} has shape {list(t.shape)}")
        picked = checked_index(index, t.shape[0], "rows: index")
        width = int(np.prod(t.shape[1:], dtype=np.int64))
        out = gather(self._store, t, width, picked, checked_slice(columns, width, "rows: columns"), stored=stored)
        if t.dtype.bits < 8 and stored:
            return out
        return out if columns is not None else out.reshape(len(picked), *t.shape[1:])

    def blocks(self, t: TensorRef, rows: int) -> Iterator[FloatArray]:
        """Read a tensor in blocks of at most `rows` positions of its first axis, in order.

        Raises
        ------
        ValueError
            `rows` is below 1.
        """
        if rows < 1:
            raise ValueError("blocks: rows must be at least 1")
        if not t.shape:
            yield self.read(t).reshape(1)
            return
        for start in range(0, t.shape[0], rows):
            yield self.rows(t, np.arange(start, min(start + rows, t.shape[0])))

    def view_rows(
        self,
        v: View,
        index: Sequence[int] | IntVector,
        *,
        columns: slice | None = None,
        stored: bool = False,
    ) -> RawArray:
        """Read outputs of a role's ``[out, in]`` matrix, however it is stored.

        Parameters
        ----------
        v : View
            With two axes.
        index : (m,) integers
            In [0, out), any order, repeats allowed.
        columns : slice, optional
            Which inputs; without step.
        stored : bool
            Native bits instead of floats.

        Returns
        -------
        (m, in) ndarray
            float32, C-contiguous, read-only.

        Raises
        ------
        ValueError
            The view is a vector, or `index` or `columns` does not fit.
        """
        n_out, n_in = self._matrix(v, stored=stored)
        outputs = v.pick.stored(checked_index(index, n_out, "view_rows: index"))
        start, stop = checked_slice(columns, n_in, "view_rows: columns")
        if v.transposed:
            return self._turned(v, v.base + np.arange(start, stop), outputs, stored=stored)
        return gather(self._store, v.tensor, v.stored_columns, v.base + outputs, (start, stop), stored=stored)

    def view_columns(
        self,
        v: View,
        index: Sequence[int] | IntVector,
        *,
        rows: slice | None = None,
        stored: bool = False,
    ) -> RawArray:
        """Read inputs of a role's ``[out, in]`` matrix; cheap where the store holds ``[in, out]``.

        Returns
        -------
        (out, m) ndarray
            float32, C-contiguous, read-only. `rows` limits the outputs.

        Raises
        ------
        ValueError
            The view is a vector, or `index` or `rows` does not fit.
        """
        n_out, n_in = self._matrix(v, stored=stored)
        inputs = checked_index(index, n_in, "view_columns: index")
        outputs = v.pick.stored(np.arange(*checked_slice(rows, n_out, "view_columns: rows")))
        if v.transposed:
            return self._turned(v, v.base + inputs, outputs, stored=stored)
        return gather(self._store, v.tensor, v.stored_columns, v.base + outputs, inputs, stored=stored)

    def view_vector(self, v: View, *, stored: bool = False) -> RawArray:
        """Read a role's vector, with the offset of its gain applied unless `stored`.

        Returns
        -------
        (n,) ndarray
            float32, read-only.

        Raises
        ------
        ValueError
            The view has two axes.
        """
        if len(v.shape) != 1:
            raise ValueError(f"view_vector: {v.role} has shape {list(v.shape)}")
        self._check_real(v.tensor, stored=stored)
        at = v.pick.stored(np.arange(v.shape[0]))
        whole = (int(at[0]), int(at[-1]) + 1) if len(at) and v.pick.group >= len(at) else None
        first = np.zeros(1, np.int64)
        out = gather(self._store, v.tensor, v.stored_columns, first, whole or at, stored=stored).reshape(-1)
        if stored:
            return out
        if v.offset:
            out = np.add(out, v.offset, dtype=out.dtype)
            out.flags.writeable = False
        return out

    def _turned(self, v: View, rows: IntVector, columns: IntVector, *, stored: bool) -> RawArray:
        straight = len(columns) == v.stored_columns and bool((np.diff(columns) == 1).all())
        picked = (0, v.stored_columns) if straight else columns
        out = np.ascontiguousarray(gather(self._store, v.tensor, v.stored_columns, rows, picked, stored=stored).T)
        out.flags.writeable = False
        return out

    def _matrix(self, v: View, *, stored: bool) -> tuple[int, int]:
        if len(v.shape) != 2:
            raise ValueError(f"{v.role} is a vector: use view_vector")
        self._check_real(v.tensor, stored=stored)
        return v.shape[0], v.shape[1]

    def _check_real(self, t: TensorRef, *, stored: bool = False) -> None:
        if not stored and not t.dtype.decoded:
            raise UnsupportedDtypeError(
                f"{t.dtype.name} numbers have no real value",
                where=f"{self.ref}: {t.file}: tensor {t.name!r}",
                hint="read the stored bits instead (read_raw)",
            )
