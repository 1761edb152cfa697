"""Text inside XML: escaped, and made unique again where two names would become one."""

from collections.abc import Iterable

_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
"""White space by number: a reader would turn it into blanks inside an attribute."""


def escaped(text: str) -> str:
    """A text for between tags or inside an attribute, which a reader gives back letter by letter.

    Letters that XML cannot hold (most control characters, lone surrogates, two noncharacters) become visible escapes.
    """
    return holdable(text).translate(_ESCAPES)


def holdable(text: str) -> str:
    """A text whose letters XML can hold."""
    if text.isprintable():
        return text
    return "".join(c if _is_held(c) else f"\\x{ord(c):02x}" for c in text)


def distinct(names: Iterable[str]) -> dict[str, str]:
    """Names XML can hold, one for each name.

    Parameters
    ----------
    names : iterable of str
        Without repeats. A name that XML holds as it is keeps it.

    Returns
    -------
    dict
        Name to what is written; where two would be the same, a number in brackets tells them apart.
    """
    listed = list(names)
    made = {name: name for name in listed if holdable(name) == name}
    taken = set(made)
    for name in listed:
        if name in made:
            continue
        base = written = holdable(name)
        number = 1
        while written in taken:
            number += 1
            written = f"{base} ({number})"
        made[name] = written
        taken.add(written)
    return made


def _is_held(letter: str) -> bool:
    code = ord(letter)
    return letter in "\t\n\r" or (code >= 0x20 and not 0xD800 <= code <= 0xDFFF and code not in {0xFFFE, 0xFFFF})
