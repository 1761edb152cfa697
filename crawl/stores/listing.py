"""What the Hub says of one model at one commit, asked in one request; and what its refusals mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from crawl.errors import CrawlError, DisabledModelError, GatedModelError, ModelNotFoundError, NetworkError
from crawl.stores.retry import Retry, TransientError, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawl.options import OpenOptions

T = TypeVar("T")

LIBRARY = "lineage-forensics"
MOST_FILES = 200_000  # of one model: twenty times the shards that are read
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})?")
_MOST_TAGS = 2_000
_LONGEST = 1_000  # characters of a file's name or a tag: no system takes a longer path


@dataclass(frozen=True, slots=True)
class Listing:
    """One model at one commit, as the Hub describes it. Claims of the uploader are claims here too.

    Attributes
    ----------
    repo : str
        Its present name, which may differ from the one that was asked for.
    commit : str
        40 hex digits.
    sizes : mapping of str to int
        Bytes of each file, sorted by name.
    hashes : mapping of str to str
        SHA-256 of each large file.
    blobs : mapping of str to str
        Name git gives each file's content (for a large file that of its pointer).
    tags : tuple of str
    created : object
        When the Hub says the repository was made.
    gated : bool
    """

    repo: str
    commit: str
    sizes: Mapping[str, int]
    hashes: Mapping[str, str] = field(default_factory=dict)
    blobs: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    created: object = None
    gated: bool = False


class ExpiredError(TransientError):
    """The storage refuses an address that the Hub once gave."""


def api_of(options: OpenOptions, endpoint: str) -> HfApi:
    """Return the Hub's own client."""
    return HfApi(endpoint=endpoint, token=options.token, library_name=LIBRARY)


def describe(api: HfApi, repo: str, revision: str | None, options: OpenOptions) -> Listing:
    """Ask once for commit, files and hashes of a model.

    Raises
    ------
    TransientError, CrawlError
        See `once`.
    """
    info = once(
        lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=options.read_seconds), repo
    )
    if not is_commit(info.sha):
        raise NetworkError("the server names no commit", where=repo, hint="check HF_ENDPOINT")
    sizes: dict[str, int] = {}
    hashes: dict[str, str] = {}
    blobs: dict[str, str] = {}
    for file in (info.siblings or ())[:MOST_FILES]:
        if type(file.size) is not int or file.size < 0 or not is_plain(file.rfilename):
            continue
        sizes[file.rfilename] = file.size
        if file.lfs is not None and is_plain(file.lfs.sha256):
            hashes[file.rfilename] = file.lfs.sha256
        if is_plain(file.blob_id):
            blobs[file.rfilename] = file.blob_id
    return Listing(
        repo=info.id if is_repo(info.id) else repo,
        commit=info.sha,
        sizes=dict(sorted(sizes.items())),
        hashes=hashes,
        blobs=blobs,
        tags=texts(info.tags),
        created=info.created_at,
        gated=bool(info.gated),
    )


def is_commit(value: object) -> TypeGuard[str]:
    """Whether a value is a full commit name."""
    return isinstance(value, str) and bool(_COMMIT.fullmatch(value))


def is_plain(value: object) -> TypeGuard[str]:
    """Whether a value is a text that can be stored: of sane length, without a NUL, and UTF-8."""
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()


def is_repo(value: object) -> TypeGuard[str]:
    """Whether a value has the shape of a repository's name."""
    return isinstance(value, str) and bool(_REPO.fullmatch(value)) and ".." not in value


def texts(values: object) -> tuple[str, ...]:
    """The texts among some values, so many of them as anybody writes."""
    return tuple(filter(is_plain, values[:_MOST_TAGS])) if isinstance(values, list | tuple) else ()


def asked(call: Callable[[], T], where: str, retry: Retry, count: Callable[[], None]) -> T:
    """Return what the Hub's client returns, asked again where that may help; `count` is called for each attempt."""

    def counted() -> T:
        count()
        return once(call, where)

    return retry.run(counted, where, lambda: None)


def once(call: Callable[[], T], where: str) -> T:
    """Return what the Hub's client returns, with its failures in the words of this package.

    Raises
    ------
    TransientError
        Another attempt may help.
    CrawlError
        Absent, gated, disabled, offline, or an answer that is not that of a hub.
    """
    try:
        return call()
    except (CrawlError, TransientError):
        raise
    except HfHubHTTPError as error:
        check_status(error.response, where, "model")
        raise NetworkError(f"the server answered {error.response.status_code}", where=where) from None
    except OfflineModeIsEnabled as error:
        raise NetworkError("offline mode is set", where=where, hint="unset HF_HUB_OFFLINE") from error
    except httpx.TooManyRedirects as error:
        raise NetworkError("the server redirects in a circle", where=where) from error
    except httpx.TransportError as error:
        raise TransientError(f"the connection failed ({type(error).__name__})") from error
    except HFValidationError as error:
        raise ModelNotFoundError("not a Hub id", where=where, hint="give org/name") from error
    except (ValueError, TypeError, KeyError, AttributeError, httpx.HTTPError) as error:
        reason = "the answer is not that of a model hub"
        raise NetworkError(reason, where=where, hint="check HF_ENDPOINT") from error


def check_status(answer: Any, where: str, what: str, *, stored: bool = False) -> None:
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
        raise DisabledModelError("access to the model is disabled by the Hub", where=where)
    if status == 404 or code in {"RepoNotFound", "RevisionNotFound", "EntryNotFound"}:
        named = {"RevisionNotFound": "revision", "RepoNotFound": "model"}.get(code, what)
        raise ModelNotFoundError(
            f"no such {named} on the Hub", where=where, hint="check the name; a private model needs HF_TOKEN"
        )
    if status in {408, 425, 429} or status >= 500:
        raise TransientError(f"the server answered {status}", wait=waits(headers))
    if status in {401, 403}:
        # the storage behind a redirect answers 403 when its signed address has run out: asking again gives a new one
        if stored:
            raise ExpiredError(f"the storage answered {status}")
        raise GatedModelError("the Hub refuses access", where=where, hint="set HF_TOKEN to a token that may read it")
    raise NetworkError(f"the server answered {status}", where=where)
