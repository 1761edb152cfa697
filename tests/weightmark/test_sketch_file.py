"""Sketch files: the same bytes for the same model, sizes by formula, and one sentence for whatever else comes."""

import hashlib
import json
import os
import stat
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file

import derive
from crawl import open_model
from lineage import outlining
from oracles import sketches
from weightmark import sketchfile
from weightmark.errors import UnusableKeyError, WritingError
from weightmark.schemes import gram

LLAMA_7B = {"layers": 32, "width": 4096, "hidden": 11008, "gated": True, "vocabulary": 32000, "queries": 4096, "keys": 4096}  # fmt: skip


@pytest.fixture(scope="module")
def made(zoo):
    with open_model(str(zoo / "llama-a")) as source:
        return outlining.outline(source)


@pytest.fixture
def file(made, tmp_path):
    sketchfile.write(tmp_path / "s", sketchfile.to_bytes(made))
    return tmp_path / "s"


def test_one_model_gives_one_file(zoo, made, tmp_path):
    """However it is split into files, and however often it is sketched."""
    derive.save(derive.load(zoo / "llama-a"), tmp_path / "split", shards=3)
    (tmp_path / "split" / "config.json").write_text((zoo / "llama-a" / "config.json").read_text())
    with open_model(str(tmp_path / "split")) as source:
        assert sketchfile.to_bytes(outlining.outline(source)) == sketchfile.to_bytes(made)


def test_what_is_written_is_read(made, file):
    back, sha = sketchfile.read(str(file))
    assert sha == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (back.digest, back.kinds, back.counts) == (made.digest, made.kinds, made.counts)
    assert back.arrays.keys() == made.arrays.keys()
    assert all(np.array_equal(back.arrays[n], made.arrays[n]) for n in made.arrays)
    other = load_file(file)  # the reference library reads it too
    assert all(np.array_equal(other[n], made.arrays[n]) for n in made.arrays)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_kept_is_what_the_page_says(zoo, made):
    wanted = sketches.naive(derive.load(zoo / "llama-a"), made.digest)
    assert set(wanted) == set(made.arrays)
    for name, values in wanted.items():
        assert np.allclose(made.arrays[name].astype(float), values, rtol=2e-3, atol=2e-3), name


def test_sizes_follow_from_shapes(made):
    sizes = outlining.expected_sizes(layers=4, width=64, hidden=160, gated=True, vocabulary=256, queries=64, keys=32)
    assert made.sizes() == sizes
    assert len(sketchfile.to_bytes(made)) - sum(sizes.values()) < 10_000
    large = outlining.expected_sizes(**LLAMA_7B)
    assert {kind: round(n / 1e6, 1) for kind, n in large.items()} == {"perm": 54.0, "rot": 34.1, "gram": 33.0}


def test_kinds_can_be_left_out(zoo):
    for kinds in (("perm",), ("rot",), ("gram",), ("perm", "gram")):
        with open_model(str(zoo / "llama-a")) as source:
            part = outlining.outline(source, kinds)
        assert part.kinds == kinds
        assert {n.partition(".")[0] for n in part.arrays} == set(kinds)


def test_no_row_of_a_matrix_can_be_read_off(zoo, made):
    """32 signs of 64 dimensions and fewer: what fits them best explains half of a row at most."""
    gate = derive.cast(derive.load(zoo / "llama-a"), "float64")["model.layers.0.mlp.gate_proj.weight"]
    signs = sketchfile.directions(made.digest, "residual", 64, sketchfile.SIDE)[:, :32]
    gain = derive.cast(derive.load(zoo / "llama-a"), "float64")["model.layers.0.post_attention_layernorm.weight"]
    back = np.linalg.lstsq(signs.T, made.arrays["perm.L0000.mlp.gate"].astype(float).T, rcond=None)[0].T
    share = np.sum(back * (gate * gain)) / np.linalg.norm(back) / np.linalg.norm(gate * gain)
    assert share**2 < 0.6


def test_signs_are_fair_and_of_one_model():
    a, b = (sketchfile.directions(digest * 64, "residual", 512, 64) for digest in "ab")
    assert set(np.unique(a)) == {-1.0, 1.0}
    assert abs(a.mean()) < 4 / np.sqrt(a.size)
    assert abs((a * b).mean()) < 4 / np.sqrt(a.size)
    assert np.array_equal(a, sketchfile.directions("a" * 64, "residual", 512, 64))


