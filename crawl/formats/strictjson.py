"""JSON from strangers: no duplicate keys, no NaN, no bombs, and one kind of error."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from crawl.errors import MalformedHeaderError


class _RefusedError(ValueError):
    """What the hooks below refuse."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"the key {key!r} appears twice")
            seen.add(key)
    return table


def _no_constant(text: str) -> NoReturn:
    raise _RefusedError(f"{text} is not JSON")


def parse_object(data: bytes, where: str, *, what: str = "header") -> dict[str, Any]:
    """Parse one JSON object.

    Parameters
    ----------
    data : bytes
        UTF-8, beginning with a brace; the caller caps its length.
    where : str
        Model and file, for the message.
    what : str
        What the text is called in the message.

    Returns
    -------
    dict
        Keys are unique and valid Unicode at every level.

    Raises
    ------
    MalformedHeaderError
        It is anything else.
    """
    hint = "the file is damaged or not what its name says"
    if data[:1] != b"{":
        raise MalformedHeaderError(f"the {what} does not begin with a brace", where=where, hint=hint)
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        for key in value:
            key.encode("utf-8")  # an escaped lone surrogate passes the parser but is not text
    except _RefusedError as error:
        raise MalformedHeaderError(str(error), where=where, hint=hint) from error
    except UnicodeDecodeError as error:
        raise MalformedHeaderError(f"byte {error.start} of the {what} is not UTF-8", where=where, hint=hint) from error
    except UnicodeEncodeError as error:
        raise MalformedHeaderError(f"a name in the {what} is not UTF-8", where=where, hint=hint) from error
    except json.JSONDecodeError as error:
        reason = f"not JSON at character {error.pos} of the {what} ({error.msg})"
        raise MalformedHeaderError(reason, where=where, hint=hint) from error
    except (RecursionError, ValueError) as error:  # brackets nested without end; numbers of thousands of digits
        raise MalformedHeaderError("nested too deep, or a number too long", where=where, hint=hint) from error
    table: dict[str, Any] = value
    return table
