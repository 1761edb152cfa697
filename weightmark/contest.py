"""Two claims on one model: which of the two originals came first, from the marks they carry."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One side of a contest, as the judge found it.

    Attributes
    ----------
    opens : bool
        Nonce and statement are those of the published commitment.
    shows_original : bool
        The original handed in has the digest that was committed to as unmarked.
    marks_own : bool
        The party's mark is found in its own original, which then is no unmarked one.
    marks_other : bool
        The party's mark is found in the other's original.
    stamped : datetime or None
        When a trusted time stamp saw the commitment; None without one.
    """

    opens: bool
    shows_original: bool
    marks_own: bool
    marks_other: bool
    stamped: datetime | None


@dataclass(frozen=True, slots=True)
class Ruling:
    """Who has the better claim, or nobody, and why."""

    winner: Literal["a", "b"] | None
    reason: str


def fault(party: Party) -> str | None:
    """Why a claim counts for nothing; None where it stands."""
    if not party.opens:
        return "its commitment does not open"
    if not party.shows_original:
        return "its original is not the one it committed to"
    if party.marks_own:
        return "its original carries its own mark, so it is no unmarked one"
    return None


def judged(a: Party, b: Party) -> Ruling:
    """Decide between two claims.

    Parameters
    ----------
    a, b : Party

    Returns
    -------
    Ruling

    Notes
    -----
    Whoever marked first made the model the other started from: the first mark is in the second's original, never the
    other way round. A thief can always add an honest mark of his own on top; he cannot take ours out of his original.
    Where the marks do not decide, the earlier time stamp does; without stamps nothing does.
    """
    faults = fault(a), fault(b)
    if faults[0] and faults[1]:
        return Ruling(None, f"neither claim stands: of a, {faults[0]}; of b, {faults[1]}")
    if faults[0]:
        return Ruling("b", f"the claim of a falls: {faults[0]}")
    if faults[1]:
        return Ruling("a", f"the claim of b falls: {faults[1]}")
    if a.marks_other != b.marks_other:
        winner: Literal["a", "b"] = "a" if a.marks_other else "b"
        other = "b" if a.marks_other else "a"
        return Ruling(winner, f"the original of {other} carries the mark of {winner}, and not the other way round")
    found = "each original carries the other's mark" if a.marks_other else "neither original carries the other's mark"
    return _by_time(a, b, found)


def _by_time(a: Party, b: Party, found: str) -> Ruling:
    if a.stamped is None and b.stamped is None:
        return Ruling(None, f"{found}, and neither claim has a time stamp")
    if a.stamped == b.stamped:
        return Ruling(None, f"{found}, and both time stamps are the same")
    if b.stamped is None or (a.stamped is not None and a.stamped < b.stamped):
        return Ruling("a", f"{found}, and the commitment of a has the earlier time stamp")
    return Ruling("b", f"{found}, and the commitment of b has the earlier time stamp")
