"""Exporters: every format is read back, odd names and hostile documents included."""

import copy
import io
import json
import random
import re
import subprocess
import xml.etree.ElementTree as ET

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from forests import document, entry_of_edge, entry_of_node, forest, open_link
from lineage.export import EXPORTERS, contents_of
from lineage.export.drawing import drawing_of
from lineage.export.markup import distinct, escaped
from lineage.names import safe
from nulls import ROOT

SCHEMA = Draft202012Validator(json.loads((ROOT / "schemas" / "tree-1.json").read_text()))
ODD = [
    *('a"b', "a'b", "a`b`c", "`md`", "<b>bold</b>", "</script><script>alert(1)</script>", "]]>", "a&amp;b", "a&b;"),
    *("#quot;", "#35;", "a|b", "a[b]", "(x)", "{y}", "%% c", "a\\nb", "a\\", "\\N", "new\nline", "tab\there", "cr\rx"),
    *(
        "nul\x00",
        "esc\x1b[31m",
        "llama 🦙",
        "👩\u200d💻",
        "RTL \u202eabc",
        "עברית",
        "漢字" * 40,
        "lone \ud800",
        "\ufffe",
    ),
    *("a\x01", "a\\x01", "a  two", " lead", "trail ", "https://www.example.org/x", "me@example.org", "__init__"),
    *("**b**", "~~s~~", "$x^2$", "$$x$$", "click n0", "end", "subgraph", "x" * 300, "e\u0301" * 40, "-->", "n0", "~0"),
    *("~0.0", "1. list", "- dash", "* star", "+ x", "> q", "# head", "![i](u)", "fa:fa-car", "digraph", "é", "e\u0301"),
]


