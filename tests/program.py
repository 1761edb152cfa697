"""The command line as a shell sees it: inside this process, which takes no second to start, or in one of its own."""

import io
import os
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from lineage.__main__ import main

COMMAND = [sys.executable, "-m", "lineage"]


@dataclass(frozen=True)
class Done:
    """What is left of a run."""

    returncode: int
    stdout: str
    stderr: str


def run(*args, stdin: str = "") -> Done:
    """The entry point of the console script, called here, with streams of its own and the environment put back."""
    words = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        patch.dict(os.environ),
        patch.multiple(sys, argv=["lineage", *map(str, args)], stdin=words),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = _code()
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def _code() -> int:
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception:  # noqa: BLE001 - what the interpreter does with it
        traceback.print_exc()
        return 1
    return 0


def process(*args, **kw) -> subprocess.CompletedProcess:
    """The same in an interpreter of its own: for what only a whole process can show."""
    # Without an environment children inherit the COLUMNS that readline sets behind Python's back.
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": dict(os.environ), **kw}
    return subprocess.run([*COMMAND, *map(str, args)], check=False, **options)
