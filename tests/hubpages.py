"""What the hub on the loopback answers: listings with pages, one model, trees, commits, refs, headers, files."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

LARGE = 512  # bytes: from here on a file is "large", has a SHA-256 and lives in the storage


@dataclass
class Repo:
    """One model: its files at the commit of its branch and at older ones, and who may see it."""

    files: dict[str, bytes]
    commit: str = "c0ffee" + "0" * 34
    gated: bool = False
    disabled: bool = False
    branch: str = "main"
    private: bool = False
    tags: list[str] = field(default_factory=list)
    config: dict[str, object] = field(default_factory=dict)
    created: str = "2024-01-02T03:04:05.000Z"
    modified: str = "2024-05-06T07:08:09.000Z"
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def push(self, files: dict[str, bytes], commit: str) -> None:
        """A new commit on the branch; the old one stays readable by its name."""
        self.older[self.commit] = self.files
        self.files, self.commit = files, commit

    def at(self, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        """(commit, files) of a branch, `HEAD` or a commit."""
        if revision in {None, self.branch, "HEAD", f"refs/heads/{self.branch}", self.commit}:
            return self.commit, self.files
        return (revision, self.older[revision]) if revision in self.older else None


@dataclass
class Answer:
    """Status, body and headers."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def sha1(data: bytes) -> str:
    """Name git gives a file."""
    if not isinstance(data, bytes):
        return data.sha1
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324


_SHA256: dict[int, tuple[bytes, str]] = {}


def sha256(data: bytes) -> str:
    """Digest, kept for as long as the file is: large ones are asked for again and again."""
    if not isinstance(data, bytes):
        return data.sha256
    held = _SHA256.get(id(data))
    if held is None or held[0] is not data:
        held = _SHA256[id(data)] = (data, hashlib.sha256(data).hexdigest())
    return held[1]


def _json(value: object, **headers: str) -> Answer:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Answer(200, json.dumps(value).encode(), {"content-type": "application/json", **named})


def _refused(status: int, code: str, message: str, **headers: str) -> Answer:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message, **named})


_ABSENT = (404, "RepoNotFound", "Repository not found")
_ROUTES = (
    (r"/api/models/?", "listing"),
    (r"/api/whoami-v2", "whoami"),
    (r"/api/models/(.+?)/revision/(.+)", "info"),
    (r"/api/models/(.+?)/tree/([^/]+)(?:/(.*))?", "tree"),
    (r"/api/models/(.+?)/paths-info/(.+)", "paths"),
    (r"/api/models/(.+?)/refs", "refs"),
    (r"/api/models/(.+?)/commits/(.+)", "commits"),
    (r"/api/models/(.+?)/safetensors-metadata/(.+)", "headers_of"),
    (r"/api/models/(.+?)/auth-check", "allowed"),
    (r"/api/models/(.+?)/?", "info"),
    (r"/(.+?)/(?:resolve|raw)/([^/]+)/(.+)", "resolve"),
)


