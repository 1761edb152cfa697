"""`json`: the document itself in one order, so that equal answers are equal bytes."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from lineage.export.contents import Contents

_ORDERS: dict[str, tuple[str, ...]] = {
    "nodes": ("id",),
    "edges": ("parent", "child"),
    "unresolved": ("a", "b", "reason"),
    "components": ("id",),
    "skipped": ("ref", "reason"),
}
"""Lists without an order of their own, and the fields that give them one."""


def write(contents: Contents) -> str:
    """The document with sorted keys and lists, without what differs between two runs over the same weights.

    Parameters
    ----------
    contents : Contents

    Returns
    -------
    str
        JSON in ASCII, two spaces a level. `record.run` is there and empty.
    """
    document = _sorted_lists(contents.document)
    if isinstance(document.get("graph"), dict):
        document["graph"] = _sorted_lists(document["graph"])
    record = document.get("record")
    if isinstance(record, dict) and "run" in record:
        document["record"] = {**record, "run": {}}
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _sorted_lists(graph: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(graph)
    for name, fields in _ORDERS.items():
        if isinstance(made.get(name), list):
            made[name] = sorted(made[name], key=partial(_place, fields))
    return made


def _place(fields: tuple[str, ...], entry: Any) -> tuple[Any, ...]:
    """Numbers before names, so that any two can be compared; the whole entry settles what is left."""
    values = [entry.get(field) for field in fields] if isinstance(entry, dict) else []
    keys = [(0, v, "") if isinstance(v, int | float) else (1, 0, str(v)) for v in values]
    return (*keys, json.dumps(entry, sort_keys=True))
