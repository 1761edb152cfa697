"""What runs the visits of a crawl: threads of this machine, or Ray on many; both in the shape of an executor."""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from lineage.errors import UsageError


class Engine(Protocol):
    """What a crawl needs of an executor."""

    def submit(self, call: Callable[..., Any], /, *args: Any) -> "Future[Any]":
        """Run a call somewhere."""


class RayEngine:
    """Calls as tasks of Ray, which runs those of a worker that died again elsewhere.

    Parameters
    ----------
    ray : module
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._remote: dict[Callable[..., Any], Any] = {}

    def submit(self, call: Callable[..., Any], /, *args: Any) -> "Future[Any]":
        """Run a call on some worker; all of its arguments are sent there."""
        if call not in self._remote:
            self._remote[call] = self._ray.remote(max_retries=5)(call)
        future: Future[Any] = self._remote[call].remote(*args).future()
        return future


@contextmanager
def threads(jobs: int) -> Iterator[Engine]:
    """Threads of this process; calls that have not begun are given up when the block is left."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="crawl")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def ray(jobs: int) -> Iterator[Engine]:
    """Workers of Ray: those of the cluster that its environment names, else so many of this machine."""
    try:
        library: Any = importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(
            "the engine ray needs the extra `scale`", hint="pip install 'lineage-forensics[scale]'"
        ) from error
    mine = not library.is_initialized()
    if mine:
        library.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield RayEngine(library)
    finally:
        if mine:
            library.shutdown()


ENGINES: dict[str, Callable[[int], Any]] = {"ray": ray, "threads": threads}
"""Name -> context manager of an engine of so many jobs."""

SHARED = ("threads",)
"""Engines whose workers are in this process, and share its connections and budgets."""
