"""Verification of three gigabytes in bounded memory, in a program of its own."""

import json
import os
import subprocess
import sys

import pytest

from nulls import ROOT
from program import run

MOST_MEMORY = 512 << 20
WIDTH, LAYERS = 4096, 25

PROGRAM = """
import json, resource, sys
from program import run
done = run("mark", "verify", sys.argv[1], "--key", sys.argv[2], "--json")
sys.stderr.write(done.stderr)
print(json.dumps([done.returncode, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, json.loads(done.stdout)]))
"""


def sparse(path):
    """A file of three gigabytes that takes no room: zeros, but for its header."""
    shapes = {"model.embed_tokens.weight": [64, WIDTH], "model.norm.weight": [WIDTH]}
    for i in range(LAYERS):
        kinds = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
        shapes |= {f"model.layers.{i}.{kind}.weight": [WIDTH, WIDTH] for kind in kinds}
        shapes |= {f"model.layers.{i}.{n}.weight": [WIDTH] for n in ("input_layernorm", "post_attention_layernorm")}
        for kind, shape in (("gate", [64, WIDTH]), ("up", [64, WIDTH]), ("down", [WIDTH, 64])):
            shapes[f"model.layers.{i}.mlp.{kind}_proj.weight"] = shape
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + at)
    return at


@pytest.mark.calibrate
def test_three_gigabytes_take_half_a_gigabyte(tmp_path):
    (tmp_path / "model").mkdir()
    assert sparse(tmp_path / "model" / "model.safetensors") > 3 << 30
    assert run("mark", "keygen", "--out", tmp_path / "k.json", "-q").returncode == 0
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), str(tmp_path / "k.json")]
    path = ":".join(map(str, (ROOT, ROOT / "tests", ROOT / "fixtures")))
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    code, kilobytes, document = json.loads(done.stdout)
    assert "error" not in document, document
    assert (code, document["verdict"]) == (4, "inconclusive")  # zeros carry nothing
    assert document["bytes_read"] > 3 << 30
    assert 1024 * kilobytes < MOST_MEMORY
