"""References to models: folders are searched, files of references are read, and each model gets its id."""

from collections.abc import Sequence
from pathlib import Path

from crawl import CrawlError, ModelRef, find_models, sets_in
from lineage.errors import NoModelError, UsageError, words_of
from lineage.inputs import read_bounded

MOST_BYTES = 100_000_000
"""Of a list: a million pairs; some devices never end."""


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
        "/" and the relative path; a file, its path as given; on the Hub, org/name@commit as resolved. A model named
        or found twice is there once, under its first id. Beside others, a path that does not exist and a folder
        without models are there too: opening them says what is wrong.

    Raises
    ------
    NoModelError
        The only reference is a folder that holds no model.
    CrawlError
        The only reference is neither a path nor a Hub id.
    """
    distinct: dict[str, str] = {}
    for reference in references:
        distinct.setdefault(_place(reference), reference)
    only = len(distinct) == 1
    found: dict[tuple[str, str | None, str | None], tuple[str, ModelRef]] = {}
    for reference in distinct.values():
        for name, ref in _found(reference, only=only):
            found.setdefault((_place(ref.location), ref.revision, ref.variant), (name, ref))
    return list(found.values())


def is_missing(references: Sequence[str], skipped: Sequence[str]) -> bool:
    """Whether one of several references named gave no model at all; what a searched folder holds does not count."""
    named = {_plain(r) for r in references}
    return len(named) > 1 and not named.isdisjoint(skipped)


def sets_beside(reference: str) -> list[str]:
    """Weight sets that stand beside the one a reference to a local folder means, as references."""
    folder = Path(reference)
    try:
        sets = sets_in(folder) if _is_folder(reference) else []
    except OSError:
        return []
    return [str(ref) for ref in sets if ref.variant is not None]


def read_list(source: str, what: str) -> str:
    """Text of a list of references, from a file or stdin (-).

    Parameters
    ----------
    source : str
        A path, or - for stdin.
    what : str
        What the list holds, for the message.

    Returns
    -------
    str
        Without a byte order mark.

    Raises
    ------
    UsageError
        It cannot be read, or a line of it is not UTF-8.
    """
    where = "stdin" if source == "-" else source
    try:
        data = read_bounded(source, MOST_BYTES)
    except (OSError, ValueError) as error:
        words = words_of(error) if isinstance(error, OSError) else "not a path"
        raise UsageError(
            f"the {what} cannot be read ({words})", where=where, hint="give a text file, or - for stdin"
        ) from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"the {what} are longer than {MOST_BYTES:,} bytes", where=where, hint="give a text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"line {line} is not UTF-8 text", where=where, hint="save the file as UTF-8") from error


def read_references(source: str) -> list[str]:
    """References from a file or stdin (-), one a line; blank lines and # comments are skipped."""
    lines = [line.strip() for line in read_list(source, "references").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _found(reference: str, *, only: bool) -> list[tuple[str, ModelRef]]:
    """What one reference stands for; beside others a failure becomes a reference that fails when it is opened."""
    if not _is_folder(reference):
        try:
            return [(reference, ModelRef.parse(reference))]
        except CrawlError:
            if only:
                raise
            return [(reference, ModelRef("dir", reference))]
    inside = find_models(Path(reference))
    if inside:
        return [(_name(reference, ref, only=only), ref) for ref in inside]
    if only:
        hint = "a model is a folder or file with safetensors weights"
        raise NoModelError("no model in this folder", where=reference, hint=hint)
    return [(_plain(reference), ModelRef("dir", reference))]


def _place(reference: str) -> str:
    """One text for all ways to write a local path; anything else is itself."""
    try:
        path = Path(reference)
        return str(path.absolute()) if path.is_symlink() or path.exists() else reference
    except OSError:
        return reference


def _is_folder(reference: str) -> bool:
    try:
        return Path(reference).is_dir()
    except OSError:  # a name too long, a folder that may not be entered: opening it says so
        return False


def _plain(reference: str) -> str:
    return reference.rstrip("/") or reference


def _name(reference: str, ref: ModelRef, *, only: bool) -> str:
    relative = Path(ref.location).relative_to(reference).as_posix()
    variant = f"#{ref.variant}" if ref.variant else ""
    inner = "" if relative == "." else relative
    if only:
        return (inner or Path(reference).resolve().name) + variant
    return "/".join(p for p in (reference.rstrip("/"), inner) if p) + variant
