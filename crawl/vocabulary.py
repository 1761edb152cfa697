"""The strings behind the rows of an embedding, as the tokenizer beside a weight set lists them.

A claim like any other: it pairs rows of two models that are looked at, and never enters a test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crawl.errors import MalformedHeaderError
from crawl.formats.strictjson import parse_object
from crawl.refs import ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crawl.stores import ByteStore

LARGEST = 40_000_000  # bytes; the tokenizer of a vocabulary of 256,000 with its merges is 34 MB
_FILES = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens of one model.

    Attributes
    ----------
    ids : mapping of str to int
        Row of each string, none negative; empty where no tokenizer is listed or it cannot be read.
    file : str
        Where it was read, or empty.
    problem : str
        Why it could not be read, in one sentence, or empty.
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    file: str = ""
    problem: str = ""


def vocabulary_file(store: ByteStore, prefix: str = "") -> tuple[str, int]:
    """Return the name and the bytes of the file a vocabulary would be read from; empty and 0 where there is none."""
    sizes = store.files()
    return next(
        ((f"{prefix}{name}", sizes[f"{prefix}{name}"]) for name in _FILES if f"{prefix}{name}" in sizes), ("", 0)
    )


def read_vocabulary(store: ByteStore, prefix: str = "") -> Vocabulary:
    """Read the tokens of the tokenizer beside a weight set.

    Parameters
    ----------
    store : ByteStore
    prefix : str
        Folder of the weight set inside the store, with a final slash, or empty.

    Returns
    -------
    Vocabulary
        Of `tokenizer.json` (byte pairs, word pieces, unigrams, added tokens), else of `vocab.json`. What is malformed is
        a value with its reason, not an error.
    """
    file, size = vocabulary_file(store, prefix)
    if not file:
        return Vocabulary()
    if size > LARGEST:
        return Vocabulary(file=file, problem=f"{size} bytes, more than {LARGEST}")
    try:
        table = parse_object(store.read(file, ByteRange(0, size)).strip(), file, what="tokenizer")
    except MalformedHeaderError as error:
        return Vocabulary(file=file, problem=error.reason)
    listed = _listed(table) if file.endswith("tokenizer.json") else table.items()
    ids: dict[str, int] = {}
    for token, row in listed:
        if not isinstance(token, str) or type(row) is not int or row < 0:
            return Vocabulary(
                file=file, problem="a token without a row: each needs a whole number that is not negative"
            )
        ids.setdefault(token, row)
    return Vocabulary(ids, file) if ids else Vocabulary(file=file, problem="no vocabulary in it")


def _listed(table: dict[str, Any]) -> Iterator[tuple[object, object]]:
    """Tokens and rows of a `tokenizer.json`; a shape that is not known lists nothing."""
    model = table.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict):
        yield from vocab.items()
    elif isinstance(vocab, list):
        for row, entry in enumerate(vocab):
            yield (entry[0] if isinstance(entry, list) and entry else None), row
    added = table.get("added_tokens")
    for entry in added if isinstance(added, list) else ():
        yield (entry.get("content"), entry.get("id")) if isinstance(entry, dict) else (None, None)
