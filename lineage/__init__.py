"""lineage says, from the weights themselves, where a model came from."""

from typing import Any

__all__ = [
    "CompareOptions",
    "TraceOptions",
    "TreeOptions",
    "VerifyOptions",
    "compare",
    "keygen",
    "mark",
    "sketch",
    "trace",
    "tree",
    "verify",
]

_HOMES = {
    "CompareOptions": "lineage.comparing",
    "TraceOptions": "lineage.tracing",
    "TreeOptions": "lineage.growing",
    "VerifyOptions": "lineage.recognising",
    "compare": "lineage.comparing",
    "keygen": "lineage.marking",
    "mark": "lineage.marking",
    "sketch": "lineage.outlining",
    "trace": "lineage.tracing",
    "tree": "lineage.growing",
    "verify": "lineage.recognising",
}


def __getattr__(name: str) -> Any:
    """Load the public names on use: `lineage --help` must not pull numpy in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lineage' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see above

    return getattr(import_module(_HOMES[name]), name)
