"""Run the measurements and write docs/benchmarks.md and docs/benchmarks.svg.

    make bench-table

Each measurement is a program of its own in this folder, which prints JSON lines; this one turns them into words.
"""

import json
import platform
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from svg import Line, Panel, chart

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
SIZES = ("1M", "10M", "100M", "1B", "7B", "70B")
BAR = 100.0
"""How much less CPU the exact tests shall take."""

Row = dict[str, Any]

HEAD = """# Benchmarks

Ratios within one run and exact counters; seconds alone say little on a shared machine. Written by `make bench-table`
(`benchmarks/table.py`, about three minutes); smaller ones with timing on: `make bench`. Measured on {machine}.
"""


def run(program: str, *args: str) -> list[Row]:
    """JSON lines of one measurement."""
    print(f"{program} {' '.join(args)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, HERE / program, *args], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def power(log10_p: float | None) -> str:
    """A p-value as a power of ten; None where the formula gives zero."""
    if not log10_p:
        return "0" if log10_p is None else "1"
    return f"10^{log10_p:,.1f}"


def wrapped(text: str) -> str:
    """Paragraphs and bullets at 120 columns; tables and headings as they are."""
    made = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if not lines or lines[0][0] in "|#!":
            made.append("\n".join(lines))
            continue
        joined = " ".join(line.strip() for line in lines)
        pieces = joined.replace(" - ", "\n- ").split("\n") if joined.startswith("- ") else [joined]
        indent = "  " if joined.startswith("- ") else ""
        options = {"width": 120, "break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
        made.append("\n".join(textwrap.fill(piece, **options) for piece in pieces))
    return "\n\n".join(part for part in made if part) + "\n"


def assignment_part(shapes: Row, rows: list[Row]) -> str:
    """Exact tests against assignment and Spearman."""
    units, width, vocabulary = shapes["units"], shapes["width"], shapes["vocabulary"]
    blocks = shapes["blocks"]
    published = [
        (
            f"{r['cosine']:g}",
            f"{r['rho']:.3f}",
            power(r["printed"]),
            power(r["log_space"]),
            power(r["clamped"]),
            f"{r['cpu']:.2f}",
        )
        for r in rows
    ]
    exact = [
        (
            f"{r['cosine']:g}",
            e["name"],
            f"{blocks * e['rows']:,}",
            f"{2 * blocks * e['rows'] * e['columns'] / 1e6:.1f} MB",
            power(e["log10_p"]),
            f"{e['cpu']:.3f}",
            f"{r['cpu'] / e['cpu']:,.1f}",
        )
        for r in rows
        for e in r["exact"]
    ]
    return f"""
## Exact tests of all blocks against assignment and Spearman

`python benchmarks/assignment.py`. Two models of {shapes["parameters"] / 1e6:.1f} million parameters: {
        blocks
    } gated blocks, gate and
up {units} x {width}, down {width} x {units}, four attention matrices {width} x {width},
a tied table {vocabulary} x {width}. Synthetic up projections whose rows have a given cosine; all blocks tested,
e-values multiplied over blocks. CPU seconds of one thread, cosines of the published side with BLAS.

The published test (arXiv 2502.12292, phi_U and Fisher) reads all {blocks * units:,} rows of up, {
        2
        * blocks
        * units
        * width
        / 1e6:.0f} MB in 16 bits. Its p-value as double precision prints it (10^-307.7 where it underflows to 0), in log
space, and clamped at 1/n! per block, below which no test of n labels can be right:

{table(("row cosine", "mean rho", "printed", "log space", "clamped", "CPU s"), published)}
The exact tests on the same arrays. Ratio: published CPU over this CPU. Rows and bytes are those of one model:

{table(("row cosine", "test", "rows read", "in 16 bits", "p", "CPU s", "ratio"), exact)}
{verdict(shapes["chosen"], rows)}"""


def verdict(chosen: str, rows: list[Row]) -> str:
    """What is reached at each cosine by one configuration, and what is not, in words from the numbers."""
    lines = [f"**One configuration for all three**, {chosen} (chosen among some twenty on other draws):\n"]
    for r in rows:
        e = next(e for e in r["exact"] if e["name"] == chosen)
        ratio = r["cpu"] / e["cpu"]
        cheap = f"{ratio:,.0f} times less CPU" + ("" if ratio >= BAR else f", short of {BAR:g}")
        told = [
            f"{'no weaker' if e['log10_p'] <= r[k] else 'weaker'} than {words} ({power(r[k])})"
            for k, words in (("printed", "printed"), ("log_space", "in log space"), ("clamped", "clamped"))
            if r[k] is not None
        ]
        lines.append(f"- cosine {r['cosine']:g}: {power(e['log10_p'])} with {cheap}; {', '.join(told)}.")
    top = rows[-1]
    best = min(top["exact"], key=lambda e: e["log10_p"])
    within = min((e for e in top["exact"] if top["cpu"] / e["cpu"] >= BAR), key=lambda e: e["log10_p"])
    lines.append(
        f"\n**What is not reached.** At cosine {top['cosine']:g} the assignment finds every unit, so the published number is "
        f"the floor itself, 1/n! in each block. To come near it a test has to tell apart all n labels, and that costs "
        f"n^2 d products: {best['name']} ends at {power(best['log10_p'])} against {power(top['clamped'])} and takes "
        f"{best['cpu'] / top['cpu']:.1f} times the CPU of the published test. At {top['cpu'] / within['cpu']:.0f} times less CPU "
        f"{power(within['log10_p'])} is reached ({within['name']}). So at this cosine no configuration found is both "
        f"{BAR:g} times cheaper and no weaker than the clamped value."
    )
    return "\n".join(lines) + "\n"


def sizes_part(rows: list[Row]) -> str:
    """The default comparison over model sizes."""
    cells = [
        (
            r["size"],
            f"{r['parameters']:,}",
            f"{r['bytes']:,}",
            str(r["requests"]),
            f"{r['cpu']:.2f}",
            f"{r['store_cpu']:.2f}",
            f"{r['peak_mb']:.0f}",
            power(r["log10_p"]),
        )
        for r in rows
    ]
    head = ("shape", "parameters", "bytes read", "reads", "CPU s", "CPU s of the store", "peak MB", "p")
    growth = rows[-1]["parameters"] / rows[0]["parameters"]
    return f"""
## The default comparison from 1M to 70B

`python benchmarks/sizes.py SIZE`. A generated Llama in 16 bits and its light fine-tune (`tests/giant.py`: numbers are made
as they are asked for, and a read of a whole matrix fails), opened, signed and compared with every default test and the
description of the relation. Bytes and reads of one model; CPU of the pair, without and apart from it that of the
generating store; peak memory of the process. Median of three. The pair is plainly related, so no closer look is taken.

{table(head, cells)}
Parameters grow by a factor of {growth:,.0f}, bytes by {rows[-1]["bytes"] / rows[0]["bytes"]:.0f}, CPU by {
        rows[-1]["cpu"] / rows[0]["cpu"]:.0f}, memory by {
        rows[-1]["peak_mb"] / rows[0]["peak_mb"]:.1f}; beyond a residual width of 4,096 the reading hardly grows.

![CPU, memory and bytes of the default comparison against parameters](benchmarks.svg)
"""


def picture(rows: list[Row]) -> str:
    """CPU, memory and bytes against parameters."""
    ticks = [(r["parameters"], r["size"]) for r in rows]

    def line(label: str, key: str, scale: float = 1.0) -> Line:
        return Line(label, [(r["parameters"], r[key] * scale) for r in rows])

    cpu = [line("comparison", "cpu"), line("store (generates numbers)", "store_cpu")]
    return chart(
        [
            Panel("CPU seconds of a pair", "parameters", cpu, ticks),
            Panel("peak memory, MB", "parameters", [line("process", "peak_mb")], ticks),
            Panel("bytes read of one model, MB", "parameters", [line("bytes", "bytes", 1e-6)], ticks),
        ]
    )


def start_part(rows: list[Row]) -> str:
    """Start to finish on local fixtures."""
    pairs, alone = rows[:-1], rows[-1]
    cells = [(f"`{r['pair']}`", f"{r['cpu']:.2f}", f"{r['wall']:.2f}", f"{r['cpu'] / alone['cpu']:.1f}") for r in pairs]
    loaded = ", ".join(sorted({name for r in pairs for name in r["loaded"]}))
    spared = ", ".join(sorted(set.intersection(*(set(r["not_loaded"]) for r in pairs))))
    return f"""
## Start to finish on local fixtures

`python benchmarks/start.py`: `lineage compare A B` as a process of its own, median of five after one. `import numpy` alone
takes {alone["cpu"]:.2f} s of CPU here.

{table(("pair", "CPU s", "wall s", "CPU over `import numpy`"), cells)}
A pair in which nothing plain is found is looked at more closely, and costs that much more.

Loaded: {loaded}. Not loaded: {spared} (`tests/house/test_compare_start.py` holds that for the Hub client, networkx and
scipy).
"""


def main() -> None:
    """Measure and write."""
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    sizes = [row for size in SIZES for row in run("sizes.py", size)]
    start = run("start.py")
    shapes, *exact = run("assignment.py")
    text = HEAD.format(machine=machine) + assignment_part(shapes, exact) + sizes_part(sizes) + start_part(start)
    (DOCS / "benchmarks.svg").write_text(picture(sizes))
    (DOCS / "benchmarks.md").write_text(wrapped(text))


if __name__ == "__main__":
    main()
