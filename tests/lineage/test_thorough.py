"""The pass over everything shared: what is paired, the same bits however the bytes lie, and what is left out."""

import hashlib
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import derive
from crawl import ModelRef, open_model, open_store
from crawl.errors import TruncatedError
from giant import Giant
from lineage.comparing import CompareOptions, compare
from lineage.digests import file_digests
from lineage.pairing import pair_up
from lineage.pairs import compare_pairs
from lineage.report import compare_text
from lineage.thorough import thorough, thorough_entry
from nulls import ROOT

ZOO = ROOT / "fixtures" / "zoo"
TRUTH = {m["id"]: m for m in json.loads((ZOO / "truth.json").read_text())["models"]}


def passed(a, b, **options):
    with open_model(str(a)) as left, open_model(str(b)) as right:
        return thorough(left, right, **options)


@pytest.fixture(scope="module")
def lora():
    return passed(ZOO / "llama-a", ZOO / "llama-a-lora")


def test_the_rank_of_a_merged_adapter(lora):
    """Targets show the adapter's rank, everything else is unchanged."""
    told = TRUTH["llama-a-lora"]["lora"]
    targets = {f"attn.{name[0]}" for name in told["targets"]}
    for tensor in lora.tensors:
        changed = tensor.kind in targets
        assert (tensor.values.sums.unchanged_share < 0.1) is changed
        if tensor.rank is not None:
            assert tensor.rank.rank == (told["rank"] if changed else 0), tensor.name
    assert {t.kind for t in lora.tensors} > targets


def test_the_change_is_that_of_the_record(lora):
    assert lora.pooled.sums.relative_change == pytest.approx(TRUTH["llama-a-lora"]["relative_change"], abs=1e-4)
    with open_model(str(ZOO / "llama-a")) as source:
        assert lora.pooled.sums.n == source.n_parameters
    assert lora.left_out == ()


def test_equals_numpy_tensor_by_tensor():
    a, b = (derive.load(ZOO / n) for n in ("llama-a", "llama-a-ft2"))
    found = {t.name: t.values for t in passed(ZOO / "llama-a", ZOO / "llama-a-ft2").tensors}
    for role, name in (("L0002.mlp.down", "model.layers.2.mlp.down_proj.weight"), ("norm.final", "model.norm.weight")):
        x, y = (m[name].astype(np.float64).ravel() for m in (a, b))
        sums = found[role].sums
        np.testing.assert_allclose((sums.aa, sums.bb, sums.ab), (x @ x, y @ y, x @ y), rtol=1e-12)
        assert sums.dd == pytest.approx(float(np.sum((x - y) ** 2)), rel=1e-12)
        assert found[role].a.kurtosis == pytest.approx(float(np.mean((x - x.mean()) ** 4) / x.var() ** 2), rel=1e-10)


@pytest.mark.parametrize("partner", ["llama-a-ft1", "llama-a-ft2"])
def test_same_bits_for_any_shards_order_blocks_and_threads(tmp_path, partner):
    one = passed(ZOO / "llama-a", ZOO / partner)
    weights = derive.load(ZOO / "llama-a")
    for shards, seed, block, threads in ((1, 0, 4096, 1), (3, 1, 8192, 2), (7, 2, 1 << 20, 4)):
        order = [str(n) for n in np.random.default_rng(seed).permutation(sorted(weights))]
        derive.save(weights, tmp_path / str(shards), shards=shards, order=order)
        assert passed(tmp_path / str(shards), ZOO / partner, block=block, threads=threads) == one


def test_swapping_the_models_swaps_the_sides():
    one, two = passed(ZOO / "gpt2-a", ZOO / "gpt2-a-ft"), passed(ZOO / "gpt2-a-ft", ZOO / "gpt2-a")
    for left, right in zip(one.tensors, two.tensors, strict=True):
        assert left.name == right.name
        if left.rank is not None:
            assert (left.rank.rank, left.rank.shape) == (right.rank.rank, right.rank.shape)
            assert left.rank.bulk_edge == pytest.approx(right.rank.bulk_edge, rel=1e-12)
        assert (left.values.a, left.values.b) == (right.values.b, right.values.a)
        assert left.values.sums.dd == right.values.sums.dd
        assert left.values.difference.mean == -right.values.difference.mean


def test_identical_models_are_unchanged_everywhere():
    found = passed(ZOO / "gpt2-a", ZOO / "gpt2-a")
    assert all(t.values.sums.dd == 0.0 and t.values.sums.unchanged_share == 1.0 for t in found.tensors)
    assert all(t.rank is None or t.rank.rank == 0 for t in found.tensors)
    assert len(found.tensors) > 20


