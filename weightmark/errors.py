"""What can go wrong with marks. Each error says what, where, and what to do."""


class WatermarkError(Exception):
    """Base of the errors of this package.

    Attributes
    ----------
    reason : str
        What is wrong, without a full stop.
    where : str
        Key file, model or tensor; may be empty.
    hint : str
        What to do about it; may be empty.
    """

    def __init__(self, reason: str, *, where: str = "", hint: str = "") -> None:
        self.reason = reason
        self.where = where
        self.hint = hint
        text = f"{where}: {reason}" if where else reason
        super().__init__(f"{text}; {hint}" if hint else text)


class UnusableKeyError(WatermarkError, ValueError):
    """A key file, claim or sketch that cannot be read, is damaged, or is of another version."""


class WrongPassphraseError(WatermarkError, ValueError):
    """The passphrase does not open the key."""


class MarkedReferenceError(WatermarkError, ValueError):
    """A marked file given as the reference: aligning to it would put the mark into every suspect."""


class UnfitModelError(WatermarkError, ValueError):
    """A model this key or scheme has nothing to write to or read from."""


class TooStrongError(WatermarkError, ValueError):
    """A mark that would change the model more than it may."""


class WritingError(WatermarkError, OSError):
    """The marked copy cannot be written; nothing is left under its name."""
