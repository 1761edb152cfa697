"""Documents of real runs validate against the shipped schemas, and documents that lie do not."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from lineage.comparing import compare
from lineage.growing import tree
from lineage.searching import find_all
from program import run

ROOT = Path(__file__).parents[2]
SCHEMAS = {name: json.loads((ROOT / "schemas" / f"{name}-1.json").read_text()) for name in ("compare", "tree", "error")}
VALID = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}


@pytest.fixture(scope="module")
def pair(toys):
    return compare(str(toys / "base"), str(toys / "child-1"))


@pytest.fixture(scope="module")
def family(toys):
    return tree(find_all([str(toys)]))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_schemas(name):
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == f"{name}-1.json"
    assert SCHEMAS[name]["$schema"].endswith("2020-12/schema")
    assert SCHEMAS[name].get("additionalProperties", True) is True


@pytest.mark.parametrize(
    ("other", "verdict", "kind"),
    [
        ("child-1", "related", "fine-tune"),
        ("cast", "related", "cast"),
        ("copy", "identical", "identical"),
        ("stranger", "no-evidence", None),
        ("unknown", "untestable", None),
    ],
)
def test_documents_of_every_verdict_validate(toys, other, verdict, kind):
    document = json.loads(json.dumps(compare(str(toys / "base"), str(toys / other)), allow_nan=False))
    VALID["compare"].validate(document)
    assert document["verdict"] == verdict
    assert (document["relation"] or {}).get("kind") == kind


def test_a_tree_validates_and_holds_every_part(family):
    document = json.loads(json.dumps(family, allow_nan=False))
    VALID["tree"].validate(document)
    assert {n["id"] for n in document["nodes"] if n["duplicate_of"]} == {"copy"}
    assert document["edges"]
    assert {u["reason"] for u in document["unresolved"]} <= {"direction-undetermined", "sibling", "shared-init"}
    known = {n["id"] for n in document["nodes"]}
    assert all({e["parent"], e["child"]} <= known - {"copy"} for e in document["edges"])


def test_a_tree_with_an_unreadable_model_validates(toys, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 20)
    document = tree([*find_all([str(toys / "base")]), *find_all([str(tmp_path)])])
    VALID["tree"].validate(document)
    assert len(document["skipped"]) == 1


def test_the_command_line_writes_the_same_documents(toys):
    done = run("compare", toys / "base", toys / "child-1", "--json")
    assert done.returncode == 0
    VALID["compare"].validate(json.loads(done.stdout))
    grown = run("tree", *(toys / name for name in ("base", "child-1", "cast", "copy", "stranger")), "--json")
    assert grown.returncode == 0
    VALID["tree"].validate(json.loads(grown.stdout))


def test_the_error_document_validates(toys):
    done = run("compare", toys / "base", toys / "nowhere", "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    VALID["error"].validate(document)
    assert "nowhere" in document["error"]["where"]


def test_lines_of_pairs_validate(toys, tmp_path):
    listed = tmp_path / "pairs.txt"
    listed.write_text(f"{toys / 'base'}\t{toys / 'child-1'}\n{toys / 'base'}\t{toys / 'nowhere'}\n")
    done = run("compare", "--pairs", listed)
    assert done.returncode == 3
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    VALID["compare"].validate(good)
    VALID["error"].validate(bad)
    assert good["a_ref"] == bad["a_ref"] == str(toys / "base")
    assert not VALID["compare"].is_valid(bad)
    assert not VALID["error"].is_valid(good)
    assert good["ebh"]["rejected"] is True
    assert not VALID["compare"].is_valid(altered(good, ("ebh", "rejected"), "yes"))
    del good["b_ref"]
    assert not VALID["compare"].is_valid(good)


def altered(document, path, value):
    """A copy with one place changed; `...` takes the place away."""
    made = copy.deepcopy(document)
    here = made
    for step in path[:-1]:
        here = here[step]
    if value is ...:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return made


LIES = [
    (("verdict",), "independent"),
    (("verdict",), "no-evidence"),
    (("log10_p",), 0.5),
    (("log10_p",), None),
    (("log10_e",), "large"),
    (("ebh",), {"alpha": 1e-6, "family_size": 1, "rejected": True}),
    (("floor_log10_p",), 1),
    (("exactness",), "proven"),
    (("exactness",), "heuristic"),
    (("level_used",), 0),
    (("family_size",), 0),
    (("detectable_similarity",), 1.5),
    (("relation",), None),
    (("relation", "kind"), "cousin"),
    (("relation", "probability"), 1.2),
    (("relation", "steps"), ["cousin"]),
    (("relation", "calibrated_on"), {}),
    (("relation", "calibrated_on", "ece"), 2),
    (("direction", "parent"), "c"),
    (("direction", "probability"), -0.1),
    (("disguise",), {"transforms": ["moustache"], "agreement_after": {}}),
    (("layers", 0, "similarity"), 3),
    (("layers", 0, "a"), -1),
    (("tests",), []),
    (("tests", 0, "log10_p"), 1e-9),
    (("tests", 0, "null"), ""),
    (("tests", 0, "exactness"), "sure"),
    (("tests", 0, "label_group"), ...),
    (("record", "inputs", 0, "slices_digest"), "short"),
    (("record", "libraries"), ...),
    (("schema_version",), 2),
    (("a", "dtype"), ...),
]


@pytest.mark.parametrize(("path", "value"), LIES, ids=lambda x: str(x)[:40])
def test_a_compare_document_that_lies_does_not_validate(pair, path, value):
    VALID["compare"].validate(pair)
    with pytest.raises(ValidationError):
        VALID["compare"].validate(altered(pair, path, value))


@pytest.mark.parametrize("field", SCHEMAS["compare"]["required"])
def test_every_compare_field_is_required(pair, field):
    assert not VALID["compare"].is_valid(altered(pair, (field,), ...))


@pytest.mark.parametrize("field", SCHEMAS["tree"]["required"])
def test_every_tree_field_is_required(family, field):
    assert VALID["tree"].is_valid(family)
    assert not VALID["tree"].is_valid(altered(family, (field,), ...))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("edges", 0, "direction_probability"), 0.5),
        (("edges", 0, "probability"), 1.01),
        (("edges", 0, "log10_p"), 3),
        (("edges", 0, "kind"), "cousin"),
        (("edges", 0, "coefficient"), ...),
        (("nodes", 0, "virtual"), True),
        (("nodes", 0, "declared"), None),
        (("components", 0, "size"), 0),
        (("probabilities", "calibrated_on"), {}),
        (("unresolved",), [{"a": "x", "b": "y", "kind": "related", "log10_p": -9, "reason": "who knows"}]),
        (("skipped",), [{"ref": "x"}]),
    ],
    ids=lambda x: str(x)[:40],
)
def test_a_tree_that_lies_does_not_validate(family, path, value):
    assert not VALID["tree"].is_valid(altered(family, path, value))


def test_new_fields_are_free(pair, family):
    assert VALID["compare"].is_valid({**pair, "weather": "fair"})
    assert VALID["tree"].is_valid({**family, "weather": "fair"})
    assert VALID["error"].is_valid(
        {"schema_version": 1, "weather": "fair", "error": {"kind": "no-model", "message": "m", "where": "", "hint": ""}}
    )


def test_every_method_in_a_document_has_words_in_the_docs(pair):
    pages = "".join(p.read_text() for p in (ROOT / "docs" / "methods").glob("*.md"))
    missing = {t["method"] for t in pair["tests"] if f"`{t['method']}`" not in pages}
    assert missing == set()
