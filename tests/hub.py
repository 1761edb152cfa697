"""A model hub on the loopback that speaks the protocol of the real one: see `hubpages` for its answers.

``with Hub() as hub`` starts two servers: the hub at 127.0.0.1 and the storage at localhost, so that a redirect really
crosses origins. `Hub.log` holds every request, with the bytes of its answer; `Hub.faults` breaks answers on purpose.
"""

import json
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hubpages import Answer, Pages, Repo

__all__ = ["Fault", "Hub", "Repo", "Seen"]


@dataclass
class Fault:
    """What to do to the next `times` requests whose path matches `pattern`.

    Actions: a status code; of bodies `ignore_range short cut long wrong_range gzip html stall stall_body slow`; of pages
    `same_page cursor_loop`; of redirects `redirect_loop foreign`; of repositories `changed deleted`.
    """

    pattern: str
    action: str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """One request and what was sent for it."""

    origin: str
    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int
    body_bytes: int


class Hub:
    """The two servers and what they serve."""

    def __init__(self, repos: dict[str, Repo] | None = None, *, page: int = 1000) -> None:
        self.repos = repos or {}
        self.moved: dict[str, str] = {}
        self.page = page
        self.faults: list[Fault] = []
        self.chance: Callable[[str, str], Fault | None] = lambda *_: None
        self.log: list[Seen] = []
        self.token = "hf_secret_of_the_test"  # noqa: S105
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.busy = self.busiest = 0
        self._servers = [self._server("hub", "127.0.0.1"), self._server("storage", "localhost")]
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.storage = f"http://localhost:{self._servers[1].server_port}"

    def _server(self, origin: str, host: str) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self, "origin": origin})
        server = _Server((host, 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def requests(self, origin: str | None = None, containing: str = "") -> list[Seen]:
        """The requests so far, of one origin or both, whose path contains a text."""
        return [s for s in self.log if origin in (None, s.origin) and containing in s.path]

    def fault(self, origin: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return self.chance(origin, path)


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that leaves before the end is one of the cases, and no reason for a traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    origin: str
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # small answers in several writes would wait 40 ms each
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._counted()

    def do_GET(self) -> None:
        self._counted()

    def do_POST(self) -> None:
        self._counted()

    def _counted(self) -> None:
        with self.hub.lock:
            self.hub.busy += 1
            self.hub.busiest = max(self.hub.busiest, self.hub.busy)
        self._is_counted = True
        try:
            self._answer()
        finally:
            self._uncount()

    def _uncount(self) -> None:
        """Before the first byte is sent: the client may ask anew before this thread runs again."""
        if self._is_counted:
            self._is_counted = False
            with self.hub.lock:
                self.hub.busy -= 1

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        form = self._form()
        fault = self.hub.fault(self.origin, path)
        action = fault.action if fault else ""
        if action == "stall":
            self._note(0, 0)
            self._uncount()
            self.hub.released.wait(5)
            self.close_connection = True
        elif action.isdecimal():
            self._send(Answer(int(action), b"busy", dict(fault.headers)), "")
        elif action == "html":
            self._send(Answer(200, b"<html>sign in</html>", {"content-type": "text/html"}), "")
        elif (place := self._moved(path)) is not None:
            self._send(Answer(307, b"", {"Location": f"{quote(place)}?{parts.query}"}), "")
        elif action in {"redirect_loop", "foreign"}:
            target = self.path if action == "redirect_loop" else "http://192.0.2.1/elsewhere"
            self._send(Answer(302, b"", {"Location": target}), "")
        else:
            pages = Pages(self.hub, self.headers, query | form, action)
            self._send(pages.stored(path) if self.origin == "storage" else pages.answer(path), action)

    def _form(self) -> dict[str, list[str]]:
        """Fields of a body: one client sends a form, another JSON."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        if "json" in self.headers.get("content-type", ""):
            return {k: [str(x) for x in v] if isinstance(v, list) else [str(v)] for k, v in json.loads(body).items()}
        return parse_qs(body)

    def _moved(self, path: str) -> str | None:
        """Where a path of a renamed repository is now: the same path below the new name."""
        for old, new in self.hub.moved.items():
            for prefix in (f"/api/models/{old}", f"/{old}"):
                if self.origin == "hub" and (path == prefix or path.startswith(f"{prefix}/")):
                    return path.replace(old, new, 1)
        return None

    def _note(self, status: int, sent: int) -> None:
        given = self.headers
        self.hub.log.append(
            Seen(self.origin, self.command, self.path, given.get("range"), given.get("authorization"), status, sent)
        )

    def _send(self, answer: Answer, action: str) -> None:
        body, length = answer.body, len(answer.body)
        broken = answer.status in {200, 206} and "json" not in answer.headers.get("content-type", "")
        if broken and action == "short":
            body, length = body[:-3], max(0, length - 3)
        elif broken and action == "long":
            body, length = body + b"more", length + 4
        elif broken and action in {"cut", "stall_body"}:
            body = body[:-3]
        self._note(answer.status, 0 if self.command == "HEAD" else len(body))
        self._uncount()
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if broken and action == "slow":
            self._drip(body)
            return
        self.wfile.write(body)
        self.wfile.flush()
        if broken and action == "stall_body":
            self.hub.released.wait(5)
        if len(body) != length:
            self.close_connection = True

    def _drip(self, body: bytes) -> None:
        """A byte now and then: each pause is short, all of them together are not."""
        for start in range(0, len(body), 1):
            self.wfile.write(body[start : start + 1])
            self.wfile.flush()
            if self.hub.released.wait(0.05):
                break
        self.close_connection = True
