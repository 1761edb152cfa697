"""The summary of a crawl in words."""

from collections.abc import Mapping
from typing import Any

from lineage.names import safe

_MOST = 20
"""References named of each kind."""


def crawl_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """What a crawl found, took in and could not read."""
    del colour, width
    words = (("added", "new"), ("updated", "changed"), ("renamed", "renamed"), ("unchanged", "unchanged"))
    counts = ", ".join(f"{document[key]:,} {word}" for key, word in words if document[key]) or "nothing new"
    lines = [f"{document['seen']:,} looked for: {counts}"]
    if document["models"]:
        copies = f", {document['copies']:,} of them exact copies that cost no byte" if document["copies"] else ""
        lines.append(f"{document['models']:,} models stored in {safe(document['index'])}{copies}")
    lines += _listed("skipped", document["skipped"]) + _listed("failed", document["failed"])
    if document["stopped"]:
        why = (
            "nothing answers" if document["stopped"] == "network" else f"the budget of {document['stopped']} is used up"
        )
        lines.append(f"stopped: {why}")
    if document["left"]:
        lines.append(f"{document['left']:,} left; go on with --resume")
    lines.append(f"{document['requests']:,} requests, {document['bytes_read']:,} bytes")
    return "\n".join(lines) + "\n"


def _listed(word: str, rows: list[Mapping[str, Any]]) -> list[str]:
    lines = [f"{len(rows):,} {word}"] if rows else []
    for row in rows[:_MOST]:
        again = " (may pass)" if row["retryable"] else ""
        lines.append(f"  {safe(row['ref'])}: {safe(row['reason'] or row['state'])}{again}")
    if len(rows) > _MOST:
        lines.append(f"  ... and {len(rows) - _MOST:,} more; --json names all")
    return lines
