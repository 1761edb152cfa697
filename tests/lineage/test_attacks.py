"""Models built to make a stranger look guilty, and odd models that must not hide kin: one test for each way that was tried."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

import derive
from disguised import compared, config, weights
from lineage.align import residual_obstacle
from lineage.blocks import hidden
from lineage.copies import label_groups
from lineage.evidence import gather
from lineage.positions import is_ramped_table
from lineage.signature import Block, Table
from nulls import ROOT, signature_of, without_power
from stats.combine import combine_evalues

ZOO = ROOT / "fixtures" / "zoo"


def _block(layer, gate, up):
    return Block(layer=layer, n_units=gate.shape[1], parts={"mlp.gate": gate, "mlp.up": up}, gain=None)


def _random_blocks(rng, n, d=64, h=16):
    return [_block(i, *rng.normal(size=(2, d, h))) for i in range(n)]


def test_a_block_between_two_others_joins_both_groups():
    """Interpolated growth: block 2 is the mean of blocks 0 and 1, so all three share labels once 0 and 1 do through it."""
    rng = np.random.default_rng(0)
    first, second = _random_blocks(rng, 2, d=256)
    between = _block(2, *(first.parts[k] + second.parts[k] for k in ("mlp.gate", "mlp.up")))
    assert label_groups([first, second, between], gated=True) == (0, 0, 0)
    assert label_groups([first, second, _random_blocks(rng, 1, d=256)[0]], gated=True) == (0, 1, 2)


def test_a_copy_of_other_signs_is_a_copy():
    rng = np.random.default_rng(1)
    one = _random_blocks(rng, 1)[0]
    flipped = _block(1, one.parts["mlp.gate"], -one.parts["mlp.up"])
    assert label_groups([one, flipped], gated=True) == (0, 0)
    assert label_groups([one, _block(1, -one.parts["mlp.gate"], one.parts["mlp.up"])], gated=False) == (0, 0)


@pytest.mark.parametrize("alive", [1, 3, 11])
def test_blocks_of_few_live_units_are_one_group(alive):
    """Copies of so few units could not be told from strangers, so they are never multiplied."""
    rng = np.random.default_rng(2)
    blocks = _random_blocks(rng, 3)
    for b in blocks:
        for values in b.parts.values():
            values[:, alive:] = 0.0
    assert label_groups(blocks, gated=True) == (0, 0, 0)


@pytest.mark.parametrize("h", [4, 5])
def test_tiny_copied_blocks_have_mean_at_most_one(h):
    """All labellings the copies share, the partner being the model itself: the worst case of multiplying copies."""
    base = signature_of(derive.load(ZOO / "micro-03"), "m")
    small = [{k: np.ascontiguousarray(v[:, :h]) for k, v in base.blocks[0].parts.items()} for _ in range(2)]
    blocks = tuple(replace(b, n_units=h, parts=p, probes={}, wide={}) for b, p in zip(base.blocks, small, strict=True))
    honest = replace(base, blocks=blocks, block_groups=label_groups(blocks, gated=True))
    total = []
    for p in itertools.permutations(range(h)):
        moved = tuple(
            replace(b, parts={k: np.ascontiguousarray(v[:, list(p)]) for k, v in b.parts.items()}) for b in blocks
        )
        total.append(math.exp(combine_evalues(hidden(honest, replace(honest, blocks=moved)).results)))
    assert math.fsum(total) / len(total) <= 1.0 + 1e-9


def _sines(n, d, turns):
    column = np.arange(d)
    step = column // 2 if turns else column % (d // 2)
    angle = np.arange(n)[:, None] / 10000.0 ** (step / (d // 2))
    return np.where(column % 2 == 1 if turns else column >= d // 2, np.cos(angle), np.sin(angle))


@pytest.mark.parametrize("turns", [True, False])
@pytest.mark.parametrize("noise", [0.1, 1.0, 2.0])
def test_a_position_table_that_began_as_sines_is_refused_under_much_training(turns, noise):
    rng = np.random.default_rng(3)
    values = _sines(512, 256, turns)[:64] + noise * rng.normal(size=(64, 256))
    table = Table("embed.position", 512, np.arange(64), values, np.linalg.norm(values, axis=1))
    assert is_ramped_table(table)


def test_a_learned_position_table_is_not_refused():
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(100):
        values = np.cumsum(rng.normal(size=(64, 96)), axis=0)
        refused += is_ramped_table(Table("embed.position", 512, np.arange(64), values, np.linalg.norm(values, axis=1)))
    assert refused <= 2


def test_a_position_table_of_few_rows_cannot_be_asked():
    values = np.random.default_rng(5).normal(size=(4, 64))
    assert is_ramped_table(Table("embed.position", 4, np.arange(4), values, np.linalg.norm(values, axis=1)))


@pytest.mark.parametrize("shape", ["ramp", "step"])
def test_gains_that_rise_along_the_index_in_both_models_are_no_evidence(shape):
    """A nested or index-dependent recipe, whose embedding shows nothing."""
    rng = np.random.default_rng(6)
    pair = []
    for name in ("micro-00", "micro-01"):
        weights = derive.relabel(derive.load(ZOO / name), rng)
        for key in [k for k in weights if k.endswith("norm.weight")]:
            n = weights[key].size
            profile = np.linspace(0.8, 1.2, n) if shape == "ramp" else np.where(np.arange(n) < n // 2, 0.7, 1.3)
            weights[key] = (profile + 0.02 * rng.normal(size=n)).astype(np.float32)
        pair.append(signature_of(weights, name))
    obstacle = residual_obstacle(*pair)
    assert obstacle is not None
    assert "sorted units" in obstacle.reason
    assert gather(*pair).log_pvalue == 0.0


def test_one_block_of_another_size_leaves_the_others():
    base = derive.load(ZOO / "llama-a")
    cut = derive.prune_width(base, 128)
    odd = {k: (cut[k] if ".layers.1.mlp" in k else v) for k, v in base.items()}
    found = hidden(signature_of(base, "a"), signature_of(odd, "b"))
    assert {f.b for f in found.layers} == {0, 2, 3}
    assert combine_evalues(found.results) > 30 * math.log(10)


def test_gains_that_hardly_vary_in_sixteen_bits_are_still_tested():
    import ml_dtypes

    rng = np.random.default_rng(7)
    base = derive.load(ZOO / "llama-a")
    made = []
    for change in (0.0, 0.003):
        weights = dict(base)
        for key in [k for k in base if k.endswith("norm.weight")]:
            gains = 1.0 + 0.01 * np.random.default_rng(len(key)).normal(size=base[key].size)
            weights[key] = (gains + change * rng.normal(size=gains.size)).astype(ml_dtypes.bfloat16)
        made.append(signature_of(weights, str(change)))
    rows = {r.method: r for r in gather(*made).results}
    assert rows["norm-gains"].log_pvalue < -12 * math.log(10)


def test_one_bad_gain_leaves_the_others():
    base = derive.load(ZOO / "llama-a")
    hurt = {k: v.copy() for k, v in base.items()}
    hurt["model.layers.0.input_layernorm.weight"][3] = np.nan
    evidence = gather(signature_of(base, "a"), signature_of(hurt, "b"))
    rows = {r.method: r for r in evidence.results}
    assert rows["norm-gains"].log_pvalue < -50 * math.log(10)
    assert any("norm.attn_in of layer 0" in s.tensor for s in evidence.skipped)


@pytest.mark.parametrize("size", [1e160, 1e300])
def test_huge_values_are_a_reason_not_a_crash(size):
    base = {k: v.astype(np.float64) for k, v in derive.load(ZOO / "micro-00").items()}
    huge = {k: v * size if "mlp" in k or k.endswith("layernorm.weight") else v for k, v in base.items()}
    evidence = gather(signature_of(base, "a"), signature_of(huge, "b"))
    assert any("overflow" in s.reason for s in evidence.skipped)
    assert math.isfinite(evidence.log_pvalue)


def test_a_block_of_one_unit_is_a_reason_not_a_crash():
    base = derive.prune_width(derive.load(ZOO / "micro-00"), 1)
    evidence = gather(signature_of(base, "a"), signature_of(base, "b"))
    assert any("fewer than two units" in s.reason for s in evidence.skipped)


ODD = {
    "queries and outputs of a stranger": lambda w, o: {
        k: (o[k] if "q_proj" in k or "o_proj" in k else v) for k, v in w.items()
    },
    "tables of a stranger": derive.swap_embedding,
    "another head and final norm": lambda w, o: w | {k: o[k] for k in ("lm_head.weight", "model.norm.weight")},
    "one layer of noise": lambda w, o: (
        w | {"model.layers.2.mlp.down_proj.weight": o["model.layers.1.mlp.down_proj.weight"]}
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_a_permuted_model_of_which_a_part_was_replaced_is_not_identical(case):
    changed = ODD[case](weights("llama-a"), weights("llama-b"))
    moved = derive.permute_hidden(changed, np.random.default_rng(0))
    found = compared(weights("llama-a"), moved, config("llama-a"), config("llama-a"))
    assert found["verdict"] == "related"
    assert found["relation"]["kind"] != "identical"


@without_power()
def test_strangers_of_few_units_or_one_layer_never_resemble():
    """Four units agree by luck, and one layer has no controls."""
    rng = np.random.default_rng(1)
    names = [f"micro-{i:02d}" for i in range(8)]
    for a, b in itertools.combinations(names, 2):
        pair = [derive.repeat_layers(weights(a), [0]), derive.prune_width(derive.repeat_layers(weights(b), [0]), 4)]
        found = compared(*pair, None, None)
        assert found["verdict"] == "no-evidence", (a, b)
        assert found["disguise"] is None
    one = derive.repeat_layers(weights("llama-a"), [0])
    turned = derive.rotate_residual(derive.permute_hidden(derive.permute_values(one, rng, 4, 2), rng), rng)
    assert compared(one, turned, None, None)["verdict"] in {"no-evidence", "related"}


def test_a_shared_mlp_does_not_name_heads():
    mixed = {k: (v if "mlp" in k else weights("llama-b")[k]) for k, v in weights("llama-a").items()}
    found = compared(weights("llama-a"), mixed, config("llama-a"), config("llama-b"))
    assert found["verdict"] == "related"
    assert found["disguise"] is None or "head-permutation" not in found["disguise"]["transforms"]


@pytest.mark.parametrize("size", [1e153, 1e200, 1e-160, 1e-310])
@pytest.mark.parametrize("which", ["all", "norms"])
def test_extreme_values_give_a_document(size, which):
    base = {k: v.astype(np.float64) for k, v in weights("micro-00").items()}
    odd = {k: (v * size if which == "all" or k.endswith("norm.weight") else v) for k, v in base.items()}
    for pair in ((base, odd), (odd, base), (odd, odd)):
        found = compared(*pair, config("micro-00"), config("micro-00"))
        assert json.dumps(found, allow_nan=False)


def test_blocks_of_one_unit_give_a_document():
    one = derive.prune_width(weights("micro-00"), 1)
    assert compared(one, derive.add_noise(one, 0.1, np.random.default_rng(2)), None, None)["verdict"]


def test_a_grown_vocabulary_beyond_the_rows_read_is_seen():
    rng = np.random.default_rng(3)
    base = dict(weights("micro-00"))
    wide = rng.normal(size=(5000, 32)).astype(np.float32)
    base |= {"model.embed_tokens.weight": wide, "lm_head.weight": wide[::-1].copy()}
    grown = derive.extend_vocab(derive.permute_hidden(base, rng), 16, rng)
    found = compared(base, grown, config("micro-00"), config("micro-00"))
    assert found["relation"]["kind"] == "vocab-change"
