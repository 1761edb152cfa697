"""Hidden-unit rung: copies of layers share labels, and a built model must not make a stranger look guilty."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import derive
from lineage.blocks import hidden
from lineage.evidence import gather
from nulls import ROOT, signature_of
from stats.combine import combine_evalues

ZOO = ROOT / "fixtures" / "zoo"
UPSCALED = [0, 1, 0, 1, 0, 1, 0, 1]


def test_copies_of_layers_are_one_label_group():
    base = derive.load(ZOO / "llama-b")
    plain, upscaled = signature_of(base, "b"), signature_of(derive.repeat_layers(base, UPSCALED), "up")
    assert plain.block_groups == (0, 1, 2, 3)
    assert len(set(upscaled.block_groups)) < len(upscaled.blocks)
    rng = np.random.default_rng(0)
    tuned = signature_of(derive.add_noise(derive.repeat_layers(base, UPSCALED), 0.3, rng), "tuned")
    assert tuned.block_groups == upscaled.block_groups


def _tiny(signature, order):
    """Keep four units of the first blocks, those of every block in one common order."""
    blocks = tuple(
        replace(b, parts={k: np.ascontiguousarray(v[:, order]) for k, v in b.parts.items()}, probes={}, wide={})
        for b in signature.blocks
    )
    return replace(signature, blocks=blocks)


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_model_of_copied_layers_has_mean_at_most_one(side):
    """Independent models, one of copied layers, all 24 joint relabellings of four units: the mean e stays below 1.

    Multiplying the copies as if their labels were drawn apart squares every lucky relabelling.
    """
    plain = signature_of(derive.load(ZOO / "llama-a"), "a")
    copied = signature_of(derive.repeat_layers(derive.load(ZOO / "llama-b"), UPSCALED), "up")
    fixed, moved = _tiny(plain, list(range(4))), copied
    values, naive = [], []
    for p in itertools.permutations(range(4)):
        relabelled = _tiny(moved, list(p))
        pair = (fixed, relabelled) if side == "b" else (relabelled, fixed)
        results = hidden(*pair).results
        values.append(math.exp(combine_evalues(results)))
        apart = [replace(r, label_group=str(n // 3)) for n, r in enumerate(results)]
        naive.append(math.exp(combine_evalues(apart)))
    assert math.fsum(values) / len(values) <= 1.0 + 1e-9
    if side == "b":
        assert max(naive) > 2 * max(values)


def test_the_weaker_of_both_products_is_reported():
    a, b = (signature_of(derive.load(ZOO / n), n) for n in ("llama-a", "llama-a-ft1"))
    one, two = hidden(a, b), hidden(b, a)
    assert combine_evalues(one.results) == pytest.approx(combine_evalues(two.results), abs=1e-6)


def test_a_fabricated_model_of_one_repeated_block_frames_nobody():
    """All blocks of b are one block: whatever a is, four chances are not multiplied."""
    strangers = [signature_of(derive.load(ZOO / f"micro-{i:02d}"), str(i)) for i in range(12)]
    forged = signature_of(derive.repeat_layers(derive.load(ZOO / "micro-20"), [0, 0]), "forged")
    assert len(set(forged.block_groups)) == 1
    assert max(gather(s, forged).log_evalue for s in strangers) < math.log(100)


def test_nan_in_one_block_leaves_the_others():
    base = derive.load(ZOO / "llama-a")
    hurt = {k: v.copy() for k, v in base.items()}
    hurt["model.layers.2.mlp.up_proj.weight"][:] = np.nan
    found = hidden(signature_of(base, "a"), signature_of(hurt, "b"))
    assert {f.b for f in found.layers} == {0, 1, 3}
    assert any("NaN" in s.reason for s in found.skipped)


def test_sorted_units_are_skipped_only_when_both_are():
    base, other = derive.load(ZOO / "llama-a"), derive.load(ZOO / "llama-b")
    signed = [signature_of(derive.sort_hidden_by_norm(w), n) for w, n in ((base, "a"), (other, "b"))]
    both = hidden(*signed)
    assert both.results == ()
    assert any("sorted" in s.reason for s in both.skipped)
    assert hidden(signed[0], signature_of(other, "b")).results
