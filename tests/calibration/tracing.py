"""How right traces are and how often they accuse strangers; rewrites docs/methods/tracing-measured.md.

Usage: python tests/calibration/tracing.py [--parts alarms zoo nursery] [--models N] [--queries N] [--keep FOLDER] [--share K/N]

The parts are measured apart, and each says of which code it was made. With `--keep`, what is made of the part `alarms` stays in
a folder, and a run that was stopped goes on from there; once the index is in it, several shares may be asked at once. With
`--queries 0` the page is made of the blocks that are there.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import strangers  # noqa: E402

from crawl import find_models, open_model  # noqa: E402
from lineage.index.circle import Answers  # noqa: E402
from lineage.index.entries import entry_of  # noqa: E402
from lineage.index.finding import Finder  # noqa: E402
from lineage.index.query import find_query  # noqa: E402
from lineage.index.shelf import Shelf  # noqa: E402
from lineage.index.store import Store  # noqa: E402
from lineage.plan import PUBLIC_KEY  # noqa: E402
from lineage.tracing import TraceOptions, document_of, look  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "tracing-measured.md"
RESULTS = PAGE.with_suffix(".json")
FOLDERS = ("zoo", "nursery")
KINDS = ("stored", "slim")
PARENT = "nearest true ancestor first"
OPEN = "nearest true ancestor first, its direction open"
HIGHER = "a true ancestor beyond the parent first"
OPEN_WRONG = "another relative first, its direction open"
COLLATERAL = "a sibling or cousin first, told as an ancestor"
DESCENDANT = "a descendant first, told as an ancestor"
NOBODY = "nobody named"


def alias(name):
    """A name that does not say who was there first: equals are ordered by it."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def truth(folder):
    """What the maker noted of each model, under the other names."""
    models = json.loads((ROOT / "fixtures" / folder / "truth.json").read_text())["models"]
    return {
        alias(m["id"]): {
            "name": m["id"],
            "parents": [alias(p) for p in m["parents"]],
            "twin_start": alias(m["shared_init_with"]) if m.get("shared_init_with") else None,
        }
        for m in models
    }


def above(name, known):
    """True ancestors of a model with their distance."""
    found, ring, hops = {}, known[name]["parents"], 1
    while ring:
        found |= {p: hops for p in ring if p not in found}
        ring, hops = [q for p in ring for q in known[p]["parents"] if q not in found], hops + 1
    return found


def held_out(path, folder, kinds=KINDS):
    """Every model of some fixtures traced without itself, with larger slices and without: counts by kind, and a line each."""
    known, tables, lines = truth(folder), {}, []
    with Store.open(path, create=True) as store:
        for ref in find_models(ROOT / "fixtures" / folder):
            with open_model(ref) as source:
                entry, blobs = entry_of(source, alias(Path(ref.location).name))
            store.put_model(entry, *blobs)
        finder, answers, options = Finder(store), Answers(), TraceOptions(path)
        for kind in kinds:
            shelf, table = Shelf(store), tables.setdefault(kind, Counter())
            if kind == "slim":
                shelf.study = lambda _name: None
            for name in sorted(store.ids(), key=lambda n: known[n]["name"]):
                query = find_query(name, shelf, PUBLIC_KEY, None)
                found = look(query, shelf, finder, options, strangers.silent, answers)
                document = document_of(found, options, 0.0)
                seen = judged(name, document, known)
                table.update(seen)
                lines.append(
                    f"{kind} {known[name]['name']} {document['verdict']}: {named(document, known)} {list(seen)}"
                )
                sys.stderr.write(lines[-1] + "\n")
    return tables, lines


def named(document, known):
    """Who is named first, in the words of the fixtures."""
    first = document["ancestors"][0] if document["ancestors"] else None
    return "nobody" if first is None else f"{known[first['id']]['name']} {first['probability']}"