def odd():
    """Odd names as parents, as children, as a copy and as an inferred ancestor; odd kinds; both sorts of joints."""
    nodes = [entry_of_node(name, 0) for name in ODD]
    nodes.append(entry_of_node('copy "of" <odd>\\', 0, duplicate_of=ODD[0]))
    nodes.append(entry_of_node("~root]]>", 0, virtual=True))
    edges = [entry_of_edge(ODD[(i - 1) // 2], ODD[i]) for i in range(1, len(ODD) - 4)]
    edges.append(entry_of_edge("~root]]>", ODD[0], 'kind "x" <y> & \\'))
    unresolved = [
        open_link(*sorted((ODD[0], ODD[-1])), "shared-init"),
        open_link(*sorted((ODD[-2], ODD[-3])), "sibling"),
        open_link(*sorted((ODD[-3], ODD[0])), kind="odd | kind"),
    ]
    return document(nodes, edges, unresolved)


EMPTY = document([])
DOCUMENTS = {"empty": EMPTY, "odd": odd(), **{str(n): forest(n, n) for n in (5, 30, 100, 300)}}


def exported(name, made):
    return EXPORTERS[name](contents_of(made))


def shuffled(made, seed=0):
    """The same document with every list without an order in another one."""
    other = copy.deepcopy(made)
    rng = random.Random(seed)  # noqa: S311 - any order will do
    for name in ("nodes", "edges", "unresolved", "components"):
        rng.shuffle(other[name])
    return dict(reversed(other.items()))


# --- every row -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize("name", EXPORTERS)
def test_one_document_gives_one_text_in_utf_8_whatever_its_order(name, case):
    text = exported(name, DOCUMENTS[case])
    assert text == exported(name, shuffled(DOCUMENTS[case]))
    assert text.endswith("\n")
    assert "\x00" not in text
    assert "\x1b" not in text
    text.encode()


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_writer_leaves_the_document_alone(name):
    made = forest(30, 3)
    before = json.dumps(made)
    exported(name, made)
    assert json.dumps(made) == before


@pytest.mark.parametrize("name", EXPORTERS)
def test_the_graph_inside_another_document_is_found(name):
    made = forest(30, 1)
    inside = {
        "schema_version": 1,
        "query": "x",
        "graph": {k: made[k] for k in ("nodes", "edges", "components", "unresolved")},
    }
    if name == "json":
        assert json.loads(exported(name, inside))["graph"]["nodes"] == json.loads(exported(name, made))["nodes"]
    else:
        assert exported(name, inside) == exported(name, made)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=12, unique=True))
def test_any_names_are_read_back(names):
    edges = [entry_of_edge(names[i // 2], names[i + 1]) for i in range(len(names) - 1)]
    made = document([entry_of_node(n, 0) for n in names], edges)
    contents = contents_of(made)
    for name, read in (("graphml", nx.read_graphml), ("gexf", nx.read_gexf)):
        graph = read(io.BytesIO(EXPORTERS[name](contents).encode()))
        assert set(graph) == set(distinct(names).values())
        assert graph.number_of_edges() == len(edges)
    labels, arrows = read_dot(EXPORTERS["dot"](contents))
    assert sorted(labels.values()) == sorted(map(safe, names))
    assert len(arrows) == len(edges)
    labels, arrows = read_mermaid(EXPORTERS["mermaid"](contents))
    assert sorted(labels.values()) == sorted(map(safe, names))
    assert len(arrows) == len(edges)
    ET.fromstring(EXPORTERS["svg"](contents))  # noqa: S314 - our own


# --- json ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", ["5", "30", "100", "odd"])
def test_canonical_json_is_the_document_less_the_run(case):
    made = DOCUMENTS[case]
    again = json.loads(exported("json", made))
    assert SCHEMA.is_valid(again) == (case != "odd")  # for its kinds
    assert again["record"]["run"] == {}
    assert again["nodes"] == sorted(made["nodes"], key=lambda n: n["id"])
    assert sorted(map(repr, again["edges"])) == sorted(repr(dict(sorted(e.items()))) for e in made["edges"])
    assert exported("json", again) == exported("json", made)
    assert exported("json", {**made, "record": {**made["record"], "run": {"seconds": 9}}}) == exported("json", made)


# --- graphml, gexf -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize(("name", "read"), [("graphml", nx.read_graphml), ("gexf", nx.read_gexf)])
def test_graphs_are_read_back_whole(name, read, case):
    made = DOCUMENTS[case]
    graph = read(io.BytesIO(exported(name, made).encode()))
    written = distinct(sorted(n["id"] for n in made["nodes"]))
    assert set(graph) == set(written.values())
    roots = {r for c in made["components"] for r in c["roots"]}
    for node in made["nodes"]:
        found = graph.nodes[written[node["id"]]]
        assert found["label"] == safe(node["id"])
        assert (found["parameters"], found["dtype"], found["component"]) == (
            *(node["parameters"], node["dtype"], node["component"]),
        )
        assert (found["virtual"], found["root"]) == (node["virtual"], node["id"] in roots)
        assert found.get("duplicate_of") == written.get(node["duplicate_of"])
    links = [(e["parent"], e["child"], e) for e in made["edges"]] + [(u["a"], u["b"], u) for u in made["unresolved"]]
    assert graph.number_of_edges() == len(links)
    for a, b, link in links:
        every = graph.get_edge_data(written[a], written[b])
        every = list(every.values()) if graph.is_multigraph() else [every]
        (found,) = [f for f in every if f["reason"] == link.get("reason", "descent")]
        assert found["kind"] == escaped_back(link["kind"])
        assert found["log10_p"] == link["log10_p"]
        assert found["directed"] is ("parent" in link)
        assert found.get("probability") == link.get("probability")
        assert found.get("coefficient") == link.get("coefficient")


def escaped_back(text):
    return ET.fromstring(f"<a>{escaped(text)}</a>").text  # noqa: S314 - our own


def test_names_that_xml_holds_stay_and_others_stay_apart():
    written = distinct(["a\x01", "a\\x01", "a\\x01 (2)", "new\nline", "x"])
    assert written["a\\x01"] == "a\\x01"
    assert written["new\nline"] == "new\nline"
    assert written["a\x01"] == "a\\x01 (3)"
    assert len(set(written.values())) == 5


# --- dot -----------------------------------------------------------------------------------------------------------
def read_dot(text):
    """(key -> name, lines) of what `dot` writes: statements one a line, attributes as words or quoted strings."""
    labels, arrows = {}, []
    depth = 0
    for row in text.splitlines():
        statement = row.strip()
        depth += statement.endswith("{") - (statement == "}")
        node = re.fullmatch(r"(n\d+|j\d+_\d+) \[(.*)\];", statement)
        arrow = re.fullmatch(r"(n\d+|j\d+_\d+) -> (n\d+|j\d+_\d+) \[(.*)\];", statement)
        for found in (node, arrow):
            facts = attributes(found[found.lastindex]) if found else {}
            if node and found is node and "model" in facts:
                labels[node[1]] = facts["model"]
                assert facts["label"].startswith(facts["model"] + "\n")
            if arrow and found is arrow:
                arrows.append((arrow[1], arrow[2], facts))
    assert depth == 0
    return labels, arrows


def attributes(text):
    made, rest = {}, text
    while rest:
        found = re.match(r'(\w+)=("(?:[^"\\]|\\.)*"|[^",\s]+)(?:, |$)', rest)
        assert found, rest
        value = found[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value[1:-1]).replace("&amp;", "&")
        made[found[1]] = value
        rest = rest[found.end() :]
    return made


@pytest.mark.parametrize("case", DOCUMENTS)
def test_dot_names_every_model_and_draws_every_line(case):
    made = DOCUMENTS[case]
    labels, arrows = read_dot(exported("dot", made))
    assert sorted(labels.values()) == sorted(safe(n["id"]) for n in made["nodes"])
    assert {n for n in labels if made["nodes"]} == {f"n{i}" for i in range(len(made["nodes"]))}
    key = {i: f"n{k}" for k, i in enumerate(sorted(n["id"] for n in made["nodes"]))}
    directed = {(a, b): f for a, b, f in arrows if f.get("dir") != "none"}
    assert set(directed) == {(key[e["parent"]], key[e["child"]]) for e in made["edges"]}
    for edge in made["edges"]:
        facts = directed[key[edge["parent"]], key[edge["child"]]]
        assert float(facts["probability"]) == pytest.approx(edge["probability"], rel=1e-5)
        assert float(facts["log10_p"]) == pytest.approx(edge["log10_p"], rel=1e-5)
        assert ("coefficient" in facts) == (edge["coefficient"] is not None)
    same = {(a, b) for a, b, f in arrows if f.get("label") == "identical"}
    assert same == {(key[n["duplicate_of"]], key[n["id"]]) for n in made["nodes"] if n["duplicate_of"]}


@pytest.mark.outside("dot")
def test_graphviz_reads_the_labels_that_were_meant():
    text = exported("dot", DOCUMENTS["odd"])
    done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True, timeout=120)
    picture = ET.fromstring(done.stdout)  # noqa: S314 - our own
    shown = ["".join(t.itertext()) for t in picture.iter("{http://www.w3.org/2000/svg}text")]
    flat = [re.sub(r"\s+", " ", s) for s in shown]
    for name in ODD:
        assert re.sub(r"\s+", " ", safe(name)) in flat, name


# --- mermaid -------------------------------------------------------------------------------------------------------
TEXT = r'"((?:[A-Za-z0-9 ,/.-]|#\d+;|<br/>)*)"'
MERMAID = {
    "head": re.compile(r"flowchart LR|accTitle: [\w ,]+|accDescr: [\w ,.:]+|end|classDef \w+ [\w:, -]+"),
    "subgraph": re.compile(rf"subgraph f\d+\[{TEXT}\]"),
    "node": re.compile(rf"(n\d+)\[{TEXT}\](?::::\w+)?"),
    "joint": re.compile(rf"(j\d+x\d+)\(\[{TEXT}\]\):::joint"),
    "line": re.compile(rf"([nj][\dx]+) (-->|-\.-)(?:\|{TEXT}\|)? ([nj][\dx]+)"),
}


def read_mermaid(text):
    """(key -> name, lines), where every line of the text is one of the few forms it may have."""
    labels, arrows = {}, []
    for row in text.splitlines():
        ((form, found),) = [(k, m) for k, p in MERMAID.items() if (m := p.fullmatch(row.strip()))]
        if form == "node":
            labels[found[1]] = letters(found[2].split("<br/>")[0])
        if form == "line":
            arrows.append((found[1], found[4], found[2], letters(found[3] or "")))
    return labels, arrows


def letters(text):
    return re.sub(r"#(\d+);", lambda m: chr(int(m[1])), text).replace("\N{WORD JOINER}", "")


@pytest.mark.parametrize("case", DOCUMENTS)
def test_mermaid_names_every_model_and_draws_every_line(case):
    made = DOCUMENTS[case]
    labels, arrows = read_mermaid(exported("mermaid", made))
    assert sorted(labels.values()) == sorted(safe(n["id"]) for n in made["nodes"])
    key = {i: f"n{k}" for k, i in enumerate(sorted(n["id"] for n in made["nodes"]))}
    directed = {(a, b) for a, b, arrow, _ in arrows if arrow == "-->"}
    assert directed == {(key[e["parent"]], key[e["child"]]) for e in made["edges"]}
    assert sum(label == "identical" for *_, label in arrows) == sum(bool(n["duplicate_of"]) for n in made["nodes"])


NODE_PROGRAM = """
import {JSDOM} from 'jsdom'; import {readFileSync} from 'fs';
const page = new JSDOM('<!doctype html><body></body>');
globalThis.window = page.window; globalThis.document = page.window.document;
const mermaid = (await import('mermaid')).default;
const text = readFileSync(0, 'utf8');
await mermaid.parse(text);
const {db} = await mermaid.mermaidAPI.getDiagramFromText(text);
console.log(JSON.stringify({nodes: [...db.getVertices().keys()], edges: db.getEdges().map(e => [e.start, e.end])}));
"""


@pytest.mark.outside("node")
@pytest.mark.parametrize("case", ["5", "100", "odd"])
def test_mermaid_itself_reads_every_node_and_line(case):
    home = ROOT / ".cache" / "mermaid"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "node_modules" / "mermaid").is_dir():
        subprocess.run(
            ["npm", "install", "--prefix", str(home), "mermaid@11", "jsdom"], check=True, capture_output=True
        )
    (home / "read.mjs").write_text(NODE_PROGRAM)
    text = exported("mermaid", DOCUMENTS[case])
    done = subprocess.run(["node", str(home / "read.mjs")], input=text, text=True, capture_output=True, check=True)
    told = json.loads(done.stdout)
    labels, arrows = read_mermaid(text)
    assert {n for n in told["nodes"] if n.startswith("n")} == set(labels)
    assert sorted(map(tuple, told["edges"])) == sorted((a, b) for a, b, *_ in arrows)


# --- what drawings leave out ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", ["30", "100", "300", "odd"])
def test_a_drawing_shows_or_counts_every_link_once(case):
    contents = contents_of(DOCUMENTS[case])
    drawing = drawing_of(contents)
    drawn = [line.link for f in drawing.families for line in f.lines if line.link is not None]
    joined = sum(j.n_pairs for f in drawing.families for j in f.joints)
    assert len(drawn) + joined + drawing.n_implied == len(contents.links)
    assert {(k.a, k.b) for k in drawn if k.is_directed} == {(k.a, k.b) for k in contents.links if k.is_directed}
    shown = [m.id for f in drawing.families for m in f.models] + [m.id for m in drawing.alone]
    shown += [c for names in drawing.copies.values() for c in names]
    assert sorted(shown) == [m.id for m in contents.models]
    for family in drawing.families:
        place = {key: i for i, key in enumerate(family.order)}
        assert all(place[line.source] < place[line.target] for line in family.lines)


def test_common_starts_and_lost_parents_become_one_joint_each():
    names = [f"m{i}" for i in range(7)]
    edges = [entry_of_edge("m0", "m1"), entry_of_edge("m2", "m3")]
    unresolved = [open_link(a, b, "shared-init") for a in ("m0", "m1") for b in ("m2", "m3")]
    unresolved += [open_link("m4", "m5", "sibling"), open_link("m5", "m6", "sibling"), open_link("m0", "m4")]
    (family,) = drawing_of(contents_of(document([entry_of_node(n, 0) for n in names], edges, unresolved))).families
    ends = {j.style: sorted(k.target for k in family.lines if k.source == j.key) for j in family.joints}
    assert ends == {"shared-init": ["m0", "m2"], "sibling": ["m4", "m5", "m6"]}
    assert {j.style: j.n_pairs for j in family.joints} == {"shared-init": 4, "sibling": 2}


def test_siblings_whose_parent_is_drawn_are_implied():
    edges = [entry_of_edge("p", c) for c in "abc"]
    unresolved = [open_link(*pair, "sibling") for pair in ("ab", "ac", "bc")]
    drawing = drawing_of(contents_of(document([entry_of_node(n, 0) for n in "abcp"], edges, unresolved)))
    assert drawing.n_implied == 3
    assert drawing.families[0].joints == ()


# --- what the program writes ---------------------------------------------------------------------------------------
def test_the_demo_document_of_the_program_is_read(tmp_path):
    """Not a generated document: what the program itself writes of three fixture models."""
    from lineage.growing import tree
    from lineage.searching import find_all

    zoo = ROOT / "fixtures" / "zoo"
    made = tree(find_all([str(zoo / name) for name in ("micro-00", "micro-01", "micro-02")]))
    contents = contents_of(json.loads(json.dumps(made)))
    assert len(contents.models) == 3
    for write in EXPORTERS.values():
        assert "micro-01" in write(contents)
