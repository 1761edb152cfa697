"""The two ways in: `open_model` finds the bytes itself, `open_store` is handed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawl.options import OpenOptions
from crawl.refs import ModelRef
from crawl.source import WeightSource
from crawl.stores import CountingStore, open_place

if TYPE_CHECKING:
    from crawl.stores import ByteStore


def open_store(store: ByteStore, ref: ModelRef) -> WeightSource:
    """Open a model in any byte store; headers are read and checked now, weights later.

    Raises
    ------
    CrawlError
        The child class says what is wrong.
    """
    return WeightSource(store, ref)


def open_model(ref: str | ModelRef, *, options: OpenOptions | None = None) -> WeightSource:
    """Open a model: a folder, a weight file, or a Hub id. Use it in a ``with`` statement.

    Parameters
    ----------
    ref : str or ModelRef
    options : OpenOptions, optional
        How the network is used.

    Raises
    ------
    CrawlError
        The child class says what is wrong: missing, gated, malformed, ambiguous, unreachable.
    """
    wanted = ModelRef.parse(ref) if isinstance(ref, str) else ref
    store, resolved = open_place(wanted, options or OpenOptions())
    try:
        return WeightSource(store, resolved)
    except BaseException:
        CountingStore(store).close()
        raise
