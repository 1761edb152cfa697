"""How time and tested pairs grow with the number of models; rewrites docs/methods/tree-growth.md.

Usage: python tests/calibration/growth.py [--sizes 30 100 300]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import orchard  # noqa: E402 - the path is set above

PAGE = ROOT / "docs" / "methods" / "tree-growth.md"
FORESTS = {"families of mixed size": orchard.grown, "one family, a star with chains": orchard.one_family}

HEADER = """# Growth of a tree

Made by `python tests/calibration/growth.py`; `make test` fails when the digest below no longer matches the code that chooses
pairs.

- digest of the code: `{digest}`
- models: of {parameters:,} parameters in 16-bit formats (`tests/orchard.py`). Starts are independent training runs of one
  configuration; children are dense fine-tunes by updates measured in the nursery, quantised and cast leaves, merges, copies.
- CPU seconds of one process with one thread, all stages, on the machine of the run; memory is the largest resident size.
- `all pairs` share the family-wise level; `tested` are those a test was run on. Up to 64 models every pair is tested.
- How right trees are: [trees, measured](trees-measured.md).
"""


def measured(folder):
    """One tree in this process: what it cost and what it found."""
    from lineage.growing import tree
    from lineage.searching import find_all

    spent, last = defaultdict(float), ["searching", time.process_time()]

    def tell(stage, _done, _total):
        now = time.process_time()
        spent[last[0]] += now - last[1]
        last[:] = [stage, now]

    began = time.process_time()
    document = tree(find_all([folder]), None, tell)
    tell("end", 0, 0)
    return {
        "seconds": time.process_time() - began,
        "stages": dict(spent),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "families": sum(c["size"] > 1 for c in document["components"]),
        "all": document["family_size"],
        "tested": document["pairs_tested"],
        "edges": len(document["edges"]),
        "parameters": document["nodes"][0]["parameters"],
    }


def row(grow, n):
    """The numbers of one forest."""
    with TemporaryDirectory() as folder:
        orchard.planted(Path(folder), grow(n))
        done = subprocess.run([sys.executable, __file__, "--tree", folder], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Grow forests of every size and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--tree", metavar="FOLDER", help="print the numbers of one folder")
    args = parser.parse_args()
    if args.tree:
        sys.stdout.write(json.dumps(measured(args.tree)) + "\n")
        return
    lines, parameters = [], 0
    for name, grow in FORESTS.items():
        lines.append(f"\n## {name[0].upper()}{name[1:]}\n")
        lines.append(
            "| models | families | all pairs | tested | tested per model | CPU s | CPU s per model | MB | edges |"
        )
        lines.append("|---|---|---|---|---|---|---|---|---|")
        for n in args.sizes:
            t = row(grow, n)
            parameters = t["parameters"]
            cells = (
                n,
                t["families"],
                f"{t['all']:,}",
                f"{t['tested']:,}",
                f"{t['tested'] / n:.1f}",
                f"{t['seconds']:.0f}",
            )
            more = (f"{t['seconds'] / n:.2f}", f"{t['memory']:.0f}", t["edges"])
            lines.append("| " + " | ".join(str(c) for c in (*cells, *more)) + " |")
            sys.stdout.write(f"{name} {n}: {t['tested']} pairs, {t['seconds']:.0f} s, {t['stages']}\n")
            sys.stdout.flush()
    PAGE.write_text(HEADER.format(digest=orchard.digest(), parameters=parameters) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
