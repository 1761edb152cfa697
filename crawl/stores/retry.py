"""Try again, a bounded number of times, with bounded waits."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay

from crawl.errors import CrawlError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from crawl.options import OpenOptions

T = TypeVar("T")

_LONGEST_WAIT = 1e9  # seconds: what a server may ask for is cut to this before the cap of the options is applied


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
    reason of the refusal. Otherwise ``Retry-After``, a number or a date that is still to come.
    """
    limit = dict(part.strip().partition("=")[::2] for part in headers.get("ratelimit", "").split(";"))
    if limit.get("r") == "0" and (seconds := _seconds(limit.get("t", ""))) is not None:
        return seconds + 1.0  # the window has surely ended one second after the count reached zero
    asked = headers.get("retry-after", "").strip()
    return _seconds(asked) if asked.isdecimal() else _until(asked)


def _seconds(text: str) -> float | None:
    if not (text.isascii() and text.isdecimal()):
        return None
    return float(text) if len(text) < 10 else _LONGEST_WAIT


def _until(text: str) -> float | None:
    """Seconds until a date of HTTP; None for one that is past, and for what is no date."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(seconds, _LONGEST_WAIT) if seconds > 0 else None


class Retry:
    """Runs a call until it works, or the attempts or the time are used up."""

    _FIRST_WAIT = 0.5  # seconds; doubled each time
    _OPTIONS_HINT = "try again later"

    def __init__(self, options: OpenOptions) -> None:
        self._attempts = max(1, options.attempts)
        self._longest = options.longest_wait_seconds
        self._deadline = options.deadline_seconds
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
        retrying = Retrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._attempts) | stop_after_delay(self._deadline),
            wait=self._pause,
            retry=retry_if_exception_type(TransientError),
            before_sleep=lambda _: repeated(),
            reraise=True,
        )
        try:
            return retrying(call)
        except TransientError as failure:
            attempts = retrying.statistics.get("attempt_number", 1)
            times = f" ({attempts} attempts)" if attempts > 1 else ""
            raise failure.error(f"{failure.reason}{times}", where=where, hint=self._OPTIONS_HINT) from failure

    def _pause(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome is not None else None
        own: float = self._FIRST_WAIT * 2 ** (state.attempt_number - 1) * (1.0 + self._random.random())
        asked = failure.wait if isinstance(failure, TransientError) else None
        return min(self._longest, own if asked is None else asked)
