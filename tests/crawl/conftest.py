"""Models made on the spot: safetensors bytes, stores in memory, and the name tables of every architecture."""

import json
import struct

import numpy as np
import pytest

D, H, V, P, L, N = 8, 12, 11, 5, 2, 2  # width, hidden units, words, positions, layers, heads

_ATTN = {f"self_attn.{p}_proj": (D, D) for p in "qkvo"}
_GLU = {"mlp.gate_proj": (H, D), "mlp.up_proj": (H, D), "mlp.down_proj": (D, H)}
_PRE = {"input_layernorm": (D,), "post_attention_layernorm": (D,)}
_SANDWICH = {**_PRE, "pre_feedforward_layernorm": (D,), "post_feedforward_layernorm": (D,)}
_DECODER = {"embed_tokens": (V, D), "norm": (D,)}


class MemoryStore:
    """A byte store over a dictionary; `log` holds every read."""

    def __init__(self, files, name="memory"):
        self.name = name
        self._files = dict(files)
        self.log = []

    def files(self):
        return {name: len(data) for name, data in self._files.items()}

    def read(self, file, span):
        self.log.append((file, span))
        return self._files[file][span.start : span.stop]


def _pack(entries, *, metadata=None):
    """Write safetensors by hand: name -> (dtype, shape, bytes), in the order given."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (dtype, shape, raw) in entries.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _pack_arrays(arrays, **kwargs):
    names = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "uint8": "U8", "int64": "I64"}
    return _pack({n: (names[str(a.dtype)], a.shape, a.tobytes()) for n, a in arrays.items()}, **kwargs)


def _expand(root, stack, layer, outside, top=None, *, bias=False, experts=0):
    """Return name -> shape for a model of `L` layers; ``{e}`` is repeated for each expert."""
    shapes = {f"{root}{name}": shape for name, shape in outside.items()}
    for i in range(L):
        for name, shape in layer.items():
            for e in range(experts) if "{e}" in name else [0]:
                module = f"{root}{stack}{i}.{name.replace('{e}', str(e))}"
                shapes[module] = shape
                if bias and len(shape) < 3:
                    shapes[f"{module}.bias"] = shape[-1:] if bias == "conv1d" else shape[:1]
    shapes |= top or {}
    plain = ("cls_token", "position_embeddings!", "gate_up_proj!", "down_proj!", ".bias")
    named = {}
    for name, shape in shapes.items():
        named[name.rstrip("!") if name.endswith(plain) else f"{name}.weight"] = shape
    return named


_BERT = {
    **{f"attention.self.{x}": (D, D) for x in ("query", "key", "value")},
    "attention.output.dense": (D, D),
    "attention.output.LayerNorm": (D,),
    "intermediate.dense": (H, D),
    "output.dense": (D, H),
    "output.LayerNorm": (D,),
}
_BERT_OUT = {
    "embeddings.word_embeddings": (V, D),
    "embeddings.position_embeddings": (P, D),
    "embeddings.token_type_embeddings": (2, D),
    "embeddings.LayerNorm": (D,),
    "embeddings.LayerNorm.bias": (D,),
}
_GPT2 = {
    "ln_1": (D,),
    "attn.c_attn": (D, 3 * D),
    "attn.c_proj": (D, D),
    "ln_2": (D,),
    "mlp.c_fc": (D, H),
    "mlp.c_proj": (H, D),
}
_NEOX = {
    **_PRE,
    "attention.query_key_value": (3 * D, D),
    "attention.dense": (D, D),
    "mlp.dense_h_to_4h": (H, D),
    "mlp.dense_4h_to_h": (D, H),
}
_OPT = {
    **{f"self_attn.{x}_proj": (D, D) for x in ("q", "k", "v", "out")},
    "self_attn_layer_norm": (D,),
    "fc1": (H, D),
    "fc2": (D, H),
    "final_layer_norm": (D,),
}
_VIT = {
    **{f"attention.attention.{x}": (D, D) for x in ("query", "key", "value")},
    "attention.output.dense": (D, D),
    "layernorm_before": (D,),
    "layernorm_after": (D,),
    "intermediate.dense": (H, D),
    "output.dense": (D, H),
}
_VIT_OUT = {
    "embeddings.cls_token": (1, 1, D),
    "embeddings.position_embeddings!": (1, P, D),
    "embeddings.patch_embeddings.projection": (D, 3, 2, 2),
    "embeddings.patch_embeddings.projection.bias": (D,),
    "layernorm": (D,),
    "layernorm.bias": (D,),
}
_QWEN_EXPERTS = {
    "mlp.gate": (3, D),
    "mlp.experts.{e}.gate_proj": (H, D),
    "mlp.experts.{e}.up_proj": (H, D),
    "mlp.experts.{e}.down_proj": (D, H),
}
_SHARED = {
    "mlp.shared_expert.gate_proj": (H, D),
    "mlp.shared_expert.up_proj": (H, D),
    "mlp.shared_expert.down_proj": (D, H),
    "mlp.shared_expert_gate": (1, D),
}
_MIXTRAL = {
    "block_sparse_moe.gate": (3, D),
    "block_sparse_moe.experts.{e}.w1": (H, D),
    "block_sparse_moe.experts.{e}.w3": (H, D),
    "block_sparse_moe.experts.{e}.w2": (D, H),
}
_STACKED = {"mlp.gate": (3, D), "mlp.experts.gate_up_proj!": (3, D, 2 * H), "mlp.experts.down_proj!": (3, H, D)}
_HEAD = {"lm_head": (V, D)}
_LAYER = {**_ATTN, **_GLU, **_PRE}

# label -> (architecture name, name -> shape)
KNOWN = {
    "llama": ("llama", _expand("model.", "layers.", _LAYER, _DECODER, _HEAD)),
    "llama tied": ("llama", _expand("model.", "layers.", _LAYER, _DECODER)),
    "llama bare": ("llama", _expand("", "layers.", _LAYER, _DECODER)),
    "llava": ("llama", _expand("language_model.model.", "layers.", _LAYER, _DECODER, {"language_model.lm_head": (V, D)})
              | {"vision_tower.encoder.layers.0.self_attn.q_proj.weight": (4, 4)}),
    "qwen2-vl": ("llama", _expand("model.language_model.", "layers.", _LAYER, _DECODER, _HEAD)
                 | {"model.visual.blocks.0.attn.qkv.weight": (12, 4)}),
    "qwen2": ("llama", _expand("model.", "layers.", _LAYER, _DECODER)
              | {f"model.layers.{i}.self_attn.{x}_proj.bias": (D,) for i in range(L) for x in "qkv"}),
    "qwen3": ("llama", _expand("model.", "layers.",
                               {**_LAYER, "self_attn.q_norm": (D // N,), "self_attn.k_norm": (D // N,)}, _DECODER)),
    "gemma2": ("gemma2", _expand("model.", "layers.", {**_ATTN, **_GLU, **_SANDWICH}, _DECODER)),
    "olmo2": ("olmo2", _expand("model.", "layers.", {
        **_ATTN, **_GLU, "post_attention_layernorm": (D,), "post_feedforward_layernorm": (D,)}, _DECODER, _HEAD)),
    "phi3": ("phi3", _expand("model.", "layers.", {
        **_PRE, "self_attn.qkv_proj": (2 * D, D), "self_attn.o_proj": (D, D),
        "mlp.gate_up_proj": (2 * H, D), "mlp.down_proj": (D, H)}, _DECODER, _HEAD)),
    "mixtral": ("mixtral", _expand("model.", "layers.", {**_ATTN, **_PRE, **_MIXTRAL}, _DECODER, _HEAD, experts=3)),
    "qwen-moe": ("qwen_moe", _expand("model.", "layers.", {**_ATTN, **_PRE, **_QWEN_EXPERTS, **_SHARED},
                                     _DECODER, _HEAD, experts=3)),
    "stacked": ("qwen_moe", _expand("model.", "layers.", {**_ATTN, **_PRE, **_STACKED}, _DECODER, _HEAD)),
    "gpt2": ("gpt2", _expand("transformer.", "h.", _GPT2, {"wte": (V, D), "wpe": (P, D), "ln_f": (D,)}, bias="conv1d")
             | {f"transformer.h.{i}.attn.bias": (1, 1, P, P) for i in range(L)}),
    "gpt2 bare": ("gpt2", _expand("", "h.", _GPT2, {"wte": (V, D), "wpe": (P, D), "ln_f": (D,)}, bias="conv1d")),
    "pythia": ("gpt_neox", _expand("gpt_neox.", "layers.", _NEOX, {"embed_in": (V, D), "final_layer_norm": (D,)},
                                   {"embed_out": (V, D)}, bias=True)),
    "opt": ("opt", _expand("model.decoder.", "layers.", _OPT, {
        "embed_tokens": (V, D), "embed_positions": (P, D), "final_layer_norm": (D,)}, bias=True)),
    "bert": ("bert", _expand("bert.", "encoder.layer.", _BERT, _BERT_OUT, {
        "bert.pooler.dense": (D, D), "cls.predictions.transform.dense": (D, D),
        "cls.predictions.decoder": (V, D), "cls.predictions.bias": (V,), "cls.predictions.decoder.bias": (V,)},
        bias=True)),
    "roberta": ("bert", _expand("roberta.", "encoder.layer.", _BERT, _BERT_OUT, {"lm_head.bias": (V,)}, bias=True)),
    "bert bare": ("bert", _expand("", "encoder.layer.", _BERT, _BERT_OUT, bias=True)),
    "vit": ("vit", _expand("vit.", "encoder.layer.", _VIT, _VIT_OUT, {"classifier": (3, D), "classifier.bias": (3,)},
                           bias=True)),
    "vit bare": ("vit", _expand("", "encoder.layer.", _VIT, _VIT_OUT, bias=True)),
}  # fmt: skip
_LLAMA = KNOWN["llama"][1]
_T5 = {"SelfAttention.q": (D, D), "DenseReluDense.wi": (H, D), "DenseReluDense.wo": (D, H), "layer_norm": (D,)}
UNKNOWN = {
    "rwkv": {f"rwkv.blocks.{i}.{n}.weight": (D, D) for i in range(L) for n in ("attention.key", "feed_forward.key")},
    "mamba": {f"backbone.layers.{i}.mixer.{n}.weight": (D, D) for i in range(L) for n in ("in_proj", "out_proj")},
    "t5": {f"encoder.block.{i}.layer.0.{n}.weight": s for i in range(L) for n, s in _T5.items()},
    "whisper": _expand("model.decoder.", "layers.", {**_OPT, "encoder_attn.q_proj": (D, D)}, {
        "embed_tokens": (V, D), "embed_positions": (P, D), "layer_norm": (D,)})
        | _expand("model.encoder.", "layers.", _OPT, {"conv1": (D, 3, 3)}),
    "mae": KNOWN["vit"][1] | {"decoder.decoder_pos_embed": (1, P, D), "decoder.decoder_layers.0.output.dense.weight": (D, H)},
    "clip": _expand("text_model.", "encoder.layers.", _OPT, {"embeddings.token_embedding": (V, D)}),
    "cohere": _expand("model.", "layers.", {**_ATTN, **_GLU, "input_layernorm": (D,)}, _DECODER),
    "glm4": _expand("model.", "layers.", {**_LAYER, "post_mlp_layernorm": (D,)}, _DECODER),
    "llama + unknown": _LLAMA | {"model.layers.1.self_attn.sinks": (4,)},
    "llama, hole": {n: s for n, s in _LLAMA.items() if not n.startswith("model.layers.0.")},
    "llama, no norm": {n: s for n, s in _LLAMA.items() if n != "model.layers.1.input_layernorm.weight"},
    "llama, no embedding": {n: s for n, s in _LLAMA.items() if "embed" not in n},
    "llama, other width": _LLAMA | {"model.layers.1.mlp.up_proj.weight": (H, D + 1)},
    "llama, hidden units differ": _LLAMA | {"model.layers.1.mlp.up_proj.weight": (H + 1, D)},
    "llama, matrix norm": _LLAMA | {"model.layers.1.input_layernorm.weight": (D, 1)},
    "llama, vector q": _LLAMA | {"model.layers.0.self_attn.q_proj.weight": (D,)},
    "llama, scalar": _LLAMA | {"model.layers.0.mlp.up_proj.weight": ()},
    "llama, empty": _LLAMA | {"model.layers.0.mlp.up_proj.weight": (0, D)},
    "huge layer number": _LLAMA | {f"model.layers.{'9' * 5000}.mlp.up_proj.weight": (H, D)},
    "starcoder": {n: s[::-1] for n, s in KNOWN["gpt2"][1].items()},
    "experts missing": {n: s for n, s in KNOWN["mixtral"][1].items() if "experts.1" not in n},
    "experts, no router": {n: s for n, s in KNOWN["qwen-moe"][1].items() if not n.endswith("mlp.gate.weight")},
    "keys and values differ": _LLAMA | {"model.layers.1.self_attn.k_proj.weight": (D // 2, D)},
    "bias longer than its weight": KNOWN["bert"][1] | {"bert.encoder.layer.1.intermediate.dense.bias": (H + 1,)},
    "bias of another width": KNOWN["qwen2"][1] | {"model.layers.0.mlp.down_proj.bias": (D + 1,)},
    "nothing": {},
}  # fmt: skip


def _weights(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def memory_store():
    return MemoryStore


@pytest.fixture(scope="session")
def pack():
    return _pack


@pytest.fixture(scope="session")
def pack_arrays():
    return _pack_arrays


@pytest.fixture(scope="session")
def weights():
    return _weights


@pytest.fixture(params=KNOWN)
def known(request):
    return request.param, *KNOWN[request.param]


@pytest.fixture(params=UNKNOWN)
def unknown(request):
    return request.param, UNKNOWN[request.param]


@pytest.fixture(scope="session")
def shapes():
    return {label: table for label, (_, table) in KNOWN.items()}


@pytest.fixture(scope="session")
def open_arrays():
    """Arrays -> an opened source over a store in memory, with claims."""
    from crawl import ModelRef, open_store

    def opened(arrays, **claims):
        files = {"model.safetensors": _pack_arrays(arrays), "config.json": json.dumps(claims).encode()}
        return open_store(MemoryStore(files), ModelRef("dir", "memory"))

    return opened
