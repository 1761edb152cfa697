"""Which keys are looked for: those of several recipients, or the one that a claim names."""

from collections.abc import Sequence

from lineage.claiming import is_signed, read_entry
from lineage.errors import MalformedDocumentError, UsageError
from weightmark.claims import FORMAT
from weightmark.keys import Key

_MOST_KEYS = 1_000_000
"""Keys of one search: each is a pass over what is read."""


def in_channels(keys: Sequence[Key], channels: str) -> list[Key]:
    """Each key for each recipient of a list `ID,ID`, or for 0 to N-1 of a number.

    Raises
    ------
    UsageError
        More than a million keys.
    """
    names = [c.strip() for c in channels.split(",")]
    count = int(names[0][:9]) if len(names) == 1 and names[0].isdecimal() else 0
    n = (count or len(names)) * len(keys)
    if n > _MOST_KEYS:
        raise UsageError(f"{n} keys", where="--channels", hint=f"at most {_MOST_KEYS:,}")
    if len(names) == 1 and names[0].isdecimal():
        names = [str(i) for i in range(count)]
    if not names:
        raise UsageError("no recipient", where="--channels", hint="name one, or a number above 0")
    try:
        return [key.for_channel(name) for key in keys for name in names]
    except ValueError as error:
        raise UsageError(str(error), where="--channels") from error


def of_claim(keys: Sequence[Key], claim: str) -> tuple[list[Key], str]:
    """The key that a claim names, and the digest of the unmarked model that the claim commits to.

    Raises
    ------
    UsageError
        None of the keys is it.
    MalformedDocumentError
        A field is missing, or a signature does not hold.
    """
    entry = read_entry(claim, FORMAT)
    try:
        original, signed = entry["host"]["unmarked_digest"], is_signed(entry)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedDocumentError("the claim is damaged", where=claim, hint="use the file as it was made") from error
    if signed is False or not isinstance(original, str):
        raise MalformedDocumentError("the claim was changed after it was signed", where=claim, hint="use a copy of it")
    found = [k for k in keys if k.id == entry.get("key_id")]
    if not found:
        raise UsageError("the claim is about another key", where=claim, hint="give the key it was made with")
    return found, original
