"""The model a trace asks about: taken from the index where it is there, else read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crawl import CrawlError, ModelRef, OpenOptions, WeightSource, open_model
from lineage.digests import file_digests
from lineage.index.encoding import encode
from lineage.index.entries import lasting
from lineage.index.records import Entry, digest_of
from lineage.index.shelf import Shelf
from lineage.index.studies import fitted
from lineage.index.vectors import Vector, vector_of
from lineage.inputs import is_here
from lineage.plan import RowKey
from lineage.reading import sign
from lineage.signature import Signature
from lineage.study import Study, study


@dataclass(frozen=True, slots=True)
class Query:
    """What is known of the model asked about.

    Attributes
    ----------
    id : str
    ref : ModelRef
    signature : Signature
    twins : tuple of str
        Ids of models of the index whose weight files are the same, byte for byte.
    vector : Vector or None
    study : Study or None
    declared : tuple of str
    indexed : bool
        Taken from the index; no weights were read.
    bytes_read, requests : int
    """

    id: str
    ref: ModelRef
    signature: Signature
    twins: tuple[str, ...]
    vector: Vector | None
    study: Study | None
    declared: tuple[str, ...]
    indexed: bool
    bytes_read: int = 0
    requests: int = 0


def find_query(text: str, shelf: Shelf, key: RowKey, options: OpenOptions | None) -> Query:
    """The query a reference stands for.

    Parameters
    ----------
    text : str
        An id of the index, or a reference that can be opened.
    shelf : Shelf
    key : RowKey
        Places the rows of a model that is read.
    options : OpenOptions, optional

    Returns
    -------
    Query
        From the index when it holds this id or this commit. What lies on a disk is read: files can change in place, with
        the same names, sizes and headers. It keeps its id of the index where it is what the index holds of this place.

    Raises
    ------
    CrawlError
        The model is neither in the index nor can it be opened.
    """
    known = None if is_here(text) else shelf.store.get(text)
    if known is not None and known.signature is not None:
        return _of_entry(known, shelf)
    with open_model(text, options=options) as source:
        known = shelf.store.get(source.ref.id) if source.ref.scheme == "hub" else None
        if known is not None and known.signature is not None:
            return _of_entry(known, shelf, source)
        return _read(source, shelf, key)


def _held(source: WeightSource, signature: str, hashes: Mapping[str, str], shelf: Shelf) -> Entry | None:
    """The entry of the place of a local model, where it is of these very bytes."""
    for name in shelf.store.ids_of_repo(lasting(source.ref.location)):
        entry = shelf.entry(name)
        if entry.signature == signature and all(hashes.get(f.path) == f.sha256 for f in entry.files if f.sha256):
            return entry
    return None


def _of_entry(entry: Entry, shelf: Shelf, source: WeightSource | None = None) -> Query:
    hashes = {f.path: f.sha256 for f in entry.files if f.sha256}
    return Query(
        id=entry.id,
        ref=parsed(entry.ref),
        signature=shelf.signature(entry.id),
        twins=_equal([i for i in shelf.store.twins(entry.signature or "") if i != entry.id], hashes, shelf),
        vector=shelf.vector(entry.id),
        study=shelf.study(entry.id),
        declared=tuple(p.id for p in entry.parents),
        indexed=True,
        bytes_read=0 if source is None else source.bytes_read,
        requests=0 if source is None else source.requests,
    )


def _read(source: WeightSource, shelf: Shelf, key: RowKey) -> Query:
    signature = sign(source, key=key)
    read = study(source, key, name=source.ref.id)
    digest = digest_of(encode(signature))
    twins = shelf.store.twins(digest)
    hashes = {d["file"]: d["sha256"] for d in file_digests(source)} if twins else source.content_hashes()
    held = _held(source, digest, hashes, shelf) if twins and source.ref.scheme != "hub" else None
    name = source.ref.id if held is None else held.id
    return Query(
        id=name,
        ref=source.ref,
        signature=signature,
        twins=_equal([t for t in twins if t != name], hashes, shelf),
        vector=vector_of(signature),
        study=fitted(read) if read is not None and read.matrices else None,
        declared=tuple(source.card.base_models),
        indexed=False,
        bytes_read=source.bytes_read,
        requests=source.requests,
    )


def _equal(names: Sequence[str], hashes: Mapping[str, str], shelf: Shelf) -> tuple[str, ...]:
    """Those of some models whose files have the same digests; none where one is not known."""
    mine = sorted(hashes.values())
    found = []
    for name in names:
        files = [f.sha256 for f in shelf.entry(name).files]
        if mine and None not in files and sorted(filter(None, files)) == mine:
            found.append(name)
    return tuple(found)


def parsed(ref: str) -> ModelRef:
    """A stored reference; the place itself need not be there any more."""
    try:
        return ModelRef.parse(ref)
    except CrawlError:
        return ModelRef("dir", ref)