class Pages:
    """The answers to one request."""

    def __init__(self, hub, headers, query: dict[str, list[str]], action: str) -> None:
        self.hub = hub
        self.headers = headers
        self.query = query
        self.action = action

    def answer(self, path: str) -> Answer:
        """What the hub says to a path."""
        for pattern, name in _ROUTES:
            if found := re.fullmatch(pattern, path):
                return getattr(self, name)(*found.groups())
        return Answer(404)

    def _knows_token(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {self.hub.token}"

    def _repo(self, name: str, revision: str | None = None) -> tuple[Repo, str, dict[str, bytes]] | Answer:
        if self.action == "deleted":
            self.hub.repos.pop(name, None)
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._knows_token()):
            return _refused(*((401, *_ABSENT[1:]) if repo is not None else _ABSENT))
        if repo.disabled:
            return Answer(403, b"", {"X-Error-Message": "Access to this resource is disabled."})
        if self.action == "changed":
            repo.push(dict(repo.files), sha1(repo.commit.encode()))
        found = repo.at(revision)
        if found is None:
            return _refused(404, "RevisionNotFound", "Invalid rev id")
        return repo, *found

    def listing(self) -> Answer:
        """`GET /api/models`: newest first, in pages behind an opaque cursor."""
        asked = self.query
        names = sorted(self.hub.repos, key=lambda n: (self.hub.repos[n].modified, n), reverse=True)
        names = [n for n in names if not self.hub.repos[n].private or self._knows_token()]
        for author in asked.get("author", []):
            names = [n for n in names if n.partition("/")[0] == author]
        for word in asked.get("search", []):
            names = [n for n in names if word.lower() in n.lower()]
        for tag in asked.get("filter", []):
            names = [n for n in names if tag in self.hub.repos[n].tags]
        return self._paged(
            [(n, self.hub.repos[n]) for n in names], "/api/models", lambda p: self._model(*p, listed=True)
        )

    def _paged(self, items, path: str, shown) -> Answer:
        limit = min(int(self.query.get("limit", [self.hub.page])[0]), self.hub.page)
        start = self._place()
        if self.action == "same_page":
            start = max(0, start - limit)
        page = [shown(item) for item in items[start : start + limit]]
        after = start + limit
        headers = {}
        if after < len(items) or self.action == "cursor_loop":
            after = start if self.action == "cursor_loop" else after
            cursor = base64.urlsafe_b64encode(f"place:{after}".encode()).decode()
            rest = [(k, v) for k, values in self.query.items() if k != "cursor" for v in values]
            url = f"{self.hub.endpoint}{quote(path)}?{urlencode([*rest, ('cursor', cursor)])}"
            headers["Link"] = f'<{url}>; rel="next"'
        return _json(page, **headers)

    def _place(self) -> int:
        text = self.query.get("cursor", [""])[0]
        return int(base64.urlsafe_b64decode(text).decode().partition(":")[2]) if text else 0

    def _model(self, name: str, repo: Repo, files: dict[str, bytes] | None = None, *, listed: bool = False):
        files = repo.files if files is None else files
        blobs = not listed and self.query.get("blobs") == ["true"]
        found = {
            "_id": sha1(name.encode("utf-8", "surrogatepass"))[:24],
            "id": name,
            "modelId": name,
            "author": name.partition("/")[0],
            "sha": repo.commit,
            "lastModified": repo.modified,
            "createdAt": repo.created,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": repo.disabled,
            "downloads": 1,
            "likes": 0,
            "tags": repo.tags,
            "config": repo.config,
            "siblings": [{"rfilename": n} | (self._blob(b) if blobs else {}) for n, b in sorted(files.items())],
        }
        wanted = [key.removesuffix("[]") for key in self.query.get("expand", []) + self.query.get("expand[]", [])]
        if wanted:
            return {k: v for k, v in found.items() if k in {"_id", "id", "modelId", *wanted}}
        return found

    @staticmethod
    def _blob(data: bytes) -> dict[str, object]:
        lfs = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
        return {"size": len(data), "blobId": sha1(data)} | ({"lfs": lfs} if len(data) >= LARGE else {})

    def info(self, name: str, revision: str | None = None) -> Answer:
        """`GET /api/models/{id}`: one model object."""
        found = self._repo(name, revision)
        if isinstance(found, Answer):
            return found
        repo, commit, files = found
        return _json(self._model(name, repo, files) | {"sha": commit})

    def _entries(self, files: dict[str, bytes], below: str, *, recursive: bool) -> list[dict[str, object]]:
        entries: dict[str, dict[str, object]] = {}
        for name, data in sorted(files.items()):
            if below and not name.startswith(f"{below}/"):
                continue
            rest = name.removeprefix(f"{below}/") if below else name
            folders = rest.split("/")[:-1]
            for depth in range(1, len(folders) + 1 if recursive else min(2, len(folders) + 1)):
                path = "/".join([*([below] if below else []), *folders[:depth]])
                entries[path] = {"type": "directory", "path": path, "oid": sha1(path.encode()), "size": 0}
            if recursive or not folders:
                entries[name] = self._entry(name, data)
        return list(entries.values())

    @staticmethod
    def _entry(name: str, data: bytes) -> dict[str, object]:
        lfs = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
        return {"type": "file", "path": name, "size": len(data), "oid": sha1(data)} | (
            {"lfs": lfs} if len(data) >= LARGE else {}
        )

    def tree(self, name: str, revision: str, below: str | None = None) -> Answer:
        """`GET /api/models/{id}/tree/{rev}`: files and folders."""
        found = self._repo(name, revision)
        if isinstance(found, Answer):
            return found
        entries = self._entries(
            found[2], below or "", recursive=self.query.get("recursive", [""])[0] in {"true", "True"}
        )
        if below and not entries:
            return _refused(404, "EntryNotFound", "no such folder", X_Repo_Commit=found[1])
        path = f"/api/models/{name}/tree/{revision}" + (f"/{below}" if below else "")
        return self._paged(entries, path, lambda entry: entry)

    def paths(self, name: str, revision: str) -> Answer:
        """`POST /api/models/{id}/paths-info/{rev}`: the entries of some paths; unknown ones are left out."""
        found = self._repo(name, revision)
        if isinstance(found, Answer):
            return found
        wanted = self.query.get("paths", [])
        return _json([self._entry(n, found[2][n]) for n in wanted if n in found[2]])

    def refs(self, name: str) -> Answer:
        """`GET /api/models/{id}/refs`."""
        found = self._repo(name)
        if isinstance(found, Answer):
            return found
        branch = {"name": found[0].branch, "ref": f"refs/heads/{found[0].branch}", "targetCommit": found[0].commit}
        return _json({"branches": [branch], "converts": [], "tags": []})

    def commits(self, name: str, revision: str) -> Answer:
        """`GET /api/models/{id}/commits/{rev}`: newest first."""
        found = self._repo(name, revision)
        if isinstance(found, Answer):
            return found
        names = [found[0].commit, *reversed(found[0].older)]
        rows = [
            {"id": c, "title": "weights", "message": "", "authors": [{"user": "org"}], "date": found[0].modified}
            for c in names
        ]
        return self._paged(rows, f"/api/models/{name}/commits/{revision}", lambda row: row)

    def headers_of(self, name: str, index: str) -> Answer:
        """`GET /api/models/{id}/safetensors-metadata/{index}`: the headers of all shards, at the head of the branch."""
        found = self._repo(name)
        if isinstance(found, Answer):
            return found
        repo, _, files = found
        if refused := self._gate(repo):
            return refused
        if index not in files:
            return _refused(404, "EntryNotFound", "no such index")
        table = json.loads(files[index])
        headers = {}
        for shard in sorted(set(table["weight_map"].values())):
            data = files.get(shard, b"")
            length = int.from_bytes(data[:8], "little")
            headers[shard] = json.loads(data[8 : 8 + length]) if data else {}
        return _json({"index": {"metadata": table.get("metadata", {})}, "headers": headers})

    def allowed(self, name: str) -> Answer:
        """`GET /api/models/{id}/auth-check`."""
        found = self._repo(name)
        return found if isinstance(found, Answer) else self._gate(found[0]) or Answer(200)

    def whoami(self) -> Answer:
        """`GET /api/whoami-v2`."""
        return _json({"name": "tester", "type": "user", "orgs": []}) if self._knows_token() else Answer(401)

    def _gate(self, repo: Repo) -> Answer | None:
        if not repo.gated or self._knows_token():
            return None
        status = 403 if self.headers.get("authorization") else 401
        return _refused(status, "GatedRepo", "Access is restricted")

    def resolve(self, name: str, revision: str, file: str) -> Answer:
        """`GET /{id}/resolve/{rev}/{path}`: a small file itself, a redirect to the storage for a large one."""
        found = self._repo(name, revision)
        if isinstance(found, Answer):
            return found
        repo, commit, files = found
        if refused := self._gate(repo):
            return refused
        if file not in files:
            return _refused(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        data = files[file]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(data) < LARGE:
            return self._file(data, headers | {"ETag": f'"{sha1(data)}"'})
        headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
        place = f"{self.hub.storage}/{name}/{quote(file)}?commit={commit}&signature=very-secret"
        return Answer(302, b"", headers | {"Location": place})

    def stored(self, path: str) -> Answer:
        """What the storage behind a redirect answers."""
        owner, name, file = path.lstrip("/").split("/", 2)
        repo = self.hub.repos.get(f"{owner}/{name}")
        found = repo.at(self.query["commit"][0]) if repo else None
        if found is None or file not in found[1]:
            return Answer(404)
        data = found[1][file]
        return self._file(data, {"ETag": f'"{sha256(data)}"', "Accept-Ranges": "bytes"})

    def _file(self, data: bytes, headers: dict[str, str]) -> Answer:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if found is None or self.action == "ignore_range":
            return Answer(200, data if isinstance(data, bytes) else data[:], headers)
        start, stop = int(found[1]), min(int(found[2] or len(data)) + 1, len(data))
        if start >= stop:
            return Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        shift = 1 if self.action == "wrong_range" else 0
        headers["Content-Range"] = f"bytes {start + shift}-{stop - 1 + shift}/{len(data)}"
        if self.action == "gzip":
            headers["Content-Encoding"] = "gzip"
        return Answer(206, data[start:stop], headers)