def test_nothing_is_written_over(made, file, tmp_path):
    data = sketchfile.to_bytes(made)
    assert sketchfile.write(file, data) is False
    with pytest.raises(WritingError, match="never overwritten"):
        sketchfile.write(file, data[:-2])
    assert file.read_bytes() == data
    with pytest.raises(WritingError, match="cannot be written"):
        sketchfile.write(tmp_path / "no" / "s", data)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def header_of(data):
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def with_header(data, change):
    table, rest = header_of(data)
    change(table)
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head)) + head + rest


def told(name, value):
    return lambda table: table["__metadata__"].update({name: value})


def renamed(old, new):
    return lambda table: table.update({new: table.pop(old)})


def reshaped(name, shape):
    return lambda table: table[name].update({"shape": shape})


HOSTILE = {
    "a newer version": (told("format", "weightmark-sketch/2"), "version '2'"),
    "another format": (told("format", "gguf"), "not a sketch of this program"),
    "no metadata": (lambda table: table.pop("__metadata__"), "not a sketch of this program"),
    "no digest": (told("unmarked_digest", "x" * 64), "digest"),
    "a wider model": (told("width", "128"), "does not belong"),
    "fewer layers": (told("layers", "2"), "does not belong"),
    "no number": (told("heads", "-1"), "heads"),
    "digits of other scripts": (told("layers", "٤"), "layers"),
    "a long number": (told("width", "9" * 400), "width"),
    "other kinds": (told("kinds", "perm,rot,gram,more"), "kinds"),
    "kinds that are not told": (told("kinds", "perm"), "does not belong"),
    "another role": (renamed("perm.L0000.mlp.up", "perm.L0000.norm.final"), "does not belong"),
    "another depth": (renamed("perm.L0000.mlp.up", "perm.L0009.mlp.up"), "does not belong"),
    "a path": (renamed("perm.L0000.mlp.up", "../../etc/passwd"), "does not belong"),
    "other shapes": (reshaped("perm.L0000.mlp.up", [320, 8]), "does not belong"),
    "other widths": (reshaped("perm.L0001.mlp.up", [80, 32]), "differ in their units"),
    "other units": (reshaped("perm.L0000.mlp.gate", [80, 64]), "does not belong"),
    "shapes against offsets": (reshaped("perm.L0000.mlp.up", [1 << 40, 16]), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_say_something_else_are_refused(file, name):
    change, words = HOSTILE[name]
    file.write_bytes(with_header(file.read_bytes(), change))
    with pytest.raises(UnusableKeyError, match=words) as caught:
        sketchfile.read(str(file))
    assert "\n" not in str(caught.value)


def test_units_that_contradict_each_other_are_refused(made, tmp_path):
    arrays = {**made.arrays, "perm.L0000.mlp.up": made.arrays["perm.L0000.mlp.up"][:100]}
    sketchfile.write(
        tmp_path / "s", sketchfile.to_bytes(sketchfile.Sketch(made.digest, made.kinds, made.counts, arrays))
    )
    with pytest.raises(UnusableKeyError, match="differ in their units"):
        sketchfile.read(str(tmp_path / "s"))


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 20_000])
def test_files_that_end_early_are_refused(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UnusableKeyError):
        sketchfile.read(str(file))


@pytest.mark.parametrize(
    "content", [b"\x80\x04cos\nsystem\n", b"PK\x03\x04 an archive of arrays", b"{}", bytes(1000), b"\xff" * 1000]
)
def test_foreign_files_are_refused_and_nothing_in_them_runs(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(UnusableKeyError, match="not a sketch"):
        sketchfile.read(str(tmp_path / "s"))


def test_values_that_are_not_finite_are_refused(made, tmp_path):
    arrays = dict(made.arrays)
    arrays["rot.tokens"] = np.full_like(arrays["rot.tokens"], np.nan)
    sketchfile.write(
        tmp_path / "s", sketchfile.to_bytes(sketchfile.Sketch(made.digest, made.kinds, made.counts, arrays))
    )
    with pytest.raises(UnusableKeyError, match="not finite"):
        sketchfile.read(str(tmp_path / "s"))


def test_places_without_a_file_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(sketchfile.LARGEST + 1)
    for name, words in (("no", "no such file"), (".", "not a regular file"), ("pipe", "not a regular file"), ("huge", "more than any")):  # fmt: skip
        with pytest.raises(UnusableKeyError, match=words):
            sketchfile.read(str(tmp_path / name))


def test_products_of_columns_are_those_of_gram(zoo, made):
    weights = derive.cast(derive.load(zoo / "llama-a"), "float32")
    known = gram.sums_of({"L0000.attn.q": weights["model.layers.0.self_attn.q_proj.weight"]})
    wanted = gram.correlations(known["L0000.attn.q"][1])
    assert np.allclose(made.arrays["gram.L0000.attn.q"].astype(float), wanted, rtol=0, atol=1e-3)
