"""Files named by -o: looked at before any work, then written whole or not at all."""

import os
import secrets
import stat
from pathlib import Path

from lineage.errors import OutputError, UsageError, words_of

_STREAMS = {("/", "dev"), ("/", "proc")}
"""Where an open stream has a name: /dev/stderr may lead to a regular file, which must not be replaced under it."""


def check_target(path: Path) -> None:
    """Find out before any model is read that a file cannot be written.

    Parameters
    ----------
    path : Path
        As named; links are followed.

    Raises
    ------
    UsageError
        Its folder is missing or may not be written, or the path is a folder or may not be written.
    """
    where = str(path)
    found = _status(path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise UsageError("this path is a folder", where=where, hint="name a file in it")
    if found is not None and not os.access(path, os.W_OK):
        raise UsageError("this file may not be written (permission denied)", where=where, hint="choose another path")
    if found is None or stat.S_ISREG(found.st_mode):
        folder = path.resolve().parent
        if not folder.is_dir():
            raise UsageError("the folder of this path does not exist", where=where, hint="make it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            reason = "the folder of this path may not be written (permission denied)"
            raise UsageError(reason, where=where, hint="choose another path")


def is_stdout(path: Path) -> bool:
    """Whether a path is the regular file that stdout already goes to: two writers would overwrite each other."""
    found = _status(path)
    try:
        return found is not None and stat.S_ISREG(found.st_mode) and os.path.samestat(found, os.fstat(1))
    except OSError:  # stdout is closed
        return False


def write_file(path: Path, text: str) -> None:
    """Write a text to a file.

    Parameters
    ----------
    path : Path
        Links are followed. What is no regular file (a device, a pipe) is written through.
    text : str
        Written as UTF-8.

    Raises
    ------
    OutputError
        It cannot be written; nothing is left behind, and a file that was there is as it was.

    Notes
    -----
    A regular file is written beside its final place and renamed: never half a file under the final name. It keeps
    the mode of the file it replaces; a new one has the mode that umask leaves.
    """
    try:
        found = _status(path)
        if found is None or (stat.S_ISREG(found.st_mode) and path.parts[:2] not in _STREAMS):
            _replace(path.resolve(), text, None if found is None else stat.S_IMODE(found.st_mode))
        else:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(text)
    except (OSError, RuntimeError) as error:
        words = words_of(error) if isinstance(error, OSError) else "links that lead to one another"
        raise OutputError(f"cannot be written ({words})", where=str(path), hint="choose another path") from error


def _replace(path: Path, text: str, mode: int | None) -> None:
    part = path.parent / f".lineage-{secrets.token_hex(8)}"
    # made by os.open, so that umask decides the mode of a new file
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        if mode is not None:
            part.chmod(mode)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _status(path: Path) -> os.stat_result | None:
    """Status of what a path leads to; None when there is nothing yet."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        words = words_of(error) if isinstance(error, OSError) else "not a path"
        raise UsageError(f"this path cannot be used ({words})", where=str(path), hint="choose another path") from error
