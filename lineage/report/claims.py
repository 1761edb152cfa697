"""What a tree found that does not fit together: claims that weights contradict, and signals that contradict each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from lineage.names import safe, shortened
from lineage.report.pen import line

SIZE = 4.0
"""Natural log-odds against the direction that is drawn from which a signal of a link is named."""

_MOST = 5
"""Lines of each kind; further ones are counted."""

_REASONS = {
    "not-related": "no test relates the two",
    "direction": "the weights say the opposite",
}

_LEAST = 8
"""Columns a name keeps."""


def contradicted(document: Mapping[str, Any], width: int, *, is_full: bool = False) -> list[Text]:
    """Lines on claims that weights contradict; none without `--metadata`, or where nothing is contradicted.

    Parameters
    ----------
    document : mapping
        As of `schemas/tree-1.json`.
    width : int
        Columns; every line fits.
    is_full : bool
        Name all.

    Returns
    -------
    list of Text
    """
    found = (document.get("metadata") or {}).get("contradictions", ())
    lines = [
        _fitted((c["claimed_parent"], c["claimed_child"]), " → ", f": {_REASONS.get(c['reason'], c['reason'])}", width)
        for c in found
    ]
    title = f"Contradicted by the weights ({len(lines):,}): claims of a parent, by card or date"
    return _titled(title, lines, is_full=is_full)


def at_odds(document: Mapping[str, Any], width: int, *, is_full: bool = False) -> list[Text]:
    """Lines on links of which one signal speaks clearly against the direction drawn; none where there is no such link.

    Parameters
    ----------
    document : mapping
        As of `schemas/tree-1.json`.
    width : int
        Columns; every line fits.
    is_full : bool
        Name all.

    Returns
    -------
    list of Text
    """
    lines = []
    for e in document["edges"]:
        against = [s for s in e["evidence"].get("signals", ()) if s["log_odds"] <= -SIZE]
        if against:
            worst = min(against, key=lambda s: (s["log_odds"], s["name"]))
            told = f": {safe(worst['name'])} says the opposite ({-worst['log_odds']:.1f} nats)"
            lines.append(_fitted((e["parent"], e["child"]), " → ", told, width))
    title = f"Drawn against evidence ({len(lines):,}): directions on which signals disagree"
    return _titled(title, lines, is_full=is_full)


def _titled(title: str, lines: Sequence[Text], *, is_full: bool) -> list[Text]:
    if not lines:
        return []
    named = lines if is_full else lines[:_MOST]
    left = len(lines) - len(named)
    return [line("", title), *named, *([line("  ", f"… {left:,} more")] if left else [])]


def _fitted(names: tuple[str, str], between: str, ending: str, width: int) -> Text:
    """Two names and what is said of them on one line; names are shortened in their middle, the ending only last."""
    room = width - 2 - cell_len(between) - cell_len(ending)
    if room < 2 * _LEAST:
        ending = shortened(ending, max(1, cell_len(ending) - (2 * _LEAST - room)), cell_len)
        room = max(2, width - 2 - cell_len(between) - cell_len(ending))
    first, second = (safe(n) for n in names)
    share = max(room // 2, room - cell_len(second)), max(room // 2, room - cell_len(first))
    ends = [shortened(n, w, cell_len) for n, w in zip((first, second), share, strict=True)]
    return line("  ", between.join(ends), ending)
