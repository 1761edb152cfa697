"""Answers of pairs kept in a file as they come: whatever ends a run, the next one goes on from there.

One line of JSON a pair, under a first line that says what the answers rest on. A line is written whole by one call of
the system, so a run that is killed loses the pair it was at and no other. A last line that was cut short is taken away; any
other that is not as written is refused: a file that was changed by hand proves nothing.
"""

import errno
import fcntl
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lineage.errors import MalformedDocumentError, OutputError, UsageError, words_of
from lineage.signature import Signature
from lineage.tested import Answer

FORMAT = "lineage-pair-evidence"
VERSION = 1

MOST_BYTES = 1 << 30
"""Of a file: four million pairs, all of nearly three thousand models."""

_LONGEST = 4096
"""Bytes of a line: twenty times what is written."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class KeptAnswers:
    """A file of answers, open for one run.

    Parameters
    ----------
    path : Path
        Made where it is missing.
    made_with : mapping of str to str
        What answers depend on besides the slices of both models: another program, key or signature gives others.

    Attributes
    ----------
    dropped : int
        Bytes of a last line that was cut short, and is gone now.

    Raises
    ------
    UsageError
        It is no regular file, its folder is missing, another run is writing to it, or it was made with something else.
    MalformedDocumentError
        It is no such file, or of a newer form, or a line in it is not as written.
    OutputError
        It cannot be read or written.
    """

    def __init__(self, path: Path, made_with: dict[str, str]) -> None:
        self.dropped = 0
        self._path = path
        self._found: dict[tuple[str, str], Answer] = {}
        self._handle = _opened(path)
        try:
            self._load({"format": FORMAT, "version": VERSION, **made_with})
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._handle)

    def __len__(self) -> int:
        return len(self._found)

    def get(self, a: Signature, b: Signature) -> Answer | None:
        """The answer of a pair, if it is there."""
        return self._found.get((a.slices_digest, b.slices_digest))

    def put(self, a: Signature, b: Signature, answer: Answer) -> None:
        """Keep an answer."""
        pair = a.slices_digest, b.slices_digest
        self._found[pair] = answer
        entry = {"a": pair[0], "b": pair[1], "log_p": answer.log_pvalue, "testable": answer.is_testable}
        self._append(_line(entry))

    def _load(self, header: dict[str, Any]) -> None:
        first = _line(header)
        size = os.fstat(self._handle).st_size
        if size > MOST_BYTES:
            hint = "name another file"
            raise MalformedDocumentError(
                f"more than {MOST_BYTES:,} bytes of evidence", where=str(self._path), hint=hint
            )
        whole = os.pread(self._handle, size, 0) if size else b""
        end = whole.rfind(b"\n") + 1
        if not end and first.startswith(whole):  # new, or killed within its first line
            self._cut(0, 0)
            self._append(first)
            return
        self._check_header(whole[:end], header)
        for number, line in self._lines(whole[:end]):
            self._take(number, line)
        if end < size:
            self._cut(end, size - end)

    def _cut(self, end: int, dropped: int) -> None:
        self.dropped = dropped
        try:
            os.ftruncate(self._handle, end)
        except OSError as error:
            raise self._failed(error) from error

    def _check_header(self, whole: bytes, header: dict[str, Any]) -> None:
        found = _parsed(whole[: whole.find(b"\n")])
        if found.get("format") != FORMAT:
            hint = "name a new file, or one that --evidence made"
            raise MalformedDocumentError("no file of evidence of pairs", where=str(self._path), hint=hint)
        if found.get("version") != VERSION:
            raise MalformedDocumentError(
                f"evidence in a form this program does not know (version {found.get('version')!r:.20})",
                where=str(self._path),
                hint="use the program that made it, or name another file",
            )
        other = [k for k in sorted(header) if found.get(k) != header[k]]
        if other:
            raise UsageError(
                f"evidence made with another {other[0]} ({found.get(other[0])!r:.40}, not {header[other[0]]!r:.40})",
                where=str(self._path),
                hint="name another file: answers under one do not hold under the other",
            )

    def _lines(self, whole: bytes) -> Iterator[tuple[int, bytes]]:
        """Complete lines after the first, with their numbers."""
        start, number = whole.find(b"\n") + 1, 2
        while start < len(whole):
            end = whole.find(b"\n", start)
            yield number, whole[start:end]
            start, number = end + 1, number + 1

    def _take(self, number: int, line: bytes) -> None:
        entry = _parsed(line)
        a, b, log_p, testable = (entry.get(k) for k in ("a", "b", "log_p", "testable"))
        if not (_is_digest(a) and _is_digest(b) and _is_log_p(log_p) and isinstance(testable, bool)):
            raise self._malformed(number, "is no answer of a pair")
        pair, answer = (str(a), str(b)), Answer(float(str(log_p)), testable)
        if self._found.setdefault(pair, answer) != answer:
            raise self._malformed(number, "contradicts one before it")

    def _malformed(self, number: int, reason: str) -> MalformedDocumentError:
        hint = "delete that line, and its pair is tested again, or name another file"
        return MalformedDocumentError(f"line {number:,} {reason}", where=str(self._path), hint=hint)

    def _append(self, line: bytes) -> None:
        try:
            written = os.write(self._handle, line)
            if written < len(line):  # no room is left: half a line is taken back
                os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
        except OSError as error:
            raise self._failed(error) from error
        if written < len(line):
            raise self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _failed(self, error: OSError) -> OutputError:
        reason = f"evidence cannot be kept ({words_of(error)})"
        return OutputError(
            reason, where=str(self._path), hint="what was kept so far remains; make room and run it again"
        )


def _opened(path: Path) -> int:
    """A locked handle for reading and appending."""
    where = str(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except (OSError, ValueError) as error:
        words = words_of(error) if isinstance(error, OSError) else "not a path"
        raise UsageError(f"evidence cannot be kept here ({words})", where=where, hint="choose another path") from error
    try:
        _own(handle, where)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _own(handle: int, where: str) -> None:
    """Refuse what is no regular file, and what another run has open."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise UsageError("evidence is kept in a regular file only", where=where, hint="choose another path")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        hint = "wait for it, or name another file"
        raise UsageError("another run keeps its evidence here now", where=where, hint=hint) from error


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, allow_nan=False).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    """An object of JSON, empty where the line holds none."""
    if len(line) > _LONGEST:
        return {}
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_log_p(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value <= 0
