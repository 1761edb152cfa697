"""How right trees are, on trained families and on twins made of measured updates; rewrites docs/methods/trees-measured.md.

Weights and sharpness were fitted on families 0 to 7 of the nursery; everything else here is scored only.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import numpy as np  # noqa: E402

import treescores  # noqa: E402
import twins  # noqa: E402
from lineage import posterior, signals  # noqa: E402

FITTED, HELD = tuple(range(8)), tuple(range(8, 16))
OFF = (*signals.EARNED, "untouched-rows", "rows and arrays left as they were")
PAGE = ROOT / "docs" / "methods" / "trees-measured.md"


POPULATIONS = {
    "nursery, fitted families": lambda _: [twins.real_family(i) for i in FITTED],
    "nursery, held out": lambda _: [twins.real_family(i) for i in HELD],
    "VTHR-shaped twins, held out": lambda size: [twins.vthr(s, HELD) for s in range(size)],
    "the same of merged adapters": lambda size: [twins.vthr(s, HELD, kinds=("lora-merge",)) for s in range(size // 2)],
    "Atlas-shaped twins, held out": lambda size: [twins.atlas(s, HELD) for s in range(size // 2)],
}


def measured(name, size):
    """(summary, links, losses, signals, what each kind of evidence is worth) of a population, and the seconds it took."""
    began = time.process_time()
    families = POPULATIONS[name](size)
    told, likely, lost = scored(families)
    worth = []
    if "nursery, held" in name or "VTHR" in name:
        worth = [(name, "nothing", scored(families[:6])[0])]
        worth += [(name, off, _without(off, families[:6])) for off in OFF]
    return told, likely, lost, right_of_signals(families), worth, time.process_time() - began


def scored(families):
    """(summary, links) of a population; dates are drawn for each family."""
    placed = [treescores.answered(f, twins.dated(f, n)) for n, f in enumerate(families)]
    answers = [treescores.score(f, p) for f, p in zip(families, placed, strict=True)]
    likely = [x for _, links in answers for x in links]
    lost = treescores.total([treescores.losses(f, p) for f, p in zip(families, placed, strict=True)])
    return treescores.summary([c for c, _ in answers], likely), likely, lost


def reliability(likely, bins=10):
    """Rows of a reliability table: range, links, mean probability, share right."""
    p, y = np.array([x[0] for x in likely]), np.array([float(x[1]) for x in likely])
    which = np.minimum((p * bins).astype(int), bins - 1)
    return [
        (b / bins, int((which == b).sum()), float(p[which == b].mean()), float(y[which == b].mean()))
        for b in range(bins)
        if (which == b).any()
    ]


def right_of_signals(families):
    """How often each signal favours the true parent, over trained edges."""
    counts = {}
    for f in families:
        traits = {i: signals.traits_of(s) for i, s in f.studies.items()}
        for child, parents in f.parents.items():
            if len(parents) == 1 and f.kinds[child] != "quantized":
                decay = signals.decay_of(f.studies[parents[0]], f.studies[child])
                grown = signals.growth_signal(f.studies[parents[0]], f.studies[child])
                weak = signals.weak_signals(traits[parents[0]], traits[child]) if grown is None else grown
                told = (*weak, *signals.decay_signal(decay))
                for s in told:
                    right, n = counts.get(s.name, (0, 0))
                    counts[s.name] = (right + (s.log_odds > 0.0), n + 1)
    return counts


def main() -> None:
    """Score everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=26, help="twins of the first form, half as many of the others")
    parser.add_argument("--jobs", type=int, default=2, help="populations measured at once")
    args = parser.parse_args()
    lines = ["# Trees, measured\n", "Made by `make trees`; every number comes from the run that wrote this page.\n"]
    lines += [
        "Families 0 to 7 of the nursery gave the weights of signals and of distances. All others are only scored.\n"
    ]
    rows, every, signal_rows, off_rows, loss_rows, spent = [], [], [], [], [], 0.0
    with ProcessPoolExecutor(args.jobs) as pool:
        answers = pool.map(measured, POPULATIONS, [args.size] * len(POPULATIONS))
        for name, (told, likely, lost, right, worth, seconds) in zip(POPULATIONS, answers, strict=True):
            rows.append((name, told))
            every += likely if "fitted" not in name else []
            signal_rows.append((name, right))
            loss_rows.append((name, lost))
            off_rows += worth
            spent += seconds
            numbers = json.dumps({k: round(v, 3) for k, v in told.items()})
            sys.stdout.write(f"{name} {numbers} {seconds:.0f} s\n")
            sys.stdout.flush()
    keys = list(rows[0][1])
    lines.append("| | " + " | ".join(n for n, _ in rows) + " |\n|---|" + "---|" * len(rows))
    lines += [f"| {k} | " + " | ".join(_number(t[k]) for _, t in rows) + " |" for k in keys]
    lines.append(f"\nThe run took {spent:.0f} seconds of one core.")
    lines.append("\n## Where members hang\n\nOf the members with one true parent, how many hang below each.\n")
    lines.append("| below | " + " | ".join(n for n, _ in loss_rows) + " |\n|---|" + "---|" * len(loss_rows))
    lines += [f"| {place} | " + " | ".join(str(c[place]) for _, c in loss_rows) + " |" for place in treescores.PLACES]
    lines.append("\n## Signals: favoured the true parent\n\n| signal | " + " | ".join(n for n, _ in signal_rows) + " |")
    lines.append("|---|" + "---|" * len(signal_rows))
    for s in sorted({k for _, c in signal_rows for k in c}):
        lines.append(f"| {s} | " + " | ".join(_share(c.get(s)) for _, c in signal_rows) + " |")
    lines.append(
        "\n## With one kind of evidence switched off, the first six families\n\n| population | without | undirected F1 | directed F1 | root right |"
    )
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {name} | {off} | {t['undirected F1']:.3f} | {t['directed F1']:.3f} | {t['root right']:.3f} |"
        for name, off, t in off_rows
    ]
    ece, brier = treescores.calibration([(p, r) for p, r, _, _ in every])
    share = float(np.mean([0.6 <= p <= 0.9 for p, _, _, _ in every]))
    lines.append(
        f"\n## Reliability of `probability`, all held-out links\n\n{len(every):,} links, {share:.0%} of them between 0.6 and "
        f"0.9: expected calibration error {ece:.3f}, Brier score {brier:.3f}.\n"
    )
    lines.append("| from | links | mean probability | share right |\n|---|---|---|---|")
    lines += [f"| {b:.1f} | {n} | {p:.3f} | {y:.3f} |" for b, n, p, y in reliability(every)]
    PAGE.write_text("\n".join(lines) + "\n")


def _without(name, families):
    if name == "untouched-rows":
        with patch.object(signals, "DECAY_LOG_ODDS", 0.0), patch("lineage.kinship.is_another_source", lambda _d: False):
            return scored(families)[0]
    if name == "rows and arrays left as they were":
        with patch.object(posterior, "ROWS_CHANGED", 0.0), patch.object(posterior, "ARRAYS_CHANGED", 0.0):
            return scored(families)[0]
    with patch.object(signals, "EARNED", {**signals.EARNED, name: (0.0, 0.0)}):
        return scored(families)[0]


def _number(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _share(pair):
    return "-" if pair is None else f"{pair[0]} of {pair[1]}"


if __name__ == "__main__":
    main()
