"""Vocabularies beside weights: every layout that is known, and files from strangers that are not what they say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl import vocabulary
from crawl.vocabulary import read_vocabulary


def read(text, name="tokenizer.json", prefix="", memory=None):
    from nulls import Memory

    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return read_vocabulary(Memory("m", {f"{prefix}{name}": data}), prefix)


def test_pairs_pieces_and_added_tokens():
    found = read({"model": {"vocab": {"a": 0, "b": 2}}, "added_tokens": [{"id": 3, "content": "<s>"}]})
    assert dict(found.ids) == {"a": 0, "b": 2, "<s>": 3}
    assert (found.file, found.problem) == ("tokenizer.json", "")


def test_unigrams_are_rows_in_their_order():
    assert dict(read({"model": {"vocab": [["<unk>", 0.0], ["\u2581x", -3.5]]}}).ids) == {"<unk>": 0, "\u2581x": 1}


def test_a_plain_table_and_a_folder():
    assert dict(read({"a": 1, "b": 0}, "vocab.json").ids) == {"a": 1, "b": 0}
    assert dict(read({"a": 1}, "vocab.json", prefix="unet/").ids) == {"a": 1}


def test_nothing_beside_the_weights_is_nothing():
    from nulls import Memory

    found = read_vocabulary(Memory("m", {"model.safetensors": b""}))
    assert (dict(found.ids), found.file, found.problem) == ({}, "", "")


MALFORMED = {
    "not JSON": b"\x80\x04pickle",
    "cut off": b'{"model": {"vocab": {"a": 0',
    "not UTF-8": b'{"model": "\xff"}',
    "a key twice": b'{"model": {"vocab": {"a": 0, "a": 1}}}',
    "nested without end": b'{"model":' * 100_000,
    "no vocabulary": {"model": {}},
    "a model that is a list": {"model": [1]},
    "a row that is text": {"model": {"vocab": {"a": "0"}}},
    "a row that is true": {"model": {"vocab": {"a": True}}},
    "a negative row": {"model": {"vocab": {"a": -1}}},
    "a fraction": {"model": {"vocab": {"a": 0.5}}},
    "a piece without text": {"model": {"vocab": [[1, 2]]}},
    "pieces that are numbers": {"model": {"vocab": [1, 2]}},
    "an added token without a row": {"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "x"}]},
    "an added token that is text": {"model": {"vocab": {"a": 0}}, "added_tokens": ["x"]},
    "empty": b"",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_one_is_one_sentence(case):
    found = read(MALFORMED[case])
    assert not found.ids
    assert found.problem
    assert "\n" not in found.problem
    assert len(found.problem) < 300


def test_a_large_one_is_not_read(monkeypatch):
    monkeypatch.setattr(vocabulary, "LARGEST", 10)
    found = read({"model": {"vocab": {"a": 0}}})
    assert not found.ids
    assert "more than 10" in found.problem


@given(st.binary(max_size=60))
def test_no_bytes_crash(data):
    found = read(data)
    assert bool(found.problem) != bool(found.ids)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["vocab", "id", "content", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model", "added_tokens", "x"]), JSON))
def test_no_json_crashes(table):
    found = read(table)
    assert bool(found.problem) != bool(found.ids)
