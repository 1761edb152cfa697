"""The workflows of `lineage index`: what each subcommand does, as documents."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crawl import CrawlError, ModelRef, OpenOptions, open_model
from lineage.index.circle import Tell
from lineage.index.entries import Reading, entry_of
from lineage.index.finding import Finder
from lineage.index.matrix import sign_matrix
from lineage.index.merging import merge
from lineage.index.parquet import export
from lineage.index.query import find_query
from lineage.index.records import STATES, Entry
from lineage.index.sealing import read_seal
from lineage.index.shelf import Shelf
from lineage.index.store import Store
from lineage.index.vectors import N_SIGNS
from lineage.index.verifying import verify
from lineage.plan import PUBLIC_KEY, RowKey
from lineage.record import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Options shared by the subcommands.

    Attributes
    ----------
    index : Path
    row_key : RowKey
    open_options : OpenOptions or None
    """

    index: Path
    row_key: RowKey = PUBLIC_KEY
    open_options: OpenOptions | None = field(default=None, compare=False)


def info(options: IndexOptions) -> dict[str, Any]:
    """What an index holds."""
    with Store.open(options.index) as store:
        states = {state: store.count(state=state) for state in STATES}
        query = "SELECT json_extract(facts, '$.architecture'), count(*) FROM models WHERE state = 'signed' GROUP BY 1"
        architectures = Counter({name or "unknown": n for name, n in store.rows(query)})
        sizes = next(store.rows("SELECT count(*), coalesce(sum(length(data)), 0) FROM blobs"))
        matrix = sign_matrix(store)
        reading = store.meta("reading").partition(" ")
        return {
            **_head("info", options.index),
            "models": {state: n for state, n in states.items() if n},
            "architectures": dict(sorted(architectures.items())),
            "searchable": matrix.n,
            "groups": len(matrix.groups),
            "bytes": {
                "file": options.index.stat().st_size,
                "blobs": int(sizes[1]),
                "searched": matrix.n * N_SIGNS // 8,
            },
            "signature_version": int(reading[0]) if reading[0].isdecimal() else None,
            "row_key": reading[2] or None,
            "sealed": _is_sealed(store),
        }


def add(
    refs: Sequence[tuple[str, ModelRef]], options: IndexOptions, *, studied: bool, hashed: bool, tell: Tell
) -> dict[str, Any]:
    """Read models and store them; one that cannot be read is skipped with its sentence and the run goes on.

    Parameters
    ----------
    refs : sequence of (id, ModelRef)
    options : IndexOptions
    studied, hashed : bool
        As `lineage.index.entries.Reading`.
    tell : callable
        Progress.

    Returns
    -------
    dict
        Counts of what was `added`, `replaced` and `unchanged`, and what was `skipped`.
    """
    start = time.perf_counter()
    reading = Reading(key=options.row_key, studied=studied, hashed=hashed)
    counts = dict.fromkeys(("added", "replaced", "unchanged"), 0)
    skipped, spent = [], [0, 0]
    with Store.open(options.index, create=True) as store:
        for done, (name, ref) in enumerate(refs):
            tell("adding", done, len(refs))
            try:
                with open_model(ref, options=options.open_options) as source:
                    entry, blobs = entry_of(source, source.ref.id if ref.scheme == "hub" else name, reading)
                    spent = [spent[0] + source.bytes_read, spent[1] + source.requests]
            except CrawlError as error:
                skipped.append({"ref": str(ref), "reason": str(error)})
                continue
            counts[_put(store, entry, blobs)] += 1
        tell("adding", len(refs), len(refs))
    seconds = round(time.perf_counter() - start, 3)
    run = {"seconds": seconds, "bytes_read": spent[0], "requests": spent[1]}
    return {**_head("add", options.index), **counts, "skipped": skipped, "run": run}


def remove(names: Sequence[str], options: IndexOptions) -> dict[str, Any]:
    """Take models out by id, or all of a repository or folder by its name."""
    removed, missing = [], []
    with Store.open(options.index) as store, store.transaction():
        for name in names:
            found = [name] if store.get(name) is not None else store.ids_of_repo(name)
            removed += [i for i in found if store.remove(i)]
            if not found:
                missing.append(name)
    return {**_head("remove", options.index), "removed": removed, "missing": missing}


def search(reference: str, options: IndexOptions, *, most: int, backend: str, tell: Tell) -> dict[str, Any]:
    """Candidates of a model, the most alike first; nothing is tested."""
    with Store.open(options.index) as store:
        shelf = Shelf(store)
        tell("reading", 0, 1)
        query = find_query(reference, shelf, options.row_key, options.open_options)
        tell("reading", 1, 1)
        finder = Finder(store, backend=backend)
        found = [] if query.vector is None else finder.candidates(query.vector, most=most, without=(query.id,))
        return {
            **_head("search", options.index),
            "query": {"id": query.id, "ref": str(query.ref), "indexed": query.indexed},
            "searchable": finder.matrix.n,
            "twins": list(query.twins),
            "candidates": [
                {
                    "id": c.id,
                    "strength": round(c.strength, 4),
                    "cosines": {name: round(value, 4) for name, value in c.fields.items()},
                    "token_products": None if c.products is None else round(c.products, 4),
                }
                for c in found
            ],
        }


def check(options: IndexOptions, tell: Tell) -> dict[str, Any]:
    """Whether every byte is what was written."""
    found = verify(options.index, tell)
    return {
        **_head("verify", options.index),
        "intact": not found.problems,
        "sealed": found.sealed,
        "models": found.models,
        "blobs": found.blobs,
        "problems": list(found.problems),
    }


def join(others: Sequence[str], options: IndexOptions, tell: Tell) -> dict[str, Any]:
    """Take the entries of other indexes in."""
    with Store.open(options.index, create=True) as store:
        return {**_head("merge", options.index), **merge(store, others, tell)}


def write_parquet(folder: Path, options: IndexOptions, *, blobs: bool, tell: Tell) -> dict[str, Any]:
    """Write all entries to Parquet files."""
    with Store.open(options.index) as store:
        names = export(store, folder, blobs=blobs, tell=tell)
    return {**_head("export", options.index), "folder": str(folder), "files": names}


def _head(command: str, index: Path) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "command": command, "index": str(index)}


def _put(store: Store, entry: Entry, blobs: Sequence[bytes]) -> str:
    known = store.get(entry.id)
    if known is not None and known.digest == entry.digest:
        return "unchanged"
    store.put_model(entry, *blobs)
    return "added" if known is None else "replaced"


def _is_sealed(store: Store) -> bool:
    try:
        found = read_seal(store.path)
    except ValueError:
        return False
    return found is not None and found.writes == store.meta("writes")