def test_fused_and_transposed_matrices_meet_their_plain_twins(tmp_path):
    """GPT-2 stores its matrices turned and query, key and value as one; the same model stored otherwise is the same."""
    weights = derive.load(ZOO / "llama-a")
    fused = dict(weights)
    for i in range(4):
        root = f"model.layers.{i}."
        parts = [fused.pop(f"{root}self_attn.{n}_proj.weight") for n in "qkv"]
        fused[f"{root}self_attn.qkv_proj.weight"] = np.concatenate(parts)
        parts = [fused.pop(f"{root}mlp.{n}_proj.weight") for n in ("gate", "up")]
        fused[f"{root}mlp.gate_up_proj.weight"] = np.concatenate(parts)
    derive.save(fused, tmp_path / "fused", config={"num_attention_heads": 4, "num_key_value_heads": 2})
    found = passed(tmp_path / "fused", ZOO / "llama-a-ft1")
    plain = passed(ZOO / "llama-a", ZOO / "llama-a-ft1")
    assert found == plain


def test_turned_matrices_are_read_as_they_lie_or_by_outputs(tmp_path):
    """Both turned: as stored. One turned only: by outputs. The sums agree to rounding."""
    with open_model(str(ZOO / "gpt2-a")) as a, open_model(str(ZOO / "gpt2-a-ft")) as b:
        shared = {s.name: s for s in pair_up(a, b)[0]}
        for name in ("L0000.attn.q", "L0001.mlp.up", "L0001.mlp.down"):
            item = shared[name]
            assert item.by_inputs
            n, room = item.n, memoryview(bytearray(8 * item.n))
            turned = np.array(item.a.bits(0, n, room, by_inputs=True)).view("<u2").reshape(item.a.shape[::-1])
            straight = np.array(item.a.bits(0, n, room, by_inputs=False)).view("<u2").reshape(item.a.shape)
            np.testing.assert_array_equal(turned.T, straight)
            part = np.array(item.a.bits(100, 333, room, by_inputs=False)).view("<u2")
            np.testing.assert_array_equal(part, straight.reshape(-1)[100:333])


def test_prefixes_never_matter(tmp_path):
    weights = derive.load(ZOO / "llama-a")
    derive.save({f"language_model.{k}": v for k, v in weights.items()}, tmp_path / "wrapped")
    assert passed(tmp_path / "wrapped", ZOO / "llama-b") == passed(ZOO / "llama-a", ZOO / "llama-b")


def test_other_depth_compares_the_same_indices_and_says_so(tmp_path):
    weights = derive.load(ZOO / "llama-a")
    derive.save(derive.repeat_layers(weights, [0, 1, 2, 3, 3, 3]), tmp_path / "deep")
    found = passed(ZOO / "llama-a", tmp_path / "deep")
    assert [(s.tensor, s.reason) for s in found.left_out] == [("layers 4 to 5 of b", "a has 4 layers")]
    assert all(t.values.sums.unchanged_share == 1.0 for t in found.tensors)


def test_other_shapes_are_left_out_with_the_reason(tmp_path):
    weights = derive.load(ZOO / "llama-a")
    derive.save(derive.extend_vocab(weights, 16, np.random.default_rng(0)), tmp_path / "grown")
    found = passed(ZOO / "llama-a", tmp_path / "grown")
    assert {s.tensor for s in found.left_out} == {"embed", "unembed"}
    assert all(s.reason == "shape [256, 64] in a, [272, 64] in b" for s in found.left_out)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_left_out(tmp_path, bad):
    made = {"x.weight": np.ones((4, 9), np.float32), "y.weight": np.ones((4, 9), np.float32)}
    made["x.weight"][2, 3] = bad
    (tmp_path / "a").mkdir()
    save_file(made, tmp_path / "a" / "model.safetensors")
    found = passed(tmp_path / "a", tmp_path / "a")
    assert [t.name for t in found.tensors] == ["y.weight"]
    assert found.left_out[0].tensor == "x.weight"
    assert "NaN or infinite" in found.left_out[0].reason


def test_unknown_architectures_pair_by_name(tmp_path):
    rng = np.random.default_rng(0)
    made = {
        "mix.weight": rng.normal(size=(30, 20)),
        "scale": np.array(0.5),
        "ids": np.arange(4),
        "cube": rng.normal(size=(3, 4, 5)),
    }
    for name, more in (("a", {}), ("b", {"only.weight": np.ones(3)})):
        (tmp_path / name).mkdir()
        save_file({**made, **more}, tmp_path / name / "model.safetensors")
    found = passed(tmp_path / "a", tmp_path / "b")
    assert [(t.name, t.kind) for t in found.tensors] == [(n, "by-name") for n in ("cube", "mix.weight", "scale")]
    reasons = {s.tensor: s.reason for s in found.left_out}
    assert reasons == {"ids": "I64 in a is not a floating-point format", "only.weight": "only b has it"}


