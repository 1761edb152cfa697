"""How well and how fast the search of an index finds planted ancestors; rewrites docs/methods/searching-measured.md.

Usage: python tests/calibration/searching.py [--sizes 1000 10000 100000 1000000] [--queries N] [--asked N] [--folder PATH]

Each size is built and searched in processes of their own, so that their memory can be told.
"""

import argparse
import hashlib
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import numpy as np  # noqa: E402

import nulls  # noqa: E402
import planted  # noqa: E402
from lineage.index.finding import Finder  # noqa: E402
from lineage.index.matrix import sign_matrix  # noqa: E402
from lineage.index.store import Store  # noqa: E402
from lineage.index.vectors import Vector  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "searching-measured.md"
LARGEST_SHARE = 0.25
"""Of all models share one layout, and twice as many one set of tokens."""

N_LAYOUTS, COPIES, PIECE = 40, 20, 2000


def places(rng, n):
    """Layout and set of tokens of each model: one of each is as large as a quarter and half of all."""
    layout = np.where(rng.random(n) < LARGEST_SHARE, 0, rng.integers(1, N_LAYOUTS, n))
    tokens = np.where((layout == 0) | (rng.random(n) < 1.0 / 3.0), 0, rng.integers(1, 6, n))
    return layout, tokens


def world_of(seed, law):
    """The same world in every process."""
    return planted.World(law, np.random.default_rng(seed))


def build(path, n, law, classes, queries):
    """Write an index of n models and the queries planted in it; what it took."""
    world = world_of(n, law)
    rng = np.random.default_rng([n, 1])
    layout, tokens = places(rng, n)
    parents = plan(rng, n, layout, queries, classes)
    start = time.perf_counter()
    made, number = [], 0
    with Store.open(path, create=True) as store:
        while number < n:
            count = min(PIECE, n - number)
            at = slice(number, number + count)
            signs, fine = world.unrelated(count, tokens[at])
            vectors = [
                planted.made(*row) for row in zip(signs, fine, layout[at].tolist(), tokens[at].tolist(), strict=True)
            ]
            for i in range(count):  # near copies stand behind their original, in the same places
                if parents.get(number + i, {}).get("copies"):
                    copies(world, vectors, i, layout, tokens, number, classes)
            with store.transaction():
                for i, vector in enumerate(vectors):
                    store.put_model(planted.entry(number + i, vector))
            for i in range(count):
                made += asked(world, vectors[i], number + i, parents, classes)
            number += count
    stored = time.perf_counter() - start
    start = time.perf_counter()
    with Store.open(path) as store:
        sign_matrix(store)
    mapped = time.perf_counter() - start
    np.savez(
        path.with_suffix(".npz"),
        names=[q[0] for q in made],
        kinds=[q[1] for q in made],
        data=[np.frombuffer(q[2], np.uint8) for q in made],
    )
    sizes = {"file": path.stat().st_size, "searched": path.with_name(path.name + ".search").stat().st_size}
    return {"stored": stored, "mapped": mapped, "peak": peak(), **sizes}


