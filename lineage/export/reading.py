"""From bytes to a document: size, text, JSON, depth and version, before any field is looked at."""

import json
import math
from typing import Any

from lineage.errors import MalformedDocumentError, UnreadableDocumentError, words_of
from lineage.inputs import read_bounded

MOST_BYTES = 1_000_000_000
"""Of a document: a million models; some devices never end."""

MOST_LEVELS = 64
"""Of nesting: documents have nine, and writers would run out of stack."""

SCHEMA_VERSION = 1
"""Of the documents read here."""

_HINT = "give what lineage tree --json wrote"


def read_document(source: str) -> dict[str, Any]:
    """The JSON document of a file or of stdin (-).

    Parameters
    ----------
    source : str
        A path, or - for stdin.

    Returns
    -------
    dict
        Every number finite, at most `MOST_LEVELS` levels deep, of `SCHEMA_VERSION`; fields are not looked at.

    Raises
    ------
    UnreadableDocumentError
        There is no such file, or it cannot be read.
    MalformedDocumentError
        It is too long, no UTF-8, no JSON object, nested too deeply, or of another version.
    """
    where = name_of(source)
    try:
        data = read_bounded(source, MOST_BYTES)
    except (OSError, ValueError) as error:
        words = words_of(error) if isinstance(error, OSError) else "not a path"
        raise UnreadableDocumentError(f"cannot be read ({words})", where=where, hint=_HINT) from error
    if len(data) > MOST_BYTES:
        raise MalformedDocumentError(f"longer than {MOST_BYTES:,} bytes", where=where, hint=_HINT)
    document = _parsed(data, where)
    if not isinstance(document, dict):
        raise MalformedDocumentError("JSON, but no object", where=where, hint=_HINT)
    if is_deeper(document, MOST_LEVELS):
        raise MalformedDocumentError(f"nested more than {MOST_LEVELS} levels deep", where=where, hint=_HINT)
    version = document.get("schema_version")
    if isinstance(version, bool) or version != SCHEMA_VERSION:
        told = "no schema_version" if version is None else f"schema_version is {json.dumps(version)[:40]}"
        raise MalformedDocumentError(f"{told}, and {SCHEMA_VERSION} is read here", where=where, hint=_HINT)
    return document


def name_of(source: str) -> str:
    """How messages name a source."""
    return "stdin" if source == "-" else source


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than so many levels deep, found without recursion."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return False
    return True


def _parsed(data: bytes, where: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedDocumentError(f"no UTF-8 text (byte {error.start})", where=where, hint=_HINT) from error
    if not text.strip():
        raise MalformedDocumentError("empty", where=where, hint=_HINT)
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedDocumentError(f"no JSON ({place})", where=where, hint=_HINT) from error
    except RecursionError as error:
        raise MalformedDocumentError(f"nested more than {MOST_LEVELS} levels deep", where=where, hint=_HINT) from error
    except ValueError as error:
        raise MalformedDocumentError("no JSON: a number that is none or has no end", where=where, hint=_HINT) from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _refuse(text: str) -> float:
    raise ValueError(text)
