"""Files of the Hub at one pinned commit, read by range through one checked reader.

The client library finds the model and the user's token; the bytes are fetched here, because its own range reads take
whatever a server sends: a server that ignores ``Range`` would silently give other bytes.
"""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import build_hf_headers, httpx  # type: ignore[attr-defined]

from crawl.errors import (
    GatedModelError,
    ModelNotFoundError,
    NetworkError,
    TruncatedError,
)
from crawl.stores.local import LocalStore
from crawl.stores.retry import Retry, TransientError, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawl.options import OpenOptions
    from crawl.refs import ByteRange, ModelRef
    from crawl.stores import ByteStore

T = TypeVar("T")

HEAD = 100_000  # bytes: enough for 97 % of the headers of the most used models, by the client library's own count
GAP = 65_536  # bytes: about what arrives in the time one more request takes
_MOST_REDIRECTS = 5
_LONGEST_GET = 256 * 2**20  # bytes of one request: a longer range is fetched in parts, so that a retry stays cheap
_COMMIT = re.compile(r"[0-9a-f]{40}")


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
    head = HEAD

    def __init__(self, ref: ModelRef, options: OpenOptions) -> None:
        self._endpoint = (options.endpoint or constants.ENDPOINT).rstrip("/")
        self._location = ref.location
        self.name = ref.id
        self._retry = Retry(options)
        self._lock = threading.Lock()
        self.extra_requests = 0
        api = HfApi(endpoint=self._endpoint, token=options.token, library_name="lineage-forensics")
        info = self._ask(
            lambda: api.model_info(
                ref.location, revision=ref.revision, files_metadata=True, timeout=options.read_seconds
            )
        )
        self.commit = _commit(info, self.name)
        self.created = getattr(info, "created_at", None)
        self.ref = ref.with_revision(self.commit)
        self.name = self.ref.id
        self._sizes, self.hashes = _listing(info)
        self._client = httpx.Client(
            headers={
                **build_hf_headers(token=options.token, library_name="lineage-forensics"),
                "accept-encoding": "identity",  # a compressed answer has other bytes at the same places
            },
            follow_redirects=True,
            max_redirects=_MOST_REDIRECTS,
            timeout=httpx.Timeout(options.read_seconds, connect=options.connect_seconds),
        )

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
        where = f"{self.name}: {file}"
        parts = []
        for start in range(span.start, span.stop, _LONGEST_GET):
            part = replace(span, start=start, stop=min(start + _LONGEST_GET, span.stop))
            parts.append(self._tried(lambda part=part: self._get(file, part, where), where))  # type: ignore[misc]
        self._count(len(parts) - 1)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _get(self, file: str, span: ByteRange, where: str) -> bytes:
        url = f"{self._endpoint}/{self._location}/resolve/{self.commit}/{quote(file)}"
        try:
            with self._client.stream("GET", url, headers={"range": f"bytes={span.start}-{span.stop - 1}"}) as answer:
                _check_status(answer, where, "file", stored=not str(answer.url).startswith(f"{self._endpoint}/"))
                _check_range(answer, span, self._sizes[file], where)
                return _body(answer, span, where)
        except httpx.TooManyRedirects as error:
            raise NetworkError(f"more than {_MOST_REDIRECTS} redirects", where=where) from error
        except httpx.TransportError as error:
            raise TransientError(f"the connection failed ({type(error).__name__})") from error

    def _ask(self, call: Callable[[], T]) -> T:
        def once() -> T:
            self._count(1)
            try:
                return call()
            except HfHubHTTPError as error:
                _check_status(error.response, self.name, "model")
                raise NetworkError(f"the server answered {error.response.status_code}", where=self.name) from None
            except OfflineModeIsEnabled as error:
                raise NetworkError("offline mode is set", where=self.name, hint="unset HF_HUB_OFFLINE") from error
            except httpx.TransportError as error:
                raise TransientError(f"the connection failed ({type(error).__name__})") from error
            except HFValidationError as error:
                raise ModelNotFoundError("not a Hub id", where=self.name, hint="give org/name") from error
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                reason = "the answer is not that of a model hub"
                raise NetworkError(reason, where=self.name, hint="check HF_ENDPOINT") from error

        # the first attempt is counted inside `once`, repeats are counted there as well
        return self._retry.run(once, self.name, lambda: None)

    def _tried(self, call: Callable[[], bytes], where: str) -> bytes:
        return self._retry.run(call, where, lambda: self._count(1))

    def _count(self, n: int) -> None:
        with self._lock:
            self.extra_requests += n

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _commit(info: Any, where: str) -> str:
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise NetworkError("the server names no commit", where=where, hint="check HF_ENDPOINT")
    return info.sha


def _listing(info: Any) -> tuple[dict[str, int], dict[str, str]]:
    sizes: dict[str, int] = {}
    hashes: dict[str, str] = {}
    for file in info.siblings or ():
        if type(file.size) is not int or file.size < 0 or not isinstance(file.rfilename, str):
            continue
        sizes[file.rfilename] = file.size
        if file.lfs is not None and isinstance(file.lfs.sha256, str):
            hashes[file.rfilename] = file.lfs.sha256
    return dict(sorted(sizes.items())), hashes


def _check_status(answer: Any, where: str, asked: str, *, stored: bool = False) -> None:
    """Raise what a refusing status means; `TransientError` where another attempt may help."""
    status, headers = answer.status_code, answer.headers
    code = headers.get("x-error-code", "")
    if status < 400:
        return
    if code == "GatedRepo":
        raise GatedModelError(
            "the model is gated", where=where, hint="accept its terms on its page and set HF_TOKEN to your token"
        )
    if "disabled" in headers.get("x-error-message", "").lower():
        raise GatedModelError("access to the model is disabled by the Hub", where=where)
    if status == 404 or code in {"RepoNotFound", "RevisionNotFound", "EntryNotFound"}:
        what = {"RevisionNotFound": "revision", "RepoNotFound": "model"}.get(code, asked)
        raise ModelNotFoundError(
            f"no such {what} on the Hub", where=where, hint="check the name; a private model needs HF_TOKEN"
        )
    if status in {408, 425, 429} or status >= 500:
        raise TransientError(f"the server answered {status}", wait=waits(headers))
    if status in {401, 403}:
        # the storage behind a redirect answers 403 when its signed address has run out: asking again gives a new one
        if stored:
            raise TransientError(f"the storage answered {status}")
        raise GatedModelError("the Hub refuses access", where=where, hint="set HF_TOKEN to a token that may read it")
    raise NetworkError(f"the server answered {status}", where=where)


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


def _body(answer: Any, span: ByteRange, where: str) -> bytes:
    wanted = len(span)
    parts = bytearray()
    for part in answer.iter_raw():
        parts += part
        if len(parts) > wanted:
            raise NetworkError(f"the server sent more than the {wanted} bytes it announced", where=where)
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
    resolved = ref.with_revision(commit) if _COMMIT.fullmatch(commit) else ref
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
