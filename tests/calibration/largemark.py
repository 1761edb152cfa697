"""Marks on the large trained fixture: rewrites docs/methods/marks-large.md and marks-large.json (extra `torch`).

Usage: python tests/calibration/largemark.py [--zoo DIR] [--keys N] [--part NAME ...] [--room DIR]

The zoo is what `python fixtures/make_zoo.py --large` makes. An hour of one core; a run that was stopped goes on from what it left
in its room.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import largemarks  # noqa: E402 - the path is set above
import nulls  # noqa: E402

PAGE = ROOT / "docs" / "methods" / "marks-large.md"
DATA = PAGE.with_suffix(".json")
CODE = (
    "weightmark/attacks", "weightmark/drawing.py", "weightmark/payload.py", "weightmark/reading.py",
    "weightmark/tails.py", "stats/carriers.py", "stats/code.py", "stats/dither.py", "stats/kernels/carriers.py",
    "stats/kernels/dither.py", "stats/kernels/minsum.py", "weightmark/schemes/dss.py", "weightmark/schemes/gram.py",
    "weightmark/schemes/perm.py",
)  # fmt: skip
"""What the numbers depend on that is in this repository, besides the training of the host."""

WINDOWS, FEW_WINDOWS = 512, 128
RECIPES = {"full": {"steps": 400, "lr": 2e-4, "rank": 0}, "lora": {"steps": 150, "lr": 1e-3, "rank": 16}}
SOUGHT, PAYLOAD_FROM = -6.0, 25.0
MOST_LOSS = 0.001


def digest():
    """Digest of the code behind the tables, words left out."""
    paths = [ROOT / path for path in CODE]
    files = sorted(f for path in paths for f in ([path] if path.is_file() else path.rglob("*.py")))
    return hashlib.sha256("".join(nulls._code_of(f) for f in files).encode()).hexdigest()[:16]


class Texts:
    """What models are tuned on and judged by; no model of the fixture was trained on either."""

    def __init__(self):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from texts import corpora

        self._held = corpora()

    def loss(self, folder, windows):
        """Loss on the second half of the standard library."""
        from weightmark.training.losses import loss_of
        from weightmark.training.models import opened, tokens_of

        model = opened(folder)
        return loss_of(model, tokens_of(folder, self._held["source-b"], model.config.vocab_size), windows=windows)

    def tuned(self, folder, how, seed, out):
        """A fine-tune of a model, written to a folder, whole or not at all."""
        from weightmark.training.models import opened, saved, tokens_of
        from weightmark.training.tuning import Recipe, tune

        model = opened(folder)
        recipe = Recipe(size=8, seed=seed, **RECIPES[how])
        tune(model, tokens_of(folder, self._held["http"], model.config.vocab_size), recipe)
        part = out.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        saved(model, part, "BF16")
        part.replace(out)


class Kept:
    """Entries of a part as they come, a line each in a file: a run that was stopped goes on from them."""

    def __init__(self, path):
        self._path = path
        self._held = {}
        for line in path.read_text().splitlines() if path.is_file() else ():
            entry = json.loads(line)
            self._held[entry["key"], entry.get("step")] = entry

    def entry(self, number, step, make):
        """The entry of a key, or of one of its steps; made and written down where there is none."""
        if (number, step) not in self._held:
            entry = self._held[number, step] = {"key": number} | ({"step": step} if step else {}) | make()
            with self._path.open("a") as stream:
                stream.write(json.dumps(entry) + "\n")
            sys.stderr.write(f"{self._path.stem}, key {number}: {json.dumps(entry)}\n")
        return self._held[number, step]


def measured(part, bench, texts, keys, kept, *, trained=True):
    """The entry of one part: its marked copies, and what is found in each attacked one."""
    marks, rows = [], []
    plain = texts.loss(bench.base, WINDOWS)
    for number in range(keys):
        copy, key, document = bench.marked(part, number)
        marks.append(kept.entry(number, None, lambda c=copy, d=document: _mark(c, d, plain, texts)))
        for step in part.steps:
            if step.tuned and (number > 0 or not trained):
                continue  # training takes minutes: one key
            make = lambda s=step, n=number: _row(part, s, bench, texts, (copy, key, document, n))  # noqa: B023, E731
            rows.append(kept.entry(number, step.name, make))
    return {"marks": marks, "rows": rows, "loss": plain.mean, "tokens": plain.tokens}


def _mark(copy, document, plain, texts):
    change, error = texts.loss(copy, WINDOWS).above(plain)
    return {
        "carriers": document["carriers"],
        "strength": document["strength"],
        "statistic": document["statistic"],
        "relative_change": document["fidelity"]["relative_change"],
        "rounding_noise": document["fidelity"]["rounding_noise"],
        "loss_change": change,
        "loss_error": error,
    }


def _row(part, step, bench, texts, marked):
    copy, key, document, number = marked
    start = bench.room / f"{copy.name}-{step.tuned}" if step.tuned else copy
    if not start.is_dir():
        texts.tuned(copy, step.tuned, 1, start)
    attacked, arrays = bench.attacked(start, step, bench.room / f"{copy.name}-attacked")
    models = (largemarks.held(bench.base)[0], largemarks.held(copy)[0], arrays)
    told = largemarks.foretold(part, step, models, document)
    blind = None if part.scheme != "dss" else largemarks.seen(attacked, key, None, part)
    informed = largemarks.seen(attacked, key, bench.base, part)
    loss = {} if number else {"loss": round(texts.loss(attacked, FEW_WINDOWS).mean, 4)}
    return {"foretold": told, "blind": blind, "informed": informed} | loss


def short_of(data):
    """What falls short of what marks are to keep, in words; empty where all is well."""
    found = []
    for name, part in data["parts"].items():
        steps = {s.name: s for p in largemarks.PARTS if p.name == name for s in p.steps}
        for mark in part["marks"]:
            if mark["loss_change"] > MOST_LOSS:
                found.append(f"{name}, key {mark['key']}: loss {mark['loss_change']:+.3%}")
        for row in part["rows"]:
            found += [f"{name}, key {row['key']}, {row['step']}: {words}" for words in _short(row, steps[row["step"]])]
    return found


def _short(row, step):
    for mode in ("blind", "informed"):
        seen, told = row[mode], row["foretold"]
        if seen is None:
            continue
        if seen["alarms"]:
            yield f"{mode}, a key that marked nothing was found"
        expected = mode == "informed" or (told is not None and not step.disguise)
        if expected and not seen["log10_p"] < SOUGHT:
            yield f"{mode}, not found (log10 p {seen['log10_p']:.1f})"
        if told is not None and told[mode] >= PAYLOAD_FROM and not seen["payload_ok"]:
            yield f"{mode}, payload not read at a foretold T of {told[mode]:.0f}"


def page(data):
    """The page in words."""
    host = data["host"]
    lines = [
        HEADER.format(
            **host,
            digest=data["digest"],
            steps={k: r["steps"] for k, r in RECIPES.items()},
            wrong=largemarks.WRONG_KEYS,
        )
    ]
    for part in largemarks.PARTS:
        if part.name in data["parts"]:
            lines += _part(part, data["parts"][part.name])
    short = short_of(data)
    lines += ["\n## What fell short\n", "\n".join(f"- {words}" for words in short) if short else "Nothing."]
    return "\n".join(lines).rstrip() + "\n"


def _part(part, kept):
    marks, rows = kept["marks"], kept["rows"]
    first = marks[0]
    carried = f", payload of {part.payload} bytes" if part.payload else ""
    told = "" if part.scheme != "dss" else f", foretold T {first['statistic']:.1f}"
    yield f"\n## {part.name}\n"
    size = f"relative size {first['strength']:.4f}{told}{carried}; weights changed by {first['relative_change']:.2%}"
    if part.scheme == "perm":
        size = f"no value changes, only places do{carried}; merged as it lies with the unmarked it makes no model worth having"
    yield f"N = {first['carriers']:,} carriers, {size} (rounding to their format: {first['rounding_noise']:.2%}).\n"
    losses = ", ".join(f"{m['loss_change']:+.3%} ± {m['loss_error']:.3%}" for m in marks)
    yield f"Loss against the unmarked model's {kept['loss']:.4f} on {kept['tokens']:,} tokens, key by key: {losses}.\n"
    yield "| done to the marked model | keys | mode | T foretold | T seen | log10 p, worst | payload | wrong keys found | loss |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(row["step"] for row in rows):
        own = [row for row in rows if row["step"] == name]
        for mode in ("blind", "informed"):
            if own[0][mode] is not None:
                yield _line(name, mode, own)


def _line(name, mode, rows):
    seen = [row[mode] for row in rows]
    foretold = [row["foretold"][mode] for row in rows if row["foretold"] is not None]
    payloads = [bool(s["payload_ok"]) for s in seen if rows[0]["foretold"] is not None or s["payload_ok"] is not None]
    undone = any(s["undone"] for s in seen)
    cells = [
        name,
        str(len(rows)),
        f"{mode}, aligned" if undone else mode,
        _range(foretold),
        _range([s["statistic"] for s in seen]),
        f"{max(s['log10_p'] for s in seen):.1f}",
        f"{sum(payloads)}/{len(payloads)}" if payloads else "",
        f"{sum(s['alarms'] for s in seen)}/{sum(s['wrong_keys'] for s in seen)}",
        f"{rows[0]['loss']:.3f}" if mode == "informed" or rows[0]["blind"] is None else "",
    ]
    return f"| {' | '.join(cells)} |"


def _range(values):
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"


HEADER = """# Marks on a trained model

