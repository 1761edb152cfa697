"""`make calibrate`: the long null counts, written to docs/methods/calibration.md with the digest of the code.

Usage: python tests/calibration/run.py [--n N]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures")]

import broken  # noqa: E402 - the path is set above
import disguised  # noqa: E402
import draws  # noqa: E402
import nulls  # noqa: E402
import shares  # noqa: E402

HEADER = """# Calibration of the tests

Made by `make calibrate`; `make test` fails when the digest below no longer matches the code.

- digest of the code: `{digest}`
- natural pairs: all {pairs} pairs of {runs} independent training runs of one configuration, trained on the same data in
  the same order, labels as training left them (`fixtures/zoo/micro-*`).
- relabelled and stressed pairs: {n:,} per row of stress, two different runs each, both damaged alike, the second one
  relabelled at random; every run takes part in {share:.1%} of the pairs.
- every pair goes through stored bytes, `open_store`, `sign` and `compare_signed`, the path below `lineage compare`.
- counts are p-values at or below the level; the limit is the count a correct test stays below but for one time in a
  million. E-values are conservative, so the counts lie far below the limits: the exactness itself is shown by
  enumeration of all labellings in `tests/stats`.
"""


def main() -> None:
    """Run all counts and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2100, help="pairs per stress")
    parser.add_argument("--draws", type=int, default=10_000, help="draws per public test")
    args = parser.parse_args()
    runs = nulls.micro_runs()
    pairs = len(runs) * (len(runs) - 1) // 2
    text = [HEADER.format(digest=nulls.code_digest(), pairs=pairs, runs=len(runs), n=args.n, share=2 / len(runs))]
    excess: list[str] = []
    summary: dict[str, object] = {"digest": nulls.code_digest(), "cases": {}}
    pooled = nulls.Tally()
    for case, tally in _tallies(["natural", *nulls.STRESSES], args.n):
        if case != "natural":
            pooled.merge(tally)
        text.append(_table(case, tally))
        excess += [f"{case}: {line}" for line in tally.excess()]
        summary["cases"][case] = {"n": sum(tally.verdicts.values()), "verdicts": dict(tally.verdicts)}
        sys.stderr.write(f"{case}: {dict(tally.verdicts)}, {tally.excess() or 'within the limits'}\n")
    text.append(_table("all relabelled and stressed pairs together", pooled))
    text.append(PUBLIC.format(n=args.draws))
    drawn = nulls.Tally()
    with ProcessPoolExecutor(_WORKERS) as pool:
        for name, tally in zip(
            draws.DRAWS, pool.map(draws.tally, draws.DRAWS, [args.draws] * len(draws.DRAWS)), strict=True
        ):
            drawn.merge(tally)
            excess += [f"{name}: {line}" for line in tally.excess()]
            sys.stderr.write(f"{name}: {tally.excess() or 'within the limits'}\n")
    text.append(_rows(drawn))
    summary["draws"] = {method: n for method, n, *_ in drawn.rows()}
    excess += [f"pooled: {line}" for line in pooled.excess()]
    skipped = [any("sorted units" in s["reason"] for s in d["skipped"]) for d in nulls.both_sorted(runs, 300)]
    text.append(
        f"\n## Both models sorted by norm\n\n{sum(skipped)} of {len(skipped)} pairs skipped their hidden units as sorted.\n"
    )
    summary |= {
        "excess": excess,
        "largest_share_of_a_run": round(2 / len(runs), 4),
        "sorted_pairs": len(skipped),
        "sorted_pairs_skipped": sum(skipped),
    }
    text.append(broken.table())
    text.append(shares.table())
    text.append(disguised.table())
    (ROOT / "docs/methods").mkdir(parents=True, exist_ok=True)
    (ROOT / "docs/methods/calibration.md").write_text("\n".join(text))
    (ROOT / "docs/methods/calibration.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    if excess:
        sys.exit("\n".join(excess))


PUBLIC = """
## Public functions, {n:,} draws each

Each statistic through its public function, on arrays of strangers: clusters along directions both share, heavy tails,
outlier dimensions, dead units, one model sorted by norm; the labels of one model, either one, drawn (`tests/draws.py`).
"""

_WORKERS = 2


def _tally(case: str, n: int) -> nulls.Tally:
    runs = nulls.micro_runs()
    found = nulls.Tally()
    for document in nulls.natural(runs) if case == "natural" else nulls.stressed(runs, case, n):
        found.add(document)
    return found


def _tallies(cases: list[str], n: int) -> Iterator[tuple[str, nulls.Tally]]:
    with ProcessPoolExecutor(_WORKERS) as pool:
        yield from zip(cases, pool.map(_tally, cases, [n] * len(cases)), strict=True)


def _table(title: str, tally: "nulls.Tally") -> str:
    verdicts = ", ".join(f"{k} {v}" for k, v in sorted(tally.verdicts.items()))
    return f"\n## {title[0].upper()}{title[1:]}\n\nVerdicts at 1e-6: {verdicts}.\n\n" + _rows(tally)


def _rows(tally: "nulls.Tally") -> str:
    lines = []
    lines.append(
        "| test | n | " + " | ".join(f"at {level:g} (limit)" for level in nulls.LEVELS) + " | smallest log10 p |"
    )
    lines.append("|---|---|" + "---|" * (len(nulls.LEVELS) + 1))
    for method, n, counts, limits, smallest in tally.rows():
        cells = " | ".join(f"{c} ({m})" for c, m in zip(counts, limits, strict=True))
        lines.append(f"| {method} | {n} | {cells} | {smallest:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
