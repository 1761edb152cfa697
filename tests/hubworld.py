"""Families of small repositories of every kind a crawl meets, and what a crawl of them must say."""

import hashlib
import json
import random
import struct
from dataclasses import dataclass, field

import numpy as np

from hub import Fault, Hub, Repo
from hubdrawn import Drawn, llama, sharded

SHAPE = (32, 64, 2, 128)
LARGER = (256, 512, 4, 4096)
KINDS = (
    "copy",
    "gated copy",
    "gated",
    "bad header",
    "missing shard",
    "no weights",
    "pickle",
    "disabled",
    "two sets",
    "moved card",
)
"""Kinds of the fourth repository of a family, in turn."""

FAULTS = ("429", "500", "502", "503", "504", "short", "cut", "long", "ignore_range", "wrong_range", "gzip", "html", "stall",
          "stall_body", "redirect_loop", "foreign", "same_page", "cursor_loop")  # fmt: skip


@dataclass
class World:
    """Repositories by name, and the names of each expected outcome."""

    repos: dict[str, Repo] = field(default_factory=dict)
    signed: set[str] = field(default_factory=set)
    copies: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    models: int = 0


def pack(arrays):
    """A safetensors file of float16 arrays."""
    header, data = {}, b""
    for name, array in arrays.items():
        raw = array.astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights(seed: int, parent=None):
    """Weights of a small decoder, drawn anew or a little away from a parent."""
    rng = np.random.default_rng(seed)
    if parent is not None:
        return {n: a + rng.normal(0, 0.002, a.shape) for n, a in parent.items()}
    return {n: rng.normal(1.0 if len(s) == 1 else 0.0, 0.05, s) for n, s in llama(*SHAPE).items()}


def _sharded(arrays, n: int):
    names = sorted(arrays)
    files, places = {}, {}
    for i in range(n):
        part = names[i * len(names) // n : (i + 1) * len(names) // n]
        file = f"model-{i + 1:05d}-of-{n:05d}.safetensors"
        files[file] = pack({t: arrays[t] for t in part})
        places |= dict.fromkeys(part, file)
    return files | {"model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": places}).encode()}


def _adapter(seed: int, base: str):
    rng = np.random.default_rng(seed)
    at = "base_model.model.model.layers.0.self_attn.q_proj"
    arrays = {f"{at}.lora_A.weight": rng.normal(size=(4, 32)), f"{at}.lora_B.weight": rng.normal(size=(32, 4))}
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": base}
    return {"adapter_model.safetensors": pack(arrays), "adapter_config.json": json.dumps(config).encode()}


def commit(name: str) -> str:
    """The commit of a repository."""
    return hashlib.sha1(name.encode()).hexdigest()  # noqa: S324


def light(seed: int, parent=None):
    """A few tensors of no known architecture, which take no time to sign."""
    rng = np.random.default_rng(seed)
    return {f"some.tensor{i}": rng.normal(size=(32, 32)) + (0 if parent is None else 1) for i in range(4)}


def world(n_families: int, *, larger_every: int = 0, drawn=weights) -> World:
    """Families of four: a base, a fine-tune, an adapter, and one of `KINDS`; some bases are sharded, some larger."""
    made = World()
    config = json.dumps({"model_type": "llama", "num_attention_heads": 4}).encode()

    def add(name: str, files, **rest) -> None:
        made.repos[name] = Repo(files, commit(name), **rest)

    def sign(name: str, models: int = 1) -> None:
        made.signed.add(name)
        made.models += models

    for i in range(n_families):
        org = f"org{i % 37:02d}"
        base, tuned, adapter, fourth = (f"{org}/{x}-{i:04d}" for x in ("base", "tuned", "adapter", "other"))
        arrays = (drawn if i else weights)(i)
        one = {"model.safetensors": pack(arrays), "config.json": config}
        many = {**_sharded(arrays, 2 + i % 2), "config.json": config}
        files = many if i % 3 == 0 else one
        if larger_every and i % larger_every == 0:
            files = (
                sharded(llama(*LARGER), 2, i)
                if i % 2
                else {"model.safetensors": Drawn(llama(*LARGER), i), "config.json": config}
            )
        add(base, files)
        add(
            tuned,
            {"model.safetensors": pack((drawn if i else weights)(10_000 + i, arrays)), "config.json": config},
            tags=[f"base_model:finetune:{base}"],
        )
        add(adapter, _adapter(i, base), tags=[f"base_model:{base}", f"base_model:adapter:{base}"])
        for name in (base, tuned, adapter):
            sign(name)
        _fourth(made, (add, sign, drawn), KINDS[i % len(KINDS)], fourth, files, i)
    return made


def _fourth(made: World, does, kind: str, name: str, files, i: int) -> None:
    add, sign, drawn = does
    own = {"model.safetensors": pack(drawn(20_000 + i)), "config.json": files["config.json"]}
    if kind in {"copy", "gated copy", "moved card"}:
        add(name, {**files, "README.md": b"---\nlicense: mit\n---\n" + name.encode()}, gated=kind == "gated copy")
        sign(name)
        made.copies += 1
    elif kind == "two sets":
        add(name, {**own, "model.fp16.safetensors": pack(drawn(30_000 + i))})
        sign(name, 2)
    elif kind in {"bad header", "missing shard"}:
        wrong = {"model.safetensors": struct.pack("<Q", 20) + b"{not json at all....}" + bytes(700 + i)}
        lost = {n: b for n, b in _sharded(drawn(40_000 + i), 2).items() if n != "model-00002-of-00002.safetensors"}
        add(name, wrong if kind == "bad header" else lost)
        made.failed.add(name)
    else:
        added = {"gated": (own, {"gated": True}), "no weights": ({"README.md": b"nothing"}, {}),
                 "pickle": ({"pytorch_model.bin": b"\x80\x02" + bytes(700)}, {}), "disabled": (own, {"disabled": True})}  # fmt: skip
        found, rest = added[kind]
        add(name, found, **rest)
        made.skipped[name] = "gated" if kind in {"gated", "disabled"} else "skipped"


class Chance:
    """A fault in a share of all requests, of every kind in turn; drawn from one seed."""

    def __init__(self, seed: int, share: float) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self._share = share
        self.made: dict[str, int] = {}

    def __call__(self, origin: str, path: str) -> Fault | None:
        if self._random.random() >= self._share:
            return None
        action = self._random.choice(FAULTS)
        self.made[action] = self.made.get(action, 0) + 1
        return Fault("", action, headers={"Retry-After": "0"})


def serve(made: World, **rest) -> Hub:
    """A hub with these repositories."""
    return Hub(made.repos, **rest)
