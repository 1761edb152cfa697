import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
from crawl import ModelRef, open_store
from lineage.errors import UsageError
from lineage.evidence import gather
from lineage.plan import PUBLIC_KEY, RowKey, load_row_key, pick_columns, pick_layers, pick_run, pick_tokens
from lineage.reading import sign
from nulls import ROOT, Memory, signature_of

ZOO = ROOT / "fixtures" / "zoo"


@given(st.integers(1, 200))
def test_layers_are_distinct_inside_and_spread(n):
    layers = pick_layers(n)
    assert len(set(layers)) == len(layers) == min(n, 4)
    assert all(0 <= i < n for i in layers)
    assert n < 8 or max(layers) - min(layers) >= n // 2


@given(st.integers(1, 300_000), st.integers(1, 64))
def test_runs_are_neighbours_inside(n, count):
    run = pick_run("units", n, count, PUBLIC_KEY)
    assert run.size == min(n, count)
    assert run[0] >= 0
    assert run[-1] < n
    assert (np.diff(run) == 1).all()


@given(st.integers(1, 300_000))
def test_token_rows_are_distinct_and_inside(n):
    rows = pick_tokens("embed", n, PUBLIC_KEY)
    assert np.unique(rows).size == rows.size <= 64
    assert rows.max() < n
    assert rows.size >= min(64, n // 2)


@pytest.mark.parametrize(("n", "more"), [(256, 260), (32000, 32001), (32000, 32016), (128256, 128264), (50257, 50304)])
def test_a_grown_vocabulary_is_read_at_the_same_tokens(n, more):
    assert np.array_equal(pick_tokens("embed", n, PUBLIC_KEY), pick_tokens("embed", more, PUBLIC_KEY))


def test_small_and_large_vocabularies_share_rows():
    common = np.intersect1d(pick_tokens("embed", 1000, PUBLIC_KEY), pick_tokens("embed", 50_000, PUBLIC_KEY))
    assert common.size == 32


def test_keys_move_the_rows_and_never_show(tmp_path):
    (tmp_path / "k").write_bytes(b"0123456789abcdef")
    key = load_row_key(tmp_path / "k")
    assert not np.array_equal(pick_run("units", 11008, 16, key), pick_run("units", 11008, 16, PUBLIC_KEY))
    assert "0123456789abcdef" not in repr(key)
    assert key.name != "public"
    with pytest.raises(UsageError, match="cannot be read"):
        load_row_key(tmp_path / "none")


def test_columns_are_all_or_a_window():
    assert pick_columns(4096, 4096, PUBLIC_KEY) == slice(0, 4096)
    window = pick_columns(8192, 4096, PUBLIC_KEY)
    assert window.stop - window.start == 4096
    assert window.stop <= 8192


def test_signatures_of_different_keys_are_refused():
    weights = derive.load(ZOO / "micro-00")
    a = signature_of(weights, "a")
    with open_store(Memory("b", {"model.safetensors": derive.to_bytes(weights)}), ModelRef("dir", "b")) as source:
        b = sign(source, key=RowKey("other", b"x" * 16))
    with pytest.raises(ValueError, match="row keys"):
        gather(a, b)


@pytest.mark.parametrize("limit", [1, 6_000, 12_000, 30_000])
def test_a_byte_limit_is_kept_and_told(limit):
    weights = derive.load(ZOO / "llama-a")
    store = Memory("a", {"model.safetensors": derive.to_bytes(weights)})
    with open_store(store, ModelRef("dir", "a")) as source:
        header = source.bytes_read
        found = sign(source, max_bytes=limit)
    assert found.bytes_read <= max(limit, header)
    assert any("beyond the limit" in s.reason for s in found.skipped)


def test_equal_limits_keep_pairs_testable():
    weights = derive.load(ZOO / "llama-a")
    signed = []
    for name in ("a", "b"):
        with open_store(Memory(name, {"model.safetensors": derive.to_bytes(weights)}), ModelRef("dir", name)) as source:
            signed.append(sign(source, max_bytes=12_000))
    assert gather(*signed).is_testable


def test_the_census_reads_nothing_twice():
    """Every byte is fetched once: the census of gate and up reuses rows that adjoin, and the count stays small."""
    found = signature_of(derive.load(ZOO / "llama-a"), "a")
    assert found.bytes_read < 65_000
    assert found.census.keys() >= {"L0000.attn.q", "L0003.mlp.down"}
    assert found.vectors.keys() >= {(None, "norm.final"), (0, "norm.mlp_in")}


def test_gpt2_units_come_from_the_contiguous_side():
    found = signature_of(derive.load(ZOO / "gpt2-a"), "g")
    assert set(found.blocks[0].parts) == {"mlp.down"}
    weights = derive.load(ZOO / "gpt2-a")
    name = next(k for k in weights if k.endswith("h.0.mlp.c_proj.weight"))
    units = pick_run("units", weights[name].shape[0], 16, PUBLIC_KEY)
    np.testing.assert_array_equal(found.blocks[0].parts["mlp.down"], weights[name][units].astype(np.float64).T)
