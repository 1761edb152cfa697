"""Weights by role for tests of marks: the fixture Llamas under their roles and back, and planted matrices."""

import hashlib
import re

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

import derive
from nulls import ROOT

PARTS = {
    "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
    "norm.attn_in": "input_layernorm", "norm.mlp_in": "post_attention_layernorm",
}  # fmt: skip
OUTER = {"embed": "model.embed_tokens", "norm.final": "model.norm", "unembed": "lm_head"}


def name_of(role):
    """The name a Llama gives the array of this role."""
    found = re.fullmatch(r"L(\d{4})\.(.+)", role)
    return f"{OUTER[role]}.weight" if found is None else f"model.layers.{int(found[1])}.{PARTS[found[2]]}.weight"


def by_role(weights):
    """Llama-shaped weights under their roles."""
    n = 1 + max(int(found[1]) for k in weights if (found := re.match(r"model\.layers\.(\d+)\.", k)))
    roles = [f"L{i:04d}.{part}" for i in range(n) for part in PARTS] + list(OUTER)
    return {role: weights[name_of(role)] for role in roles if name_of(role) in weights}


def by_name(weights):
    """Roles back to names."""
    return {name_of(role): values for role, values in weights.items()}


def llama(name="llama-a", dtype="float32"):
    """A fixture model by role."""
    return by_role(derive.cast(derive.load(ROOT / "fixtures" / "zoo" / name), dtype))


def planted(rng, *, rows=512, columns=512, layers=2, dtype="float32"):
    """Matrices as trained ones look: heavy-tailed rows of differing size, a few outlier columns, some low rank."""
    shapes = {
        "attn.q": (columns, columns), "attn.k": (columns, columns), "attn.v": (columns, columns),
        "attn.o": (columns, columns), "mlp.gate": (rows, columns), "mlp.up": (rows, columns), "mlp.down": (columns, rows),
    }  # fmt: skip
    made = {f"L{i:04d}.{kind}": _trained(rng, shape) for i in range(layers) for kind, shape in shapes.items()}
    return derive.cast(made, dtype)


def planted_roles(layers=2):
    """Roles of `planted` models."""
    return [f"L{i:04d}.{kind}" for i in range(layers) for kind in PARTS if not kind.startswith("norm")]


def _trained(rng, shape):
    m, n = shape
    x = rng.standard_t(6, (m, n)) * np.exp(rng.normal(0, 0.3, (m, 1)))
    x[:, rng.choice(n, max(1, n // 200), replace=False)] *= 4.0
    x += 0.3 * rng.standard_normal((m, 4)) @ rng.standard_normal((4, n))
    return 0.02 * x


def draws(number):
    """Keystreams of one test key: AES in counter mode under a hash of number, role and purpose."""

    def of(role, purpose):
        secret = hashlib.sha256(f"{number}|{role}|{purpose}".encode()).digest()

        def stream(offset, n):
            start = (offset // 16).to_bytes(16, "big")
            encrypt = Cipher(AES(secret), CTR(start)).encryptor()
            return encrypt.update(bytes(offset % 16 + n))[offset % 16 :]

        return stream

    return of
