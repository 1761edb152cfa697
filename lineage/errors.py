"""What can go wrong above the bytes. Each error says what, where, and what to do."""

import errno


class LineageError(Exception):
    """Base of the errors raised by workflows.

    Attributes
    ----------
    where : str
        The model, file or option concerned.
    reason : str
        What is wrong with it.
    hint : str
        What to do about it; may be empty.
    """

    def __init__(self, reason: str, *, where: str = "", hint: str = "") -> None:
        self.where = where
        self.reason = reason
        self.hint = hint
        text = f"{where}: {reason}" if where else reason
        super().__init__(f"{text}; {hint}" if hint else text)


class UsageError(LineageError, ValueError):
    """The call itself is off: an option, a pairs file, two models under one id."""


class NoModelError(LineageError, FileNotFoundError):
    """A folder that was searched holds no model at all."""


class UnreadableDocumentError(LineageError, OSError):
    """A document that was to be read is not there or cannot be read."""


class MalformedDocumentError(LineageError, ValueError):
    """What was to be a document of ours is none, or contradicts itself."""


class UndrawableError(LineageError):
    """A document that is well, and too tangled for a picture."""


class UnusableIndexError(LineageError, OSError):
    """An index that is not there, is damaged, or is none of ours or of a schema this program does not know."""


class LostWorkerError(LineageError, OSError):
    """A process that did part of the work is gone."""


class OutputError(LineageError):
    """The answer could not be written where it was asked; told on stderr, because stdout may hold the answer."""


def words_of(error: OSError) -> str:
    """What the system said, in its own words without number and path; links that go round get plainer ones."""
    if error.errno == errno.ELOOP:
        return "links that lead to one another"
    return (error.strerror or "it failed").lower()
