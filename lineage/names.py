"""Names made fit to be shown: model names are hostile input, and every view has a width."""

import unicodedata
from collections.abc import Callable

ELLIPSIS = "…"


def safe(name: object) -> str:
    """A name without control characters, marks of direction and lone surrogates: they become visible escapes."""
    text = str(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def cells(text: str) -> int:
    """Columns a text takes where every letter has one width: wide letters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(c) for c in text)


def shortened(text: str, width: int, width_of: Callable[[str], int] = cells) -> str:
    """A text with its middle left out, so that it fits.

    Parameters
    ----------
    text : str
    width : int
        Columns, at least 1.
    width_of : callable
        Columns of a text.

    Returns
    -------
    str
        As given where it fits, in columns and in letters; else its start and, somewhat longer, its end: what tells
        models of one folder apart stands there.
    """
    if len(text) <= 2 * width and width_of(text) <= width:
        return text
    room = max(0, width - 1)
    tail = _cut(text[: -2 * width - 1 : -1], (room + 1) // 2, width_of)[::-1]
    head = _cut(text[: 2 * width], room - width_of(tail), width_of)
    return f"{head}{ELLIPSIS}{tail}"


def _cut(text: str, width: int, width_of: Callable[[str], int]) -> str:
    """The longest start of a text that fits, at most two letters a column."""
    kept = text[: 2 * width]
    while kept and width_of(kept) > width:
        kept = kept[:-1]
    return kept


def _cells_of(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1
