"""CPU, memory, bytes and requests of the default comparison of a pair of generated models of one size.

    python benchmarks/sizes.py 7B

A process per size, so that the peak of memory is its own. The store makes numbers as they are asked for; what that
takes is timed apart.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from crawl import ByteRange, ModelRef, open_store  # noqa: E402 - after the path
from giant import SHAPES, Giant  # noqa: E402
from lineage.comparing import CompareOptions, compare_signed  # noqa: E402
from lineage.reading import sign  # noqa: E402

RUNS = 3


@dataclass
class Timed:
    """A store that adds up the CPU seconds spent inside it."""

    inner: Giant
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The inner store's name."""
        return self.inner.name

    def files(self) -> Mapping[str, int]:
        """The inner store's files."""
        return self.inner.files()

    def read(self, file: str, span: ByteRange) -> bytes:
        """Read from the inner store, on the clock."""
        start = time.process_time()
        data = self.inner.read(file, span)
        self.seconds += time.process_time() - start
        return data


def compare_once(size: str) -> dict:
    """A base and its light fine-tune: both read and compared, with every test and the description of the relation."""
    base = Giant(1, shape=SHAPES[size])
    stores = [Timed(base), Timed(Giant(2, parent=base, shape=SHAPES[size]))]
    start = time.process_time()
    signed = [sign(open_store(s, ModelRef("dir", s.name))) for s in stores]
    document = compare_signed(*signed, CompareOptions())
    total = time.process_time() - start
    inside = sum(s.seconds for s in stores)
    return {
        "parameters": base.parameters,
        "verdict": document["verdict"],
        "log10_p": document["log10_p"],
        "bytes": max(s.bytes_read for s in signed),
        "requests": max(s.requests for s in signed),
        "cpu": total - inside,
        "store_cpu": inside,
    }


def main() -> None:
    """Print one JSON line."""
    size = sys.argv[1]
    compare_once("1M")  # imports that wait for their first use
    runs = [compare_once(size) for _ in range(RUNS)]
    found = {**runs[0], "size": size}
    found |= {k: statistics.median(r[k] for r in runs) for k in ("cpu", "store_cpu")}
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
