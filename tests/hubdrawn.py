"""Weight files of any size that exist only where they are read: a header, then numbers drawn block by block."""

import hashlib
import json

import numpy as np

_BLOCK = 1 << 16


class Drawn:
    """A safetensors file of BF16 tensors, as a thing that can be sliced like bytes.

    Parameters
    ----------
    shapes : dict
        Tensor -> shape, in the order of the file.
    seed : int
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
        header, at = {}, 0
        for name, shape in shapes.items():
            size = 2 * int(np.prod(shape))
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self._head = len(text).to_bytes(8, "little") + text
        self._size = len(self._head) + at
        self._seed = seed
        self.sha256 = hashlib.sha256(self._head + seed.to_bytes(8, "little")).hexdigest()
        self.sha1 = self.sha256[:40]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        blocks = range(start // _BLOCK, -(-stop // _BLOCK))
        data = b"".join(self._block(i) for i in blocks)
        first = blocks.start * _BLOCK
        found = bytearray(data[start - first : stop - first])
        if start < len(self._head):
            known = self._head[start:stop]
            found[: len(known)] = known
        return bytes(found)

    def _block(self, i: int) -> bytes:
        values = np.random.default_rng([self._seed, i]).normal(0.0, 0.02, _BLOCK // 2).astype("<f4")
        # tensors begin at even places of the file: the header's length is even
        return (values.view("<u4") >> 16).astype("<u2").tobytes()


def llama(width: int, hidden: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Tensors of a decoder with gated units, in the order of depth."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for i in range(layers):
        at = f"model.layers.{i}"
        shapes[f"{at}.input_layernorm.weight"] = (width,)
        shapes[f"{at}.mlp.down_proj.weight"] = (width, hidden)
        shapes |= {f"{at}.mlp.{x}_proj.weight": (hidden, width) for x in ("gate", "up")}
        shapes[f"{at}.post_attention_layernorm.weight"] = (width,)
        shapes |= {f"{at}.self_attn.{x}_proj.weight": (width, width) for x in "koqv"}
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def sharded(shapes: dict[str, tuple[int, ...]], n: int, seed: int) -> dict[str, object]:
    """Files of a model in `n` shards of about equal bytes, with index and config."""
    total = sum(int(np.prod(s)) for s in shapes.values())
    parts: list[dict[str, tuple[int, ...]]] = [{} for _ in range(n)]
    at = 0
    for name, shape in shapes.items():
        parts[min(n - 1, at * n // total)][name] = shape
        at += int(np.prod(shape))
    names = [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    files: dict[str, object] = {f: Drawn(p, seed * 1000 + i) for i, (f, p) in enumerate(zip(names, parts, strict=True))}
    index = {
        "metadata": {"total_size": 2 * total},
        "weight_map": {t: f for f, p in zip(names, parts, strict=True) for t in p},
    }
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["config.json"] = json.dumps({"model_type": "llama", "num_attention_heads": 32}).encode()
    return files
