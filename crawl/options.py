"""How a model is opened: one frozen value, mostly about the network."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crawl.stores.traffic import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """Options of `open_model`; the defaults suit a person at a terminal.

    Attributes
    ----------
    endpoint : str or None
        Address of the Hub; None takes ``HF_ENDPOINT`` or the public one.
    token : str, None or False
        None takes the user's own token (``HF_TOKEN`` or the one stored at login); False sends none.
    connect_seconds, read_seconds : float
        Longest wait for a connection, and between two pieces of an answer.
    attempts : int
        How often a request is tried in all when the server is busy, broken or silent.
    longest_wait_seconds : float
        Cap on any wait between attempts, also on waits the server dictates.
    deadline_seconds : float
        Longest time for one request with all its repeats, and for the body of one answer.
    traffic : Traffic or None
        The budgets and limits of a whole run, shared by all its models; None has none.
    cache_dir : Path or None
        Hub cache looked into when offline; None takes the usual one.
    offline : bool or None
        True never touches the network; None takes ``HF_HUB_OFFLINE``.
    sleep : callable
        Waits the given number of seconds; tests pass one that does not.
    """

    endpoint: str | None = None
    token: str | Literal[False] | None = field(default=None, repr=False)
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    attempts: int = 5
    longest_wait_seconds: float = 60.0
    deadline_seconds: float = 900.0
    traffic: Traffic | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    offline: bool | None = None
    sleep: Callable[[float], None] = time.sleep
