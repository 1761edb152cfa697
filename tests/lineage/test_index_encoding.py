"""Signatures and studies as bytes: nothing is lost, and what strangers hand over is refused with a sentence."""

import copy
import itertools
import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import derive
from crawl import find_models, open_model
from lineage.errors import MalformedDocumentError
from lineage.evidence import gather
from lineage.index.encoding import decode, encode
from lineage.index.leaning import lean_study
from lineage.index.packing import MAGIC, pack, unpack
from lineage.index.studies import COLUMNS, ROWS, decode_study, encode_study, fitted
from lineage.plan import PUBLIC_KEY
from lineage.reading import sign
from lineage.study import study
from nulls import ROOT, opened

ZOO = ROOT / "fixtures" / "zoo"
NAMES = ("llama-a", "llama-a-ft1", "llama-b", "gpt2-a", "gpt2-a-ft", "bert-a", "bertsin-a", "micro-00", "micro-01")
PAIRS = (
    ("llama-a", "llama-a-ft1"),
    ("llama-a", "llama-b"),
    ("gpt2-a", "gpt2-a-ft"),
    ("bert-a", "bertsin-a"),
    ("micro-00", "micro-01"),
    ("llama-a", "gpt2-a"),
)


def signed(path, name="m"):
    with open_model(str(path)) as source:
        return sign(source), study(source, PUBLIC_KEY, name=name)


@pytest.fixture(scope="module")
def models():
    return {name: signed(ZOO / name) for name in NAMES}


def parts_of(value, place=""):
    """(place, leaf) of everything inside a signature; arrays are leaves."""
    if hasattr(value, "__dataclass_fields__"):
        for f in fields(value):
            yield from parts_of(getattr(value, f.name), f"{place}.{f.name}")
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from parts_of(value[key], f"{place}[{key}]")
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from parts_of(item, f"{place}[{i}]")
    else:
        yield place, value


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() and b.flags.c_contiguous
    return a == b


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_of_a_signature_comes_back(models, name):
    before = models[name][0]
    after = decode(encode(before), ref=before.ref, name=before.id)
    left, right = dict(parts_of(before)), dict(parts_of(after))
    assert left.keys() == right.keys()
    assert [k for k in left if k not in {".bytes_read", ".requests"} and not same(left[k], right[k])] == []
    assert encode(after) == encode(before)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_stored_signatures_give_the_evidence_of_read_ones(models, a, b):
    first, second = models[a][0], models[b][0]
    stored = [decode(encode(s), ref=s.ref, name=s.id) for s in (first, second)]
    assert gather(*stored) == gather(first, second)


@pytest.mark.calibrate
def test_all_pairs_of_the_zoo_give_the_evidence_of_read_ones():
    read = [signed(ref.location)[0] for ref in find_models(ZOO)]
    stored = [decode(encode(s), ref=s.ref, name=s.id) for s in read]
    for i, j in itertools.combinations(range(len(read)), 2):
        assert gather(stored[i], stored[j]) == gather(read[i], read[j])


def test_equal_files_have_equal_bytes_under_any_name():
    weights = derive.load(ZOO / "micro-00")
    with opened(weights, "one") as a, opened(weights, "two") as b:
        assert encode(sign(a)) == encode(sign(b))


def test_a_signature_takes_little_more_than_what_was_read(models):
    """Values are kept in the format they were stored in; what is derived (answers to tokens) is kept in full."""
    for signature, _ in models.values():
        answers = sum(v.nbytes for b in signature.blocks for v in b.probes.values())
        answers += sum(v.probes.nbytes for v in signature.values)
        folded = sum(v.size * 4 for b in signature.blocks for v in b.wide.values())
        assert len(encode(signature)) < signature.bytes_read + answers + folded + 30_000


