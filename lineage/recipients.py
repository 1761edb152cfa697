"""Which keys are looked for: those of several recipients, or the one that a claim names."""

from collections.abc import Sequence
from dataclasses import replace

from lineage.claiming import is_signed, read_entry
from lineage.errors import MalformedDocumentError, UsageError
from lineage.issuing import ALL, for_recipient, recipients_of
from weightmark.claims import FORMAT
from weightmark.keys import Key

_MOST_KEYS = 1_000_000
"""Keys of one search: each is a pass over what is read."""


def in_channels(keys: Sequence[Key], channels: str) -> list[Key]:
    """Each key for each recipient of a list `ID,ID`, for 0 to N-1 of a number, or for `all` that its file knows.

    Raises
    ------
    UsageError
        More than a million keys.
    """
    if channels.strip() == ALL:
        return _within([for_recipient(key, name) for key in keys for name in recipients_of(key)])
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
        return [_looking(key, name) for key in keys for name in names]
    except ValueError as error:
        raise UsageError(str(error), where="--channels") from error


def _looking(key: Key, name: str) -> Key:
    """The key of a recipient whose copy may have been marked elsewhere, from the same model as the copy of the file."""
    found = for_recipient(key, name)
    return found if found.host else replace(key.for_channel(name), host=dict(key.host))


def _within(keys: list[Key]) -> list[Key]:
    if len(keys) > _MOST_KEYS:
        raise UsageError(f"{len(keys)} keys", where="--channels", hint=f"at most {_MOST_KEYS:,}")
    return keys


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
