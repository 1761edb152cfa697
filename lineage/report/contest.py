"""The document of `lineage mark contest` in words."""

from collections.abc import Mapping
from typing import Any

from lineage.names import safe


def contest_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """Who has the better claim, why, and what was found of each side.

    Parameters
    ----------
    document : mapping
        As `lineage mark contest --json` writes it.
    colour, width : ignored

    Returns
    -------
    str
    """
    del colour, width
    head = f"claim {document['winner']} stands" if document["winner"] else "undecided"
    lines = [f"{head}: {safe(document['reason'])}", ""]
    for name in "ab":
        side = document[name]
        lines.append(f"{name}  original {safe(side['original'])}")
        lines.append(f"   commitment {'opens' if side['opens'] else 'does not open'} to this key and these models")
        lines.append(f"   original {'is' if side['shows_original'] else 'is not'} the one committed to")
        lines.append(f"   own mark in own original: {_found(side['own_mark_in_own_original'])}")
        lines.append(f"   own mark in the other original: {_found(side['own_mark_in_other_original'])}")
        lines.append(f"   time stamp: {side['stamped'] or 'none'}")
    return "\n".join(lines) + "\n"


def _found(entry: Mapping[str, Any]) -> str:
    if not entry.get("counts", True):
        return f"p = 10^{entry['log10_p']:.1f}, but keys of single tensors do not count against a model that was there first"
    return f"{'found' if entry['found'] else 'not found'}, p = 10^{entry['log10_p']:.1f}"
