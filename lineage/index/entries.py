"""An opened model becomes an entry: read once, and all that a later test, search or tree needs is kept."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crawl import WeightSource
from lineage.digests import file_digests
from lineage.index.encoding import encode
from lineage.index.records import DeclaredParent, Entry, FileFact, canonical, digest_of
from lineage.index.studies import encode_study, fitted
from lineage.index.vectors import vector_of
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.reading import sign
from lineage.signature import Signature
from lineage.study import study


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of a model for an index.

    Attributes
    ----------
    key : RowKey
        Places the rows; one index holds signatures of one key.
    max_bytes : int or None
        Most bytes of a signature.
    studied : bool
        Read the larger slices as well, from which trees tell who is whose parent.
    hashed : bool
        Read files whole for their digests where their place does not state them.
    """

    key: RowKey = PUBLIC_KEY
    max_bytes: int | None = None
    studied: bool = True
    hashed: bool = True


def entry_of(source: WeightSource, name: str, reading: Reading | None = None) -> tuple[Entry, tuple[bytes, ...]]:
    """Entry of an opened model, and the bytes to store with it.

    Parameters
    ----------
    source : WeightSource
    name : str
        Id of the model; `org/name@commit` on the Hub.
    reading : Reading, optional

    Returns
    -------
    Entry, tuple of bytes
        As `Store.put_model` takes them.

    Raises
    ------
    CrawlError
        Bytes are missing, malformed or cannot be fetched.
    """
    reading = reading or Reading()
    signature = sign(source, key=reading.key, max_bytes=reading.max_bytes)
    read = study(source, reading.key, name=name) if reading.studied else None
    stated = source.content_hashes()
    hashes = {d["file"]: d["sha256"] for d in file_digests(source)} if reading.hashed else stated
    parents = tuple(DeclaredParent(p) for p in source.card.base_models)
    return signed_entry(
        signature,
        name=name,
        place=(
            source.ref.location if source.ref.scheme == "hub" else lasting(source.ref.location),
            source.ref.revision,
        ),
        files=tuple(FileFact(f, source.file_size(f), hashes.get(f)) for f in source.files),
        parents=parents,
        facts=_vocabulary_facts(source),
        second=encode_study(fitted(read)) if read is not None and read.matrices else None,
    )


def signed_entry(
    signature: Signature,
    *,
    name: str,
    place: tuple[str, str | None],
    files: tuple[FileFact, ...] = (),
    parents: tuple[DeclaredParent, ...] = (),
    facts: Mapping[str, Any] | None = None,
    second: bytes | None = None,
) -> tuple[Entry, tuple[bytes, ...]]:
    """Entry of a model whose signature is at hand.

    Parameters
    ----------
    signature : Signature
    name : str
    place : (str, str or None)
        Repository or folder, and commit.
    files, parents : tuple
    facts : mapping, optional
        Beside those of the header.
    second : bytes, optional
        An encoded study.

    Returns
    -------
    Entry, tuple of bytes
    """
    data = encode(signature)
    vector = vector_of(signature)
    entry = Entry(
        id=name,
        ref=lasting(signature.ref),
        repo=place[0],
        revision=place[1],
        state="signed",
        files=files,
        parents=parents,
        facts={**header_facts(signature), **(facts or {})},
        signature=digest_of(data),
        study=None if second is None else digest_of(second),
        vector=None if vector is None else vector.to_bytes(),
    )
    return entry, (data,) if second is None else (data, second)


def header_facts(signature: Signature) -> dict[str, Any]:
    """What the header of a model says, as JSON values."""
    arch = signature.architecture
    return {
        "architecture": arch.name if arch else None,
        "width": signature.width,
        "layers": signature.n_layers,
        "parameters": signature.n_parameters,
        "dtype": signature.dtype,
        "header_digest": signature.header_digest,
        "slices_digest": signature.slices_digest,
        "signature_version": signature.version,
        "row_key": signature.key_name,
    }


def _vocabulary_facts(source: WeightSource) -> dict[str, Any]:
    """Digest of the tokens beside a local model; over the network it would cost megabytes."""
    if source.ref.scheme == "hub" or not source.vocabulary_bytes:
        return {}
    ids = source.vocabulary.ids
    return {"tokenizer_digest": digest_of(canonical(sorted(ids.items(), key=lambda p: (p[1], p[0]))).encode("ascii"))}


def lasting(ref: str) -> str:
    """A local reference as it can be opened from any folder."""
    return os.path.abspath(ref) if not ref.startswith("hf://") else ref  # noqa: PTH100 - links stay as they are
