"""One document for the same weights, whatever the container, the order of tensors and the number of threads."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import derive
from lineage.comparing import CompareOptions, compare
from nulls import ROOT

ZOO = ROOT / "fixtures" / "zoo"


def document(a, b, **options):
    made = compare(str(a), str(b), CompareOptions(**options))
    made["record"].pop("run")
    return json.dumps(made, sort_keys=True)


@pytest.mark.parametrize("partner", ["llama-a-ft1", "llama-b"])
def test_shards_and_order_never_matter(tmp_path, partner, monkeypatch):
    weights = derive.load(ZOO / "llama-a")
    seen = set()
    for shards, seed in ((1, 0), (2, 1), (7, 2)):
        root = tmp_path / f"{shards}-{seed}"
        order = [str(n) for n in np.random.default_rng(seed).permutation(sorted(weights))]
        derive.save(weights, root / "a", shards=shards, order=order)
        derive.save(derive.load(ZOO / partner), root / "b")
        monkeypatch.chdir(root)
        seen.add(document("a", "b"))
    assert len(seen) == 1


def test_threads_never_matter(tmp_path):
    program = (
        "import json, sys; from lineage.comparing import compare; d = compare(sys.argv[1], sys.argv[2]); "
        "d['record'].pop('run'); print(json.dumps(d, sort_keys=True))"
    )
    seen = set()
    for threads in ("1", "2"):
        env = {**os.environ, "NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        args = [sys.executable, "-c", program, str(ZOO / "llama-a"), str(ZOO / "llama-b")]
        seen.add(subprocess.run(args, capture_output=True, text=True, check=True, env=env).stdout)
    assert len(seen) == 1


def test_names_and_metadata_never_matter(tmp_path, monkeypatch):
    seen = []
    for lie in (
        {},
        {"_name_or_path": "llama-a-ft1", "model_type": "bert", "hidden_size": 7, "num_attention_heads": 99},
    ):
        root = tmp_path / str(len(seen))
        derive.save(derive.load(ZOO / "llama-a"), root / "a", config=lie)
        derive.save(derive.load(ZOO / "llama-a-ft1"), root / "b", config=lie)
        monkeypatch.chdir(root)
        found = json.loads(document("a", "b"))
        seen.append({k: found[k] for k in ("verdict", "log10_p", "relation", "direction", "tests", "layers")})
    assert seen[0] == seen[1]


def test_swapping_the_models_keeps_the_verdict():
    for pair in (("llama-a", "llama-a-ft1"), ("llama-a", "llama-c"), ("gpt2-a", "gpt2-a-ft")):
        one = json.loads(document(ZOO / pair[0], ZOO / pair[1]))
        two = json.loads(document(ZOO / pair[1], ZOO / pair[0]))
        assert one["verdict"] == two["verdict"]
        assert one["log10_p"] == pytest.approx(two["log10_p"], abs=3.0)


def test_a_prefix_of_a_multimodal_wrapper_changes_nothing():
    from nulls import signature_of

    weights = derive.load(ZOO / "llama-a")
    wrapped = {f"language_model.{k}": v for k, v in weights.items()}
    one, two = signature_of(weights, "x"), signature_of(wrapped, "x")
    assert one.slices_digest == two.slices_digest


@pytest.mark.parametrize("rewrite", ["permute_hidden", "fold_gains", "rescale_mlp"])
def test_single_rewrites_of_one_kind_do_not_hide_a_model(rewrite):
    """Each leaves one rung standing: gains and embedding, hidden units, or all of them."""
    from lineage.comparing import compare_signed
    from nulls import signature_of

    weights = derive.load(ZOO / "llama-a")
    rng = np.random.default_rng(0)
    changed = derive.fold_gains(weights) if rewrite == "fold_gains" else getattr(derive, rewrite)(weights, rng)
    found = compare_signed(signature_of(weights, "a"), signature_of(changed, "b"), CompareOptions())
    assert found["verdict"] == "related"
    assert found["log10_p"] <= -12


@pytest.mark.parametrize("change", ["drop", "repeat", "reorder", "vocabulary", "width", "prune", "int4", "merge"])
def test_reshaped_copies_are_related(change):
    from lineage.comparing import compare_signed
    from nulls import signature_of

    weights, rng = derive.load(ZOO / "llama-a"), np.random.default_rng(0)
    made = {
        "drop": lambda: derive.drop_layers(weights, [1]),
        "repeat": lambda: derive.repeat_layers(weights, [0, 1, 2, 1, 2, 3]),
        "reorder": lambda: derive.repeat_layers(weights, [0, 2, 1, 3]),
        "vocabulary": lambda: derive.extend_vocab(weights, 16, rng),
        "width": lambda: derive.prune_width(weights, 100),
        "prune": lambda: derive.prune_magnitude(weights, 0.5),
        "int4": lambda: derive.quantize_rtn(weights, 4, 32),
        "merge": lambda: derive.merge_linear([weights, derive.load(ZOO / "llama-a-ft1")], [0.5, 0.5]),
    }[change]()
    found = compare_signed(signature_of(weights, "a"), signature_of(made, "b"), CompareOptions())
    assert found["verdict"] == "related"
    assert found["log10_p"] <= -12
