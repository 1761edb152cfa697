"""Small untrained models, written with numpy and the safetensors library: house tests need shapes, not training."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

WIDTH, HIDDEN, VOCABULARY = 32, 48, 80


def _llama(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return (0.05 * rng.normal(size=shape)).astype(np.float32)

    def gain() -> np.ndarray:
        return (1.0 + 0.1 * rng.normal(size=WIDTH)).astype(np.float32)

    made = {"model.embed_tokens.weight": drawn(VOCABULARY, WIDTH), "lm_head.weight": drawn(VOCABULARY, WIDTH)}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        for name in "qkvo":
            made[f"{prefix}self_attn.{name}_proj.weight"] = drawn(WIDTH, WIDTH)
        made[f"{prefix}mlp.gate_proj.weight"] = drawn(HIDDEN, WIDTH)
        made[f"{prefix}mlp.up_proj.weight"] = drawn(HIDDEN, WIDTH)
        made[f"{prefix}mlp.down_proj.weight"] = drawn(WIDTH, HIDDEN)
        made[f"{prefix}input_layernorm.weight"] = gain()
        made[f"{prefix}post_attention_layernorm.weight"] = gain()
    return {**made, "model.norm.weight": gain()}


def _changed(base: dict[str, np.ndarray], seed: int, share: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {k: (v + share * v.std() * rng.normal(size=v.shape)).astype(np.float32) for k, v in base.items()}


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of models: base, two children, a half-precision cast, a copy, a stranger, and one nobody can name."""
    root = tmp_path_factory.mktemp("toys")
    base = _llama(0)
    models = {
        "base": base,
        **{f"child-{n}": _changed(base, n, 0.05) for n in range(1, 3)},
        "cast": {k: v.astype(np.float16) for k, v in base.items()},
        "copy": base,
        "stranger": _llama(99),
        "unknown": {f"blocks.{i}.mixer.weight": np.eye(4, dtype=np.float32) * (i + 1) for i in range(3)},
    }
    for name, weights in models.items():
        (root / name).mkdir()
        save_file(weights, root / name / "model.safetensors")
        (root / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return root
