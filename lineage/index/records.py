"""What the index holds of one model: frozen values with one canonical text, so that equal content has one digest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("signed", "listed", "skipped", "gated", "failed", "removed")
"""signed: a signature is stored; listed: known without a reading; skipped: not wanted; gated: access was refused;
failed: could not be read; removed: gone from where it was. A later word replaces an earlier one where both are merged."""

_LONGEST = 100_000
"""Characters of one text of an entry: names and reasons are far below."""


@dataclass(frozen=True, slots=True, order=True)
class FileFact:
    """One weight file.

    Attributes
    ----------
    path : str
    size : int
        Bytes.
    sha256 : str or None
        Where it is known.
    """

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class DeclaredParent:
    """A parent that the uploader names: a claim, never evidence.

    Attributes
    ----------
    id : str
    relation : str
        As declared (``finetune``, ``adapter``, ``quantized``, ``merge``), or empty.
    source : str
        Where it stood (``card``, ``tag``).
    """

    id: str
    relation: str = ""
    source: str = "card"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model at one commit.

    Attributes
    ----------
    id : str
        ``org/name@commit``, or the id of a local model.
    ref : str
        How it is opened.
    repo : str
        ``org/name``, or the local place without a variant.
    revision : str or None
        The commit, where there are commits.
    state : str
        One of `STATES`.
    reason : str
        Why, for every state but ``signed``; empty otherwise.
    files : tuple of FileFact
    parents : tuple of DeclaredParent
    facts : mapping of str to JSON value
        What the header says (architecture, width, parameters, dtype, header_digest) and digests of what lies beside.
    signature, study : str or None
        Digests of stored bytes.
    vector : bytes or None
        What a search compares.
    """

    id: str
    ref: str
    repo: str
    revision: str | None
    state: str
    reason: str = ""
    files: tuple[FileFact, ...] = ()
    parents: tuple[DeclaredParent, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    signature: str | None = None
    study: str | None = None
    vector: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"{self.state!r} is no state of an entry")
        if (self.state == "signed") != (self.signature is not None):
            raise ValueError(f"{self.id}: an entry is signed when it has a signature, and only then")
        if not isinstance(self.facts, Mapping):
            raise TypeError("facts are named")
        for text in (self.id, self.ref, self.repo, self.reason):
            if len(text) > _LONGEST or not _is_utf8(text):
                raise ValueError(f"an entry with a text that cannot be stored: {text[:80]!r}")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything above, in canonical JSON: independent of when and where it was stored."""
        return hashlib.sha256(canonical(self.as_dict()).encode("ascii")).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON values; files and parents sorted."""
        return {
            "id": self.id,
            "ref": self.ref,
            "repo": self.repo,
            "revision": self.revision,
            "state": self.state,
            "reason": self.reason,
            "files": [[f.path, f.size, f.sha256] for f in sorted(self.files, key=lambda f: f.path)],
            "parents": [[p.id, p.relation, p.source] for p in sorted(self.parents)],
            "facts": dict(self.facts),
            "signature": self.signature,
            "study": self.study,
            "vector": None if self.vector is None else digest_of(self.vector),
        }


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces, in ASCII: one text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(data: bytes) -> str:
    """SHA-256 (hex) of some bytes."""
    return hashlib.sha256(data).hexdigest()


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
