"""What models a hub has: queries and single models, through its own client, one request each page or model."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from huggingface_hub import constants

from crawl.errors import NetworkError
from crawl.refs import ModelRef
from crawl.source import WeightSource
from crawl.stores.hub import HEAD, HubStore
from crawl.stores.listing import Listing, api_of, asked, describe, is_commit, is_repo, once, texts
from crawl.stores.retry import Retry, TransientError
from crawl.weightsets import WeightSet, other_weights, set_files, weight_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import ModelInfo

    from crawl.options import OpenOptions

MOST_SETS = 64
"""Weight sets of one repository that are looked at; what lies beyond is named."""

LISTINGS = 4
"""How often a listing that breaks off is begun again; what was listed is not listed twice."""

_MOST_REPEATED = 4_000  # models in a row that were listed before: two pages of the largest kind, and again
_WHERE = "the listing of the hub"
_REPACK_FOLDERS = ("original",)  # the same weights in the trainer's own layout
_RELATIONS = ("finetune", "adapter", "quantized", "merge")


@dataclass(frozen=True, slots=True)
class Query:
    """Which models of the hub are meant.

    Attributes
    ----------
    author, search : str or None
    filters : tuple of str
        Tags, all of which a model has.
    since : datetime or None
        Models changed since then.
    limit : int or None
        So many at most, the last changed first.
    """

    author: str | None = None
    search: str | None = None
    filters: tuple[str, ...] = ()
    since: datetime | None = None
    limit: int | None = None

    def is_about(self, repo: str) -> bool:
        """Whether this query would list a repository while it is there; False where names do not say."""
        if self.filters or self.since is not None or self.limit is not None:
            return False
        here = self.author is None or repo.partition("/")[0] == self.author
        return here and (self.search is None or self.search.lower() in repo.lower())


@dataclass(frozen=True, slots=True)
class Listed:
    """One model as a listing of many names it.

    Attributes
    ----------
    repo : str
    commit : str or None
        Of the head of its main branch, where the listing names it.
    tags : tuple of str
    refused : str
        Why the hub gives it to nobody, or empty.
    """

    repo: str
    commit: str | None
    tags: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class RemoteSet:
    """One weight set of a repository.

    Attributes
    ----------
    variant : str or None
        What follows ``#`` in its reference.
    files : tuple of str
        Weight files, by their names; their index stands beside them.
    claims : tuple of str
        Index and configs beside them, which decide how they are read.
    """

    variant: str | None
    files: tuple[str, ...]
    claims: tuple[str, ...]


class Catalogue:
    """The models of one hub. Thread safe.

    Parameters
    ----------
    options : OpenOptions
        With the traffic of the run, which must be installed: it repeats and bounds what the hub's client asks.
    """

    def __init__(self, options: OpenOptions) -> None:
        self._options = options
        self._api = api_of(options, (options.endpoint or constants.ENDPOINT).rstrip("/"))
        self._retry = Retry(options)
        self.requests = 0
        self._lock = threading.Lock()

    def models(self, query: Query) -> Iterator[Listed]:
        """Models of a query, the last changed first, each once.

        Raises
        ------
        NetworkError
            The hub does not answer, or its pages go round in a circle.
        """
        seen: set[str] = set()
        for left in reversed(range(LISTINGS)):
            try:
                for info in self._pages(query):
                    if query.since is not None and _is_older(info, query.since):
                        return
                    if info.id not in seen:
                        seen.add(info.id)
                        yield _listed(info)
            except (NetworkError, TransientError) as error:
                if not left:
                    raise NetworkError(error.reason, where=_WHERE, hint="try again later") from error
            else:
                return

    def _pages(self, query: Query) -> Iterator[ModelInfo]:
        """Models of a query as the pages name them, perhaps more than once; pages in a circle end with an error."""
        pages = self._api.list_models(
            author=query.author,
            search=query.search,
            filter=list(query.filters) or None,
            sort="last_modified",
            limit=query.limit,
            expand=["sha", "tags", "lastModified", "gated", "disabled"],
        )
        models = iter(pages)
        met: set[str] = set()
        repeated = 0
        while (info := once(lambda: next(models, None), _WHERE)) is not None:
            repeated = repeated + 1 if info.id in met else 0
            if repeated > _MOST_REPEATED:
                raise NetworkError("the pages of the listing go round in a circle", where=_WHERE)
            if is_repo(info.id):
                met.add(info.id)
                yield info

    def describe(self, repo: str, revision: str | None = None) -> Listing:
        """What the hub says of one model, in one request.

        Raises
        ------
        CrawlError
            It is missing, gated, disabled, or the hub does not answer.
        """
        return asked(lambda: describe(self._api, repo, revision, self._options), repo, self._retry, self._count)

    def open(self, listing: Listing, part: RemoteSet, *, whole: int = 0) -> WeightSource:
        """Open one weight set of a described model; its headers are read now.

        Parameters
        ----------
        listing : Listing
        part : RemoteSet
        whole : int
            A set of at most so many bytes is fetched at once, in as many requests as it has files.

        Raises
        ------
        CrawlError
            The child class says what is wrong.
        """
        ref = ModelRef("hub", listing.repo, listing.commit, part.variant)
        store = HubStore(ref, self._options, listing)
        size = sum(listing.sizes[file] for file in part.files)
        store.head = max(HEAD, size) if size <= whole else HEAD
        try:
            return WeightSource(store, ref)
        except BaseException:
            store.close()
            raise

    def _count(self) -> None:
        with self._lock:
            self.requests += 1


def sets_of(listing: Listing) -> tuple[list[RemoteSet], str]:
    """Weight sets of a described model, and a sentence on what is left out, or an empty one.

    Folders of one level are looked into (adapters, components of a pipeline); a repack of the set at the top is not.
    """
    by_folder: dict[str, list[str]] = {}
    for name in listing.sizes:
        folder, _, rest = name.rpartition("/")
        if "/" not in folder and rest:
            by_folder.setdefault(folder, []).append(rest)
    found: list[RemoteSet] = []
    top = weight_sets(by_folder.get("", ()))
    for folder in sorted(by_folder):
        if folder.startswith(".") or (top and folder in _REPACK_FOLDERS):
            continue
        here = by_folder[folder]
        found += [_remote(folder, here, one) for one in weight_sets(here)]
    others = sorted(name for names in by_folder.values() for name in other_weights(names))
    if len(found) > MOST_SETS:
        return found[:MOST_SETS], f"{len(found)} weight sets in one repository: the first {MOST_SETS} are read"
    if not found:
        return (
            [],
            f"no weights in a format that is read: {others[0]} and {len(others)} in all"
            if others
            else "no weight file",
        )
    return found, ""


def _remote(folder: str, names: list[str], found: WeightSet) -> RemoteSet:
    prefix = f"{folder}/" if folder else ""
    variant = "/".join(part for part in (folder, found.variant) if part) or None
    claims: list[str] = [c for c in ("adapter_config.json", "config.json") if c in names]
    claims += [found.index] if found.index is not None else []
    return RemoteSet(
        variant, tuple(prefix + f for f in set_files(names, found)), tuple(prefix + c for c in sorted(claims))
    )


def declared_in(tags: tuple[str, ...]) -> list[tuple[str, str]]:
    """(parent, relation) that the tags of a model declare, sorted; the relation is empty where none is named."""
    found: dict[str, str] = {}
    for tag in tags:
        kind, _, rest = tag.partition(":")
        if kind != "base_model" or not rest:
            continue
        relation, colon, parent = rest.partition(":")
        if colon and relation in _RELATIONS:
            found[parent] = relation
        elif not colon:
            found.setdefault(rest, "")
    return sorted(found.items())


def _listed(info: ModelInfo) -> Listed:
    commit = info.sha if info.sha is not None and is_commit(info.sha) else None
    return Listed(info.id, commit, texts(info.tags), "disabled by the hub" if info.disabled else "")


def _is_older(info: ModelInfo, since: datetime) -> bool:
    changed = info.last_modified
    if not isinstance(changed, datetime):
        return False
    return changed.replace(tzinfo=changed.tzinfo or UTC) < since
