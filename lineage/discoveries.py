"""e-BH over a stream of documents: which pairs of a file are discoveries at a false discovery rate.

The procedure needs the e-values of all pairs, but hardly any line has to wait for them. It is monotone: whatever the
pairs to come, an e-value of at least n / alpha is rejected and one below 1 / alpha is not. A line is held only while its
own answer, or that of a line before it, is open.
"""

import json
import math
from collections import deque
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from lineage.documents import LN10
from stats.combine import ebh

IN_MEMORY = 2000
"""Documents held in memory, a few kB each; those beyond wait in a temporary file."""

_ROUNDING = 5e-7
"""Half a unit of the last printed digit: decisions come from the numbers in the documents, rounded against rejection."""

_LOOKS = 256
"""Times the whole family is sorted while a line is open: enough to let lines go early, too few to cost anything."""


class Discoveries:
    """Takes documents in order and gives them back in order, each with its `ebh`, as soon as that is certain.

    Parameters
    ----------
    family_size : int
        Number of documents to come, failed ones included: their e-value is 0.
    alpha : float
        False discovery rate.
    """

    def __init__(self, family_size: int, alpha: float) -> None:
        self._n = family_size
        self._alpha = alpha
        self._log_e = np.full(family_size, -math.inf)
        self._seen = 0
        self._given = 0
        self._held = _Queue()

    def add(self, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Take the next document; yield those whose answer, and that of all before them, is certain by now."""
        self._log_e[self._seen] = _log_evalue(document)
        self._seen += 1
        self._held.push(document)
        last = self._seen == self._n
        yield from self._let_go(*self._by_size())
        if self._held and (last or self._seen % max(1, self._n // _LOOKS) == 0):
            yield from self._let_go(*self._by_family())

    def _by_size(self) -> tuple["np.ndarray[Any, np.dtype[np.bool_]]", "np.ndarray[Any, np.dtype[np.bool_]]"]:
        """What is rejected and what is not whatever is still to come, by each e-value alone."""
        open_ones = self._log_e[self._given : self._seen]
        lowest = -math.log(self._alpha)
        return open_ones >= lowest + math.log(self._n), open_ones < lowest

    def _by_family(self) -> tuple["np.ndarray[Any, np.dtype[np.bool_]]", "np.ndarray[Any, np.dtype[np.bool_]]"]:
        """The same from all seen so far, the rest taken as 0 (rejected even then) and as infinite (not even then)."""
        best = self._log_e.copy()
        best[self._seen :] = math.inf
        part = slice(self._given, self._seen)
        return ebh(self._log_e, self._alpha)[part], ~ebh(best, self._alpha)[part]

    def _let_go(self, yes: Any, no: Any) -> Iterator[dict[str, Any]]:
        for rejected, kept in zip(yes.tolist(), no.tolist(), strict=True):
            if not (rejected or kept):
                return
            self._given += 1
            document = self._held.pop()
            if "error" not in document:
                document["ebh"] = {"alpha": self._alpha, "family_size": self._n, "rejected": rejected}
            yield document


def _log_evalue(document: dict[str, Any]) -> float:
    log10_e = document.get("log10_e")
    return -math.inf if log10_e is None else (log10_e - _ROUNDING) * LN10


class _Queue:
    """Documents first in, first out; those beyond `IN_MEMORY` wait in a temporary file."""

    def __init__(self) -> None:
        self._first: deque[dict[str, Any]] = deque()
        self._rest: IO[str] | None = None
        self._waiting = 0
        self._read_at = 0

    def __len__(self) -> int:
        return len(self._first) + self._waiting

    def push(self, document: dict[str, Any]) -> None:
        """Put one at the end."""
        if self._rest is None and len(self._first) < IN_MEMORY:
            self._first.append(document)
            return
        if self._rest is None:
            self._rest = TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed when it is empty
        self._rest.seek(0, 2)
        self._rest.write(json.dumps(document, allow_nan=False) + "\n")
        self._waiting += 1

    def pop(self) -> dict[str, Any]:
        """Take the first."""
        if self._first or self._rest is None:
            return self._first.popleft()
        self._rest.seek(self._read_at)
        document: dict[str, Any] = json.loads(self._rest.readline())
        self._read_at = self._rest.tell()
        self._waiting -= 1
        if not self._waiting:
            self._rest.close()
            self._rest, self._read_at = None, 0
        return document
