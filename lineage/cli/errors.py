"""Exception to exit code and sentence: the one table. What it does not know is a bug and keeps its traceback."""

import errno
import json

from lineage.cli.streams import abandon_stdout, write_stderr, write_stdout
from lineage.errors import OutputError, words_of

USAGE = 2
OPERATIONAL = 3
NEGATIVE = 4

_CODES: dict[str, int] = {
    "UsageError": USAGE,
    "AmbiguousModelError": USAGE,
    "MarkedReferenceError": USAGE,
    "CrawlError": OPERATIONAL,
    "LineageError": OPERATIONAL,
    "WatermarkError": OPERATIONAL,
}
"""By class name, looked up along the MRO: the classes themselves would pull numpy into `lineage --help`."""


def exit_code_of(error: BaseException) -> int | None:
    """Documented exit code of a known failure, None for a bug."""
    return next((_CODES[c.__name__] for c in type(error).__mro__ if c.__name__ in _CODES), None)


def report_usage(error: Exception, *, as_json: bool) -> int:
    """Report an error of the option parser, which knows its own exit code; 0 when this is none.

    The parser's classes are private to typer, so they are known by what they can do.
    """
    words, code = getattr(error, "format_message", None), getattr(error, "exit_code", None)
    if not callable(words) or not isinstance(code, int):
        return 130 if type(error).__name__ == "Abort" else 0
    if type(error).__name__ == "NoArgsIsHelpError" and not as_json:  # its message is the help itself
        write_stderr(f"{words()}\n")
        return code
    path = getattr(getattr(error, "ctx", None), "command_path", "lineage")
    hint = f"see {path} --help"
    message = _sentence(str(words()))
    _tell({"kind": "usage", "message": message, "where": "command line", "hint": hint}, f"{message}; {hint}", as_json)
    return code


def report_error(error: Exception, *, as_json: bool) -> int:
    """Print one sentence (stderr) or one error document (stdout) and return the exit code.

    Raises
    ------
    Exception
        The error itself when the table does not know it.
    """
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EIO} and error.filename is None:
        abandon_stdout()  # no file: the help or the version, written by the parser to a full stdout
        error = OutputError(f"stdout cannot be written ({words_of(error)})")
    code = exit_code_of(error)
    if code is None:
        raise error
    from lineage.documents import error_entry

    entry = error_entry(error)
    _tell(entry, entry["message"], as_json and not isinstance(error, OutputError))
    return code


def _tell(entry: dict[str, str], sentence: str, as_json: bool) -> None:
    from lineage.names import safe
    from lineage.record import SCHEMA_VERSION

    if as_json:
        try:
            write_stdout(json.dumps({"schema_version": SCHEMA_VERSION, "error": entry}, sort_keys=True) + "\n")
        except OutputError:
            as_json = False
    if not as_json:
        write_stderr(f"lineage: {safe(sentence)}\n")


def _sentence(words: str) -> str:
    """The parser's message on one line, as part of a sentence of ours."""
    line = " ".join(words.split()).rstrip(".")
    return line[:1].lower() + line[1:]
