"""What a crawl costs and survives, on two thousand repositories of every kind; rewrites docs/crawl-measured.md.

The hub is a server on the loopback that breaks answers on purpose, and crawls are processes that are killed at random moments.
"""

import argparse
import hashlib
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import hubworld  # noqa: E402
from crawlrun import Crawls, code_digest, dump  # noqa: E402
from hub import Hub, Repo  # noqa: E402
from hubdrawn import Drawn, llama, sharded  # noqa: E402
from lineage.index.parquet import export  # noqa: E402
from lineage.index.store import Store  # noqa: E402

PAGE = ROOT / "docs" / "crawl-measured.md"
SECRET = "hf_aSecretThatNobodyMaySee"  # noqa: S105 - made up
SEVEN = (4096, 11008, 32, 32000)
HEADER = """# A crawl, measured

Made by `python tests/calibration/crawling.py`; a test fails when the digest below no longer matches the code. How a crawl works:
[crawling](crawling.md).

- digest of the code: `{digest}`
- {repos:,} repositories in {families} families: bases (a third in shards, some of 28 MB), fine-tunes, adapters, and a fourth
  that is an exact copy, a gated copy, gated, disabled, damaged, without weights, or holds two weight sets
- a server and a crawler on two busy cores: seconds say little, counts everything
"""


def parquet(index: Path, folder: Path) -> str:
    """Digest of everything `lineage index export` writes."""
    digest = hashlib.sha256()
    with Store.open(index) as store:
        for name in export(store, folder, blobs=True, tell=lambda *_: None):
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def kind_of(name: str, made: hubworld.World) -> str:
    """What a repository of the world is."""
    part, i = name.partition("/")[2].split("-")
    if part == "other":
        return hubworld.KINDS[int(i) % len(hubworld.KINDS)]
    files = made.repos[name].files
    larger = any(isinstance(f, Drawn) for f in files.values())
    return f"{part}, {'28 MB, ' if larger else ''}{sum(n.endswith('.safetensors') for n in files)} file(s)"


def costs(log, made: hubworld.World):
    """Kind -> (repositories, mean and largest number of exchanges, mean and largest number of bytes)."""
    spent: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for seen in log:
        found = re.search(r"/(org\d\d/[a-z]+-\d{4})(?:[/?]|$)", seen.path)
        if found:
            spent[found[1]][0] += 1
            spent[found[1]][1] += seen.body_bytes
    rows: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for name in made.repos:
        rows[kind_of(name, made)].append(tuple(spent[name]))
    return {
        kind: (
            len(r),
            sum(x for x, _ in r) / len(r),
            max(x for x, _ in r),
            sum(x for _, x in r) / len(r),
            max(x for _, x in r),
        )
        for kind, r in sorted(rows.items())
    }


def check(summary: dict, made: hubworld.World) -> list[str]:
    """What a summary says otherwise than the world is; empty where all counts are exact."""
    expected = {
        "seen": len(made.repos), "added": len(made.signed), "models": made.models, "copies": made.copies,
        "failed": sorted(made.failed), "skipped": sorted(made.skipped.items()), "left": 0,
    }  # fmt: skip
    got = {**summary, "failed": sorted(f["ref"] for f in summary["failed"]),
           "skipped": sorted((s["ref"], s["state"]) for s in summary["skipped"])}  # fmt: skip
    return [f"{k}: {got[k]} instead of {v}" for k, v in expected.items() if got[k] != v]


def seven(folder: Path):
    """Exchanges, bytes and layers of a model with the shape of a 7B, in one to four files."""
    for n in (1, 2, 3, 4):
        one = {"model.safetensors": Drawn(llama(*SEVEN), 1), "config.json": b'{"num_attention_heads": 32}'}
        with (
            Hub({"org/seven": Repo(sharded(llama(*SEVEN), n, 1) if n > 1 else one)}) as hub,
            Crawls(folder, hub.endpoint) as runs,
        ):
            index = folder / f"seven-{n}.db"
            runs.wait(*runs.start(index), 120)
            log = [s for s in hub.log if "/seven" in s.path]
            with Store.open(index) as store:
                entry = next(store.entries())
                stored = sum(len(store.blob(d)) for d in (entry.signature, entry.study) if d)
            yield n, len(log), sum(s.body_bytes for s in log), stored


