"""A slice of what is read equals what is read of a slice, and every byte is counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl import (
    ByteRange,
    CountingStore,
    ModelNotFoundError,
    ModelRef,
    Pick,
    Role,
    TruncatedError,
    UnsupportedDtypeError,
    View,
    gather,
    open_store,
)
from crawl.ranges import coalesce, read_many, runs
from crawl.stores import HeadCache

REF = ModelRef("dir", "memory")
ROWS, COLUMNS = 12, 10
_BITS = {"F32": 32, "BF16": 16, "F8_E4M3": 8, "F64": 64, "F4": 4, "F6_E2M3": 6, "I8": 8}
_INDEX = st.lists(st.integers(0, ROWS - 1), max_size=20)
_SLICE = st.tuples(st.integers(0, COLUMNS), st.integers(0, COLUMNS)).map(lambda pair: slice(*pair))


def _source(memory_store, pack, dtype, shape=(ROWS, COLUMNS)):
    n = int(np.prod(shape)) * _BITS[dtype] // 8
    data = np.random.default_rng(1).integers(0, 64, n, dtype=np.uint8).tobytes()
    file = pack({"first": ("U8", (3,), b"abc"), "t": (dtype, shape, data)})
    store = memory_store({"model.safetensors": file})
    source = open_store(store, REF)
    return source, source.tensors["t"], store


@settings(deadline=None, max_examples=150)
@given(dtype=st.sampled_from(sorted(_BITS)), index=_INDEX, columns=st.none() | _SLICE)
def test_rows_are_rows_of_the_whole(memory_store, pack, dtype, index, columns):
    source, tensor, _ = _source(memory_store, pack, dtype)
    whole = source.read(tensor)
    got = source.rows(tensor, index, columns=columns)
    assert np.array_equal(got, whole[index][:, columns or slice(None)], equal_nan=True)
    assert got.dtype == whole.dtype
    assert got.flags.c_contiguous
    assert not got.flags.writeable


@settings(deadline=None, max_examples=60)
@given(dtype=st.sampled_from(["F32", "BF16", "F8_E4M3", "F64", "I8"]), index=_INDEX, columns=st.none() | _SLICE)
def test_stored_rows_are_rows_of_the_bits(memory_store, pack, dtype, index, columns):
    source, tensor, _ = _source(memory_store, pack, dtype)
    got = source.rows(tensor, index, columns=columns, stored=True)
    whole = source.read_raw(tensor)
    assert got.dtype == whole.dtype
    assert got.tobytes() == np.ascontiguousarray(whole[index][:, columns or slice(None)]).tobytes()


@settings(deadline=None, max_examples=100)
@given(index=_INDEX, columns=st.none() | _SLICE)
def test_bytes_are_counted_exactly(memory_store, pack, index, columns):
    source, tensor, store = _source(memory_store, pack, "F32")
    before, reads = source.bytes_read, len(store.log)
    source.rows(tensor, index, columns=columns)
    width = len(range(COLUMNS)[columns or slice(None)])
    assert source.bytes_read - before == len(set(index)) * width * 4
    assert source.requests == len(store.log)
    if width == COLUMNS:
        assert len(store.log) - reads == len(runs(sorted(set(index))))


def test_packed_rows_as_bits(memory_store, pack):
    source, tensor, _ = _source(memory_store, pack, "F4")
    got = source.rows(tensor, [2, 0], stored=True)
    assert np.array_equal(got, source.read_raw(tensor).reshape(ROWS, COLUMNS // 2)[[2, 0]])
    with pytest.raises(UnsupportedDtypeError, match="whole rows"):
        source.rows(tensor, [2], columns=slice(0, 3), stored=True)


def test_blocks_cover_the_tensor(memory_store, pack):
    source, tensor, _ = _source(memory_store, pack, "BF16")
    parts = list(source.blocks(tensor, 5))
    assert [len(p) for p in parts] == [5, 5, 2]
    assert np.array_equal(np.concatenate(parts), source.read(tensor))
    with pytest.raises(ValueError, match="at least 1"):
        next(source.blocks(tensor, 0))


def test_other_shapes(memory_store, pack):
    source, tensor, _ = _source(memory_store, pack, "F32", (4, 3, 2))
    assert np.array_equal(source.rows(tensor, [3, 1]), source.read(tensor)[[3, 1]])
    source, tensor, _ = _source(memory_store, pack, "F32", (7,))
    assert np.array_equal(source.rows(tensor, [3, 1]), source.read(tensor)[[3, 1]])
    source, tensor, _ = _source(memory_store, pack, "F32", ())
    assert next(source.blocks(tensor, 3)).shape == (1,)
    with pytest.raises(ValueError, match="shape"):
        source.rows(tensor, [0])


@pytest.mark.parametrize("index", [[-1], [ROWS], [0.5], [[0]], [True], np.array([2**40])])
def test_a_wrong_index_is_refused(memory_store, pack, index):
    source, tensor, _ = _source(memory_store, pack, "F32")
    with pytest.raises(ValueError, match="index"):
        source.rows(tensor, index)


def test_a_step_is_refused(memory_store, pack):
    source, tensor, _ = _source(memory_store, pack, "F32")
    with pytest.raises(ValueError, match="step"):
        source.rows(tensor, [0], columns=slice(0, 4, 2))


def test_complex_tensors_name_themselves(memory_store, pack):
    source = open_store(memory_store({"model.safetensors": pack({"z": ("C64", (1,), bytes(8))})}), REF)
    with pytest.raises(UnsupportedDtypeError, match="tensor 'z'"):
        source.read(source.tensors["z"])
    assert source.read_raw(source.tensors["z"]).shape == (1,)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), label=st.sampled_from(["llama", "gpt2", "phi3", "pythia", "stacked", "vit"]))
def test_view_slices_are_slices_of_the_view(data, label, shapes, weights, open_arrays):
    source = open_arrays(weights(shapes[label]), num_attention_heads=2)
    views = [v for _, v in sorted(source.views.items(), key=lambda kv: str(kv[0])) if len(v.shape) == 2]
    view = data.draw(st.sampled_from(views))
    n_out, n_in = view.shape
    whole = source.view_rows(view, np.arange(n_out))
    rows = data.draw(st.lists(st.integers(0, n_out - 1), max_size=6))
    columns = data.draw(st.lists(st.integers(0, n_in - 1), max_size=6))
    part = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda p: slice(*p)))
    assert np.array_equal(source.view_rows(view, rows), whole[rows])
    assert np.array_equal(source.view_rows(view, rows, columns=part), whole[rows][:, part])
    assert np.array_equal(source.view_columns(view, columns), whole[:, columns])
    assert np.array_equal(source.view_columns(view, columns, rows=part), whole[part][:, columns])
    assert np.array_equal(source.view_rows(view, rows, stored=True), whole[rows])


def test_columns_of_a_turned_array_are_contiguous_reads(shapes, weights, open_arrays):
    source = open_arrays(weights(shapes["gpt2"]))
    down = next(v for r, v in source.views.items() if str(r) == "L0000.mlp.down")
    before = source.bytes_read, source.requests
    source.view_columns(down, [5])
    assert (source.bytes_read - before[0], source.requests - before[1]) == (8 * 4, 1)


def test_columns_cost_what_they_hold_until_they_are_too_many(memory_store, pack, monkeypatch):
    source, tensor, _ = _source(memory_store, pack, "F32")
    view = View(Role("mlp.up", 0), tensor, (ROWS, COLUMNS), False, Pick(0, ROWS, 0))
    whole, before = source.read(tensor), source.bytes_read
    assert np.array_equal(source.view_columns(view, [1, 7], rows=slice(2, 9)), whole[2:9, [1, 7]])
    assert source.bytes_read - before == 7 * 2 * 4
    monkeypatch.setattr(gather, "MOST_PIECES", 5)
    before = source.bytes_read, source.requests
    assert np.array_equal(source.view_columns(view, [7, 1]), whole[:, [7, 1]], equal_nan=True)
    assert source.requests - before[1] == 1
    assert source.bytes_read - before[0] == ((ROWS - 1) * COLUMNS + 7) * 4


def test_vectors_and_matrices_are_not_confused(shapes, weights, open_arrays):
    source = open_arrays(weights(shapes["llama"]))
    norm, up = (next(v for r, v in source.views.items() if r.kind == k) for k in ("norm.final", "mlp.up"))
    for call in (source.view_rows, source.view_columns):
        with pytest.raises(ValueError, match="vector"):
            call(norm, [0])
    with pytest.raises(ValueError, match="shape"):
        source.view_vector(up)


def test_facts_of_a_source(memory_store, pack):
    file = pack({"a": ("BF16", (3,), bytes(6)), "b": ("F32", (1,), bytes(4))})
    one = open_store(memory_store({"model.safetensors": file}), REF)
    assert (one.n_parameters, one.dtype, one.content_hashes(), one.ref) == (4, "BF16", {}, REF)
    other = pack({"b": ("F32", (1,), bytes(4)), "a": ("BF16", (3,), b"\1" * 6)}, metadata={"x": "y"})
    assert open_store(memory_store({"model.safetensors": other}), REF).header_digest() == one.header_digest()
    changed = pack({"a": ("F16", (3,), bytes(6)), "b": ("F32", (1,), bytes(4))})
    assert open_store(memory_store({"model.safetensors": changed}), REF).header_digest() != one.header_digest()


_RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda p: ByteRange(p[0], p[0] + p[1])))


@given(_RANGES, st.integers(0, 8), st.integers(1, 40))
def test_coalesced_ranges_cover_what_was_asked(ranges, gap, block):
    merged = coalesce(ranges, max_gap=gap, max_block=block)
    asked = {b for r in ranges for b in range(r.start, r.stop)}
    covered = [b for r in merged for b in range(r.start, r.stop)]
    assert len(covered) == len(set(covered))
    assert asked <= set(covered)
    assert merged == sorted(merged)
    if gap == 0:
        assert asked == set(covered)


@given(_RANGES, st.integers(0, 8))
def test_many_ranges_give_their_own_bytes(memory_store, ranges, gap):
    data = bytes(range(70))
    store = memory_store({"f": data})
    pieces = read_many(store, "f", ranges, max_gap=gap, max_block=40)
    assert [bytes(p) for p in pieces] == [data[r.start : r.stop] for r in ranges]


def test_coalescing_obeys_its_limits():
    parts = [ByteRange(0, 4), ByteRange(6, 10), ByteRange(20, 24)]
    assert coalesce(parts, max_gap=0, max_block=100) == parts
    assert coalesce(parts, max_gap=2, max_block=100) == [ByteRange(0, 10), ByteRange(20, 24)]
    assert coalesce(parts, max_gap=2, max_block=9) == parts
    assert coalesce([ByteRange(0, 50)], max_gap=0, max_block=9) == [ByteRange(0, 50)]


def test_counting_store_refuses_short_answers_and_wrong_places(memory_store):
    store = CountingStore(memory_store({"f": b"abcdef"}))
    assert store.read("f", ByteRange(1, 3)) == b"bc"
    assert store.read("f", ByteRange(6, 6)) == b""
    assert (store.bytes_read, store.requests) == (2, 1)
    with pytest.raises(TruncatedError, match="6 bytes"):
        store.read("f", ByteRange(4, 7))
    with pytest.raises(ModelNotFoundError):
        store.read("g", ByteRange(0, 1))

    class Short(memory_store):
        def read(self, file, span):
            return super().read(file, span)[:-1]

    with pytest.raises(TruncatedError, match="1 bytes came where 2"):
        CountingStore(Short({"f": b"abcdef"})).read("f", ByteRange(0, 2))


def test_first_blocks_are_kept_once_and_not_without_end(memory_store):
    store = memory_store({str(i): bytes([i]) * 50 for i in range(100)})
    cache = HeadCache(CountingStore(store), 20)
    for i in range(100):
        assert cache.read(str(i), ByteRange(0, 8)) == bytes([i]) * 8
        assert cache.read(str(i), ByteRange(8, 25)) == bytes([i]) * 17
    assert [len(span) for _, span in store.log] == [20, 5] * 100
    cache.read("99", ByteRange(0, 20))
    assert len(store.log) == 200
    cache.read("0", ByteRange(0, 20))
    assert len(store.log) == 201
