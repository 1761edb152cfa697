"""What a sketch costs at the size of a 7B model: one layer of it, its embedding, marked, put in another order, found again.

`.venv/bin/python benchmarks/sketch_cost.py FOLDER` takes 3 GB of disk; prints CPU seconds and peak memory of each command.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

WIDTH, HIDDEN, TOKENS = 4096, 11008, 32000
CONFIG = {"num_attention_heads": 32, "num_key_value_heads": 32}
LINEAGE = Path(sys.executable).with_name("lineage")


def layer(rng):
    """A Llama of one layer with normal weights."""

    def matrix(*shape):
        return (rng.standard_normal(shape, dtype=np.float32) * 0.02).astype(ml_dtypes.bfloat16)

    ones, place = np.ones(WIDTH, ml_dtypes.bfloat16), "model.layers.0."
    made = {"model.embed_tokens.weight": matrix(TOKENS, WIDTH), "model.norm.weight": ones}
    made |= {f"{place}self_attn.{n}_proj.weight": matrix(WIDTH, WIDTH) for n in "qkvo"}
    made |= {f"{place}mlp.{n}_proj.weight": matrix(HIDDEN, WIDTH) for n in ("gate", "up")}
    made |= {f"{place}{n}_layernorm.weight": ones for n in ("input", "post_attention")}
    return made | {f"{place}mlp.down_proj.weight": matrix(WIDTH, HIDDEN)}


def relabelled(weights, rng):
    """Residual dimensions and hidden units in another order; the same bits."""
    dims, units = rng.permutation(WIDTH), rng.permutation(HIDDEN)
    out = {}
    for name, values in weights.items():
        bits = values.view(np.uint16)
        if "gate" in name or "up_proj" in name:
            bits = bits[units][:, dims]
        elif "down" in name:
            bits = bits[dims][:, units]
        else:
            bits = bits[dims] if bits.ndim == 1 or "o_proj" in name else bits[:, dims]
        out[name] = np.ascontiguousarray(bits).view(ml_dtypes.bfloat16)
    return out


def saved(weights, folder):
    """Write a model."""
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))


def measured(*words):
    """Run one command in a process of its own; its document, CPU seconds and peak memory."""
    program = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([done.stdout, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))\n"
    )
    command = [sys.executable, "-c", program, str(LINEAGE), "mark", *map(str, words), "--json"]
    text, seconds, megabytes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    document = json.loads(text)
    told = {k: document[k] for k in ("bytes", "sizes", "verdict", "statistic", "payload_ok") if k in document}
    sys.stdout.write(f"{words[0]}: {seconds:.1f} s of CPU, peak {megabytes:.0f} MB, {told}\n")


def main(root):
    """Make, mark, launder, measure."""
    rng = np.random.default_rng(0)
    saved(layer(rng), root / "model")
    measured("sketch", root / "model", "--out", root / "all")
    measured("keygen", "--out", root / "key.json", "--payload", "6f776e6572")
    words = ("--key", root / "key.json", "--out", root / "copy", "--force", "--sketch", root / "sketch")
    measured("embed", root / "model", *words)
    saved(relabelled(load_file(root / "copy" / "model.safetensors"), rng), root / "other")
    measured("verify", root / "other", "--key", root / "key.json")
    measured("verify", root / "other", "--key", root / "key.json", "--sketch", root / "sketch")
    for name in ("model", "copy", "other"):
        shutil.rmtree(root / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
