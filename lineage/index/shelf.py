"""Models of an index as the tests take them: decoded when asked for, each once."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from lineage.errors import MalformedDocumentError, UnusableIndexError
from lineage.index.encoding import decode
from lineage.index.records import Entry
from lineage.index.store import Store
from lineage.index.studies import decode_study
from lineage.index.vectors import Vector
from lineage.signature import Signature
from lineage.study import Study

MOST_HELD = 256
"""Signatures and studies held at once: a gigabyte of the largest."""

T = TypeVar("T")


class Shelf:
    """What an index holds, by id.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._entries: _Held[Entry | None] = _Held()
        self._signatures: _Held[Signature] = _Held()
        self._studies: _Held[Study | None] = _Held()

    def entry(self, name: str) -> Entry:
        """The entry of an id; `UnusableIndexError` when there is none."""
        found = self._entries.get(name)
        if found is None:
            found = self._entries.put(name, self.store.get(name))
        if found is None:
            raise UnusableIndexError(f"no model {name!r}", where=str(self.store.path))
        return found

    def signature(self, name: str) -> Signature:
        """The signature of a model."""
        found = self._signatures.get(name)
        if found is None:
            entry = self.entry(name)
            if entry.signature is None:
                raise UnusableIndexError(f"{name} has no signature ({entry.state})", where=str(self.store.path))
            data = self.store.blob(entry.signature)
            found = self._signatures.put(name, self._sound(lambda: decode(data, ref=entry.ref, name=name)))
        return found

    def study(self, name: str) -> Study | None:
        """The larger slices of a model, where they are stored."""
        entry = self.entry(name)
        if entry.study is None:
            return None
        found = self._studies.get(name)
        if found is None:
            data = self.store.blob(entry.study)
            found = self._studies.put(name, self._sound(lambda: decode_study(data, name=name)))
        return found

    def vector(self, name: str) -> Vector | None:
        """The search vector of a model, where it has one."""
        data = self.entry(name).vector
        return None if data is None else self._sound(lambda: Vector.from_bytes(data))

    def _sound(self, made: Callable[[], T]) -> T:
        try:
            return made()
        except MalformedDocumentError as error:
            raise UnusableIndexError(
                str(error), where=str(self.store.path), hint="run `lineage index verify`"
            ) from error


class _Held(Generic[T]):
    """The things asked for last."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, T] = OrderedDict()

    def get(self, name: str) -> T | None:
        if name in self._held:
            self._held.move_to_end(name)
        return self._held.get(name)

    def put(self, name: str, value: T) -> T:
        self._held[name] = value
        if len(self._held) > MOST_HELD:
            self._held.popitem(last=False)
        return value
