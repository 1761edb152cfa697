"""From a document to its contents: every field that an exporter uses is looked at here, and nowhere else."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from lineage.errors import MalformedDocumentError
from lineage.export.contents import DESCENT, Contents, Link, Model
from lineage.names import safe, shortened

_HINT = "give what lineage tree --json wrote"
_LARGEST = 2**63
_LONGEST = 60
"""Letters of a name in a message."""

_NUMBERS = ("probability", "direction_probability", "probability_with_metadata")


def contents_of(document: Mapping[str, Any], where: str = "") -> Contents:
    """Models and links of a document of `tree`, or of the graph inside one of `trace`.

    Parameters
    ----------
    document : mapping
        As read; it is not changed.
    where : str
        Name of its place, for messages.

    Returns
    -------
    Contents

    Raises
    ------
    MalformedDocumentError
        A field is missing or of another type, an id comes twice, a link leads to no node or to a copy, or the edges
        go round.
    """
    try:
        return _contents(document)
    except MalformedDocumentError as error:
        raise MalformedDocumentError(error.reason, where=where, hint=error.hint or _HINT) from error


def _contents(document: Mapping[str, Any]) -> Contents:
    graph = _graph(document)
    models = {}
    for place, entry in _entries(graph, "nodes"):
        model = _model(entry, place)
        if model.id in models:
            raise MalformedDocumentError(f"{place}: the id {quoted(model.id)} is there twice")
        models[model.id] = model
    _check_copies(models)
    links = sorted(_links(graph, models), key=lambda k: (k.reason != DESCENT, k.a, k.b, k.reason, k.kind))
    _refuse_repeats(links)
    _refuse_rounds([k for k in links if k.is_directed])
    roots: dict[str, float | None] = {}
    for place, entry in _entries(graph, "components"):
        roots.update(_roots(entry, place, models))
    n_skipped = sum(1 for _ in _entries(graph, "skipped")) if "skipped" in graph else 0
    return Contents(document, tuple(models[i] for i in sorted(models)), tuple(links), roots, n_skipped)


def quoted(name: object) -> str:
    """A name in a message."""
    return f"'{shortened(safe(name), _LONGEST)}'"


def _graph(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "nodes" in document:
        return document
    graph = document.get("graph")
    if isinstance(graph, dict) and "nodes" in graph:
        return graph
    if isinstance(document.get("error"), dict):
        raise MalformedDocumentError("the document of a failure, without a family")
    raise MalformedDocumentError("no list of nodes in it")


def _entries(graph: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, entry) of a list of objects."""
    if name not in graph:
        raise MalformedDocumentError(f"no list of {name} in it")
    listed = graph[name]
    if not isinstance(listed, list):
        raise MalformedDocumentError(f"{name} is no list")
    for i, entry in enumerate(listed):
        if not isinstance(entry, dict):
            raise MalformedDocumentError(f"{name}[{i}] is no object")
        yield f"{name}[{i}]", entry


def _model(entry: Mapping[str, Any], place: str) -> Model:
    declared = _field(entry, "declared", place)
    if not isinstance(declared, list) or not all(isinstance(d, str) for d in declared):
        raise MalformedDocumentError(f"{place}: declared is no list of names")
    return Model(
        id=_text(entry, "id", place),
        ref=_text(entry, "ref", place),
        component=_count(entry, "component", place),
        architecture=_text_or_none(entry, "architecture", place),
        parameters=_count(entry, "parameters", place),
        dtype=_text(entry, "dtype", place),
        declared=tuple(declared),
        duplicate_of=_text_or_none(entry, "duplicate_of", place),
        virtual=_flag(entry, "virtual", place),
        testable=_flag(entry, "testable", place) if "testable" in entry else None,
    )


def _check_copies(models: Mapping[str, Model]) -> None:
    for model in models.values():
        original = model.duplicate_of
        if original is None:
            continue
        if original not in models:
            raise MalformedDocumentError(f"{quoted(model.id)} is a copy of {quoted(original)}, which is no node")
        if models[original].duplicate_of is not None:
            raise MalformedDocumentError(f"{quoted(model.id)} is a copy of {quoted(original)}, itself a copy")


def _links(graph: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Link]:
    for place, entry in _entries(graph, "edges"):
        numbers = {name: n for name in _NUMBERS if (n := _share(entry, name, place)) is not None}
        if "probability" not in numbers:
            raise MalformedDocumentError(f"{place}: no probability")
        coefficient = _number(entry, "coefficient", place)
        if coefficient is not None:
            numbers["coefficient"] = coefficient
        parent, child = _ends(entry, ("parent", "child"), place, models)
        exactness = _text(entry, "exactness", place)
        yield Link(parent, child, _text(entry, "kind", place), DESCENT, _log10_p(entry, place), numbers, exactness)
    for place, entry in _entries(graph, "unresolved"):
        a, b = sorted(_ends(entry, ("a", "b"), place, models))
        reason = _text(entry, "reason", place)
        if reason == DESCENT:
            raise MalformedDocumentError(f"{place}: {DESCENT} is no reason to be unresolved")
        yield Link(a, b, _text(entry, "kind", place), reason, _log10_p(entry, place))


