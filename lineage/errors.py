"""What can go wrong above the bytes. Each error says what, where, and what to do."""


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
