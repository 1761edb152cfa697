"""Put the files of one weight set together: choose it, read its index, check each shard against it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from crawl.errors import AmbiguousModelError, MalformedHeaderError, MissingShardError, UnsafePathError
from crawl.formats import sniff
from crawl.formats.safetensors import table_from
from crawl.formats.strictjson import parse_object
from crawl.refs import ByteRange
from crawl.weightsets import OTHER_ENDINGS, WeightSet, check_complete, choose, other_weights, weight_sets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crawl.refs import ModelRef, TensorRef
    from crawl.stores import ByteStore

MOST_SHARDS = 10_000  # as the Hub's own clients
LARGEST_INDEX = 100_000_000  # bytes, like a header; the largest known index has 60 MB
_MOST_OFFERS = 20  # names in one message
_READERS = 8  # headers fetched at once: enough to hide latency, few enough for a shared server

_HINTS = {
    "a link that leaves the model folder": "open the file it points to directly",
    "a link that leads nowhere": "fetch the file it should point to",
    "permission denied": "ask its owner for the right to read it",
}  # by the reason a store gives for not listing a file


@dataclass(frozen=True, slots=True)
class Parts:
    """A weight set put together: folder inside the store, weight files, tensors in file order."""

    prefix: str
    files: tuple[str, ...]
    tensors: tuple[TensorRef, ...]


def assemble(store: ByteStore, ref: ModelRef) -> Parts:
    """Choose the weight set a reference means and read its headers.

    Raises
    ------
    CrawlError
        There is none, several, or its parts contradict one another.
    """
    _refuse_links(store)
    prefix, found = _chosen(store, ref)
    claimed: dict[str, str] | None = None
    files = tuple(prefix + file for file in found.files)
    if found.index is not None and not prefix and (known := _tables_at_once(store, found.index)) is not None:
        return known
    if found.index is not None:
        claimed = {name: prefix + file for name, file in _weight_map(store, prefix + found.index).items()}
        files = _shards(store, claimed, prefix + found.index)
    else:
        check_complete(found, store.name)
    tensors = _tables(store, files)
    _check_unique(store, tensors)
    if claimed is not None:
        _check_claims(store, tensors, claimed)
    return Parts(prefix, files, tuple(tensors))


def _chosen(store: ByteStore, ref: ModelRef) -> tuple[str, WeightSet]:
    files = store.files()
    if ref.scheme == "file":
        name = PurePosixPath(ref.location).name
        if not name.endswith(".json"):
            return "", WeightSet(name, None, (name,))
        return "", WeightSet(name, None, (), name)
    prefix, variant = "", ref.variant
    folder, _, rest = (variant or "").partition("/")
    if variant and any(name.startswith(f"{folder}/") for name in files):  # a component of a multi-part repository
        prefix, variant = f"{folder}/", rest or None
    here = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
    direct = [name for name in here if "/" not in name]
    parts = sorted({name.partition("/")[0] for name in here if "/" in name and name.endswith(".safetensors")})
    if variant is None and parts and not weight_sets(direct) and not other_weights(direct):
        offers = ", ".join(f"{ref.id}#{prefix}{part}" for part in parts[:_MOST_OFFERS])
        raise AmbiguousModelError("a model of several components", where=ref.id, hint=f"name one: {offers}")
    return prefix, choose(direct, variant, ref.id)


def _refuse_links(store: ByteStore) -> None:
    refused: Mapping[str, str] = getattr(store, "refused", {})
    for name, reason in refused.items():
        if name.endswith((".safetensors", ".index.json", *OTHER_ENDINGS)):
            raise UnsafePathError(reason, where=f"{store.name}: {name}", hint=_HINTS.get(reason, "give another file"))


def _tables_at_once(store: ByteStore, index: str) -> Parts | None:
    """The parts of an index whose place gives all headers in one answer; None where it does not, or they do not fit."""
    ask = getattr(store, "shard_headers", None)
    headers: Mapping[str, Mapping[str, Any]] | None = None if ask is None else ask(index)
    if not headers:
        return None
    files = _shards(store, {shard: shard for shard in headers}, index)
    check_complete(WeightSet(index, None, files, index), store.name)
    tables = (table_from(headers[f], f, store.files()[f], f"{store.name}: {f}").tensors for f in files)
    tensors = [tensor for table in tables for tensor in table]
    _check_unique(store, tensors)
    return Parts("", files, tuple(tensors))


def _weight_map(store: ByteStore, index: str) -> dict[str, str]:
    where = f"{store.name}: {index}"
    size = store.files()[index]
    if size > LARGEST_INDEX:
        raise MalformedHeaderError(f"an index of {size} bytes, more than {LARGEST_INDEX}", where=where)
    table: Any = parse_object(store.read(index, ByteRange(0, size)).strip(), where, what="index").get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise MalformedHeaderError("weight_map is not a table of tensor names and file names", where=where)
    return table


def _shards(store: ByteStore, claimed: Mapping[str, str], index: str) -> tuple[str, ...]:
    where = f"{store.name}: {index}"
    shards = sorted(set(claimed.values()))
    if not shards:
        raise MalformedHeaderError("the index names no shard", where=where)
    if len(shards) > MOST_SHARDS:
        raise MalformedHeaderError(f"{len(shards)} shards, more than {MOST_SHARDS}", where=where)
    folder = index.rpartition("/")[0]
    for shard in shards:
        name = shard.removeprefix(f"{folder}/") if folder else shard
        if not name or name in {".", ".."} or any(c in name for c in "/\\\0:") or not name.isprintable():
            raise UnsafePathError(
                f"the index names {name!r} as a shard", where=where, hint="shards stand beside their index"
            )
    missing = [shard for shard in shards if shard not in store.files()]
    if missing:
        raise MissingShardError(
            f"{len(missing)} of {len(shards)} shards are missing, the first is {missing[0]!r}",
            where=where,
            hint="fetch the whole model",
        )
    return tuple(shards)


def _tables(store: ByteStore, files: tuple[str, ...]) -> list[TensorRef]:
    def table(file: str) -> Iterable[TensorRef]:
        return sniff(store, file).table(store, file).tensors

    if len(files) == 1:
        return list(table(files[0]))
    with ThreadPoolExecutor(min(_READERS, len(files))) as pool:
        return [tensor for tensors in pool.map(table, files) for tensor in tensors]


def _check_unique(store: ByteStore, tensors: Iterable[TensorRef]) -> None:
    seen: dict[str, str] = {}
    for tensor in tensors:
        if tensor.name in seen:
            raise MalformedHeaderError(
                f"tensor {tensor.name!r} is in two shards, {seen[tensor.name]!r} and {tensor.file!r}",
                where=store.name,
                hint="the shards are of different models",
            )
        seen[tensor.name] = tensor.file


def _check_claims(store: ByteStore, tensors: Iterable[TensorRef], claimed: Mapping[str, str]) -> None:
    stored = {tensor.name: tensor.file for tensor in tensors}
    for name, file in claimed.items():
        if stored.get(name) != file:
            raise MissingShardError(
                f"tensor {name!r} is not in the shard that the index names",
                where=f"{store.name}: {file}",
                hint="the shards are of different models, or one is damaged",
            )
