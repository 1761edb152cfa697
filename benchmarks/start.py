"""CPU of `lineage compare` from start to finish, in a process of its own, and which libraries it loads.

python benchmarks/start.py
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAIRS = (("llama-a", "llama-a-ft1"), ("llama-a", "llama-b"), ("gpt2-a", "gpt2-a-ft"), ("bert-a", "bert-b"))
RUNS = 5
LIBRARIES = ("numpy", "numba", "ml_dtypes", "rich", "huggingface_hub", "networkx", "pydantic", "scipy", "scipy.stats")
LOOK = "import sys; from lineage.cli.app import app\ntry: app()\nexcept SystemExit: print(*sorted(sys.modules), file=sys.stderr)"


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(command: list[str]) -> dict[str, float]:
    start, before = time.perf_counter(), _cpu_of_children()
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    return {"cpu": _cpu_of_children() - before, "wall": time.perf_counter() - start}


def measure(a: str, b: str) -> dict:
    """Median CPU and wall seconds after one run that warms the disk cache, and what was loaded."""
    pair = [str(ROOT / "fixtures" / "zoo" / name) for name in (a, b)]
    runs = [_run([sys.executable, "-m", "lineage", "compare", *pair]) for _ in range(RUNS + 1)][1:]
    looked = subprocess.run(
        [sys.executable, "-c", LOOK, "compare", *pair], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(looked.stderr.split())
    return {
        "pair": f"{a} {b}",
        **{k: statistics.median(r[k] for r in runs) for k in ("cpu", "wall")},
        "loaded": [name for name in LIBRARIES if name in loaded],
        "not_loaded": [name for name in LIBRARIES if name not in loaded],
    }


def empty() -> float:
    """CPU of a Python that only imports numpy: the part nobody can save."""
    return statistics.median(_run([sys.executable, "-c", "import numpy"])["cpu"] for _ in range(RUNS))


def main() -> None:
    """Print one JSON line for each pair, and one for numpy alone."""
    for pair in PAIRS:
        print(json.dumps(measure(*pair)), flush=True)
    print(json.dumps({"pair": "import numpy", "cpu": empty()}))


if __name__ == "__main__":
    main()
