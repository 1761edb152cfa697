"""Exception to exit code and sentence: the one table. What it does not know is a bug and keeps its traceback."""

import json
import sys

USAGE = 2
OPERATIONAL = 3
NEGATIVE = 4

_CODES: dict[str, int] = {
    "UsageError": USAGE,
    "AmbiguousModelError": USAGE,
    "CrawlError": OPERATIONAL,
    "LineageError": OPERATIONAL,
    "BrokenPipeError": OPERATIONAL,
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
    if as_json:
        from lineage.record import SCHEMA_VERSION

        entry = {"kind": "usage", "message": str(words()), "where": "command line", "hint": "see --help"}
        sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, "error": entry}, sort_keys=True) + "\n")
    else:
        error.show()  # type: ignore[attr-defined]
    return code


def report_error(error: Exception, *, as_json: bool) -> int:
    """Print one sentence (stderr) or one error document (stdout) and return the exit code.

    Raises
    ------
    Exception
        The error itself when the table does not know it.
    """
    code = exit_code_of(error)
    if code is None:
        raise error
    from lineage.documents import error_entry
    from lineage.record import SCHEMA_VERSION

    entry = error_entry(error)
    if as_json:
        sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, "error": entry}, sort_keys=True) + "\n")
    else:
        from lineage.report.text import safe

        sys.stderr.write(f"lineage: {safe(entry['message'])}\n")
    return code
