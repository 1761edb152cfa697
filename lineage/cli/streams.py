"""The standard streams, which may be full, closed, gone or of another encoding: one sentence, never a traceback."""

import os
import sys
from typing import TextIO

from lineage.errors import OutputError, words_of


def write_stdout(text: str) -> bool:
    """Write and flush.

    Returns
    -------
    bool
        False when nobody reads stdout any more (`| head -1`): no failure, but there is no use in writing more.

    Raises
    ------
    OutputError
        stdout is closed, full, or cannot hold these characters.
    """
    if sys.stdout is None:
        raise OutputError("stdout is closed", hint="open it, or write to a file with -o FORMAT=PATH")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go(sys.stdout)
        return False
    except UnicodeEncodeError as error:
        reason = f"stdout takes {error.encoding} only and the report holds other characters"
        raise OutputError(reason, hint="set PYTHONIOENCODING=utf-8, or take --json") from error
    except (OSError, ValueError) as error:
        _let_go(sys.stdout)
        words = words_of(error) if isinstance(error, OSError) else "it is closed"
        raise OutputError(f"stdout cannot be written ({words})", hint="write to a file with -o FORMAT=PATH") from error
    return True


def write_stderr(text: str) -> None:
    """Write if anybody can read it: a message that cannot be given is no failure of its own."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):
        _let_go(sys.stderr)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; a closed one is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def abandon_stdout() -> None:
    """Nobody reads stdout any more: what is still buffered goes nowhere, so that leaving is silent."""
    if sys.stdout is not None:
        _let_go(sys.stdout)


def _let_go(stream: TextIO) -> None:
    """Point the descriptor at nothing: the interpreter flushes once more when it ends, and must not fail then."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