@given(
    hnp.arrays(
        st.sampled_from(["<f4", "<f8"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        elements={"allow_nan": True, "allow_infinity": True, "allow_subnormal": True},
    ),
    st.sampled_from([None, "<f2", "bf16"]),
)
def test_every_array_comes_back_bit_by_bit(array, narrowed):
    with np.errstate(over="ignore", invalid="ignore"):
        if narrowed == "<f2":
            array = array.astype("<f2").astype(array.dtype)
        elif narrowed == "bf16":
            array = (array.astype("<f4").view("<u4") & np.uint32(0xFFFF0000)).view("<f4").astype(array.dtype)
    facts, (back,) = unpack(pack("thing", {"a": 1}, [array]), "thing")
    assert facts == {"a": 1}
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6))
def test_whole_numbers_come_back(numbers):
    _, (back,) = unpack(pack("thing", {}, [np.array(numbers, dtype=np.int64)]), "thing")
    assert back.tolist() == numbers


def test_narrow_formats_are_used():
    ones = np.ones(1000, dtype=np.float64)
    assert len(pack("thing", {}, [ones])) < 2300
    assert len(pack("thing", {}, [ones * np.float32(0.1)])) < 4300


def test_another_kind_is_refused():
    with pytest.raises(MalformedDocumentError, match="does not describe a signature"):
        decode(pack("study", {}, []), ref="r", name="n")


def resealed(head, body=b""):
    """A block with any head and a checksum that fits."""
    import hashlib

    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    data = MAGIC + len(text).to_bytes(4, "little") + text + body
    return data + hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        MAGIC + b"\xff\xff\xff\xff" + b"\0" * 40,
        resealed(b"[" * 100_000),
        resealed(b"{}"),
        resealed({"kind": "thing", "facts": {}, "arrays": [["f8", "f8", [2**40, 2**40]]]}),
        resealed({"kind": "thing", "facts": {}, "arrays": [["f8", "f8", [-1]]]}),
        resealed({"kind": "thing", "facts": {}, "arrays": [["f8", "f8", [3]]]}, b"\0" * 8),
        resealed({"kind": "thing", "facts": {}, "arrays": []}, b"\0"),
        resealed({"kind": "thing", "facts": {}, "arrays": [["O", "f8", [0]]]}),
        resealed({"kind": "thing", "facts": {}, "arrays": [["i8", "f8", [0]]]}),
        resealed({"kind": "thing", "facts": {}, "arrays": [["f8", "f8", [0]]] * 30_000}),
        resealed({"kind": "thing", "facts": {}, "arrays": [["f8", "f8", [0] * 40]]}),
        resealed({"kind": "thing", "facts": [], "arrays": []}),
    ],
)
def test_hostile_blocks_are_refused(data):
    with pytest.raises(MalformedDocumentError):
        unpack(data, "thing")


def test_any_changed_byte_is_seen(models):
    data = bytearray(encode(models["micro-00"][0]))
    for at in range(0, len(data), 997):
        data[at] ^= 1
        with pytest.raises(MalformedDocumentError):
            decode(bytes(data), ref="r", name="n")
        data[at] ^= 1
    for end in range(0, len(data), 4999):
        with pytest.raises(MalformedDocumentError):
            decode(bytes(data[:end]), ref="r", name="n")


def is_refused(data):
    try:
        decode(data, ref="r", name="n")
    except MalformedDocumentError:
        return True
    return False


