"""The one sink: writers for -o FORMAT[=PATH] and --json, built before any model is opened, and progress on stderr."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lineage.errors import LineageError, UsageError

Document = Mapping[str, Any]
View = Callable[[Document], str]
Write = Callable[[Document], None]


def to_json(document: Document) -> str:
    """One JSON document, keys sorted, no NaN."""
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def writer(outputs: Sequence[str] | None, *, as_json: bool, quiet: bool, text: View) -> Write:
    """What a command calls once with its document.

    Parameters
    ----------
    outputs : sequence of str
        FORMAT or FORMAT=PATH.
    as_json : bool
        JSON on stdout instead of text.
    quiet : bool
        Nothing on stdout.
    text : callable
        The command's text view.

    Returns
    -------
    callable

    Raises
    ------
    UsageError
        A format is unknown, a folder of a path is missing, or stdout is asked for twice.
    """
    views: dict[str, View] = {"json": to_json, "text": text}
    targets: list[tuple[View, Path | None]] = []
    for output in outputs or []:
        name, _, path = output.partition("=")
        if name not in views:
            raise UsageError(f"no format {name!r}", where="--output", hint=f"use one of {', '.join(sorted(views))}")
        if path and not Path(path).expanduser().parent.is_dir():
            raise UsageError("the folder of this path does not exist", where=path, hint="make it first")
        targets.append((views[name], Path(path).expanduser() if path else None))
    if as_json and any(path is None for _, path in targets):
        raise UsageError("--json already writes stdout", where="--output", hint="give the other format a path")
    if not quiet and all(path is not None for _, path in targets):
        targets.append((views["json" if as_json else "text"], None))

    def write(document: Document) -> None:
        for view, path in targets:
            if path is None:
                sys.stdout.write(view(document))
            else:
                _write_file(path, view(document))

    return write


def write_line(document: Document) -> None:
    """One JSON Lines record on stdout."""
    sys.stdout.write(json.dumps(document, sort_keys=True, allow_nan=False) + "\n")
    sys.stdout.flush()


def is_coloured() -> bool:
    """Whether stdout is a terminal that wants colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


@contextmanager
def progress_bar(*, quiet: bool, verbose: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr for long work; None when nobody is looking."""
    if quiet or not (verbose or sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield tell


def _write_file(path: Path, text: str) -> None:
    """Write beside the target and rename: never half a file under the final name."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as part:
            part.write(text)
        Path(part.name).chmod(0o644)
        Path(part.name).replace(path)
    except OSError as error:
        raise LineageError(
            f"cannot be written ({error.strerror})", where=str(path), hint="choose another path"
        ) from error
