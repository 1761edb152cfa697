"""Quantised copies in dequantised files: bits, group and method, and copies of relatives that are not those of a parent."""

from functools import cache

import numpy as np
import pytest

import derive
import quants
from lineage.quantising import hidden_quantisation, quantised_copy
from nulls import ROOT
from slices import slices

ZOO = ROOT / "fixtures" / "zoo"


@cache
def model(name):
    return derive.drop_layers(derive.load(ZOO / name), [1, 2, 3])


@cache
def read(name):
    return slices(model(name))[0]


def made(weights, dtype="bfloat16"):
    return slices(derive.cast(weights, dtype))[0]


MADE = {
    "rtn 4": (lambda w: derive.quantize_rtn(w, 4, 32), 4, "rtn"),
    "rtn 8": (lambda w: derive.quantize_rtn(w, 8, 32), 8, "rtn"),
    "rtn 4 rows": (lambda w: derive.quantize_rtn(w, 4), 4, "rtn"),
    "asymmetric 4": (lambda w: quants.quantize_asymmetric(w, 4, 32), 4, "rtn"),
    "nf4": (lambda w: quants.quantize_nf4(w, 32), 4, "nf4"),
    "Q4_0": (lambda w: quants.quantize_gguf(w, "Q4_0"), 4, "Q4_0"),
    "Q8_0": (lambda w: quants.quantize_gguf(w, "Q8_0"), 8, "Q8_0"),
}


@pytest.mark.parametrize("name", MADE)
def test_bits_and_method(name):
    change, bits, method = MADE[name]
    child = made(change(model("llama-a")))
    found = quantised_copy(read("llama-a"), child, "BF16")
    assert found is not None
    assert (found.method, found.bits) == (method, bits)
    assert sum(m == method for m in found.methods.values()) >= 0.99 * len(found.methods)
    alone = hidden_quantisation(child, "BF16")
    assert alone is not None
    assert alone.bits == bits


@pytest.mark.parametrize("name", ["rtn 4", "nf4", "Q8_0"])
def test_a_copy_of_a_relative_is_no_copy_of_the_parent(name):
    child = made(MADE[name][0](model("llama-a-ft1")))
    assert quantised_copy(read("llama-a"), child, "BF16") is None
    assert quantised_copy(read("llama-b"), child, "BF16") is None


@pytest.mark.parametrize("name", ["llama-a", "llama-a-ft1", "llama-a-lora", "llama-b"])
def test_trained_models_lie_on_no_grid(name):
    assert hidden_quantisation(read(name), "BF16") is None


def test_the_reverse_is_refused():
    child = made(MADE["rtn 4"][0](model("llama-a")))
    assert quantised_copy(child, read("llama-a"), "BF16") is None


def test_a_fine_tune_is_no_quantised_copy():
    assert quantised_copy(read("llama-a"), read("llama-a-ft1"), "BF16") is None


def test_other_containers_keep_the_grid():
    child = MADE["rtn 4"][0](derive.cast(model("llama-a"), "float32"))
    for dtype, name in (("float16", "F16"), ("float32", "F32")):
        found = hidden_quantisation(made(child, dtype), name)
        assert found is not None
        assert np.isclose(found.bits, 4)