def plan(rng, n, layout, queries, classes):
    """Which models are asked about: (kind, whether near copies surround it), half of them in the largest layout."""
    room = [i for i in range(0, n, COPIES + 2) if i % PIECE < PIECE - COPIES - 2]
    inside = [i for i in room if layout[i] == 0]
    wanted = [(kind, q) for kind in classes for q in range(queries)]
    picked = rng.permutation(inside)[: len(wanted) // 2].tolist()
    others = rng.permutation([i for i in room if i not in set(picked)])[: len(wanted) - len(picked)].tolist()
    chosen = rng.permutation([*picked, *others]).tolist()
    found = {}
    for (kind, q), i in zip(wanted, itertools.cycle(chosen), strict=False):
        found.setdefault(i, {"kinds": [], "copies": q % 2 == 0})["kinds"].append(kind)
    return found


def copies(world, vectors, i, layout, tokens, number, classes):
    """Near copies of a model in the places behind it."""
    rows = classes["fine-tune"]
    for k in range(i + 1, min(i + 1 + COPIES, len(vectors))):
        signs, fine = world.descendant(vectors[i].signs, vectors[i].fine, rows[int(world.rng.integers(len(rows)))])
        layout[number + k], tokens[number + k] = layout[number + i], tokens[number + i]
        vectors[k] = planted.made(signs, fine, int(layout[number + i]), int(tokens[number + i]))


def asked(world, vector, number, parents, classes):
    """Queries whose true parent is a model: (id, kind, vector)."""
    found = []
    for kind in parents.get(number, {}).get("kinds", ()):
        rows = classes[kind]
        pair = rows[int(world.rng.integers(len(rows)))]
        signs, fine = world.descendant(vector.signs, vector.fine, pair)
        layout = vector.layout if pair.same_layout else (10**6).to_bytes(16, "big")
        query = Vector(layout, vector.tokens, vector.held, signs, fine)
        found.append((planted.entry(number, vector).id, kind, query.to_bytes()))
    return found


def ask(path, most):
    """Search for every planted query, or so many of them spread evenly: recall by class, and times."""
    data = np.load(path.with_suffix(".npz"))
    step_ = max(1, len(data["names"]) // most) if most else 1
    hits, times, work = {}, [], []
    with Store.open(path) as store:
        start = time.perf_counter()
        finder = Finder(store)
        opened = time.perf_counter() - start
        for name, kind, raw in zip(
            data["names"].tolist()[::step_], data["kinds"].tolist()[::step_], data["data"][::step_], strict=True
        ):
            start, busy = time.perf_counter(), time.process_time()
            found = [c.id for c in finder.candidates(Vector.from_bytes(raw.tobytes()))]
            times.append(time.perf_counter() - start)
            work.append(time.process_time() - busy)
            hits.setdefault(kind, []).append(name in found)
    return {
        "recall": {kind: [int(sum(h)), len(h)] for kind, h in sorted(hits.items())},
        "times": times,
        "work": work,
        "opened": opened,
        "peak": peak(),
    }


def peak():
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def law_and_classes(most=None):
    """What is measured on the fixtures."""
    return planted.Law.of(planted.strangers()), planted.measured(most)


def _save(folder, law, classes):
    """Keep what was measured for the processes that build."""
    rows = {kind: [[p.agreement, p.fine, p.same_layout] for p in pairs] for kind, pairs in classes.items()}
    (folder / "measured.json").write_text(json.dumps({"signs": law.signs, "fine": law.fine, "classes": rows}))


def _loaded(folder):
    found = json.loads((folder / "measured.json").read_text())
    law = planted.Law(found["signs"], tuple(map(tuple, found["fine"])))
    return law, {kind: [planted.Pair(a, tuple(f), s) for a, f, s in rows] for kind, rows in found["classes"].items()}


def code_digest():
    """Digest of the code these numbers rest on: the page is stale when it changes."""
    names = ("vectors", "matrix", "backends", "finding")
    files = [ROOT / "lineage" / "index" / f"{name}.py" for name in names]
    return hashlib.sha256("".join(nulls._code_of(p) for p in files).encode()).hexdigest()[:16]


def write_page(rows, queries):
    """The page, from what every size gave."""
    sizes = [n for n, _, _ in rows]
    kinds = sorted(rows[-1][2]["recall"])
    lines = [HEADER.format(digest=code_digest(), queries=queries, sizes=", ".join(f"{n:,}" for n in sizes))]
    lines += ["| | " + " | ".join(f"{n:,} models" for n in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name, value in FIGURES.items():
        lines.append(f"| {name} | " + " | ".join(value(n, b, a) for n, b, a in rows) + " |")
    lines += ["", "## Planted parents found, by what was done to the child", ""]
    lines += ["| class | " + " | ".join(f"{n:,}" for n in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for kind in kinds:
        counts = [a["recall"].get(kind, [0, 0]) for _, _, a in rows]
        lines.append(f"| {kind} | " + " | ".join(f"{hit} of {total}" for hit, total in counts) + " |")
    PAGE.write_text("\n".join(lines) + "\n")


def _overall(found):
    hits, total = (sum(c[i] for c in found["recall"].values()) for i in (0, 1))
    return f"{hits / total:.4f} ({hits:,} of {total:,})"


def _worst(found):
    return f"{min(hit / total for hit, total in found['recall'].values()):.3f}"


FIGURES = {
    "recall of the planted parent, all classes": lambda _n, _b, a: _overall(a),
    "recall in the worst class": lambda _n, _b, a: _worst(a),
    "query, median": lambda _n, _b, a: f"{1e3 * np.median(a['times']):.0f} ms",
    "query, 95th percentile": lambda _n, _b, a: f"{1e3 * np.quantile(a['times'], 0.95):.0f} ms",
    "processor time of a query, median": lambda _n, _b, a: f"{1e3 * np.median(a['work']):.0f} ms",
    "processor time of a query, 95th percentile": lambda _n, _b, a: f"{1e3 * np.quantile(a['work'], 0.95):.0f} ms",
    "opening the search": lambda _n, _b, a: f"{1e3 * a['opened']:.0f} ms",
    "bytes a model, mapped into memory": lambda n, b, _a: f"{b['searched'] / n:,.0f}",
    "bytes a model, vectors and entries in the file": lambda n, b, _a: f"{b['file'] / n:,.0f}",
    "models stored a second": lambda n, b, _a: f"{n / b['stored']:,.0f}",
    "seconds to make the mapped part": lambda _n, b, _a: f"{b['mapped']:.1f}",
    "peak memory, storing and mapping": lambda _n, b, _a: f"{b['peak'] / 1e6:,.0f} MB",
    "peak memory, searching": lambda _n, _b, a: f"{a['peak'] / 1e6:,.0f} MB",
}

HEADER = """# The search, measured

Made by `python tests/calibration/searching.py`; every number comes from the run that wrote this page.

- digest of the code: `{digest}`
- indexes of {sizes} models that do not exist (`tests/planted.py`): a quarter share one layout, half one set of tokens, and
  what strangers have in common without being related is what independent runs of the fixtures have in common.
- {queries} queries of each class, each a descendant of one model of the index, as alike to it as one measured pair of the
  fixtures; half of the parents lie in the largest layout, and half have 20 near copies beside them.
- a query counts as found when its true parent is among the candidates that `lineage trace` would test.
- one process, one thread, vectors and entries without signatures. Times are by the clock, on a machine of two cores with ten to
  twenty other processes at work; processor times say what a query needs.
"""


def step(*words):
    """One step in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *map(str, words)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def built(n, place, common):
    """What building one size took; a folder that is kept is not built again."""
    told = place / f"built-{n}.json"
    if not told.exists():
        told.write_text(json.dumps(step("--build", n, *common)))
    return json.loads(told.read_text())


def main():
    """Build and search every size, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=50, help="of each class")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--asked", type=int, help="queries of the largest indexes that are asked; all without it")
    parser.add_argument("--build", type=int)
    parser.add_argument("--ask", type=int)
    args = parser.parse_args()
    if args.build or args.ask:
        path = args.folder / f"planted-{args.build or args.ask}.db"
        found = build(path, args.build, *_loaded(args.folder), args.queries) if args.build else ask(path, args.asked)
        sys.stdout.write(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = args.folder or Path(folder)
        place.mkdir(exist_ok=True, parents=True)
        if not (place / "measured.json").exists():
            _save(place, *law_and_classes())
        rows = []
        for n in args.sizes:
            common = ["--folder", place, "--queries", args.queries]
            few = ["--asked", args.asked] if args.asked and n > 100_000 else []
            rows.append((n, built(n, place, common), step("--ask", n, *common, *few)))
            sys.stderr.write(f"{n}: {rows[-1][1]} {rows[-1][2]['recall']}\n")
    write_page(rows, args.queries)


if __name__ == "__main__":
    main()
