"""The one sink: writers for -o FORMAT[=PATH] and --json, built and checked before any model is opened."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lineage.cli.files import check_target, is_stdout, write_file
from lineage.cli.streams import is_terminal, write_stdout
from lineage.errors import OutputError, UsageError

Document = Mapping[str, Any]
Write = Callable[[Document], None]

_NARROWEST, _WIDEST = 60, 140


class TextView(Protocol):
    """A document in words."""

    def __call__(self, document: Mapping[str, Any], *, colour: bool = ..., width: int | None = ...) -> str:
        """The text; without a width that of a pipe or a file."""


def to_json(document: Document) -> str:
    """One JSON document, keys sorted, no NaN."""
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def to_line(document: Document) -> str:
    """One JSON Lines record."""
    return json.dumps(document, sort_keys=True, allow_nan=False) + "\n"


def writer(outputs: Sequence[str] | None, *, as_json: bool, quiet: bool, text: TextView) -> Write:
    """What a command calls once with its document.

    Parameters
    ----------
    outputs : sequence of str
        FORMAT or FORMAT=PATH; FORMAT alone takes the place of the report on stdout.
    as_json : bool
        JSON on stdout instead of text.
    quiet : bool
        No report on stdout; an output that asks for stdout is still written there.
    text : callable
        The command's text view.

    Returns
    -------
    callable
        Writes files first, then stdout. When a file fails, the answer is printed all the same before `OutputError`.

    Raises
    ------
    UsageError
        A format is unknown, a path is empty, named twice or cannot be written, or stdout is asked for twice.
    """
    on_stdout, files = places(outputs, ("json", "text"), as_json=as_json)
    if not on_stdout and not quiet:
        on_stdout = ["json" if as_json else "text"]

    def write(document: Document) -> None:
        failed: list[tuple[str, OutputError]] = []
        for name, path in files:
            try:
                write_file(path, to_json(document) if name == "json" else text(document))
            except OutputError as error:
                failed.append((name, error))
        for name in on_stdout or [name for name, _ in failed[:1]]:
            shown = to_json(document) if name == "json" else text(document, colour=is_coloured(), width=text_width())
            write_stdout(shown)
        if failed:
            raise failed[0][1]

    return write


def places(
    outputs: Sequence[str] | None, formats: Sequence[str], *, as_json: bool
) -> tuple[list[str], list[tuple[str, Path]]]:
    """Where each output goes, looked at before any work.

    Parameters
    ----------
    outputs : sequence of str
        FORMAT, or FORMAT=PATH; without a path, or with -, it goes to stdout.
    formats : sequence of str
        Names there are.
    as_json : bool
        stdout is taken by JSON.

    Returns
    -------
    list of str, list of (str, Path)
        The format for stdout, if any; formats and their files.

    Raises
    ------
    UsageError
        As `writer`.
    """
    targets = [_target(output, formats) for output in outputs or []]
    _refuse_repeats(targets)
    on_stdout = [name for name, path in targets if path is None]
    files = [(name, path) for name, path in targets if path is not None]
    if as_json and on_stdout:
        raise UsageError("--json already writes stdout", where="--output", hint="give the other format a path")
    for _, path in files:
        check_target(path)
    return on_stdout, files


def is_coloured() -> bool:
    """Whether stdout is a terminal that wants colour."""
    return is_terminal(sys.stdout) and "NO_COLOR" not in os.environ


def text_width() -> int | None:
    """Columns of the report: those of the terminal or of COLUMNS, within bounds; None where neither speaks."""
    asked = os.environ.get("COLUMNS", "")
    if not (asked.isdecimal() and int(asked)) and not is_terminal(sys.stdout):
        return None
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))


def _target(output: str, formats: Sequence[str]) -> tuple[str, Path | None]:
    name, equals, path = output.partition("=")
    if name not in formats:
        raise UsageError(f"no format {name!r}", where="--output", hint=f"use one of {', '.join(formats)}")
    if path == "-" or not equals:
        return name, None
    if not path:
        raise UsageError(f"no path after {output}", where="--output", hint=f"name a file, or -o {name} for stdout")
    try:
        place = Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError("there is no such user", where=path, hint="write ./~ for a name that begins so") from error
    return name, None if is_stdout(place) else place


def _refuse_repeats(targets: Sequence[tuple[str, Path | None]]) -> None:
    seen: set[Path | None] = set()
    for _, path in targets:
        place = None if path is None else path.resolve()
        if place in seen:
            hint = "give each output a place of its own"
            raise UsageError("two outputs go to one place", where="stdout" if path is None else str(path), hint=hint)
        seen.add(place)
