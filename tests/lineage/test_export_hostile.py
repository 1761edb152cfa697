"""What is given to an exporter and is no family tree, or too much of one; names that would speak to a terminal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forests import document, entry_of_edge, entry_of_node, forest, open_link
from lineage import record
from lineage.errors import LineageError, MalformedDocumentError, UndrawableError
from lineage.export import EXPORTERS, contents_of, read_document, reading
from lineage.names import cells, safe, shortened

EMPTY = document([])


def exported(name, made):
    return EXPORTERS[name](contents_of(made))


def changed(*path, value=...):
    made = forest(8, 11)
    assert made["edges"]
    here = made
    for step in path[:-1]:
        here = here[step]
    if value is ...:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return made


def linked(edges, unresolved=(), names="abc", **more):
    return document([entry_of_node(n, 0, **more) for n in names], edges, unresolved, components=[])


HOSTILE = {
    "nothing": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "no JSON": (b"not json", "no JSON"),
    "cut": (json.dumps(forest(5, 1)).encode()[:-40], "no JSON"),
    "binary": (b"\x89PNG\x00\xff", "no UTF-8"),
    "a list": (b"[]", "no object"),
    "a number": (b"1", "no object"),
    "no version": (b"{}", "schema_version"),
    "version 2": (json.dumps({**EMPTY, "schema_version": 2}).encode(), "schema_version is 2"),
    "version true": (json.dumps({**EMPTY, "schema_version": True}).encode(), "schema_version"),
    "NaN": (json.dumps({**EMPTY, "alpha": float("nan")}).encode(), "number"),
    "infinity": (b'{"schema_version": 1, "x": 1e999}', "number"),
    "many digits": (b'{"schema_version": 1, "x": ' + b"9" * 5000 + b"}", "number"),
    "deep lists": (b"[" * 100_000, "nested"),
    "deep objects": (b'{"schema_version": 1, "a":' * 70 + b"1" + b"}" * 70, "nested"),
    "an error": (b'{"schema_version": 1, "error": {"kind": "usage"}}', "failure"),
    "a comparison": (b'{"schema_version": 1, "verdict": "related"}', "no list of nodes"),
    "nodes no list": (json.dumps({**EMPTY, "nodes": {}}).encode(), "no list"),
    "node no object": (json.dumps({**EMPTY, "nodes": [1]}).encode(), "no object"),
    **{
        f"no {field}": (json.dumps(changed(*path, field)).encode(), field)
        for path, fields in (
            ((), ("edges", "unresolved", "components")),
            (("nodes", 0), ("id", "ref", "dtype", "parameters", "declared", "duplicate_of", "virtual", "component")),
            (("edges", 0), ("parent", "child", "kind", "probability", "log10_p", "exactness")),
        )
        for field in fields
    },
    "id a number": (json.dumps(changed("nodes", 0, "id", value=5)).encode(), "id is no name"),
    "id empty": (json.dumps(changed("nodes", 0, "id", value="")).encode(), "id is no name"),
    "parameters huge": (json.dumps(changed("nodes", 0, "parameters", value=2**63)).encode(), "no count"),
    "parameters true": (json.dumps(changed("nodes", 0, "parameters", value=True)).encode(), "no count"),
    "probability 2": (json.dumps(changed("edges", 0, "probability", value=2)).encode(), "between 0 and 1"),
    "p above 1": (json.dumps(changed("edges", 0, "log10_p", value=0.5)).encode(), "at most 0"),
    "coefficient a name": (json.dumps(changed("edges", 0, "coefficient", value="x")).encode(), "no number"),
    "coefficient endless": (json.dumps(changed("edges", 0, "coefficient", value=10**400)).encode(), "no number"),
    "declared no names": (json.dumps(changed("nodes", 0, "declared", value=[1])).encode(), "declared"),
    "two of one id": (json.dumps(linked([], names="aa")).encode(), "twice"),
    "unknown parent": (json.dumps(linked([entry_of_edge("x\x1b[31m" * 99, "b")])).encode(), "no node"),
    "unknown end": (json.dumps(linked([], [open_link("a", "z")])).encode(), "no node"),
    "itself": (json.dumps(linked([entry_of_edge("a", "a")])).encode(), "linked to itself"),
    "twice": (json.dumps(linked([entry_of_edge("a", "b"), entry_of_edge("a", "b")])).encode(), "two links"),
    "round": (
        json.dumps(linked([entry_of_edge(*e) for e in ("ab", "bc", "cb")])).encode(),
        "'b' descends from itself",
    ),
    "copy of nobody": (json.dumps(linked([], duplicate_of="z")).encode(), "no node"),
    "copy of itself": (json.dumps(linked([], duplicate_of="a")).encode(), "a copy"),
    "root unknown": (
        json.dumps(changed("components", 0, "roots", value=["?"]) | {"x": 1}).encode(),
        "root",
    ),
    "root of no list": (json.dumps(changed("components", 0, "roots", value="x")).encode(), "no lists"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_document_is_one_sentence(tmp_path, case):
    data, word = HOSTILE[case]
    path = tmp_path / "graph.json"
    path.write_bytes(data)
    with pytest.raises(MalformedDocumentError) as caught:
        contents_of(read_document(str(path)), str(path))
    told = safe(caught.value)
    assert word in told
    assert told.startswith(str(path))
    assert caught.value.hint
    assert len(told) < 400 + len(str(path))


def test_links_of_copies_are_refused():
    nodes = [entry_of_node("a", 0), entry_of_node("b", 0), entry_of_node("c", 0, duplicate_of="a")]
    with pytest.raises(MalformedDocumentError, match="copies have no links"):
        contents_of(document(nodes, [entry_of_edge("b", "c")], components=[]))


def test_a_document_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 1000)
    (tmp_path / "long.json").write_text(json.dumps(forest(30, 1)))
    with pytest.raises(MalformedDocumentError, match="longer than 1,000 bytes"):
        read_document(str(tmp_path / "long.json"))


def test_the_version_read_is_the_version_written():
    assert reading.SCHEMA_VERSION == record.SCHEMA_VERSION


@pytest.mark.parametrize("levels", [64, 65])
def test_depth_is_counted_exactly(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    assert reading.is_deeper(value, 64) == (levels > 64)


@given(
    st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner))
)
def test_depth_equals_that_of_a_recursive_twin(value):
    def depth(v):
        if not isinstance(v, list | dict):
            return 0
        return 1 + max((depth(i) for i in (v.values() if isinstance(v, dict) else v)), default=0)

    for levels in range(1, 5):
        assert reading.is_deeper([value], levels) == (depth([value]) > levels)


@pytest.mark.parametrize("shape", ["chain", "star", "alone"])
@pytest.mark.parametrize("name", EXPORTERS)
def test_many_models_are_written_without_recursion(name, shape):
    n = 1500
    parents = {"chain": range(n), "star": [0] * n, "alone": []}[shape]
    edges = [entry_of_edge(f"m{p:05}", f"m{i:05}") for i, p in zip(range(1, n), parents, strict=False)]
    made = document([entry_of_node(f"m{i:05}", 0) for i in range(n)], edges, components=[])
    assert exported(name, made).count("m01499") >= 1


def test_a_tangle_is_refused_in_one_sentence():
    n = 1500
    edges = [entry_of_edge(f"m{i - 1:05}", f"m{i:05}") for i in range(1, n)]
    edges += [entry_of_edge("m00000", f"m{i:05}") for i in range(2, n)]
    made = document([entry_of_node(f"m{i:05}", 0) for i in range(n)], edges, components=[])
    with pytest.raises(UndrawableError, match="take graphml or gexf"):
        exported("svg", made)
    assert issubclass(UndrawableError, LineageError)


# --- names ---------------------------------------------------------------------------------------------------------
@given(st.text(max_size=60), st.integers(1, 50))
def test_a_shortened_name_fits_and_keeps_its_ends(text, width):
    name = safe(text)
    short = shortened(name, width)
    assert cells(short) <= width
    assert len(short) <= 2 * width + 1
    head, _, tail = short.partition("…") if short != name else (name, "", "")
    assert name.startswith(head)
    assert name.endswith(tail)
    if cells(name) <= width and len(name) <= 2 * width:
        assert short == name


@given(st.text(max_size=60))
def test_a_safe_name_is_printable_and_stays_as_it_is(text):
    assert safe(text).isprintable()
    assert safe(safe(text)) == safe(text)
    if text.isprintable():
        assert safe(text) == text
