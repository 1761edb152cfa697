"""Architectures nobody has named, and tables every model of a kind shares: no label test, never `related`."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lineage.align import residual_axis
from lineage.comparing import CompareOptions, compare_signed
from lineage.positions import is_fixed_table, is_ramped_table
from lineage.signature import Table
from nulls import signature_of
from stats.axes import Axis


def sinusoids(n, d):
    """The fixed table of arXiv 1706.03762, Section 3.5."""
    angle = np.arange(n)[:, None] / 10000 ** (np.arange(0, d, 2)[None, :] / d)
    table = np.zeros((n, d), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle)
    return table


def sinusoids_2d(side, d):
    """The grid table of masked autoencoders (arXiv 2111.06377): half the width for rows, half for columns, a zero row first."""
    half = sinusoids(side, d // 2)
    grid = np.concatenate([np.repeat(half, side, axis=0), np.tile(half, (side, 1))], axis=1)
    return np.concatenate([np.zeros((1, d), np.float32), grid])


def rwkv(seed, d=64, layers=3):
    """RWKV-like: decay and mixing vectors are ramps over the channel index in every model."""
    rng = np.random.default_rng(seed)
    ramp = (np.arange(d) / d).astype(np.float32)
    w = {"rwkv.embeddings.weight": rng.normal(size=(128, d)), "head.weight": rng.normal(size=(128, d))}
    for i in range(layers):
        p = f"rwkv.blocks.{i}."
        for name in (
            "attention.key",
            "attention.value",
            "attention.receptance",
            "attention.output",
            "feed_forward.key",
        ):
            w[f"{p}{name}.weight"] = rng.normal(size=(d, d))
        for name in ("time_decay", "time_first", "time_mix_key", "time_mix_value"):
            w[f"{p}attention.{name}"] = ramp
        w[f"{p}ln1.weight"] = 1 + 0.5 * ramp + 0.01 * rng.normal(size=d)
    return {k: np.asarray(v, np.float32) for k, v in w.items()}


def whisper(seed, d=64, layers=2):
    """Whisper-like: the encoder's position table is fixed."""
    rng = np.random.default_rng(seed)
    w = {
        "model.encoder.embed_positions.weight": sinusoids(100, d),
        "model.decoder.embed_tokens.weight": rng.normal(size=(128, d)),
        "model.decoder.embed_positions.weight": rng.normal(size=(50, d)),
        "model.encoder.conv1.weight": rng.normal(size=(d, 80, 3)),
    }
    for side in ("encoder", "decoder"):
        for i in range(layers):
            p = f"model.{side}.layers.{i}."
            w |= {f"{p}self_attn.{n}_proj.weight": rng.normal(size=(d, d)) for n in ("q", "k", "v", "out")}
            w |= {f"{p}fc1.weight": rng.normal(size=(4 * d, d)), f"{p}fc2.weight": rng.normal(size=(d, 4 * d))}
            w |= {f"{p}final_layer_norm.weight": 1 + 0.1 * np.sin(np.arange(d)) + 0.01 * rng.normal(size=d)}
    return {k: np.asarray(v, np.float32) for k, v in w.items()}


