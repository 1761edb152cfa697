"""Queries without a relative against a large index, and how many are accused; a part of tracing.py."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import numpy as np  # noqa: E402
from scipy.special import betaincinv  # noqa: E402

import derive  # noqa: E402
import nulls  # noqa: E402
from lineage.index.circle import Answers, Searcher  # noqa: E402
from lineage.index.entries import signed_entry  # noqa: E402
from lineage.index.finding import Finder  # noqa: E402
from lineage.index.query import Query  # noqa: E402
from lineage.index.resembling import resembling  # noqa: E402
from lineage.index.shelf import Shelf  # noqa: E402
from lineage.index.store import Store  # noqa: E402
from lineage.index.vectors import vector_of  # noqa: E402
from lineage.tracing import TraceOptions, look  # noqa: E402

LEVELS = (0.05, 0.01, 1e-6)
SEARCHED = ("backends", "circle", "encoding", "finding", "matrix", "packing", "query", "resembling", "shelf", "vectors")
STEP, BLOCK = 50, 20
"""Models and queries after which what was done is kept."""

CHECKED = 4
"""Of so many blocks one also goes through `lineage trace` itself."""

NOISE = 0.05
"""Of the standard deviation of each tensor: what makes a copy another model."""

FEWER, ALONE = " of tested", " of 1"

RUNS = 40
"""Independent runs of one configuration: half of them make the index, half the queries."""


def silent(_stage, _done, _total):
    """No progress."""


def code_digest(more=()):
    """Digest of the code that searches and asks, and of more; the ladder and the trees are left out: those have their own pages."""
    names = (*(f"index/{name}" for name in SEARCHED), *more)
    text = "".join(nulls._code_of(ROOT / "lineage" / f"{name}.py") for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def alarms(folder, models, queries, share):
    """Ask the blocks of one share that are not in the folder yet, the last first."""
    runs = [derive.load(ROOT / "fixtures" / "zoo" / f"micro-{i:02d}") for i in range(RUNS)]
    filled(folder / "alarms.db", runs[: RUNS // 2], models)
    mine, of = share
    with Store.open(folder / "alarms.db") as store:
        shelf, finder = Shelf(store), Finder(store)
        for block in range(queries // BLOCK - 1, -1, -1):
            notes = folder / f"block-{code_digest()}-{block:04d}.json"
            if block % of == mine and not notes.exists():
                found = Counter()
                for k in range(block * BLOCK, (block + 1) * BLOCK):
                    found.update(accused(k, runs[RUNS // 2 :], shelf, finder))
                if block % CHECKED == 0:
                    found.update(through_trace(block, runs, shelf, finder, models))
                notes.write_text(json.dumps(found))
                sys.stderr.write(f"block {block}: {dict(found)}\n")


def asked_about(name, weights):
    """A model as `lineage trace` would see it, without a place."""
    signature = nulls.signature_of(weights, name)
    return Query(name, None, signature, (), vector_of(signature), None, (), indexed=False)


def accused(k, runs, shelf, finder):
    """What is said of one query that has no relative."""
    query = asked_about(f"query {k}", relabelled(runs[k % len(runs)], np.random.default_rng([8, k])))
    names = shelf.store.ids(state="signed")
    searcher = Searcher(shelf, finder, names, Answers())
    tested = searcher.worth(query)
    p = [searcher.answers.ask(query.signature, shelf.signature(n)).log_pvalue for n in tested]
    least = min(p, default=0.0)
    told = {f"{level:g}": least <= np.log(level / len(names)) for level in LEVELS}
    told |= {f"{level:g}{FEWER}": least <= np.log(level / max(1, len(tested))) for level in LEVELS}
    told |= {f"{level:g}{ALONE}": sum(v <= np.log(level) for v in p) for level in LEVELS}
    likeness = resembling(query.vector, query.id, finder, lambda n: (n,))
    told |= {"queries": 1, "tested": len(tested), "resembles": likeness is not None}
    return {what: int(n) for what, n in told.items()}


def through_trace(block, runs, shelf, finder, models):
    """One stranger and one noisy copy, through `lineage trace` itself."""
    rng = np.random.default_rng([9, block])
    i = int(rng.integers(models))
    copy = relabelled(runs[i % (RUNS // 2)], np.random.default_rng([7, i]))
    copy = derive.in_float(copy, lambda _k, v: v + NOISE * v.std() * rng.standard_normal(v.shape))
    stranger = relabelled(runs[RUNS // 2 + block % (RUNS // 2)], rng)
    options = TraceOptions(shelf.store.path)
    verdicts = []
    for name, weights in (("stranger", stranger), ("copy", copy)):
        found = look(asked_about(name, weights), shelf, finder, options, silent)
        first = found.ancestors[0].id if found.ancestors else ""
        verdicts.append((found.verdict, first))
    return {
        "traced": 1,
        "traced without evidence": int(verdicts[0][0] == "no-evidence"),
        "copies traced to their original": int(verdicts[1] == ("related", f"m{i:06d}")),
    }


def gathered(folder, models):
    """The sum of all blocks made of the code that is there."""
    total = Counter({"models": models})
    for path in sorted(folder.glob(f"block-{code_digest()}-*.json")):
        total.update(json.loads(path.read_text()))
    return dict(total)


def alarm_lines(a):
    """The part of the page."""
    n = a["queries"]
    lines = [ALARMS.format(each=a["tested"] / n, **a)]
    lines += ["| held to | level | false alarms | limit | upper 95 % bound of the rate |", "|---|---|---|---|---|"]
    held = (("all models of the index (what `lineage trace` does)", "", n), ("the models tested", FEWER, n))
    for words, key, trials in (*held, ("one test, counted by tests", ALONE, a["tested"])):
        for level in LEVELS:
            seen = a[f"{level:g}{key}"]
            bound = float(betaincinv(seen + 1, max(trials - seen, 1e-9), 0.95))
            lines.append(
                f"| {words} | {level:g} | {seen:,} of {trials:,} | {nulls.limit(trials, level):,} | {bound:.2g} |"
            )
    return [*lines, CHECKS.format(CHECKED=CHECKED, BLOCK=BLOCK, NOISE=NOISE, **a)]


ALARMS = """
## False alarms

Digest of the code: `{digest}`. {queries:,} queries against an index of {models:,} models. Both are relabelled copies of independent
training runs that share shape, tokenizer, data and recipe (`fixtures/zoo/micro-*`): 20 runs make the index, the other 20 the
queries, so that no query has a relative. {each:.1f} models are tested a query, those that the search finds most alike; the level
counts all {models:,}. A correct trace stays below the limit but for one time in a million; the bound is the exact binomial one.

What this pool is: 20 x 20 pairs of trained weights, and new labels of hidden units, heads and residual dimensions for every
model. For the tests, whose null hypothesis is that labels are uniformly random given all else, each pair is a fresh draw, and the
queries of one run are as good as those of many. It does not show how labels that training left behave (780 natural pairs:
[calibration](calibration.md)), nor another recipe. Inner products between tokens do not change with labels: for resemblances
these are 20 queries, not {queries:,}.
"""

CHECKS = """
Resemblances claimed: {resembles:,} of {queries:,} queries.

In one of {CHECKED} blocks of {BLOCK} queries a stranger, and a copy of a model of the index with {NOISE:.0%} of noise, went through
`lineage trace` itself at its default level: {traced without evidence:,} of {traced:,} strangers got `no-evidence`, and
{copies traced to their original:,} of {traced:,} copies were related, with their original named first.
"""
