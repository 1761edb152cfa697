"""Crawls in processes that can be killed: one process loads the program, and each crawl is a fork of it.

Run as a program it reads lines of JSON on stdin, forks for each, and the child writes its summary to a file.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
CODE = (
    "crawl/catalogue.py", "crawl/stores/hub.py", "crawl/stores/listing.py", "crawl/stores/retry.py", "crawl/stores/traffic.py",
    "lineage/crawling.py", "lineage/dispatching.py", "lineage/visiting.py", "lineage/index/ledger.py", "lineage/reading.py",
)  # fmt: skip
"""Modules that decide what a crawl asks and stores."""


def code_digest() -> str:
    """Digest of these modules, by which a page of measurements is known to be old."""
    import hashlib

    import nulls

    return hashlib.sha256("".join(nulls._code_of(HERE.parent / p) for p in CODE).encode()).hexdigest()[:16]


class Crawls:
    """Starts crawls and kills them. A context manager."""

    def __init__(self, folder: Path, endpoint: str, **environment: str) -> None:
        self.log = folder / "crawls.log"
        env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                            "HF_HOME": str(folder / "home"), "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), **environment}  # fmt: skip
        self._told = self.log.open("w")
        self._parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._told, text=True, env=env,
            cwd=HERE.parent,
        )  # fmt: skip
        self._folder = folder
        self._n = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._parent.stdin.close()
        self._parent.wait(timeout=60)
        self._parent.stdout.close()
        self._told.close()

    def start(self, index: Path, **rest) -> tuple[int, Path]:
        """Begin a crawl: its process, and where its summary will be."""
        self._n += 1
        told = self._folder / f"summary-{self._parent.pid}-{self._n}.json"
        self._parent.stdin.write(json.dumps({"index": str(index), "told": str(told), **rest}) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline()), told

    def wait(self, pid: int, told: Path, seconds: float) -> dict | None:
        """The summary; None where the crawl has not ended within so many seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if told.exists():
                return json.loads(told.read_text())
            if not alive(pid):
                raise AssertionError(f"a crawl died: {self.log.read_text()[-3000:]}")
            time.sleep(0.01)
        return None

    def kill(self, pid: int) -> None:
        """End a crawl in the hardest way."""
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.002)


def alive(pid: int) -> bool:
    """Whether a process runs: one that was ended and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def dump(index: Path) -> list:
    """All that an index holds, in canonical order: entries with the digests of their bytes, each checked."""
    from lineage.index.store import Store

    with Store.open(index) as store:
        found = []
        for entry, digest in store.entries_with_digests():
            assert entry.digest == digest
            for blob in (entry.signature, entry.study):
                assert blob is None or store.blob(blob)
            found.append(entry.as_dict())
        held = {d for e in found for d in (e["signature"], e["study"]) if d}
        assert {d for (d,) in store.rows("SELECT digest FROM blobs")} == held
        return found


def _child(asked: dict) -> None:
    from lineage.crawling import CrawlOptions, crawl
    from lineage.visiting import Terms

    terms = Terms(
        read_seconds=asked.get("read_seconds", 2.0), longest_wait_seconds=0.05, attempts=asked.get("attempts", 5),
        authorised=asked.get("authorised", False),
    )  # fmt: skip
    options = CrawlOptions(Path(asked["index"]), terms, jobs=asked.get("jobs", 2), resume=asked.get("resume", False))
    document = crawl(asked.get("sources", ["hub"]), options)
    part = Path(asked["told"] + ".part")
    part.write_text(json.dumps(document))
    part.rename(asked["told"])


def _main() -> None:
    import lineage.cli.crawl
    import lineage.crawling
    import lineage.report.crawl  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                _child(json.loads(line))
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code) if code == 0 else None
            raise SystemExit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