def lies(facts):
    """(name, facts) with one thing wrong, for each of many things."""
    changes = {
        "format": lambda f: f.update(format=99),
        "no blocks": lambda f: f.pop("blocks"),
        "columns beyond the width": lambda f: f.update(columns=[0, 10**6]),
        "width": lambda f: f["architecture"].update(width=-1),
        "unknown norm": lambda f: f["architecture"].update(norm_type="odd"),
        "architecture with more": lambda f: f["architecture"].update(extra=1),
        "a group that is none": lambda f: f.update(groups=[7] * len(f["groups"])),
        "one array twice": lambda f: f["vectors"].append(f["vectors"][0]),
        "an array that is not there": lambda f: f.update(tokens=10**6),
        "a table of another kind": lambda f: f["tables"][0].__setitem__(0, "odd"),
        "a table of fewer rows": lambda f: f["tables"][0].__setitem__(1, 1),
        "parts as gains": lambda f: f["blocks"][0].update(gain=f["blocks"][0]["parts"].pop("mlp.up")),
        "layers without end": lambda f: f["blocks"][0].update(layer=10**9),
        "units below those read": lambda f: f["blocks"][0].update(units=1),
        "a number as a name": lambda f: f.update(key=7),
        "a text as a number": lambda f: f.update(parameters="many"),
        "truth as a number": lambda f: f.update(version=True),
        "skipped without a reason": lambda f: f.update(skipped=[["x"]]),
    }
    for name, change in changes.items():
        made = copy.deepcopy(facts)
        change(made)
        yield name, made


def test_signatures_that_contradict_themselves_are_refused(models):
    facts, arrays = unpack(encode(models["micro-00"][0]), "signature")
    taken = [name for name, made in lies(facts) if not is_refused(pack("signature", made, arrays))]
    assert taken == []


@pytest.mark.parametrize("name", ["llama-a", "gpt2-a", "bert-a"])
def test_every_bit_of_a_study_comes_back(models, name):
    before = models[name][1]
    after = decode_study(encode_study(before), name=before.id)
    left, right = dict(parts_of(before)), dict(parts_of(after))
    assert [k for k in left if k not in {".bytes_read", ".requests"} and not same(left[k], right[k])] == []
    assert left.keys() == right.keys()


def test_a_cut_study_holds_the_start_of_everything(models):
    whole = models["llama-a"][1]
    cut = fitted(whole, 40_000)
    assert cut.shapes == whole.shapes
    assert cut.shape_class == whole.shape_class == fitted(models["llama-b"][1], 40_000).shape_class
    for name, values in cut.matrices.items():
        assert values.shape[0] == min(ROWS, whole.matrices[name].shape[0])
        assert np.array_equal(values, whole.matrices[name][:ROWS, :COLUMNS])
    assert all(len(v) == len(whole.tables[k]) for k, v in cut.tables.items())
    assert fitted(whole) is whole


def test_experts_of_a_study_come_back():
    moe = derive.upcycle_moe(derive.load(ZOO / "llama-a"), 3, np.random.default_rng(0))
    with opened(moe, "m") as source:
        before = study(source, PUBLIC_KEY, name="m")
    after = decode_study(encode_study(before), name="m")
    assert before.experts
    assert after.experts.keys() == before.experts.keys()
    assert all(same(np.asarray(v), after.experts[k]) for k, v in before.experts.items())


def test_a_study_that_is_none_is_refused(models):
    facts, arrays = unpack(encode_study(models["micro-00"][1]), "study")
    for change in (
        {"format": 9},
        {"layers": -1},
        {"layers": True},
        {"slices": {}},
        {"dtype": 1},
        {"shapes": {"x": [1, 1]}},
        {"shapes": 3},
    ):
        with pytest.raises(MalformedDocumentError):
            decode_study(pack("study", {**facts, **change}, arrays), name="n")
    with pytest.raises(MalformedDocumentError):
        decode_study(pack("study", facts, arrays[:-1]), name="n")


def test_a_study_made_of_a_signature_holds_what_was_read(models):
    signature, whole = models["llama-a"]
    lean = lean_study(signature)
    for name, values in lean.matrices.items():
        rows = {v.tobytes() for v in np.asarray(whole.matrices[name], dtype=np.float64)}
        columns = {v.tobytes() for v in np.ascontiguousarray(np.asarray(whole.matrices[name], dtype=np.float64).T)}
        read = np.ascontiguousarray(values.T if name.endswith("down") else values)
        assert all(v.tobytes() in (columns if name.endswith("down") else rows) for v in read), name
    assert all(np.array_equal(v, whole.vectors[k]) for k, v in lean.vectors.items())