def vit(seed, positions, d=64, layers=2):
    """ViT names; with a fixed table this is how a masked autoencoder's encoder is published."""
    rng = np.random.default_rng(seed)
    e = "vit.embeddings."
    w = {
        f"{e}cls_token": rng.normal(size=(1, 1, d)),
        f"{e}position_embeddings": positions[None],
        f"{e}patch_embeddings.projection.weight": rng.normal(size=(d, 3, 4, 4)),
        f"{e}patch_embeddings.projection.bias": rng.normal(size=d),
        "vit.layernorm.weight": 1 + 0.3 * np.sin(np.arange(d)) + 0.02 * rng.normal(size=d),
        "vit.layernorm.bias": rng.normal(size=d),
    }
    for i in range(layers):
        p = f"vit.encoder.layer.{i}."
        for n in (
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
            "attention.output.dense",
        ):
            w |= {f"{p}{n}.weight": rng.normal(size=(d, d)), f"{p}{n}.bias": rng.normal(size=d)}
        w |= {
            f"{p}intermediate.dense.weight": rng.normal(size=(4 * d, d)),
            f"{p}intermediate.dense.bias": rng.normal(size=4 * d),
            f"{p}output.dense.weight": rng.normal(size=(d, 4 * d)),
            f"{p}output.dense.bias": rng.normal(size=d),
        }
        for n in ("layernorm_before", "layernorm_after"):
            w |= {
                f"{p}{n}.weight": 1 + 0.3 * np.sin(np.arange(d)) + 0.02 * rng.normal(size=d),
                f"{p}{n}.bias": rng.normal(size=d),
            }
    return {k: np.asarray(v, np.float32) for k, v in w.items()}


def mae(seed, d=64):
    """Encoder and decoder of a masked autoencoder."""
    extra = np.random.default_rng(seed + 100)
    decoder = {
        "decoder.decoder_pos_embed": sinusoids_2d(4, d)[None],
        "decoder.mask_token": extra.normal(size=(1, 1, d)),
        "decoder.decoder_layers.0.intermediate.dense.weight": extra.normal(size=(4 * d, d)),
    }
    return vit(seed, sinusoids_2d(4, d)) | {k: np.asarray(v, np.float32) for k, v in decoder.items()}


MAKERS = {"rwkv": rwkv, "whisper": whisper, "mae": mae, "mae encoder": lambda s: vit(s, sinusoids_2d(4, 64))}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("seed", [0, 10, 20])
def test_equal_tables_never_speak(kind, seed):
    a, b = (signature_of(MAKERS[kind](s), f"{kind}-{s}") for s in (seed, seed + 1))
    document = compare_signed(a, b, CompareOptions())
    assert document["verdict"] in {"no-evidence", "untestable"}
    assert document["log10_p"] > -3
    assert all(t["label_group"] != "residual" for t in document["tests"])
    assert document["skipped"]


@pytest.mark.parametrize("kind", ["rwkv", "whisper", "mae"])
def test_unknown_architectures_are_untestable_even_when_related(kind):
    model = MAKERS[kind](0)
    child = {k: v + np.float32(0.001) for k, v in model.items()}
    document = compare_signed(signature_of(model, "a"), signature_of(child, "b"), CompareOptions())
    assert document["verdict"] == "untestable"
    assert document["a"]["architecture"] is None
    assert {t["exactness"] for t in document["tests"]} == {"heuristic"}
    assert {t["log10_p"] for t in document["tests"]} == {0.0}
    cosine = next(t["statistic"] for t in document["tests"] if t["method"] == "tensor-cosine")
    assert cosine > 0.99


@pytest.mark.parametrize("kind", ["rwkv", "whisper", "mae"])
def test_equal_buffers_do_not_count_as_likeness(kind):
    a, b = (signature_of(MAKERS[kind](s), str(s)) for s in (0, 1))
    document = compare_signed(a, b, CompareOptions())
    found = {t["method"]: t["statistic"] for t in document["tests"]}
    assert found["tensor-equality"] == 0.0
    assert abs(found["tensor-cosine"]) < 0.2


def test_unknown_but_identical_is_identical(tmp_path):
    import derive
    from lineage.comparing import compare

    for name in ("a", "b"):
        derive.save(rwkv(0), tmp_path / name, shards=1 if name == "a" else 3)
    assert compare(str(tmp_path / "a"), str(tmp_path / "b"))["verdict"] == "identical"


def test_learned_positions_are_told_from_fixed_ones():
    rng = np.random.default_rng(0)
    learned = signature_of(vit(0, rng.normal(size=(17, 64)).astype(np.float32)), "learned")
    fixed = signature_of(vit(0, sinusoids_2d(4, 64)), "fixed")
    assert residual_axis(learned) is Axis.RESIDUAL
    assert residual_axis(fixed) is Axis.RESIDUAL_FIXED


