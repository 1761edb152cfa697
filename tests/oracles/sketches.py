"""A sketch of a small Llama in the plainest way: one product at a time, signs bit by bit."""

import hashlib

import numpy as np

import derive


def signs(digest, purpose, n, k):
    """(n, k) signs, row by row."""
    whole = hashlib.shake_256(f"weightmark-sketch/1|{digest}|{purpose}".encode()).digest(n * k // 8)
    data = [1.0 if byte >> bit & 1 else -1.0 for byte in whole for bit in range(8)]
    return np.array(data).reshape(n, k)


def naive(weights, digest):
    """Every array by name."""
    w = {k: v.astype(np.float64) for k, v in derive.cast(weights, "float32").items()}
    d = w["model.embed_tokens.weight"].shape[1]
    out, r = {}, signs(digest, "residual", d, 64)
    layers = [f"model.layers.{i}" for i in range(4)]
    for i, place in enumerate(layers):
        attn, mlp = (w[f"{place}.{n}.weight"] for n in ("input_layernorm", "post_attention_layernorm"))
        out[f"rot.L{i:04d}.norm.attn_in"], out[f"rot.L{i:04d}.norm.mlp_in"] = attn, mlp
        rows = {
            "mlp.gate": (w[f"{place}.mlp.gate_proj.weight"] * mlp, 32),
            "mlp.up": (w[f"{place}.mlp.up_proj.weight"] * mlp, 16),
            "mlp.down": (w[f"{place}.mlp.down_proj.weight"].T, 16),
            "attn.q": (w[f"{place}.self_attn.q_proj.weight"] * attn, 16),
            "attn.k": (w[f"{place}.self_attn.k_proj.weight"] * attn, 16),
        }
        for kind, (x, k) in rows.items():
            out[f"perm.L{i:04d}.{kind}"] = x @ r[:, :k]
        stacks = {
            "mlp.gate": np.vstack([w[f"{place}.mlp.{n}_proj.weight"] for n in ("gate", "up")]),
            **{f"attn.{n}": w[f"{place}.self_attn.{n}_proj.weight"] for n in "qkv"},
        }
        for kind, x in stacks.items():
            unit = x / np.linalg.norm(x, axis=0)
            out[f"gram.L{i:04d}.{kind}"] = (unit.T @ unit)[np.triu_indices(64, 1)][None]
    tokens = w["model.embed_tokens.weight"]
    unit = tokens / np.linalg.norm(tokens, axis=1)[:, None]
    out["perm.residual"] = (unit - unit.mean(axis=0)).T @ signs(digest, "tokens", len(unit), 64)
    out["rot.tokens"] = np.sqrt(d) * unit[[int(x) for x in np.linspace(0, len(unit) - 1, d)]]
    return out
