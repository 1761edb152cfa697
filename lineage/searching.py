"""References to models: folders are searched, files of references are read, and each model gets its id."""

import sys
from collections.abc import Sequence
from pathlib import Path

from crawl import ModelRef, find_models
from lineage.errors import NoModelError, UsageError


def find_all(references: Sequence[str]) -> list[tuple[str, ModelRef]]:
    """(id, ref) of every model named or found.

    Parameters
    ----------
    references : sequence of str
        Hub ids, weight files, folders.

    Returns
    -------
    list of (str, ModelRef)
        Ids: for one searched folder, the path relative to it; for several arguments, the argument as given, then
        "/" and the relative path; a file, its path as given; on the Hub, org/name@commit as resolved.

    Raises
    ------
    NoModelError
        A folder holds no model.
    """
    folders = [r for r in references if Path(r).is_dir()]
    only = len(references) == 1 and len(folders) == 1
    found: list[tuple[str, ModelRef]] = []
    for reference in dict.fromkeys(references):
        if not Path(reference).is_dir():
            found.append((reference, ModelRef.parse(reference)))
            continue
        inside = find_models(Path(reference))
        if not inside:
            raise NoModelError(
                "no model in this folder", where=reference, hint="a model is a folder or file with safetensors weights"
            )
        found.extend((_name(reference, ref, only=only), ref) for ref in inside)
    return found


def read_references(source: str) -> list[str]:
    """References from a file or stdin (-), one a line; blank lines and # comments are skipped."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the references cannot be read ({error})", where=source, hint="give a text file, or -"
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _name(reference: str, ref: ModelRef, *, only: bool) -> str:
    relative = Path(ref.location).relative_to(reference).as_posix()
    variant = f"#{ref.variant}" if ref.variant else ""
    inner = "" if relative == "." else relative
    if only:
        return (inner or Path(reference).resolve().name) + variant
    return "/".join(p for p in (reference.rstrip("/"), inner) if p) + variant
