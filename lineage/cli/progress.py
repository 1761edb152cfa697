"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere when they are asked for."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lineage.cli.streams import is_terminal, write_stderr

Tell = Callable[[str, int, int], None]

_PAUSE = 0.3
"""Seconds between two plain lines of one stage."""


@contextmanager
def progress(*, quiet: bool, verbose: bool) -> Iterator[Tell | None]:
    """Show how far the work is; None when nobody is looking.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    verbose : bool
        Show plain lines where stderr is no terminal.

    Yields
    ------
    callable or None
        Called with (stage, done, total).
    """
    if quiet or not (verbose or is_terminal(sys.stderr)):
        yield None
    elif is_terminal(sys.stderr):
        with _bar() as tell:
            yield tell
    else:
        yield PlainLines()


class PlainLines:
    """Lines such as "reading 3/24": the first and the last of a stage, and a few per second between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell one step."""
        now = self._clock()
        if stage in self._told and done < total and now - self._told[stage] < _PAUSE:
            return
        self._told[stage] = now
        write_stderr(f"{stage} {done}/{total}\n")


@contextmanager
def _bar() -> Iterator[Tell]:
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
