"""Names of things: models, tensors, roles and byte ranges. All are frozen values that print and parse."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from crawl.errors import ModelNotFoundError

if TYPE_CHECKING:
    from crawl.dtypes import DType

_HUB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_HUB_ID = re.compile(rf"(?:{_HUB_NAME.pattern}/)?{_HUB_NAME.pattern}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_VARIANT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+ -]{0,199}")
# A path that does not exist is taken for a file when it ends like one; only wording of the later error depends on it.
_FILE_ENDINGS = (".safetensors", ".json", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".h5", ".onnx")


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """A half-open range of bytes, `start` included and `stop` not.

    Raises
    ------
    ValueError
        `start` is negative or above `stop`.
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"ByteRange: start {self.start} and stop {self.stop} are not ordered")

    def __len__(self) -> int:
        return self.stop - self.start

    def shifted(self, by: int) -> ByteRange:
        """Return the same range `by` bytes further on."""
        return ByteRange(self.start + by, self.stop + by)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Where a model is.

    Law: ``ModelRef.parse(str(r)) == r`` for every Hub reference, and for local ones while the path is there.

    Attributes
    ----------
    scheme : {"hub", "dir", "file"}
    location : str
        Hub id ``org/name``, or a path as the user gave it.
    revision : str or None
        Branch, tag or commit on the Hub; an opened source carries the full commit.
    variant : str or None
        Which of several weight sets in one place (``fp16``, a component folder, a file stem).
    """

    scheme: Literal["hub", "dir", "file"]
    location: str
    revision: str | None = None
    variant: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.id}" if self.scheme == "hub" else self.id

    @property
    def id(self) -> str:
        """The name people use: ``org/name@commit``, or the path as given, with ``#variant`` where there is one."""
        revision = f"@{self.revision}" if self.revision else ""
        variant = f"#{self.variant}" if self.variant else ""
        return f"{self.location}{revision}{variant}"

    @staticmethod
    def parse(text: str) -> ModelRef:
        """Read a reference as a user types it; an existing local path wins.

        Parameters
        ----------
        text : str
            ``org/name[@revision][#variant]``, the same after ``hf://``, a folder, or a weight file.

        Raises
        ------
        ModelNotFoundError
            `text` is neither an existing path nor the shape of a Hub id.
        """
        if text.startswith("hf://"):
            return _hub_ref(text.removeprefix("hf://"), text)
        path, _, variant = text.rpartition("#")
        for location, chosen in ((text, None), (path, variant)):
            if location and (found := _local_ref(location, chosen)) is not None:
                return found
        if _looks_local(text):
            scheme: Literal["dir", "file"] = "file" if text.endswith(_FILE_ENDINGS) else "dir"
            return ModelRef(scheme, text)
        return _hub_ref(text, text)

    def with_revision(self, revision: str) -> ModelRef:
        """Return the same reference pinned to `revision`."""
        return replace(self, revision=revision)


def _local_ref(location: str, variant: str | None) -> ModelRef | None:
    try:
        path = Path(location)
        if path.is_dir():
            return ModelRef("dir", location, None, variant or None)
        if (path.exists() or path.is_symlink()) and not variant:
            return ModelRef("file", location)
    except PermissionError:  # there, but not for this user: opening it says so
        return ModelRef("dir", location, None, variant or None)
    except (OSError, ValueError):  # a name too long, or with a NUL: not a path of this machine
        return None
    return None


def _looks_local(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or text in {".", ".."} or text.endswith(_FILE_ENDINGS)


def _hub_ref(text: str, given: str) -> ModelRef:
    body, _, variant = text.partition("#")
    location, at, revision = body.partition("@")
    wrong = (
        not _HUB_ID.fullmatch(location)
        or ("/" not in location and not given.startswith("hf://"))
        or ".." in location + revision + variant
        or (bool(at) and not _REVISION.fullmatch(revision))
        or ("#" in text and not _VARIANT.fullmatch(variant))
    )
    if wrong:
        raise ModelNotFoundError(
            "no such file or folder, and not a Hub id",
            where=given,
            hint="give a folder, a weight file, or org/name[@revision]",
        )
    return ModelRef("hub", location, revision or None, variant or None)


@dataclass(frozen=True, slots=True)
class Role:
    """What an array does in its network. Roles sort as their text does.

    Law: ``Role.parse(str(r)) == r``. The text form is frozen: it seeds keyed streams elsewhere.

    Attributes
    ----------
    kind : str
        ``embed``, ``unembed``, ``attn.q|k|v|o``, ``mlp.gate|up|down``, ``mlp.shared.gate|up|down``, ``router``,
        ``norm.<name>``, ``bias.<kind>`` and the further kinds of `crawl.roles`.
    layer, expert : int or None
        Counted from 0; None outside the layer stack, or outside the experts.
    """

    kind: str
    layer: int | None = None
    expert: int | None = None

    def __lt__(self, other: Role) -> bool:
        return str(self) < str(other)

    def __str__(self) -> str:
        layer = "" if self.layer is None else f"L{self.layer:04d}."
        expert = "" if self.expert is None else f"E{self.expert:02d}."
        return f"{layer}{expert}{self.kind}"

    @staticmethod
    def parse(text: str) -> Role:
        """Read the form that `str` writes.

        Raises
        ------
        ValueError
            `text` is not a role.
        """
        found = re.fullmatch(r"(?:L(\d{4,})\.)?(?:E(\d{2,})\.)?([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)", text)
        if found is None:
            raise ValueError(f"not a role: {text!r}")
        layer, expert, kind = found.groups()
        return Role(kind, None if layer is None else int(layer), None if expert is None else int(expert))


@dataclass(frozen=True, slots=True)
class TensorRef:
    """One tensor as it is stored.

    Attributes
    ----------
    name : str
        Opaque; never part of a path.
    dtype : DType
    shape : tuple of int
    file : str
        Name of the file inside its store.
    span : ByteRange
        Its bytes in that file, counted from the start of the file.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: str
    span: ByteRange

    @property
    def n_elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        count = 1
        for size in self.shape:
            count *= size
        return count
