"""What runs batches of work: threads or processes of this machine, or Ray on many; all in the shape of an executor."""

import importlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from lineage.errors import LostWorkerError, UsageError


class Engine(Protocol):
    """What is needed of an executor. Calls and what they give can be sent to another process."""

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
def processes(jobs: int) -> Iterator[Engine]:
    """Processes of this machine, begun afresh: nothing of this one is copied into them.

    Raises
    ------
    LostWorkerError
        One of them was killed.
    """
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts)
    try:
        yield pool
    except BrokenExecutor as error:
        raise LostWorkerError(
            "a worker process was killed", hint="what is stored is kept; give it more memory, or use fewer --jobs"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    """An interrupt is the business of the process that sends the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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


ENGINES: dict[str, Callable[[int], Any]] = {"processes": processes, "ray": ray, "threads": threads}
"""Name -> context manager of an engine of so many jobs."""

SHARED = ("threads",)
"""Engines whose workers are in this process, and share its connections and budgets."""
