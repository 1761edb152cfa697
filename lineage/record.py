"""The run record every report embeds: enough to redo the run and to see what it read."""

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from lineage.plan import RowKey
from lineage.signature import Signature

SCHEMA_VERSION = 1
"""Rises when a field of a document changes its name or meaning; added fields do not raise it."""

DISTRIBUTION = "lineage-forensics"
_LIBRARIES = ("numpy", "numba", "ml-dtypes", "huggingface-hub")


@dataclass(slots=True)
class RunRecord:
    """What was run, with what, on what.

    Attributes
    ----------
    command : str
        The command, without references.
    parameters : mapping
        Every option that can change a result.
    seed : int
        Seed of the generators handed to the workflow.
    inputs : list
        One entry per model: digests of its header and of the slices read.
    run : dict
        Seconds, bytes, requests: what may differ between two runs over the same weights.
    """

    command: str
    parameters: Mapping[str, Any]
    seed: int
    inputs: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as it stands in documents."""
        return {
            "tool": DISTRIBUTION,
            "version": tool_version(),
            "command": self.command,
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "libraries": {name: _version_of(name) for name in _LIBRARIES},
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "platform": f"{platform.system()} {platform.machine()}",
            "inputs": self.inputs,
            "run": self.run,
        }


def input_entry(signature: Signature) -> dict[str, Any]:
    """What the record says of one model read."""
    return {
        "id": signature.id,
        "signature_version": signature.version,
        "row_key": signature.key_name,
        "header_digest": signature.header_digest,
        "slices_digest": signature.slices_digest,
    }


class Counted(Protocol):
    """Anything read through a counting store: a signature or an opened model."""

    @property
    def bytes_read(self) -> int:
        """Bytes so far."""

    @property
    def requests(self) -> int:
        """Reads so far."""


def run_entry(refs: Sequence[str], counted: Sequence[Counted], seconds: float) -> dict[str, Any]:
    """What one run cost: never compared between runs."""
    each = [{"ref": r, "bytes_read": c.bytes_read, "requests": c.requests} for r, c in zip(refs, counted, strict=True)]
    return {
        "seconds": round(seconds, 3),
        "bytes_read": sum(c.bytes_read for c in counted),
        "requests": sum(c.requests for c in counted),
        "inputs": each,
    }


def row_key_parameter(key: RowKey) -> str:
    """How the record names the row key: public, or the digest of a secret one."""
    return key.name


def tool_version() -> str:
    """Version of the installed distribution."""
    return _version_of(DISTRIBUTION)


@cache
def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
