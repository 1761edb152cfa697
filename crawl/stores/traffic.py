"""What one run sends and receives: one transport under every client, with limits, budgets, counts and repeats.

The Hub's own client repeats some calls without a cap on the waits and others not at all, and most have no time limit. Here
each exchange, whoever asks for it, has a time limit, is repeated a bounded number of times with bounded waits, is counted, and
goes to no address a server had no business to send us to.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session, set_client_factory
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from crawl.errors import BudgetSpentError, NetworkError
from crawl.stores.retry import Retry, TransientError, waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawl.options import OpenOptions

REPEATED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another attempt may help."""

MOST_REDIRECTS = 5
_BESIDE = ("/api/agent-harnesses",)  # what the Hub's client asks for its own statistics: no business of a crawl
_LARGEST_ANSWER = 512 * 2**20  # bytes of one answer: above any listing and any range that is asked for


class Traffic:
    """Limits and counts of one run. Thread safe.

    Parameters
    ----------
    options : OpenOptions
        Time limits, attempts, waits.
    budget_bytes, budget_requests : int, optional
        Most bytes received in bodies, and most exchanges (redirects and repeats are exchanges).
    per_host : int
        Exchanges at one time with one host.

    Attributes
    ----------
    bytes_received, exchanges, repeats : int
    """

    def __init__(
        self,
        options: OpenOptions,
        *,
        budget_bytes: int | None = None,
        budget_requests: int | None = None,
        per_host: int = 8,
    ) -> None:
        self.options = options
        self.budget_bytes = budget_bytes
        self.budget_requests = budget_requests
        self.bytes_received = self.exchanges = self.repeats = 0
        self._endpoint = urlsplit((options.endpoint or constants.ENDPOINT).rstrip("/"))
        self._lock = threading.Lock()
        self._hosts: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(per_host))
        self._inner = httpx.HTTPTransport(limits=httpx.Limits(max_connections=64, max_keepalive_connections=32))
        self._retry = Retry(options)

    @property
    def spent(self) -> str:
        """Which budget is used up: ``bytes``, ``requests``, or an empty text."""
        if self.budget_bytes is not None and self.bytes_received >= self.budget_bytes:
            return "bytes"
        return "requests" if self.budget_requests is not None and self.exchanges >= self.budget_requests else ""

    def client(self, **settings: Any) -> httpx.Client:
        """Return a client whose exchanges all go through here; closing it leaves the connections open."""
        limit = httpx.Timeout(self.options.read_seconds, connect=self.options.connect_seconds)
        settings = {"timeout": limit, "follow_redirects": True, "max_redirects": MOST_REDIRECTS, **settings}
        return httpx.Client(transport=_Transport(self), **settings)

    @contextmanager
    def installed(self) -> Iterator[Traffic]:
        """Let the Hub's own client go through here as well, for as long as this lasts."""
        hooks = {"request": list(get_session().event_hooks["request"])}
        set_client_factory(lambda: self.client(event_hooks=hooks))
        try:
            yield self
        finally:
            set_client_factory(lambda: httpx.Client(event_hooks=hooks, follow_redirects=True, timeout=None))
            self._inner.close()

    def send(self, request: httpx.Request) -> httpx.Response:
        """Return the answer to a request, after as many repeats as it takes and the options allow.

        Raises
        ------
        BudgetSpentError, NetworkError
        """
        if request.url.path in _BESIDE:
            raise httpx.ConnectError("not asked in a crawl", request=request)
        where = f"{request.url.host}{request.url.path}"
        self._check_place(request.url, where)
        return self._retry.run(lambda: self._once(request, where), where, self._repeated)

    def _repeated(self) -> None:
        with self._lock:
            self.repeats += 1

    def _once(self, request: httpx.Request, where: str) -> httpx.Response:
        self._take(where)
        limit = request.extensions.setdefault("timeout", {})
        for name, most in (("connect", self.options.connect_seconds), ("read", self.options.read_seconds)):
            limit[name] = most if limit.get(name) is None else min(limit[name], most)
        with self._lock:
            free = self._hosts[request.url.host]
        if not free.acquire(timeout=self.options.deadline_seconds):
            raise NetworkError("no turn within the time limit", where=where)
        try:
            answer = self._inner.handle_request(request)
        except httpx.TransportError as error:
            free.release()
            raise TransientError(f"the connection failed ({type(error).__name__})") from error
        except BaseException:
            free.release()
            raise
        body = _Body(self, answer.stream, free, where)
        if answer.status_code in REPEATED:
            body.close()
            raise TransientError(f"the server answered {answer.status_code}", wait=waits(answer.headers))
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=body, request=request, extensions=answer.extensions
        )

    def _take(self, where: str) -> None:
        with self._lock:
            if spent := self.spent:
                raise BudgetSpentError(
                    f"the budget of {spent} is used up", where=where, hint="resume with a larger one"
                )
            self.exchanges += 1

    def count(self, n: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self.bytes_received += n

    def _check_place(self, url: httpx.URL, where: str) -> None:
        """Refuse an address that only this machine or its network can reach, unless the Hub itself is one."""
        if self._endpoint.scheme == "https" and url.scheme != "https":
            raise NetworkError("the server redirects to a connection without encryption", where=where)
        if is_private(self._endpoint.hostname or ""):
            if is_loopback(self._endpoint.hostname or "") and is_private(url.host) and not is_loopback(url.host):
                raise NetworkError("the server redirects to a foreign private address", where=where)
            return
        if is_private(url.host):
            raise NetworkError("the server redirects to a private address", where=where)


def is_private(host: str) -> bool:
    """Whether a host is written as an address that is not public."""
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_global
    except ValueError:
        return is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class _Transport(httpx.BaseTransport):
    """What a client is built on: every hop of every request comes through here."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        return self._traffic.send(request)


class _Body(httpx.SyncByteStream):
    """The body of an answer: counted, bounded in bytes and in time, and the host's turn ends with it."""

    def __init__(self, traffic: Traffic, inner: Any, free: threading.Semaphore, where: str) -> None:
        self._traffic = traffic
        self._inner = inner
        self._free: threading.Semaphore | None = free
        self._where = where

    def __iter__(self) -> Iterator[bytes]:
        until = time.monotonic() + self._traffic.options.deadline_seconds
        n = 0
        for part in self._inner:
            n += len(part)
            self._traffic.count(len(part))
            if n > _LARGEST_ANSWER:
                raise NetworkError(f"an answer of more than {_LARGEST_ANSWER} bytes", where=self._where)
            if time.monotonic() > until:
                raise httpx.ReadTimeout("the body did not end within the time limit")
            yield part

    def close(self) -> None:
        """End the answer."""
        free, self._free = self._free, None
        if free is not None:
            try:
                self._inner.close()
            finally:
                free.release()