def test_eight_bit_formats_go_through_decoded_values(tmp_path):
    codes = np.random.default_rng(0).integers(0, 0x70, size=(40, 30), dtype=np.uint8)
    floats = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    for name, dtype, values in (("a", "F8_E4M3", codes), ("b", "F32", floats)):
        (tmp_path / name).mkdir()
        head = json.dumps({"w": {"dtype": dtype, "shape": [40, 30], "data_offsets": [0, values.nbytes]}}).encode()
        made = len(head).to_bytes(8, "little") + head + values.tobytes()
        (tmp_path / name / "model.safetensors").write_bytes(made)
    found = passed(tmp_path / "a", tmp_path / "b").tensors[0].values
    assert found.sums.unchanged_share == 1.0
    assert found.sums.aa == pytest.approx(float(np.sum(floats.astype(float) ** 2)), rel=1e-12)


def test_every_shared_byte_is_read_once_and_counted():
    with open_model(str(ZOO / "llama-a")) as a, open_model(str(ZOO / "llama-b")) as b:
        assert a.architecture == b.architecture
        before = a.bytes_read
        thorough(a, b)
        size = sum(len(t.span) for t in a.tensors.values())
        slices = sum(min(96, s.a.shape[0]) * s.a.shape[1] * 2 for s in pair_up(a, b)[0] if len(s.a.shape) == 2)
        vectors = sum(2 * s.n for s in pair_up(a, b)[0] if len(s.a.shape) == 1)
        assert a.bytes_read - before == size + slices + vectors


def test_a_file_that_became_shorter_is_an_error_not_a_crash(tmp_path):
    derive.save(derive.load(ZOO / "micro-00"), tmp_path / "a")
    file = tmp_path / "a" / "model.safetensors"
    with open_model(str(tmp_path / "a")) as a, open_model(str(ZOO / "micro-01")) as b:
        file.write_bytes(file.read_bytes()[:-1000])
        with pytest.raises(TruncatedError, match="the file ends at byte"):
            thorough(a, b)


def test_digests_are_those_of_the_files(tmp_path):
    derive.save(derive.load(ZOO / "micro-00"), tmp_path / "a", shards=3)
    with open_model(str(tmp_path / "a")) as source:
        found = file_digests(source)
    files = sorted((tmp_path / "a").glob("*.safetensors"))
    assert [f["file"] for f in found] == [f.name for f in files]
    assert [f["sha256"] for f in found] == [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]


def test_a_generated_model_of_two_layers_of_70b_is_read_in_blocks():
    """No whole matrix is ever asked for: the store itself fails when one is."""
    giant = Giant(1)
    with open_store(giant, ModelRef("dir", "giant")) as a:
        item = next(s for s in pair_up(a, a)[0] if s.name == "L0000.mlp.up")
        giant.bytes_read = 0
        room = memoryview(bytearray(8 << 18))
        assert item.a.bits(0, 1 << 16, room, by_inputs=False).size == 1 << 17
        assert giant.bytes_read == 1 << 17


def test_the_document_holds_the_pass_and_the_digests():
    plain = compare(str(ZOO / "llama-a"), str(ZOO / "llama-a-lora"))
    full = compare(str(ZOO / "llama-a"), str(ZOO / "llama-a-lora"), CompareOptions(thorough=True))
    assert plain["thorough"] is None
    assert "files" not in plain["record"]["inputs"][0]
    assert {k: full[k] for k in ("verdict", "log10_p", "tests", "relation")} == {
        k: plain[k] for k in ("verdict", "log10_p", "tests", "relation")
    }
    assert [len(i["files"]) for i in full["record"]["inputs"]] == [1, 1]
    kinds = {e["kind"]: e for e in full["thorough"]["by_kind"]}
    assert kinds["attn.q"]["delta_rank"]["median"] == kinds["attn.v"]["delta_rank"]["largest"] == 4
    assert kinds["mlp.up"]["unchanged_share"] == 1.0
    assert full["record"]["run"]["bytes_read"] > 4 * 205_376
    text = compare_text(full)
    assert "Everything both models share" in text
    assert "attn.q (4)" in text
    assert "Everything both models share" not in compare_text(plain)


def test_pairs_open_their_models_again():
    pair = (str(ZOO / "micro-00"), str(ZOO / "micro-01"))
    documents = list(compare_pairs([pair], CompareOptions(thorough=True)))
    with open_model(pair[0]) as a, open_model(pair[1]) as b:
        assert documents[0]["thorough"] == thorough_entry(thorough(a, b))
    assert documents[0]["record"]["inputs"][1]["files"]
