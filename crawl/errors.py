"""What can go wrong with bytes: one base error, one class per thing that is wrong.

Every error has three fields, and its text is one line made of them: the *reason* (what is wrong), *where* (model,
file, tensor, byte) and a *hint* (what to do). Names from files and servers are hostile input, so anything in the text
that could steer a terminal is shown as an escape.
"""

from __future__ import annotations

import errno

_LONGEST_TEXT = 600  # a sentence, not a dump: a tensor name may be megabytes long


def printable(text: str, limit: int = _LONGEST_TEXT) -> str:
    """Return `text` as one line without control characters, cut to `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def _once(where: str) -> str:
    """Name a lone weight file once: as a place it is called like the one file in it."""
    place, colon, inside = where.partition(": ")
    file, more, rest = inside.partition(": ")
    return f"{place}{more}{rest}" if colon and f"/{place}".endswith(f"/{file}") else where


class CrawlError(Exception):
    """Base of every error of this package.

    Attributes
    ----------
    reason : str
        What is wrong, without a full stop.
    where : str
        Model, file, tensor or byte; may be empty.
    hint : str
        What to do about it; may be empty.
    """

    def __init__(self, reason: str, *, where: str = "", hint: str = "") -> None:
        self.reason = printable(reason)
        self.where = printable(_once(where))
        self.hint = printable(hint)
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.hint}" if self.hint else ""
        return f"{place}{self.reason}{advice}"


class ModelNotFoundError(CrawlError, FileNotFoundError):
    """There is no such model, revision or file, or a folder holds no weights."""


class GatedModelError(CrawlError, PermissionError):
    """The model exists, but this user may not read it."""


class DisabledModelError(GatedModelError):
    """The model exists, and its place gives it to nobody."""


def refusal(error: OSError, doing: str, where: str) -> CrawlError:
    """Return what to raise when this machine refuses a file or folder, in its own words without number and path."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return GatedModelError(
            f"{doing} (permission denied)", where=where, hint="ask its owner for the right to read it"
        )
    return ModelNotFoundError(
        f"{doing} ({(error.strerror or 'it failed').lower()})", where=where, hint="check the path"
    )


class MalformedHeaderError(CrawlError, ValueError):
    """A weight file's header, or a shard index, contradicts itself or its file."""


class TruncatedError(CrawlError, EOFError):
    """Fewer bytes came than were asked for."""


class MissingShardError(CrawlError, FileNotFoundError):
    """An index names a shard that is not there, or a tensor its shard does not hold."""


class UnsafePathError(CrawlError, PermissionError):
    """A name or link points outside the model folder."""


class UnsupportedFormatError(CrawlError, ValueError):
    """A known or unknown file format that is not read."""


class UnsupportedDtypeError(CrawlError, TypeError):
    """A number format that cannot be turned into the array asked for."""


class NetworkError(CrawlError, ConnectionError):
    """The server did not answer, or answered something other than what was asked."""


class BudgetSpentError(CrawlError):
    """A run has used up the bytes or requests it was given."""


class AmbiguousModelError(CrawlError, ValueError):
    """A folder holds several models and the reference does not say which."""
