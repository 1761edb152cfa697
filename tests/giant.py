"""A byte store without a disk: a model with the shape of a Llama from 1M to 70B, made row by row as it is asked for.

Counts its own bytes and fails when anybody asks for a whole matrix of any size.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

PER_SHARD = 3
LARGE, SMALL_READ = 16 << 20, 1 << 20
"""Of a large matrix no read may take more than a hundredth; of a small one, of which 16 rows are much, a megabyte."""


@dataclass(frozen=True)
class Shape:
    """What decides the tensors of a Llama."""

    width: int
    hidden: int
    layers: int
    vocabulary: int
    key_width: int
    heads: int

    @property
    def matrices(self):
        d, h, kv = self.width, self.hidden, self.key_width
        return {
            "self_attn.q_proj": (d, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, d),
            "mlp.gate_proj": (h, d),
            "mlp.up_proj": (h, d),
            "mlp.down_proj": (d, h),
        }

    @property
    def config(self):
        kv_heads = self.key_width * self.heads // self.width
        return {"model_type": "llama", "num_attention_heads": self.heads, "num_key_value_heads": kv_heads}


SHAPES = {
    "1M": Shape(128, 352, 4, 1024, 64, 4),
    "10M": Shape(320, 864, 6, 5000, 160, 10),
    "100M": Shape(768, 2048, 12, 16384, 256, 12),
    "1B": Shape(2048, 5632, 22, 32000, 256, 32),
    "7B": Shape(4096, 11008, 32, 32000, 4096, 32),
    "70B": Shape(8192, 28672, 80, 128256, 1024, 64),
}
FOLDED_INTO = {
    "self_attn.q_proj": "input_layernorm",
    "self_attn.k_proj": "input_layernorm",
    "self_attn.v_proj": "input_layernorm",
    "mlp.gate_proj": "post_attention_layernorm",
    "mlp.up_proj": "post_attention_layernorm",
}


def _bf16(values):
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


@dataclass
class Giant:
    """A generated model; `parent` makes it a light fine-tune of another one, `folded` folds all gains away.

    `shuffled` gives the hidden units of every layer another order, one for all layers.
    """

    seed: int
    parent: "Giant | None" = None
    change: float = 0.05
    folded: bool = False
    shuffled: bool = False
    shape: Shape = SHAPES["70B"]
    bytes_read: int = 0
    reads: int = 0
    _layout: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self.name = f"giant-{self.seed}"
        n_layers, width, table = self.shape.layers, self.shape.width, (self.shape.vocabulary, self.shape.width)
        shards = [self._tensors(range(s, min(s + PER_SHARD, n_layers))) for s in range(0, n_layers, PER_SHARD)]
        shards[0]["model.embed_tokens.weight"] = table
        shards[-1] |= {"model.norm.weight": (width,), "lm_head.weight": table}
        n = len(shards)
        self._files, self._heads, where = {}, {}, {}
        for i, tensors in enumerate(shards):
            file = f"model-{i + 1:05d}-of-{n:05d}.safetensors"
            header, offset, spans = {"__metadata__": {"format": "pt"}}, 0, []
            for name in sorted(tensors):
                size = 2 * int(np.prod(tensors[name], dtype=np.int64))
                header[name] = {"dtype": "BF16", "shape": list(tensors[name]), "data_offsets": [offset, offset + size]}
                spans.append((offset, offset + size, name, tensors[name]))
                offset += size
                where[name] = file
            raw = json.dumps(header).encode()
            raw += b" " * (-len(raw) % 8)
            self._heads[file] = len(raw).to_bytes(8, "little") + raw
            self._files[file] = len(self._heads[file]) + offset
            self._layout[file] = spans
        self._heads["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": where}).encode()
        self._heads["config.json"] = json.dumps(self.shape.config).encode()
        for file in ("model.safetensors.index.json", "config.json"):
            self._files[file] = len(self._heads[file])

    @cached_property
    def _order(self):
        return np.random.default_rng(self.seed).permutation(self.shape.hidden)

    def _tensors(self, layers):
        made, gain = {}, (self.shape.width,)
        for i in layers:
            made |= {f"model.layers.{i}.{k}.weight": shape for k, shape in self.shape.matrices.items()}
            made |= {f"model.layers.{i}.{k}.weight": gain for k in ("input_layernorm", "post_attention_layernorm")}
        return made

    @property
    def parameters(self):
        return sum((stop - start) // 2 for spans in self._layout.values() for start, stop, _, _ in spans)

    def files(self):
        return self._files

    def read(self, file, span):
        self.reads += 1
        self.bytes_read += len(span)
        head = self._heads[file]
        if span.stop <= len(head):
            return head[span.start : span.stop]
        assert span.start >= len(head), "a read across the header was not expected"
        start, stop = span.start - len(head), span.stop - len(head)
        return b"".join(self._part(s, start, stop) for s in self._layout[file] if s[0] < stop and start < s[1])

    def _part(self, spec, start, stop):
        low, high, name, shape = spec
        start, stop = max(start, low) - low, min(stop, high) - low
        if len(shape) == 2:
            most = (high - low) // 100 if high - low >= LARGE else SMALL_READ
            assert stop - start < most, f"whole-tensor read of {name}"
        width = 2 * shape[-1]
        rows = range(start // width, -(-stop // width))
        data = b"".join(_bf16(self.row(name, r, shape[-1])).tobytes() for r in rows)
        return data[start - rows.start * width : start - rows.start * width + stop - start]

    def row(self, name, row, width):
        """Float32 values of one stored row."""
        if self.folded and name.endswith("norm.weight"):
            return np.ones(width, np.float32)
        if self.shuffled and name.endswith(("gate_proj.weight", "up_proj.weight")):
            row = int(self._order[row])
        values = self._plain(name, row, width)
        if self.shuffled and name.endswith("down_proj.weight"):
            values = values[self._order]
        return values * self._gain_behind(name, width) if self.folded else values

    def _plain(self, name, row, width):
        noise = self._noise(name, row, width)
        if self.parent is None:
            return 1.0 + 0.1 * noise if name.endswith("norm.weight") else 0.02 * noise
        base = self.parent._plain(name, row, width)
        return base + self.change * (0.1 if name.endswith("norm.weight") else 0.02) * noise

    def _noise(self, name, row, width):
        key = hashlib.sha256(f"{self.seed}/{name}/{row}".encode()).digest()
        return np.random.Generator(np.random.SFC64(int.from_bytes(key[:8], "little"))).standard_normal(
            width, dtype=np.float32
        )

    def _gain_behind(self, name, width):
        if name == "lm_head.weight":
            return self._plain("model.norm.weight", 0, width)
        for matrix, norm in FOLDED_INTO.items():
            if name.endswith(f"{matrix}.weight"):
                return self._plain(name.replace(f"{matrix}.weight", f"{norm}.weight"), 0, width)
        return 1.0
