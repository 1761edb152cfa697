"""A model hub on the loopback: listing, resolve, ranges, redirects to a second origin, refusals, and broken answers.

``with Hub() as hub`` starts two servers: the hub at 127.0.0.1 and the storage at localhost, so that a redirect really
crosses origins. `Hub.log` holds every request, with the bytes of its answer; `Hub.faults` breaks answers on purpose.
"""

import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

LARGE = 512  # bytes: from here on a file is "large", has a SHA-256 and lives in the storage


@dataclass
class Repo:
    """One model: its files at one commit, and who may see it."""

    files: dict[str, bytes]
    commit: str = "c0ffee" + "0" * 34
    gated: bool = False
    disabled: bool = False
    branch: str = "main"


@dataclass
class Fault:
    """What to do to the next `times` requests whose path matches `pattern`."""

    pattern: str
    action: str  # a status code as text, or: ignore_range short cut long wrong_range gzip stall html
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

    def __init__(self, repos: dict[str, Repo] | None = None) -> None:
        self.repos = repos or {}
        self.faults: list[Fault] = []
        self.log: list[Seen] = []
        self.token = "hf_secret_of_the_test"  # noqa: S105
        self.released = threading.Event()
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

    def fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, path):
                fault.times -= 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
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
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.hub.fault(path)
        action = fault.action if fault else ""
        if action == "stall":
            self._note(0, 0)
            self.hub.released.wait(5)
            self.close_connection = True
        elif action.isdecimal():
            self._send(int(action), b"busy", fault.headers)
        elif action == "html":
            self._send(200, b"<html>sign in</html>", {"content-type": "text/html"})
        elif self.origin == "storage":
            self._file(*path.lstrip("/").split("/", 1), action, redirect=False)
        elif found := re.fullmatch(r"/api/models/(.+?)(?:/(revision|tree)/(.+?))?/?", path):
            self._api(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3], action)
        else:
            self._send(404, b"", {})

    def _repo(self, name: str, revision: str | None) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif repo.disabled:
            self._send(403, b"", {"X-Error-Message": "Access to this resource is disabled."})
            return None
        elif revision not in (None, repo.branch, repo.commit):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return None
        return repo

    def _api(self, name: str, what: str | None, revision: str | None) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        large = {n: {"sha256": hashlib.sha256(b).hexdigest(), "size": len(b), "pointerSize": 130}
                 for n, b in repo.files.items() if len(b) >= LARGE}  # fmt: skip
        if what == "tree":
            lfs = {n: {"oid": v["sha256"], "size": v["size"], "pointerSize": 130} for n, v in large.items()}
            answer: object = [
                {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}  # noqa: S324
                | ({"lfs": lfs[n]} if n in lfs else {})
                for n, b in sorted(repo.files.items())
            ]
        else:
            siblings = [
                {"rfilename": n, "size": len(b), "blobId": hashlib.sha1(b).hexdigest()}  # noqa: S324
                | ({"lfs": large[n]} if n in large else {})
                for n, b in sorted(repo.files.items())
            ]
            answer = {"id": name, "modelId": name, "sha": repo.commit, "private": False, "tags": [],
                      "gated": "manual" if repo.gated else False, "siblings": siblings}  # fmt: skip
        self._send(200, json.dumps(answer).encode(), {"content-type": "application/json"})

    def _resolve(self, name: str, revision: str, file: str, action: str) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        if repo.gated and self.headers.get("authorization") != f"Bearer {self.hub.token}":
            status = 403 if self.headers.get("authorization") else 401
            self._send(status, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif file not in repo.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit})
        else:
            self._file(name, file, action, redirect=len(repo.files[file]) >= LARGE)

    def _file(self, name: str, file: str, action: str, *, redirect: bool) -> None:
        if self.origin == "storage":
            owner, rest = file.split("/", 1)
            name, file = f"{name}/{owner}", rest
        repo = self.hub.repos[name]
        data = repo.files[file]
        digest = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if redirect:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
            self._send(302, b"", headers | {"Location": f"{self.hub.storage}/{name}/{file}?signature=very-secret"})
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if found is None or action == "ignore_range":
            self._send(200, data, headers)
            return
        start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
        if start >= stop:
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        shift = 1 if action == "wrong_range" else 0
        headers["Content-Range"] = f"bytes {start + shift}-{stop - 1 + shift}/{len(data)}"
        if action == "gzip":
            headers["Content-Encoding"] = "gzip"
        body = data[start:stop]
        if action == "short":
            body = body[:-3]
        elif action == "long":
            body += b"more"
        self._send(206, body, headers, cut=3 if action == "cut" else 0)

    def _note(self, status: int, sent: int) -> None:
        given = self.headers
        self.hub.log.append(
            Seen(self.origin, self.command, self.path, given.get("range"), given.get("authorization"), status, sent)
        )

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int = 0) -> None:
        self._note(status, 0 if self.command == "HEAD" else len(body) - cut)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) - cut])
        if cut:
            self.close_connection = True
