"""The header as hostile input: each named attack is refused in one sentence, and no mutation gives another exception."""

import json
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import deserialize
from safetensors.numpy import save

import crawl
from crawl import CrawlError, MalformedHeaderError, ModelRef, open_store
from crawl.formats import FORMATS, safetensors

REF = ModelRef("dir", "memory")


def _file(header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


_TWO = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
ATTACKS = {
    "empty": b"",
    "seven bytes": b"\x02\0\0\0\0\0\0",
    "only a length": struct.pack("<Q", 2),
    "length beyond the file": _file({}, length=1000),
    "length of 2^63": _file({}, length=2**63),
    "length above the cap": struct.pack("<Q", 100_000_001) + b"{}",
    "length zero": _file(b""),
    "length one": _file(b"{"),
    "a space before the brace": _file(b" {}"),
    "an array": _file(b"[]"),
    "not UTF-8": _file(b'{"\xff":1}'),
    "not JSON": _file(b'{"a":'),
    "text behind": _file(b"{}x"),
    "nesting bomb": _file(b'{"a":' + b"[" * 200_000),
    "nested tables": _file(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "number bomb": _file(b'{"a":' + b"9" * 10_000 + b"}"),
    "NaN": _file(b'{"a":NaN}'),
    "lone surrogate": _file(b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
    "duplicate key": _file(_TWO, b"x"),
    "duplicate inner key": _file(b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
    "unknown dtype": _file({"a": _entry("F12")}, bytes(8)),
    "dtype is a list": _file({"a": _entry(["F32"])}, bytes(8)),
    "entry is a number": _file({"a": 3}),
    "missing key": _file({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "extra key": _file({"a": _entry() | {"x": 1}}, bytes(8)),
    "negative size": _file({"a": _entry(shape=(-2,))}, bytes(8)),
    "two negative sizes": _file({"a": _entry(shape=(-2, -1))}, bytes(8)),
    "float size": _file({"a": _entry(shape=(2.0,))}, bytes(8)),
    "true as a size": _file({"a": _entry(shape=(True, 2))}, bytes(8)),
    "huge size": _file({"a": _entry(shape=(2**64,))}, bytes(8)),
    "overflowing product": _file({"a": _entry(shape=(2**32, 2**32))}, bytes(8)),
    "too many axes": _file({"a": _entry(shape=(1,) * 65 + (2,))}, bytes(8)),
    "shape is text": _file({"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}}, bytes(8)),
    "three offsets": _file({"a": _entry(offsets=(0, 4, 8))}, bytes(8)),
    "float offsets": _file({"a": _entry(offsets=(0.0, 8.0))}, bytes(8)),
    "reversed offsets": _file({"a": _entry(offsets=(8, 0))}, bytes(8)),
    "negative offsets": _file({"a": _entry(offsets=(-8, 0))}, bytes(8)),
    "span and shape differ": _file({"a": _entry(shape=(3,))}, bytes(8)),
    "out of bounds": _file({"a": _entry()}, bytes(7)),
    "trailing bytes": _file({"a": _entry()}, bytes(9)),
    "no tensors but data": _file({}, bytes(1)),
    "hole": _file({"a": _entry(), "b": _entry(offsets=(9, 17))}, bytes(17)),
    "hole at the start": _file({"a": _entry(offsets=(1, 9))}, bytes(9)),
    "overlap": _file({"a": _entry(), "b": _entry(offsets=(4, 12))}, bytes(12)),
    "same span twice": _file({"a": _entry(), "b": _entry()}, bytes(8)),
    "half a byte": _file({"a": _entry("F4", (3,), (0, 1))}, bytes(1)),
    "metadata is a list": _file({"__metadata__": ["x"]}),
    "metadata holds a number": _file({"__metadata__": {"x": 1}}),
    "metadata is null": _file({"__metadata__": None}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_in_one_sentence_that_names_the_file(name, memory_store):
    with pytest.raises(MalformedHeaderError) as caught:
        open_store(memory_store({"model.safetensors": ATTACKS[name]}), REF)
    assert str(caught.value).isprintable()
    assert "model.safetensors" in caught.value.where
    assert caught.value.reason
    assert len(str(caught.value)) < 1500


def test_too_many_tensors(memory_store, monkeypatch):
    monkeypatch.setattr(safetensors, "MOST_TENSORS", 1)
    header = {"a": _entry("U8", (1,), (0, 1)), "b": _entry("U8", (1,), (1, 2))}
    with pytest.raises(MalformedHeaderError, match="more than 1"):
        open_store(memory_store({"model.safetensors": _file(header, b"xy")}), REF)


def test_a_name_cannot_steer_the_terminal(memory_store):
    header = {"\x1b[2J\n../../etc/passwd" + "x" * 5000: _entry("F12")}
    with pytest.raises(MalformedHeaderError) as caught:
        open_store(memory_store({"model.safetensors": _file(header, bytes(8))}), REF)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1500


def test_names_are_opaque(memory_store, pack_arrays):
    arrays = {name: np.ones(1, np.float32) for name in ("../../etc/x", "", "a\0b", "ü", "/root")}
    source = open_store(memory_store({"model.safetensors": pack_arrays(arrays)}), REF)
    assert set(source.tensors) == set(arrays)
    assert source.read(source.tensors["../../etc/x"]).tolist() == [1.0]
    assert len(source.header_digest()) == 64


def test_the_reference_writer_is_read(memory_store):
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array(7, np.int64),
        "e": np.zeros((0, 3), "f2"),
    }
    source = open_store(memory_store({"model.safetensors": save(arrays, {"format": "pt"})}), REF)
    for name, array in arrays.items():
        assert np.array_equal(source.read(source.tensors[name]), array)
        assert source.tensors[name].shape == array.shape


def test_tensors_come_in_file_order(memory_store, pack_arrays):
    arrays = {name: np.ones(2, np.float32) for name in ("z", "a", "m")}
    source = open_store(memory_store({"model.safetensors": pack_arrays(arrays)}), REF)
    assert list(source.tensors) == ["z", "a", "m"]


def test_opening_reads_the_header_only(memory_store, pack_arrays):
    data = pack_arrays({"a": np.ones(10_000, np.float32)})
    store = memory_store({"model.safetensors": data})
    source = open_store(store, REF)
    length = struct.unpack("<Q", data[:8])[0]
    assert max(span.stop for _, span in store.log) <= 8 + max(length, 56)
    assert source.bytes_read == sum(len(span) for _, span in store.log) < 300


_VALID = _file({"__metadata__": {"k": "v"}, "a": _entry(), "b": _entry("BF16", (2, 2), (8, 16))}, bytes(16))


def _tiles(data):
    table = FORMATS["safetensors"].table(_Bytes(data), "f")
    at = 8 + struct.unpack("<Q", data[:8])[0]
    for tensor in table.tensors:
        assert tensor.span.start == at
        assert len(tensor.span) == tensor.dtype.n_bytes(tensor.n_elements)
        at = tensor.span.stop
    assert at == len(data)


class _Bytes:
    name = "fuzz"

    def __init__(self, data):
        self._data = data

    def files(self):
        return {"f": len(self._data)}

    def read(self, file, span):
        return self._data[span.start : span.stop]


def _checked(data):
    try:
        _tiles(data)
    except CrawlError as error:
        text = str(error)
    else:
        text = "accepted"
        deserialize(data)  # the reference reader, which is never stricter
    assert text.isprintable()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(_VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_parse_to_tiles_or_are_refused(changes):
    data = bytearray(_VALID)
    for at, value in changes:
        data[at] = value
    _checked(bytes(data))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(_VALID)), st.integers(0, len(_VALID)), st.binary(max_size=8))
@example(0, 0, b"")
def test_cut_and_spliced_files_parse_to_tiles_or_are_refused(start, stop, middle):
    _checked(_VALID[:start] + middle + _VALID[stop:])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_LOOSE = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F4", "U8", "X", 3]),
        "shape": st.lists(st.integers(-1, 4), max_size=3) | _JSON,
        "data_offsets": st.lists(st.integers(-1, 20), max_size=3) | _JSON,
    }
)


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), _LOOSE | _JSON, max_size=4), st.binary(max_size=20)
)
def test_any_json_parses_to_tiles_or_is_refused(header, data):
    _checked(_file(header, data))


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"PK\x03\x04zip of torch", "PyTorch"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"hello, this is nothing of the kind", "not a weight file"),
    ],
)
def test_other_formats_are_refused_by_name(head, name, memory_store):
    for file in ("pytorch_model.bin", "model.gguf"):
        with pytest.raises(crawl.UnsupportedFormatError, match=name):
            open_store(memory_store({file: head + bytes(64)}), REF)


def test_content_decides_not_the_ending(memory_store, pack_arrays):
    data = pack_arrays({"a": np.ones(3, np.float32)})
    source = open_store(memory_store({"pytorch_model.bin": data}), REF)
    assert source.read(source.tensors["a"]).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(crawl.UnsupportedFormatError, match="GGUF"):
        open_store(memory_store({"model.safetensors": b"GGUF" + bytes(100)}), REF)


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_begins_like_a_pickle_is_still_a_header(memory_store, length):
    """These lengths are 80 02, 80 03, 80 04 and 80 05 in the file."""
    text = json.dumps({"a": _entry()}).encode()
    with open_store(
        memory_store({"model.safetensors": _file(text + b" " * (length - len(text)), bytes(8))}), REF
    ) as source:
        assert list(source.tensors) == ["a"]
