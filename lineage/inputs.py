"""Text that people hand over: a file or stdin, read up to a bound, for some devices never end."""

import sys
from pathlib import Path


def is_here(text: str) -> bool:
    """Whether a text names something on this machine; what no file can be called names nothing."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def is_folder(text: str) -> bool:
    """Whether a text names a folder of this machine."""
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):
        return False


def read_bounded(source: str, most: int) -> bytes:
    """Bytes of a file, or of stdin (-), and one more than allowed where there are more.

    Parameters
    ----------
    source : str
        A path, or - for stdin.
    most : int
        Bytes that are allowed.

    Returns
    -------
    bytes
        At most `most + 1` of them.

    Raises
    ------
    OSError
        It cannot be read, or stdin is closed.
    ValueError
        The path is none.
    """
    if source != "-":
        with Path(source).open("rb") as stream:
            return stream.read(most + 1)
    if sys.stdin is None:
        raise OSError(0, "stdin is closed")
    return sys.stdin.buffer.read(most + 1)