Made by `python fixtures/make_zoo.py --large`, then `python tests/calibration/largemark.py` (extra `torch`); digest of the code:
`{digest}`. The host is `large-a`: {parameters:,} parameters in bfloat16, Llama-shaped, trained on source code byte by byte;
sha256 of its weights `{sha256}`. It is not in the repository.

- Marked copies are folders, written and verified as `lineage mark embed` and `verify` do; *informed* has the unmarked
  model, *aligned* undid the rewrites against it. A payload of five bytes makes p 3.6e13 times as large
  ([marks](marks.md#what-holds-for-all)), and needs T = 9.3 for 1e-6.
- *T foretold* comes from relative size, number of carriers and the sizes of what was done; no key is asked.
- *Fine-tuned*: AdamW on text the model has not seen, all weights, {steps[full]} steps at 2e-4; or rank 16 on every linear
  layer, {steps[lora]} steps at 1e-3 (LoRA), merged in. *Another fine-tune* is `large-a-ft`, of the unmarked model on a third text.
- *Permuted and rotated*: hidden units, heads, and the residual stream by a random rotation, gains folded; written in bfloat16.
- {wrong} keys that marked nothing are looked for in every file and mode.
- Loss: nats a byte on the other half of the standard library, which no model here was trained on; ± is a standard error over
  windows. Loss of attacked copies, of the first key, is on fewer windows.

It is short where the mark is not found at 1e-6 (informed always, blind unless units were moved: that hides it), where a payload is not read
although T of at least 25 was foretold, where a wrong key is found, or where the loss grew by more than 0.1 %.

After a rotation far less is seen than was foretold. The rotation is fitted to the embeddings, here 256 tokens in a stream of
384 dimensions: nothing tells a third of its directions, the matrices turned back have a cosine of 0.67 with what they were
(256/384), and what is wrong in them is noise as large as the weights. Models with more tokens than dimensions lose nothing
there ([marks, measured](marks-measured.md), rows `rotate-aligned`).
"""


def main():
    """Measure the parts asked for, keep the others, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo", type=Path, default=ROOT / "fixtures" / "zoo-large")
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--part", action="append", choices=[p.name for p in largemarks.PARTS])
    parser.add_argument(
        "--room", type=Path, default=ROOT / ".cache" / "largemark", help="what a stopped run goes on from"
    )
    parser.add_argument("--untrained", action="store_true", help="leave out what is fine-tuned, for now")
    parser.add_argument("--page", action="store_true", help="write the page from the data there is")
    args = parser.parse_args()
    if not args.page:
        texts = Texts()
        for part in largemarks.PARTS:
            if not args.part or part.name in args.part:
                args.room.mkdir(parents=True, exist_ok=True)
                bench = largemarks.Bench(args.zoo / "large-a", args.zoo / "large-a-ft", args.room)
                kept = Kept(args.room / f"{part.name}.jsonl")
                keep(
                    part.name,
                    measured(part, bench, texts, args.keys, kept, trained=not args.untrained),
                    args.zoo / "large-a",
                )
    data = json.loads(DATA.read_text())
    PAGE.write_text(page(data))
    for words in short_of(data):
        sys.stderr.write(f"fell short: {words}\n")


def keep(name, kept, host):
    """Put one part into the data file, beside those that others may have put there meanwhile."""
    data = json.loads(DATA.read_text()) if DATA.is_file() else {"parts": {}}
    with largemarks.open_model(largemarks.ModelRef.parse(str(host))) as source:
        parameters = source.n_parameters
    sha256 = hashlib.sha256((host / "model.safetensors").read_bytes()).hexdigest()
    data |= {"digest": digest(), "host": {"parameters": parameters, "sha256": sha256}}
    data["parts"][name] = kept
    part = DATA.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    part.replace(DATA)


if __name__ == "__main__":
    main()
