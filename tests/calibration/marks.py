"""What marks keep under attacks at fixture size; rewrites docs/methods/marks-measured.md and marks-measured.json.

Usage: python tests/calibration/marks.py [--keys N] [--part NAME ...]
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import markhosts  # noqa: E402 - the path is set above
import nulls  # noqa: E402
from lineage.benching import summary  # noqa: E402
from weightmark.benchmark import Trial, Unrun, run  # noqa: E402
from weightmark.schemes import SCHEMES  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "marks-measured.md"
DATA = PAGE.with_suffix(".json")
CODE = (
    "weightmark/attacks", "weightmark/benchmark.py", "weightmark/drawing.py", "weightmark/payload.py",
    "weightmark/reading.py", "weightmark/tails.py", "stats/carriers.py", "stats/code.py", "stats/dither.py",
    "stats/kernels/carriers.py", "stats/kernels/dither.py", "stats/kernels/minsum.py",
)  # fmt: skip
"""What the numbers of every part depend on, besides its scheme and its host."""


def digest(part):
    """Digest of the code behind one part, words left out."""
    paths = [ROOT / path for path in (*CODE, f"weightmark/schemes/{part.scheme}.py")]
    files = sorted(f for path in paths for f in ([path] if path.is_file() else path.rglob("*.py")))
    text = "".join(nulls._code_of(f) for f in files) + markhosts.source_of(part)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measured(part, keys):
    """The summary of one part, as it is kept in the data file."""
    host, heads, undo = markhosts.HOSTS[part.host]()
    scheme = SCHEMES[part.scheme]
    params = dict(scheme.params("default")) | ({"eps": markhosts.EPS} if part.scheme != "perm" else {})
    trial = Trial(scheme=scheme, params=params, informed=part.informed, payload_bytes=part.payload)
    outcomes, unrun = [], []
    for found in run(trial, host, part.attacks, keys=keys, heads=heads, undo=undo):
        (unrun if isinstance(found, Unrun) else outcomes).append(found)
        if not isinstance(found, Unrun) and found.control:
            sys.stderr.write(f"{part.name}: key {found.key}, {found.attack}\n")
    rows = summary(outcomes)
    for row in rows:
        own = [o.statistic for o in outcomes if o.attack == row["attack"] and not o.control]
        row["least"] = round(float(min(own)), 3)
    return {
        "digest": digest(part),
        "keys": keys,
        "rows": rows,
        "unrun": [[u.attack, u.reason] for u in unrun],
        "n": int(sum(v.size for v in host.values())),
    }


def verdict(row, wanted):
    """(limit of the share kept, whether the row is within it and found under every key with no false alarm)."""
    found = row["found"]["1e-6"]["n"] == row["keys"] and row["control_alarms"] == 0
    if wanted is None or wanted.kept is None:
        return None, found
    limit = 0.95 * wanted.kept
    return limit, found and row["kept"] >= limit


def page(data):
    """The page in words."""
    lines = [HEADER.format(eps=markhosts.EPS)]
    short = []
    for part in markhosts.PARTS:
        if part.name not in data["parts"]:
            continue
        kept = data["parts"][part.name]
        about = f"{kept['keys']} keys a row; digest of the code: `{kept['digest']}`."
        lines += [f"\n## {part.title}\n", f"{part.words} {about}", "", TABLE]
        for row in kept["rows"]:
            wanted = markhosts.WANTED.get((part.name, row["attack"]))
            limit, good = verdict(row, wanted)
            expects = wanted is None or wanted.found
            if expects and not good:
                short.append(f"{part.name}, {row['attack']}")
            lines.append(_line(row, wanted, limit, good if expects else None))
        lines += [f"\nNot run: {attack} ({reason})." for attack, reason in kept["unrun"]]
    lines.append("\n## Rows that fell short\n")
    lines.append("\n".join(f"- {name}" for name in short) if short else "None.")
    lines.append(FOOTER)
    return "\n".join(lines), short


def _line(row, wanted, limit, good):
    said = "" if wanted is None or wanted.kept is None else f"{wanted.kept:.3f}"
    cells = [
        row["attack"],
        said,
        "" if limit is None else f"{limit:.3f}",
        f"{row['kept']:.3f}",
        f"{row['statistic']:.1f}",
        f"{row['least']:.1f}",
        f"{row['found']['1e-6']['n']}/{row['keys']}",
        "" if row["bit_error_rate"] is None else f"{row['bit_error_rate']:.3f}",
        "" if row["payload_ok"] is None else f"{row['payload_ok']}/{row['keys']}",
        f"{row['control_alarms']}/{row['controls']}",
        {True: "yes", False: "**no**", None: "not asked"}[good],
    ]
    return f"| {' | '.join(cells)} |"


TABLE = (
    "| attack | expected share | limit | share kept | T, median | T, least | found at 1e-6 | bit errors | payload "
    "| control alarms | within |\n|---|---|---|---|---|---|---|---|---|---|---|"
)
HEADER = """# Marks, measured

Made by `python tests/calibration/marks.py`; a test fails when a digest below no longer matches the code. See
[calibration](calibration.md) for the tests of relation.

- as many keys that marked nothing are looked for in the same attacked copies.
- relative size of the marks {eps}, far above what real models need, because a million weights are few: the statistic is
  the relative size times the root of the number of weights.
- *expected share* is what the design was drawn up with, measured elsewhere on two keys; the limit is that less 5 %.
- *share kept* is the median statistic over that of the untouched marked copies, *T, least* the smallest of all keys."""
FOOTER = """
## Reading it

A row is within when the mark is found at 1e-6 under every key, no key that marked nothing is found, and the share kept
is above the limit. Hosts are planted matrices, not trained ones; how alike they are to those behind the expected shares
is not known, so a difference of a few parts in a hundred may lie with the host; of ten colluders' marks each is a tenth of
0.1, and the nine others are a visible part of the noise.
"""


def main():
    """Measure the parts asked for, keep the others, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--part", action="append", choices=[p.name for p in markhosts.PARTS])
    args = parser.parse_args()
    data = json.loads(DATA.read_text()) if DATA.is_file() else {"parts": {}}
    for part in markhosts.PARTS:
        if not args.part or part.name in args.part:
            kept = measured(part, args.keys)
            data = json.loads(DATA.read_text()) if DATA.is_file() else {"parts": {}}
            data["parts"][part.name] = kept
            DATA.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    text, short = page(data)
    PAGE.write_text(text.rstrip() + "\n")
    if short:
        sys.stderr.write("fell short: " + "; ".join(short) + "\n")


if __name__ == "__main__":
    main()
