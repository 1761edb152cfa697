"""Documents of `lineage index` in words."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from lineage.names import safe
from lineage.report.text import bytes_text, counted, render, table

Block = list[RenderableType]


def index_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """The terminal report of one subcommand."""
    return render(_VIEWS[document["command"]](document), colour=colour, width=width)


def _info(d: Mapping[str, Any]) -> list[Block]:
    states = [(state, f"{n:,}") for state, n in d["models"].items()]
    kinds = [(name, f"{n:,}") for name, n in d["architectures"].items()]
    size = d["bytes"]
    reading = (
        f"signatures of version {d['signature_version']}, row key {safe(d['row_key'])}" if d["row_key"] else "empty"
    )
    blocks: list[Block] = [
        [f"{safe(d['index'])}: {counted(sum(d['models'].values()), 'model')}, {reading}."],
        [
            (
                f"{bytes_text(size['file'])} in all, {bytes_text(size['blobs'])} of signatures and larger slices; "
                f"{d['searchable']:,} can be searched ({bytes_text(size['searched'])} in {counted(d['groups'], 'group')})."
            ),
            "Sealed: `lineage index verify` sees every byte."
            if d["sealed"]
            else "Not sealed since it was last written to.",
        ],
    ]
    if states:
        blocks.append([table(("state", "models"), states, right=(1,))])
    if kinds:
        blocks.append([table(("architecture", "models"), kinds, right=(1,))])
    return blocks


def _add(d: Mapping[str, Any]) -> list[Block]:
    run = d["run"]
    told = f"{d['added']:,} added, {d['replaced']:,} replaced, {d['unchanged']:,} unchanged, {len(d['skipped']):,} skipped."
    cost = f"Read {bytes_text(run['bytes_read'])} in {run['seconds']:.1f} s."
    blocks: list[Block] = [[told, cost]]
    if d["skipped"]:
        blocks.append(["Not read", table(("model", "reason"), [(s["ref"], s["reason"]) for s in d["skipped"]])])
    return blocks


def _remove(d: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [[f"{counted(len(d['removed']), 'model')} removed."]]
    if d["missing"]:
        blocks.append([f"Not in the index: {', '.join(map(safe, d['missing']))}"])
    return blocks


def _search(d: Mapping[str, Any]) -> list[Block]:
    name = safe(d["query"]["id"])
    if not d["candidates"]:
        return [[f"Nothing among {counted(d['searchable'], 'model')} is alike to {name}."]]
    rows = [
        (c["id"], f"{c['strength']:.2f}", ", ".join(f"{k} {v:.2f}" for k, v in c["cosines"].items()), _share(c))
        for c in d["candidates"]
    ]
    return [
        [
            f"Most alike to {name} among {counted(d['searchable'], 'model')}. A likeness is no test: `lineage trace` tests."
        ],
        [table(("model", "strength", "cosines by slice", "token products"), rows, right=(1, 3))],
    ]


def _share(candidate: Mapping[str, Any]) -> str:
    value = candidate["token_products"]
    return "" if value is None else f"{value:.2f}"


def _verify(d: Mapping[str, Any]) -> list[Block]:
    looked = f"{counted(d['models'], 'model')}, {counted(d['blobs'], 'stored block')}"
    if d["intact"]:
        how = (
            "every byte of the file" if d["sealed"] else "everything stored; not the unused space, for there is no seal"
        )
        return [[f"INTACT: {safe(d['index'])} is what was written ({looked}; checked: {how})."]]
    problems: Block = [f"  - {safe(p)}" for p in d["problems"]]
    return [[f"DAMAGED: {safe(d['index'])} is not what was written ({looked})."], problems]


def _merge(d: Mapping[str, Any]) -> list[Block]:
    return [
        [
            (
                f"{counted(d['seen'], 'entry', 'entries')} looked at: {d['added']:,} added, {d['replaced']:,} replaced, "
                f"{d['unchanged']:,} unchanged."
            )
        ]
    ]


def _export(d: Mapping[str, Any]) -> list[Block]:
    return [[f"{counted(len(d['files']), 'file')} in {safe(d['folder'])}."]]


_VIEWS = {
    "info": _info,
    "add": _add,
    "remove": _remove,
    "search": _search,
    "verify": _verify,
    "merge": _merge,
    "export": _export,
}
