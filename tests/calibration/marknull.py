"""Keys that marked nothing, 20,000 a case; rewrites docs/methods/marks-null.md and marks-null.json.

Usage: python tests/calibration/marknull.py [--keys N]
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import nulls  # noqa: E402 - the path is set above
import wrongkeys  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "marks-null.md"
DATA = PAGE.with_suffix(".json")
ROWS, COLUMNS = 64, 512
CODE = (
    "weightmark/drawing.py", "weightmark/keys.py", "weightmark/payload.py", "weightmark/reading.py",
    "weightmark/tails.py", "weightmark/schemes/dss.py", "stats/carriers.py", "stats/code.py",
    "stats/kernels/carriers.py", "tests/wrongkeys.py",
)  # fmt: skip


def digest():
    """Digest of the code behind the table, words left out."""
    return hashlib.sha256("".join(nulls._code_of(ROOT / path) for path in CODE).encode()).hexdigest()[:16]


def measured(case, n):
    """One row: counts of small p, and of the normal tail beside it, with the law of the statistic."""
    t, p = wrongkeys.read(wrongkeys.matrix(case, ROWS, COLUMNS), n)
    return {
        "mean": round(float(t.mean()), 4),
        "sd": round(float(t.std()), 4),
        "largest": round(float(t.max()), 3),
        "ks": round(_distance(t), 5),
        "ks_limit": round(1.95 / math.sqrt(n), 5),
        "counts": {str(level): int((p <= math.log(level)).sum()) for level in nulls.LEVELS},
        "normal": {str(level): int((t >= _quantile(level)).sum()) for level in nulls.LEVELS},
        "limits": {str(level): nulls.limit(n, level) for level in nulls.LEVELS},
    }


def _distance(t):
    """Largest distance between the shares below each value and those of the standard normal law."""
    x = np.sort(t)
    law = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    at = np.arange(len(x) + 1) / len(x)
    return float(max((at[1:] - law).max(), (law - at[:-1]).max()))


def _quantile(level):
    """Where the upper tail of the standard normal law is `level`, by halving."""
    low, high = 0.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(middle / math.sqrt(2)) > level else (low, middle)
    return low


def page(data):
    """The page in words."""
    lines = [HEADER.format(n=data["keys"], digest=data["digest"], rows=ROWS, columns=COLUMNS)]
    levels = [str(level) for level in nulls.LEVELS]
    lines += [f"- *{case}*: {wrongkeys.WORDS[case]}" for case in wrongkeys.CASES]
    lines.append(f"\n| case | mean of T | sd | largest T | distance | {' | '.join(f'p <= {x}' for x in levels)} |")
    lines.append("|---|---|---|---|---|" + "---|" * len(levels))
    for case in wrongkeys.CASES:
        row = data["rows"][case]
        cells = [f"{row['counts'][x]} ({row['normal'][x]}; {row['limits'][x]})" for x in levels]
        about = f"{row['mean']:+.4f} | {row['sd']:.4f} | {row['largest']:.2f} | {row['ks']:.4f} ({row['ks_limit']:.4f})"
        lines.append(f"| {case} | {about} | {' | '.join(cells)} |")
    lines.append(FOOTER)
    return "\n".join(lines)


HEADER = """# Keys that marked nothing

Made by `python tests/calibration/marknull.py`; a test fails when the digest below no longer matches the code. See
[dss](dss.md) for the statistic and [calibration](calibration.md) for the tests of relation.

- {n:,} keys a case, each looked for in the same matrix of {rows} x {columns}; digest of the code: `{digest}`.
- a cell counts p-values at or below the level, which hold for every suspect; in brackets what the normal tail alone would
  count, and the count a correct test stays at or below but for one time in a million.
- *distance* is the largest between the law of T and the standard normal one; in brackets what one sample in a thousand
  exceeds.
"""
FOOTER = """
The p-values are 3.178 times the normal tail, so that they hold for weights of any sizes: on these matrices, where no few
weights outweigh the others, they are conservative by about that factor, and the normal tail itself would do.
"""


def main():
    """Measure every case and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=20_000)
    args = parser.parse_args()
    data = {"digest": digest(), "keys": args.keys, "rows": {}}
    for case in wrongkeys.CASES:
        data["rows"][case] = measured(case, args.keys)
        sys.stderr.write(f"{case}: {data['rows'][case]}\n")
    DATA.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(data).rstrip() + "\n")


if __name__ == "__main__":
    main()
