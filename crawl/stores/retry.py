"""Try again, a bounded number of times, with bounded waits."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar

from crawl.errors import CrawlError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawl.options import OpenOptions

T = TypeVar("T")


class TransientError(Exception):
    """A failure that may pass.

    Parameters
    ----------
    reason : str
    wait : float, optional
        Seconds the server asks for.
    error : type, optional
        What the caller finally sees if it does not pass.
    """

    def __init__(self, reason: str, *, wait: float | None = None, error: type[CrawlError] = NetworkError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.error = error


def waits(headers: Any) -> float | None:
    """Return the seconds a server asks for, or None.

    ``RateLimit: "api";r=0;t=55`` says that nothing remains of a window that ends in 55 s; with another ``r`` it is not the
    reason of the refusal. Otherwise a numeric ``Retry-After``; dates are ignored.
    """
    limit = dict(part.strip().partition("=")[::2] for part in headers.get("ratelimit", "").split(";"))
    if limit.get("r") == "0" and (seconds := _seconds(limit.get("t", ""))) is not None:
        return seconds + 1.0  # the window has surely ended one second after the count reached zero
    return _seconds(headers.get("retry-after", "").strip())


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


class Retry:
    """Runs a call until it works or the attempts are used up."""

    _FIRST_WAIT = 0.5  # seconds; doubled each time
    _OPTIONS_HINT = "try again later"

    def __init__(self, options: OpenOptions) -> None:
        self._attempts = max(1, options.attempts)
        self._longest = options.longest_wait_seconds
        self._sleep = options.sleep
        # jitter only spreads requests over time: nothing that is computed depends on it
        self._random = random.Random()  # noqa: S311

    def run(self, call: Callable[[], T], where: str, repeated: Callable[[], None]) -> T:
        """Return what `call` returns; `repeated` is called before each further attempt.

        Raises
        ------
        CrawlError
            Whatever `call` raises that is not transient; or the last transient failure, as the class it names.
        """
        attempt = 1
        while True:
            try:
                return call()
            except TransientError as failure:
                if attempt >= self._attempts:
                    times = f" ({attempt} attempts)" if attempt > 1 else ""
                    raise failure.error(f"{failure.reason}{times}", where=where, hint=self._OPTIONS_HINT) from failure
                self._sleep(self._pause(attempt, failure.wait))
            attempt += 1
            repeated()

    def _pause(self, attempt: int, asked: float | None) -> float:
        own = self._FIRST_WAIT * 2 ** (attempt - 1) * (1.0 + self._random.random())
        return min(self._longest, own if asked is None else asked)
