"""Which keys are looked for: those of several recipients, or the one that a claim names."""

from collections.abc import Sequence

from lineage.claiming import read_entry
from lineage.errors import UsageError
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


def of_claim(keys: Sequence[Key], claim: str) -> list[Key]:
    """The key that a claim names.

    Raises
    ------
    UsageError
        None of the keys is it.
    """
    entry = read_entry(claim, FORMAT)
    found = [k for k in keys if k.id == entry.get("key_id")]
    if not found:
        raise UsageError("the claim is about another key", where=claim, hint="give the key it was made with")
    return found