def calm(folder: Path, made: hubworld.World, lines: list[str]) -> str:
    """The crawl with one worker and with eight; gives the digest of its export."""
    digests = []
    for jobs in (1, 8):
        with hubworld.serve(made) as hub, Crawls(folder, hub.endpoint) as runs:
            index, began = folder / f"jobs-{jobs}.db", time.perf_counter()
            summary = runs.wait(*runs.start(index, jobs=jobs), 3000)
            seconds = time.perf_counter() - began
            listing = [s for s in hub.log if s.path.startswith("/api/models?")]
            rest = len(hub.log) - len(listing)
            digests.append(parquet(index, folder / f"export-{jobs}"))
            wrong = check(summary, made)
            same = summary["requests"] == len(hub.log) and summary["bytes_read"] == sum(s.body_bytes for s in hub.log)
            lines.append(
                f"| {jobs} | {seconds:,.0f} | {'exact' if not wrong else '; '.join(wrong)} | {'yes' if same else 'no'} | {len(listing)} "
                f"| {rest:,} | {rest / len(made.repos):.2f} | {sum(s.body_bytes for s in hub.log) / len(made.repos):,.0f} "
                f"| {hub.busiest} | `{digests[-1]}` |"
            )
            if jobs == 1:
                table = costs(hub.log, made)
            began, before = time.perf_counter(), len(hub.log)
            again = runs.wait(*runs.start(index, jobs=jobs), 3000)
            lines.append(f"| {jobs}, again | {time.perf_counter() - began:,.0f} | {again['unchanged']:,} unchanged | | "
                         f"{len(hub.log) - before} | | | | | `{parquet(index, folder / f'again-{jobs}')}` |")  # fmt: skip
    lines += ["", "## What each kind costs", "", "Listing apart; an exchange is one request with its answer, a redirect is one.", "",
              "| kind | repositories | exchanges, mean | most | bytes, mean | most |", "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    lines += [f"| {k} | {n} | {x:.2f} | {mx} | {b:,.0f} | {mb:,} |" for k, (n, x, mx, b, mb) in table.items()]
    return digests[0] if digests[0] == digests[1] else ""


def broken(folder: Path, made: hubworld.World, share: float, kills: int, seed: int) -> dict:
    """The crawl under faults, killed so many times at random moments, and what is left of it."""
    rng = random.Random(seed)  # noqa: S311
    (folder / f"broken-{kills}").mkdir()
    place = folder / f"broken-{kills}"
    with hubworld.serve(made) as hub, Crawls(place, hub.endpoint, HF_TOKEN=SECRET) as runs:
        hub.chance = hubworld.Chance(seed, share)
        index, done, began = place / "index.db", 0, time.perf_counter()
        rest = {"jobs": 8, "resume": True, "read_seconds": 0.5, "authorised": True}
        held = []
        while done < kills:
            pid, told = runs.start(index, **rest)
            if runs.wait(pid, told, rng.uniform(0.1, 5.0)) is not None:
                break
            runs.kill(pid)
            done += 1
            held.append(len(dump(index)) if index.exists() else 0)
        summary = runs.wait(*runs.start(index, **rest), 3000)
        faults = Counter(hub.chance.made)
        outside = [s for s in hub.log if s.origin == "storage" and s.authorization is not None]
    files = [p for p in place.rglob("*") if p.is_file()]
    leaks = [p.name for p in files if SECRET.encode() in p.read_bytes()]
    return {
        "kills": done, "held": held, "seconds": time.perf_counter() - began, "summary": summary, "faults": faults, "leaks": leaks,
        "outside": len(outside), "export": parquet(index, place / "export"),
    }  # fmt: skip


def save(lines: list[str]) -> None:
    """Write what is measured so far."""
    PAGE.write_text("\n".join(lines).rstrip("\n") + "\n")


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    args = parser.parse_args()
    made = hubworld.world(args.families, larger_every=25)
    lines = [HEADER.format(digest=code_digest(), repos=len(made.repos), families=args.families)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines += ["## A model of 7 billion parameters, 16 bits", "", ("Four layers spread over depth, the final gain, 64 tokens of "
                  "the embedding. Goal: 16 exchanges, 2,000,000 bytes."), "", "| files | exchanges | bytes received | bytes stored |",
                  "| --- | --- | --- | --- |"]  # fmt: skip
        lines += [f"| {n} | {x} | {b:,} | {s:,} |" for n, x, b, s in seven(folder)]
        lines += ["", "## The whole crawl", "", ("| jobs | seconds | counts | server's own log agrees | pages of the listing | other exchanges "
                  "| a repository | bytes a repository | most at one time | export |"),
                  "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        digest = calm(folder, made, lines)
        save(lines)
        lines += ["", "## Faults and kills", "", (f"Every exchange is broken with probability 0.05, by one of {len(hubworld.FAULTS)} kinds: "
                  f"{', '.join(hubworld.FAULTS)}. A kill is a SIGKILL at a random moment; the next run has `--resume`. A wrong token is "
                  "sent, so that there is a secret to lose."), "",
                  "| kills | seconds | faults | counts | same export as without | secret in files and logs | token at the storage |",
                  "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        told = []
        for kills in (0, args.kills):
            found = broken(folder, made, 0.05, kills, 7 + kills)
            wrong = [w for w in check(found["summary"], made) if not w.startswith("copies")]
            lines.append(f"| {found['kills']} | {found['seconds']:,.0f} | {sum(found['faults'].values()):,} | {'exact' if not wrong else '; '.join(wrong)} "
                         f"| {'yes' if found['export'] == digest else 'no'} | {', '.join(found['leaks']) or 'none'} | {found['outside']} |")  # fmt: skip
            save(lines)
            told.append(
                f"Entries in the index at each kill: {', '.join(map(str, found['held']))}." if found["held"] else ""
            )
        lines += ["", *filter(None, told)]
        save(lines)


if __name__ == "__main__":
    main()
