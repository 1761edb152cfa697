"""How right traces are and how often they accuse strangers; rewrites docs/methods/tracing-measured.md.

Usage: python tests/calibration/tracing.py [--parts alarms zoo nursery] [--models N] [--queries N] [--keep FOLDER]

The parts are measured apart, and each says of which code it was made. With `--keep`, what is made of the part `alarms` stays in
a folder, and a run that was stopped goes on from there.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import numpy as np  # noqa: E402
from scipy.special import betaincinv  # noqa: E402

import derive  # noqa: E402
import nulls  # noqa: E402
from crawl import find_models, open_model  # noqa: E402
from lineage.index.circle import Answers, Searcher  # noqa: E402
from lineage.index.entries import entry_of, signed_entry  # noqa: E402
from lineage.index.finding import Finder  # noqa: E402
from lineage.index.query import Query, find_query  # noqa: E402
from lineage.index.resembling import resembling  # noqa: E402
from lineage.index.shelf import Shelf  # noqa: E402
from lineage.index.store import Store  # noqa: E402
from lineage.index.vectors import vector_of  # noqa: E402
from lineage.plan import PUBLIC_KEY  # noqa: E402
from lineage.tracing import TraceOptions, document_of, look  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "tracing-measured.md"
RESULTS = PAGE.with_suffix(".json")
LEVELS = (0.05, 0.01, 1e-6)
FOLDERS = ("zoo", "nursery")
STEP = 50
"""Models and queries after which what was done is kept."""

RUNS = 40
"""Independent runs of one configuration: half of them make the index, half the queries."""


def silent(_stage, _done, _total):
    """No progress."""


def truth():
    """Model to (folder, what the maker noted)."""
    found = {}
    for folder in ("zoo", "nursery"):
        models = json.loads((ROOT / "fixtures" / folder / "truth.json").read_text())["models"]
        found |= {m["id"]: (folder, m) for m in models}
    return found


def above(name, known):
    """True ancestors of a model with their distance."""
    found, ring, hops = {}, known[name][1]["parents"], 1
    while ring:
        found |= {p: hops for p in ring if p not in found}
        ring, hops = [q for p in ring for q in known[p][1]["parents"] if q not in found], hops + 1
    return found


def held_out(path, folders=FOLDERS, kinds=(True, False)):
    """Every model of some fixtures traced without itself, with larger slices and without: counts by folder."""
    known, tables = truth(), {}
    with Store.open(path, create=True) as store:
        for folder in folders:
            for ref in find_models(ROOT / "fixtures" / folder):
                with open_model(ref) as source:
                    entry, blobs = entry_of(source, Path(ref.location).name)
                store.put_model(entry, *blobs)
        finder, answers, options = Finder(store), Answers(), TraceOptions(path)
        for stored in kinds:
            shelf = Shelf(store)
            if not stored:
                shelf.study = lambda _name: None
            for name in store.ids():
                query = find_query(name, shelf, PUBLIC_KEY, None)
                found = look(query, shelf, finder, options, silent, answers)
                document = document_of(found, options, 0.0)
                key = (known[name][0], stored)
                tables.setdefault(key, Counter()).update(judged(name, document, known))
                sys.stderr.write(f"{name} {stored} {document['verdict']}\n")
    return tables


def judged(name, document, known):
    """What a trace got right."""
    true = above(name, known)
    kin = true or any(name in above(o, known) for o in known) or known[name][1].get("shared_init_with")
    if not kin and not any(m.get("shared_init_with") == name for _, m in known.values()):
        return {"strangers": 1, "strangers without evidence": document["verdict"] == "no-evidence"}
    if not true:
        return {"bases": 1, "bases related to their family": document["verdict"] == "related"}
    first = document["ancestors"][0] if document["ancestors"] else None
    listed = [a["id"] for a in document["ancestors"] if a["id"] in true]
    right = first is not None and true.get(first["id"]) == 1
    return {
        "descendants": 1,
        "family found": document["verdict"] in {"related", "resembles"},
        "first named is the parent": right,
        "first named is an ancestor": first is not None and first["id"] in true,
        "first named, direction open": right and first["probability"] is None and document["verdict"] == "related",
        "some ancestor listed": bool(listed),
    }


def relabelled(weights, rng):
    """The same run with other labels: under the null hypothesis as good as another run for every test of labels."""
    made = derive.permute_hidden(derive.permute_residual(weights, rng), rng)
    return derive.permute_heads(made, rng, n_heads=4, n_kv=2)


def filled(path, runs, models):
    """An index of so many relabelled runs; one that was begun is gone on with."""
    with Store.open(path, create=True) as store:
        for start in range(len(store.ids()), models, STEP):
            with store.transaction():
                for i in range(start, min(start + STEP, models)):
                    name = f"m{i:06d}"
                    weights = relabelled(runs[i % len(runs)], np.random.default_rng([7, i]))
                    entry, blobs = signed_entry(nulls.signature_of(weights, name), name=name, place=(name, None))
                    store.put_model(entry, *blobs)
            sys.stderr.write(f"{start + STEP} of {models} stored\n")


def alarms(folder, models, queries):
    """False alarms of queries from runs that are not in the index, at each family-wise level."""
    runs = [derive.load(ROOT / "fixtures" / "zoo" / f"micro-{i:02d}") for i in range(RUNS)]
    filled(folder / "alarms.db", runs[: RUNS // 2], models)
    notes = folder / "alarms.json"
    kept = json.loads(notes.read_text()) if notes.exists() else {"queries": 0}
    with Store.open(folder / "alarms.db") as store:
        shelf, finder = Shelf(store), Finder(store)
        searcher = Searcher(shelf, finder, store.ids(state="signed"), Answers())
        for k in range(kept["queries"], queries):
            name = f"query {k}"
            weights = relabelled(runs[RUNS // 2 + k % (RUNS // 2)], np.random.default_rng([8, k]))
            signature = nulls.signature_of(weights, name)
            query = Query(name, None, signature, (), vector_of(signature), None, (), indexed=False)
            tested = searcher.worth(query)
            least = min((searcher.answers.ask(signature, shelf.signature(n)).log_pvalue for n in tested), default=0.0)
            told = {f"{level:g}": bool(least <= np.log(level / models)) for level in LEVELS}
            told |= {"tested": len(tested), "at 1 test": bool(least <= np.log(0.05 / max(1, len(tested))))}
            told["resembles"] = resembling(query.vector, name, finder, lambda n: (n,)) is not None
            for what, n in told.items():
                kept[what] = kept.get(what, 0) + int(n)
            kept["queries"] = k + 1
            searcher.answers.held.clear()
            if (k + 1) % STEP == 0 or k + 1 == queries:
                notes.write_text(json.dumps(kept))
                sys.stderr.write(f"{k + 1} of {queries} asked: {kept}\n")
    return kept | {"models": models}


def code_digest():
    """Digest of the code the numbers rest on, the ladder and the trees left out: those have pages of their own."""
    names = (
        "backends",
        "circle",
        "encoding",
        "finding",
        "leaning",
        "query",
        "resembling",
        "shelf",
        "studies",
        "vectors",
    )
    files = [ROOT / "lineage" / "index" / f"{name}.py" for name in names]
    files += [ROOT / "lineage" / f"{name}.py" for name in ("tracing", "trail")]
    return hashlib.sha256("".join(nulls._code_of(p) for p in files).encode()).hexdigest()[:16]


ROWS = (
    "descendants", "family found", "first named is the parent", "first named is an ancestor", "first named, direction open",
    "some ancestor listed", "bases", "bases related to their family", "strangers", "strangers without evidence",
)  # fmt: skip


def page(results):
    """The page, from what was measured."""
    lines = [HEADER]
    heads = [
        (part, kind) for part in FOLDERS if part in results for kind in ("stored", "slim") if kind in results[part]
    ]
    for part in dict.fromkeys(part for part, _ in heads):
        lines.append(f"- {part}: digest of the code `{results[part]['digest']}`")
    titles = [f"{part}{'' if kind == 'stored' else ', signatures only'}" for part, kind in heads]
    lines += ["", "| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(f"{results[p][k].get(row, 0):,}" for p, k in heads) + " |" for row in ROWS]
    if "alarms" in results:
        a = results["alarms"]
        n = a["queries"]
        lines.append(ALARMS.format(each=a["tested"] / n, **a))
        lines += ["| family-wise level | false alarms | limit | upper 95 % bound of the rate |", "|---|---|---|---|"]
        for level in LEVELS:
            seen = a[f"{level:g}"]
            bound = float(betaincinv(seen + 1, max(n - seen, 1e-9), 0.95))
            lines.append(f"| {level:g} | {seen:,} | {nulls.limit(n, level):,} | {bound:.2g} |")
        lines.append(
            f"\nHeld to the models tested alone, at 0.05: {a['at 1 test']:,} of {n:,} (limit {nulls.limit(n, 0.05):,})."
        )
        lines.append(f"Resemblances claimed: {a['resembles']:,} of {n:,}.")
    return "\n".join(lines) + "\n"


HEADER = """# Traces, measured

Made by `python tests/calibration/tracing.py`; a test fails when a digest below no longer matches the code.

## Every model of the fixtures traced without itself

One index of the models of a folder. A parent counts as named first also where the direction of its link is open.
"""

ALARMS = """
## False alarms

Digest of the code: `{digest}`. {queries:,} queries against an index of {models:,} models. Both are relabelled copies of independent
training runs that share shape, tokenizer, data and recipe (`fixtures/zoo/micro-*`): 20 runs make the index, the other 20 the
queries, so that no query has a relative, and every pair has labels of its own. {each:.1f} models are tested a query; the level
counts all. A correct trace stays below the limit but for one time in a million.
"""


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--parts", nargs="*", default=["alarms", *FOLDERS])
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    for part in args.parts:
        digest = code_digest()
        with tempfile.TemporaryDirectory() as folder:
            if part == "alarms":
                found = alarms(args.keep or Path(folder), args.models, args.queries)
            else:
                tables = held_out(Path(folder) / "held.db", (part,))
                found = {"stored": dict(tables[part, True]), "slim": dict(tables[part, False])}
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[part] = {"digest": digest, **found}
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True, default=int) + "\n")
        PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