def _ends(entry: Mapping[str, Any], names: tuple[str, str], place: str, models: Mapping[str, Model]) -> tuple[str, str]:
    ends = (_text(entry, names[0], place), _text(entry, names[1], place))
    for name, end in zip(names, ends, strict=True):
        if end not in models:
            raise MalformedDocumentError(f"{place}: {name} {quoted(end)} is no node")
        if models[end].duplicate_of is not None:
            raise MalformedDocumentError(f"{place}: {name} {quoted(end)} is a copy, and copies have no links")
    if ends[0] == ends[1]:
        raise MalformedDocumentError(f"{place}: {quoted(ends[0])} is linked to itself")
    return ends


def _refuse_repeats(links: list[Link]) -> None:
    for one, other in pairwise(links):
        if (one.a, one.b, one.reason) == (other.a, other.b, other.reason):
            raise MalformedDocumentError(f"two links of {quoted(one.a)} and {quoted(one.b)} for one reason")


def _refuse_rounds(edges: list[Link]) -> None:
    """Take models without parents away until none is left; what stays goes round, or descends from what does."""
    children: dict[str, list[str]] = {}
    parents: dict[str, list[str]] = {}
    for edge in edges:
        children.setdefault(edge.a, []).append(edge.b)
        parents.setdefault(edge.b, []).append(edge.a)
    left = {child: len(above) for child, above in parents.items()}
    free = [i for i in children if i not in left]
    while free:
        for child in children.get(free.pop(), []):
            left[child] -= 1
            if left[child] == 0:
                del left[child]
                free.append(child)
    if not left:
        return
    name, seen = min(left), set()
    while name not in seen:
        seen.add(name)
        name = min(p for p in parents[name] if p in left)
    raise MalformedDocumentError(f"the edges go round: {quoted(name)} descends from itself")


def _roots(entry: Mapping[str, Any], place: str, models: Mapping[str, Model]) -> Iterator[tuple[str, float | None]]:
    roots = _field(entry, "roots", place)
    sure = entry.get("root_probabilities", [None] * len(roots) if isinstance(roots, list) else None)
    if not isinstance(roots, list) or not isinstance(sure, list) or len(sure) != len(roots):
        raise MalformedDocumentError(f"{place}: roots and root_probabilities are no lists of one length")
    for root, probability in zip(roots, sure, strict=True):
        if not isinstance(root, str) or root not in models:
            raise MalformedDocumentError(f"{place}: the root {quoted(root)} is no node")
        yield root, _share({"root_probability": probability}, "root_probability", place)


def _field(entry: Mapping[str, Any], name: str, place: str) -> Any:
    if name not in entry:
        raise MalformedDocumentError(f"{place}: no field {name}")
    return entry[name]


def _text(entry: Mapping[str, Any], name: str, place: str) -> str:
    value = _field(entry, name, place)
    if not isinstance(value, str) or not value:
        raise MalformedDocumentError(f"{place}: {name} is no name")
    return value


def _text_or_none(entry: Mapping[str, Any], name: str, place: str) -> str | None:
    return None if _field(entry, name, place) is None else _text(entry, name, place)


def _flag(entry: Mapping[str, Any], name: str, place: str) -> bool:
    value = _field(entry, name, place)
    if not isinstance(value, bool):
        raise MalformedDocumentError(f"{place}: {name} is neither true nor false")
    return value


def _count(entry: Mapping[str, Any], name: str, place: str) -> int:
    value = _field(entry, name, place)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise MalformedDocumentError(f"{place}: {name} is no count")
    return value


def _number(entry: Mapping[str, Any], name: str, place: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_as_float(value)):
        raise MalformedDocumentError(f"{place}: {name} is no number")
    return float(value)


def _as_float(value: float) -> float:
    """The number, or infinity where an integer has no float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _share(entry: Mapping[str, Any], name: str, place: str) -> float | None:
    value = _number(entry, name, place)
    if value is not None and not 0.0 <= value <= 1.0:
        raise MalformedDocumentError(f"{place}: {name} is not between 0 and 1")
    return value


def _log10_p(entry: Mapping[str, Any], place: str) -> float:
    value = _number(entry, "log10_p", place)
    if value is None or value > 0.0:
        raise MalformedDocumentError(f"{place}: log10_p is no number of at most 0")
    return value
