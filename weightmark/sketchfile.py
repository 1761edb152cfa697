"""Sketch files: what stands for an unmarked model when marks are looked for, without its weights.

A safetensors file of 16-bit floats. Nothing in it is executed; what contradicts itself is refused with one sentence.
"""

import hashlib
import json
import os
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from crawl import ByteRange, CrawlError, TensorRef
from crawl.formats.safetensors import SafetensorsFormat
from stats.arrays import Float64Array
from weightmark.errors import UnusableKeyError, WritingError

Kind = Literal["perm", "rot", "gram"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMAT = "weightmark-sketch/1"

LARGEST = 1 << 31
"""Bytes; a model of 70B parameters takes about 600 MB."""

_FAMILY = "weightmark-sketch/"
_WIDEST = 1 << 20
_DEEPEST = 1 << 12
_READ = 1 << 24
_RANGES = {"width": (1, _WIDEST), "layers": (1, _DEEPEST), "vocabulary": (0, 1 << 28), "heads": (0, _WIDEST), "kv_heads": (0, _WIDEST)}  # fmt: skip

Array16 = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is kept of an unmarked model.

    Attributes
    ----------
    digest : str
        Of the model (`files.model_digest`).
    kinds : tuple of str
        What it holds: `perm`, `rot`, `gram`.
    counts : mapping of str to int
        `width`, `layers`, `vocabulary`, `heads` and `kv_heads` of the model; 0 where unknown.
    arrays : mapping of str to float16
        By name: `perm.residual`, `perm.L0003.mlp.up`, `rot.tokens`, `rot.L0003.norm.mlp_in`, `gram.L0003.attn.q`.
    """

    digest: str
    kinds: tuple[Kind, ...]
    counts: Mapping[str, int]
    arrays: Mapping[str, Array16]

    def of(self, prefix: str) -> dict[str, Float64Array]:
        """Arrays whose names begin so, under the rest of their names, widened."""
        return {n.removeprefix(prefix): a.astype(np.float64) for n, a in self.arrays.items() if n.startswith(prefix)}

    def sizes(self) -> dict[str, int]:
        """Bytes of the arrays of each kind."""
        return {kind: sum(a.nbytes for n, a in self.arrays.items() if n.startswith(f"{kind}.")) for kind in self.kinds}


def directions(digest: str, purpose: str, n: int, k: int) -> Float64Array:
    """Random signs (n, k) that rows are projected by: SHAKE-256 of the digest of the unmarked model and a purpose.

    Whoever does not hold the model does not know them; they do not depend on a key of a mark.
    """
    bits = hashlib.shake_256(f"{FORMAT}|{digest}|{purpose}".encode()).digest(-(-n * k // 8))
    fair = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")[: n * k]
    return (fair.astype(np.float64) * 2.0 - 1.0).reshape(n, k)


def stored(values: Float64Array) -> Array16:
    """Values as they are kept: what is beyond 16 bits is cut off."""
    edge = float(np.finfo(np.float16).max)
    return np.ascontiguousarray(np.clip(values, -edge, edge).astype("<f2"))


def to_bytes(sketch: Sketch) -> bytes:
    """The file of a sketch: arrays by name, the header sorted and padded to eight bytes."""
    table: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "unmarked_digest": sketch.digest,
            "kinds": ",".join(sketch.kinds),
            **{name: str(sketch.counts[name]) for name in _RANGES},
        }
    }
    at, parts = 0, []
    for name in sorted(sketch.arrays):
        values = sketch.arrays[name]
        parts.append(values.tobytes())
        table[name] = {"data_offsets": [at, at + values.nbytes], "dtype": "F16", "shape": list(values.shape)}
        at += values.nbytes
    header = json.dumps(table, sort_keys=True, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + b"".join(parts)


def write(path: Path, data: bytes) -> bool:
    """Write a sketch whole or not at all, never over another file; False where this very sketch is there already.

    Raises
    ------
    WritingError
        Something else has this name, or the disk refuses.
    """
    part = path.parent / f".{path.name}-{secrets.token_hex(6)}"
    try:
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return False
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(part, path)
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError as error:
        raise WritingError(
            "there is another file already", where=str(path), hint="sketches are never overwritten; name another file"
        ) from error
    except OSError as error:
        words = (error.strerror or "it failed").lower()
        raise WritingError(f"the sketch cannot be written ({words})", where=str(path)) from error
    return True


def read(path: str) -> tuple[Sketch, str]:
    """A sketch and the SHA-256 (hex) of its file.

    Raises
    ------
    UnusableKeyError
        There is no file, it is no sketch, is damaged, contradicts itself, or is of another version.
    """
    where = Path(path)
    try:
        if not where.is_file():
            raise _unusable("not a regular file" if where.exists() else "there is no such file", path)
        if where.stat().st_size > LARGEST:
            raise _unusable(f"{where.stat().st_size:,} bytes, more than any sketch has", path)
        store = _File(where)
        table = SafetensorsFormat().table(store, where.name)
        sketch = _checked(table.metadata, table.tensors, store, path)
        return sketch, store.digest()
    except OSError as error:
        raise _unusable(f"cannot be read ({(error.strerror or 'it failed').lower()})", path) from error
    except CrawlError as error:
        raise _unusable(f"not a sketch, or a damaged one ({error.reason})", path) from error
    except ValueError as error:
        if isinstance(error, UnusableKeyError):
            raise
        raise _unusable(f"not a sketch, or a damaged one ({error})", path) from error


class _File:
    """One file as a store of bytes."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.parent)
        self._path = path

    def files(self) -> dict[str, int]:
        """Name to size."""
        return {self._path.name: self._path.stat().st_size}

    def read(self, file: str, span: ByteRange) -> bytes:
        """Exactly these bytes."""
        with self._path.with_name(file).open("rb") as stream:
            stream.seek(span.start)
            data = stream.read(len(span))
        if len(data) != len(span):
            raise ValueError(f"it ends before byte {span.stop}")
        return data

    def digest(self) -> str:
        """SHA-256 of the file."""
        seen = hashlib.sha256()
        with self._path.open("rb") as stream:
            while data := stream.read(_READ):
                seen.update(data)
        return seen.hexdigest()


def _checked(metadata: Mapping[str, str], tensors: tuple[TensorRef, ...], store: _File, path: str) -> Sketch:
    form = metadata.get("format", "")
    if not form.startswith(_FAMILY):
        raise _unusable("not a sketch of this program", path)
    if form != FORMAT:
        raise _unusable(f"a sketch of version {form.removeprefix(_FAMILY)[:20]!r}, this program knows version 1", path)
    digest = metadata.get("unmarked_digest", "")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError("the digest of its model is none")
    counts = {name: _count(metadata.get(name, ""), name) for name in _RANGES}
    kinds = tuple(kind for kind in KINDS if kind in metadata.get("kinds", "").split(","))
    if ",".join(kinds) != metadata.get("kinds"):
        raise ValueError("it names kinds that there are not")
    for tensor in tensors:
        _check_shape(tensor, kinds, counts)
    _check_units(tensors)
    arrays: dict[str, Array16] = {}
    for tensor in tensors:
        values = np.frombuffer(store.read(tensor.file, tensor.span), dtype="<f2").reshape(tensor.shape)
        if not np.isfinite(values).all():
            raise ValueError(f"{tensor.name[:60]!r} holds values that are not finite")
        arrays[tensor.name] = values
    return Sketch(digest, kinds, counts, arrays)


WIDTHS = {"mlp.gate": (32,), "mlp.up": (16, 32), "mlp.down": (16, 32), "attn.q": (16,), "attn.k": (16,)}
"""Projections of each row of a kind; the second number where hidden units have no gate."""

SIDE = 64
"""Projections of a residual dimension over tokens; columns of a block of `gram`."""

PAIRS = SIDE * (SIDE - 1) // 2


def _check_shape(tensor: TensorRef, kinds: tuple[Kind, ...], counts: Mapping[str, int]) -> None:
    """Refuse an array of an unknown name or of a shape that does not go with the counts."""
    kind, _, rest = tensor.name.partition(".")
    role = rest[6:] if rest[:1] == "L" and rest[1:5].isdecimal() and rest[5:6] == "." else ""
    shape, width = tensor.shape, counts["width"]
    if rest == "residual":
        fits = kind == "perm" and shape == (width, SIDE)
    elif rest == "tokens":
        fits = kind == "rot" and len(shape) == 2 and 0 < shape[0] <= width and shape[1] == width
    elif kind == "perm":
        fits = role in WIDTHS and len(shape) == 2 and 0 < shape[0] <= _WIDEST and shape[1] in WIDTHS[role]
    elif kind == "rot":
        fits = role.startswith("norm.") and shape == (width,)
    else:
        fits = kind == "gram" and role != "" and shape == (width // SIDE, PAIRS)
    deep = role == "" or int(rest[1:5]) < counts["layers"]
    if kind not in kinds or not fits or not deep or tensor.dtype.name != "F16":
        raise ValueError(f"{tensor.name[:60]!r} of {tensor.dtype.name} {list(shape)} does not belong there")


def _check_units(tensors: tuple[TensorRef, ...]) -> None:
    """All matrices of one MLP have the same number of units, all layers as many projections of a kind."""
    units: dict[str, int] = {}
    widths: dict[str, int] = {}
    for tensor in tensors:
        kind, _, rest = tensor.name.partition(".")
        if kind != "perm" or rest[6:] not in WIDTHS:
            continue
        if rest[6:].startswith("mlp.") and units.setdefault(rest[:5], tensor.shape[0]) != tensor.shape[0]:
            raise ValueError(f"the matrices of {rest[:5]} differ in their units")
        if widths.setdefault(rest[6:], tensor.shape[1]) != tensor.shape[1]:
            raise ValueError(f"layers differ in how they show {rest[6:]}")


def _count(text: str, name: str) -> int:
    low, high = _RANGES[name]
    if not text.isascii() or not text.isdecimal() or len(text) > 12 or not low <= int(text) <= high:
        raise ValueError(f"its {name} is no number between {low} and {high}")
    return int(text)


def _unusable(reason: str, where: str) -> UnusableKeyError:
    return UnusableKeyError(reason, where=where, hint="make one with `lineage mark sketch`")
