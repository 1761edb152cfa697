"""Files of the Hub at one pinned commit, read by range through one checked reader.

The client library finds the model and the user's token; the bytes are fetched here, because its own range reads take
whatever a server sends: a server that ignores ``Range`` would silently give other bytes.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import build_hf_headers, httpx  # type: ignore[attr-defined]

from crawl.errors import BudgetSpentError, CrawlError, ModelNotFoundError, NetworkError, TruncatedError
from crawl.refs import ByteRange
from crawl.stores.listing import LIBRARY, ExpiredError, Listing, api_of, asked, check_status, describe, is_commit
from crawl.stores.local import LocalStore
from crawl.stores.retry import Retry, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawl.options import OpenOptions
    from crawl.refs import ModelRef
    from crawl.stores import ByteStore

HEAD = 100_000  # bytes: enough for 97 % of the headers of the most used models, by the client library's own count
GAP = 65_536  # bytes: about what arrives in the time one more request takes
_MOST_REDIRECTS = 5
_LONGEST_GET = 256 * 2**20  # bytes of one request: a longer range is fetched in parts, so that a retry stays cheap
_CONFIG = "config.json"


class HubStore:
    """The files of one model at one commit.

    Attributes
    ----------
    hashes : mapping
        File -> SHA-256, as the Hub states it for large files.
    created : object
        When the Hub says the repository was made: never before March 2022, when it began to keep this.
    extra_requests : int
        The listing, and repeats after a failure.
    """

    gap = GAP

    def __init__(self, ref: ModelRef, options: OpenOptions, listing: Listing | None = None) -> None:
        self._endpoint = (options.endpoint or constants.ENDPOINT).rstrip("/")
        self._options = options
        self._retry = Retry(options)
        self._lock = threading.Lock()
        self.extra_requests = 0
        self.head = HEAD
        self._api = api_of(options, self._endpoint)
        if listing is None:
            listing = asked(
                lambda: describe(self._api, ref.location, ref.revision, options), ref.id, self._retry, self._one_more
            )
        self._location = listing.repo
        self.commit = listing.commit
        self.created = listing.created
        self.ref = replace(ref, location=listing.repo, revision=self.commit)
        self.name = self.ref.id
        self._sizes, self.hashes = listing.sizes, listing.hashes
        self._places: dict[str, str] = {}
        self._kept: dict[str, bytes] = {}
        self._client = self._made(**build_hf_headers(token=options.token, library_name=LIBRARY))
        self._storage = self._made()  # the token belongs to the Hub alone

    def _made(self, **headers: str) -> httpx.Client:
        # a compressed answer has other bytes at the same places
        headers = {**headers, "accept-encoding": "identity"}
        if self._options.traffic is not None:
            return self._options.traffic.client(headers=headers)
        limit = httpx.Timeout(self._options.read_seconds, connect=self._options.connect_seconds)
        return httpx.Client(headers=headers, follow_redirects=True, max_redirects=_MOST_REDIRECTS, timeout=limit)

    def files(self) -> Mapping[str, int]:
        """Return file name -> size in bytes."""
        return self._sizes

    def read(self, file: str, span: ByteRange) -> bytes:
        """Return exactly the bytes of `span`.

        Raises
        ------
        GatedModelError, ModelNotFoundError, NetworkError, TruncatedError
            The server refuses, does not know the file, or never sends exactly these bytes.
        """
        if file in self._kept:
            return self._kept[file][span.start : span.stop]
        where = f"{self.name}: {file}"
        parts = []
        for start in range(span.start, span.stop, _LONGEST_GET):
            part = replace(span, start=start, stop=min(start + _LONGEST_GET, span.stop))
            parts.append(self._tried(lambda part=part: self._get(file, part, where), where))  # type: ignore[misc]
        self._count(len(parts) - 1)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def shard_headers(self, index: str) -> Mapping[str, Mapping[str, Any]] | None:
        """Return the headers of all shards of an index, asked in one request; None where the Hub does not give them.

        The Hub answers for the head of the main branch without naming its commit. So the config is read from that branch
        afterwards, which names it: headers of another commit are not used.
        """
        try:
            answer = asked(
                lambda: self._api.get_sharded_safetensors_metadata(
                    self._location, filename=index, timeout=self._options.read_seconds
                ),
                self.name,
                self._retry,
                self._one_more,
            )
            if self._head_commit() != self.commit:
                return None
        except BudgetSpentError:
            raise
        except CrawlError:
            return None
        return {
            shard: {
                name: {"dtype": t.dtype, "shape": t.shape, "data_offsets": list(t.data_offsets)}
                for name, t in found.tensors.items()
            }
            for shard, found in answer.files_metadata.items()
        }

    def _head_commit(self) -> str:
        """Commit of the main branch; where it is the pinned one, its config is kept for later."""
        size = self._sizes.get(_CONFIG, 0)
        if not size or _CONFIG in self.hashes:
            info = asked(
                lambda: self._api.model_info(self._location, expand=["sha"], timeout=self._options.read_seconds),
                self.name,
                self._retry,
                self._one_more,
            )
            return info.sha or ""
        where = f"{self.name}: {_CONFIG}"
        commits: list[str] = []
        url = f"{self._endpoint}/{self._location}/resolve/{constants.DEFAULT_REVISION}/{_CONFIG}"
        self._one_more()
        data = self._tried(lambda: self._fetch(self._client, url, _CONFIG, ByteRange(0, size), where, commits), where)
        if commits[-1] == self.commit:
            self._kept[_CONFIG] = data
        return commits[-1]

    def _get(self, file: str, span: ByteRange, where: str) -> bytes:
        if (place := self._places.get(file)) is not None:
            try:
                return self._fetch(self._storage, place, file, span, where)
            except (ExpiredError, ModelNotFoundError):
                self._places.pop(file, None)  # its signature has run out, perhaps: the Hub gives a new one
                self._one_more()
        url = f"{self._endpoint}/{self._location}/resolve/{self.commit}/{quote(file)}"
        return self._fetch(self._client, url, file, span, where)

    def _fetch(
        self,
        client: httpx.Client,
        url: str,
        file: str,
        span: ByteRange,
        where: str,
        commits: list[str] | None = None,
    ) -> bytes:
        try:
            with client.stream("GET", url, headers={"range": f"bytes={span.start}-{span.stop - 1}"}) as answer:
                stored = not str(answer.url).startswith(f"{self._endpoint}/")
                check_status(answer, where, "file", stored=stored)
                _check_range(answer, span, self._sizes[file], where)
                data = _body(answer, span, where, time.monotonic() + self._options.deadline_seconds)
                if stored:
                    self._places[file] = str(answer.url)
                if commits is not None:
                    commits.append(answer.headers.get("x-repo-commit", ""))
                return data
        except httpx.TooManyRedirects as error:
            raise NetworkError(f"more than {_MOST_REDIRECTS} redirects", where=where) from error
        except httpx.TransportError as error:
            raise TransientError(f"the connection failed ({type(error).__name__})") from error

    def _tried(self, call: Callable[[], bytes], where: str) -> bytes:
        return self._retry.run(call, where, lambda: self._count(1))

    def _count(self, n: int) -> None:
        with self._lock:
            self.extra_requests += n

    def _one_more(self) -> None:
        self._count(1)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._storage.close()


def _check_range(answer: Any, span: ByteRange, size: int, where: str) -> None:
    wanted = f"bytes {span.start}-{span.stop - 1}/{size}"
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise NetworkError("the server compressed a range", where=where)
    if answer.status_code != 206:
        # a file that is asked for whole may also come whole
        if answer.status_code == 200 and (span.start, span.stop) == (0, size):
            return
        raise NetworkError(
            f"asked for a range, the server answered {answer.status_code} with something else",
            where=where,
            hint="a proxy that drops Range cannot be used",
        )
    given = answer.headers.get("content-range", "")
    if given != wanted:
        raise NetworkError(f"the server sent {given!r} where {wanted!r} was asked", where=where)


def _body(answer: Any, span: ByteRange, where: str, until: float) -> bytes:
    """Exactly the bytes of a range, which must be there before a moment of the clock that only runs forward."""
    wanted = len(span)
    parts = bytearray()
    for part in answer.iter_raw():
        parts += part
        if len(parts) > wanted:
            raise NetworkError(f"the server sent more than the {wanted} bytes it announced", where=where)
        if time.monotonic() > until:
            raise TransientError(f"{len(parts)} of {wanted} bytes came within the time limit")
    if len(parts) < wanted:
        raise TransientError(f"{len(parts)} bytes came where {wanted} were asked", error=TruncatedError)
    return bytes(parts)


def _snapshot(ref: ModelRef, cache: Path | None) -> tuple[LocalStore, ModelRef]:
    try:
        folder = snapshot_download(ref.location, revision=ref.revision, cache_dir=cache, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelNotFoundError(
            "offline, and not in the local cache", where=ref.id, hint="unset HF_HUB_OFFLINE or fetch it first"
        ) from error
    commit = folder.rstrip("/").rpartition("/")[2]
    resolved = ref.with_revision(commit) if is_commit(commit) else ref
    return LocalStore(Path(folder), resolved.id), resolved


def open_store(ref: ModelRef, options: OpenOptions) -> tuple[ByteStore, ModelRef]:
    """Open a model of the Hub at a pinned commit, or its snapshot in the local cache when offline.

    Raises
    ------
    CrawlError
        The model is missing, gated or unreachable.
    """
    offline = constants.HF_HUB_OFFLINE if options.offline is None else options.offline
    if offline:
        return _snapshot(ref, options.cache_dir)
    store = HubStore(ref, options)
    return store, store.ref