def judged(name, document, known):
    """What a trace got right."""
    true = above(name, known)
    kin = true or any(name in above(o, known) for o in known) or known[name]["twin_start"]
    first = document["ancestors"][0] if document["ancestors"] else None
    if not kin and not any(m["twin_start"] == name for m in known.values()):
        return {"strangers": 1, "strangers without evidence": document["verdict"] == "no-evidence"}
    if not true:
        told = first is not None and first["probability"] is not None
        return {
            "bases": 1,
            "bases related to their family": document["verdict"] == "related",
            "bases given a parent": told,
        }
    return {
        "descendants": 1,
        "family found": document["verdict"] in {"related", "resembles"},
        who(name, first, document["verdict"], known): 1,
        "some true ancestor listed": any(a["id"] in true for a in document["ancestors"]),
    }


def who(name, first, verdict, known):
    """The one that is named first, by what it is to the query: one of the seven rows."""
    true = above(name, known)
    if first is None:
        return NOBODY
    if first["probability"] is None and verdict == "related":
        return OPEN if first["id"] in known[name]["parents"] else OPEN_WRONG
    if first["id"] in known[name]["parents"]:
        return PARENT
    if first["id"] in true:
        return HIGHER
    return DESCENDANT if name in above(first["id"], known) else COLLATERAL


INFERRED = ("index/leaning", "index/studies", "tracing", "trail")


def code_digest(part):
    """Digest of the code a part rests on."""
    return strangers.code_digest(() if part == "alarms" else INFERRED)


ROWS = (
    "descendants", "family found", PARENT, OPEN, HIGHER, OPEN_WRONG, COLLATERAL, DESCENDANT, NOBODY,
    "some true ancestor listed", "bases", "bases related to their family", "bases given a parent",
    "strangers", "strangers without evidence",
)  # fmt: skip


def page(results):
    """The page, from what was measured."""
    lines = [HEADER]
    heads = [(part, kind) for part in FOLDERS if part in results for kind in KINDS if kind in results[part]]
    lines += [f"- {part}: digest of the code `{results[part]['digest']}`" for part in FOLDERS if part in results]
    titles = [f"{part}{'' if kind == 'stored' else ', signatures only'}" for part, kind in heads]
    lines += ["", "| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(f"{results[p][k].get(row, 0):,}" for p, k in heads) + " |" for row in ROWS]
    lines += [""] + [_share(part, kind, results[part][kind]) for part, kind in heads]
    if "alarms" in results:
        lines += strangers.alarm_lines(results["alarms"])
    return "\n".join(lines) + "\n"


def _share(part, kind, table):
    """The measure in the words of the promise."""
    n, first, is_open = table["descendants"], table.get(PARENT, 0), table.get(OPEN, 0)
    words = f"- {part}, {kind}: nearest true ancestor first in {first / n:.3f} of {n}"
    return words + f"; with those whose direction stays open {(first + is_open) / n:.3f}"


HEADER = """# Traces, measured

Made by `python tests/calibration/tracing.py`; a test fails when a digest below no longer matches the code. The same numbers and a
line for each model: `tracing-measured.json`.

## Every model of the fixtures traced without itself

One index of the models of a folder, under names that say nothing. Every descendant stands in one of the seven rows on who is
named first; *direction open* is what a trace says of its own answer: a link of which the weights do not tell who came from whom.
"""


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--parts", nargs="*", default=["alarms", *FOLDERS], choices=["alarms", *FOLDERS])
    parser.add_argument("--keep", type=Path, help="folder in which what was done of the alarms stays")
    parser.add_argument("--share", default="0/1", help="K/N: only every Nth block of the alarms from the Kth; no page")
    args = parser.parse_args()
    mine, of = map(int, args.share.split("/"))
    for part in args.parts:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(part, args.keep or Path(folder), args.models, args.queries, (mine, of))
        if of == 1:
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results[part] = {"digest": code_digest(part), **found}
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            PAGE.write_text(page(results))


def measured(part, folder, models, queries, share):
    """The counts of one part."""
    if part == "alarms":
        strangers.alarms(folder, models, queries, share)
        return strangers.gathered(folder, models)
    tables, lines = held_out(folder / "held.db", part)
    return {kind: {what: int(n) for what, n in table.items()} for kind, table in tables.items()} | {"models": lines}


if __name__ == "__main__":
    main()