@pytest.mark.parametrize("d", [64, 768, 4096])
def test_row_norms_tell_the_tables_apart_also_in_16_bits(d):
    import ml_dtypes

    fixed = sinusoids(64, d).astype(ml_dtypes.bfloat16).astype(np.float64)
    untrained = np.random.default_rng(0).normal(size=(64, d))
    assert is_fixed_table(np.linalg.norm(fixed, axis=1))
    assert not is_fixed_table(np.linalg.norm(untrained, axis=1))
    assert is_fixed_table(np.zeros(64))


@pytest.mark.parametrize("table", ["interleaved", "halves", "grid"])
def test_tables_that_were_only_initialised_with_sines_are_refused(table):
    """Trained afterwards, so that row norms differ: index and frequency are still tied in every such model."""
    flat = sinusoids(64, 64)
    start = {
        "interleaved": flat,
        "halves": np.concatenate([flat[:, 0::2], flat[:, 1::2]], axis=1),
        "grid": sinusoids_2d(8, 64),
    }[table]
    signed = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        trained = start * (1 + 0.2 * rng.normal(size=(start.shape[0], 1))) + 0.1 * rng.normal(size=start.shape)
        signed.append(signature_of(vit(seed, trained.astype(np.float32)), str(seed)))
        assert not is_fixed_table(signed[-1].tables["embed.position"].row_norms)
        assert residual_axis(signed[-1]) is Axis.RESIDUAL_FIXED
    assert compare_signed(*signed, CompareOptions())["verdict"] == "no-evidence"


def test_smooth_learned_tables_are_not_refused():
    """Learned tables are smooth too, but each dimension at a frequency of its own: 300 tables, hardly any refused."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        table = sinusoids(64, 64)[:, rng.permutation(64)] + 0.1 * rng.normal(size=(64, 64))
        table *= 1 + 0.2 * rng.normal(size=(64, 1))
        refused += is_ramped_table(Table("embed.position", 64, np.arange(64), table, np.linalg.norm(table, axis=1)))
    assert refused <= 3


def test_positions_that_are_not_in_the_file_may_be_sines_in_the_code():
    rng = np.random.default_rng(0)
    with_table = signature_of(vit(0, rng.normal(size=(17, 64)).astype(np.float32)), "a")
    without = replace(with_table, tables={k: t for k, t in with_table.tables.items() if k != "embed.position"})
    assert residual_axis(without) is Axis.UNKNOWN


def test_learned_vit_pairs_are_tested_and_found():
    rng = np.random.default_rng(0)
    model = vit(0, rng.normal(size=(17, 64)).astype(np.float32))
    child = {k: (v + 0.05 * np.std(v) * rng.normal(size=v.shape)).astype(np.float32) for k, v in model.items()}
    document = compare_signed(signature_of(model, "a"), signature_of(child, "b"), CompareOptions())
    assert document["verdict"] == "related"
    stranger = vit(7, rng.normal(size=(17, 64)).astype(np.float32))
    assert (
        compare_signed(signature_of(model, "a"), signature_of(stranger, "b"), CompareOptions())["verdict"]
        == "no-evidence"
    )


def test_nan_weights_are_skipped_with_a_reason():
    rng = np.random.default_rng(0)
    model = vit(0, rng.normal(size=(17, 64)).astype(np.float32))
    model["vit.encoder.layer.0.intermediate.dense.weight"][:] = math.nan
    model["vit.layernorm.weight"][3] = math.inf
    stranger = signature_of(vit(1, rng.normal(size=(17, 64)).astype(np.float32)), "b")
    document = compare_signed(signature_of(model, "a"), stranger, CompareOptions())
    assert document["verdict"] == "no-evidence"
    assert any("NaN" in s["reason"] for s in document["skipped"])
