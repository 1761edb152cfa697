"""Chains of roundings: which formats a model went through, and what only looks as if it had."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
from crawl.casts import round_to
from lineage.casting import find_chain, narrow_grid
from nulls import ROOT
from slices import slices

NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}


@cache
def base():
    rng = np.random.default_rng(0)
    w = derive.cast(derive.drop_layers(derive.load(ROOT / "fixtures" / "zoo" / "llama-a"), [1, 2, 3]), "float32")
    return derive.add_noise(w, 0.05, rng)


def chain_of(first, second, dtype):
    (a, _), (b, _) = slices(first), slices(second)
    return find_chain([(a[k], b[k], dtype) for k in b])


CHAINS = (
    ("bfloat16",),
    ("float16",),
    ("float16", "bfloat16"),
    ("float8_e4m3fn",),
    ("float16", "float8_e4m3fn"),
    ("bfloat16", "float8_e5m2"),
    ("bfloat16", "float32"),
    ("float16", "float32"),
    ("float8_e5m2", "bfloat16"),
)


@pytest.mark.parametrize("through", CHAINS, ids=" ".join)
def test_the_chain_is_named_and_the_way_back_is_refused(through):
    made = base()
    for name in through:
        made = derive.cast(made, name)
    lossy = [
        NAMES[n] for i, n in enumerate(through) if n != "float32" and not (i and through[i - 1].startswith("float8"))
    ]
    found = chain_of(base(), made, NAMES[through[-1]])
    assert found is not None
    assert found.formats == tuple(lossy)
    assert found.share == 1.0
    assert found.is_rounding
    assert chain_of(made, base(), "F32") is None


def test_through_a_coarser_significand_and_back_is_seen_in_the_wider_file():
    made = derive.cast(derive.cast(derive.cast(base(), "bfloat16"), "float16"), "float32")
    found = chain_of(base(), made, "F32")
    assert found is not None
    assert found.formats[0] == "BF16"


def test_equal_values_in_a_wider_format_went_through_nothing():
    narrow = derive.cast(base(), "bfloat16")
    found = chain_of(narrow, derive.cast(narrow, "float32"), "F32")
    assert found is not None
    assert found.formats == ()
    assert not found.is_rounding


@pytest.mark.parametrize("step", [2.0**-14, 2.0**-12])
def test_a_copy_trained_a_little_in_a_finer_format_was_not_rounded(step):
    """It rounds to its parent in every value, and came after it."""
    rng = np.random.default_rng(1)
    old = derive.cast(base(), "bfloat16")
    new = {
        k: (v.astype(np.float64) * (1 + step * rng.uniform(-1, 1, v.shape))).astype(np.float32) for k, v in old.items()
    }
    found = chain_of(new, old, "BF16")
    assert found is not None
    assert not found.is_rounding


def test_a_fine_tune_went_through_nothing():
    zoo = ROOT / "fixtures" / "zoo"
    first, second = derive.load(zoo / "llama-a"), derive.load(zoo / "llama-a-ft1")
    assert chain_of(first, second, "BF16") is None
    assert chain_of(second, first, "BF16") is None


@given(st.integers(0, 2**32 - 1), st.permutations(["BF16", "F16", "F8_E5M2"]))
def test_every_value_of_a_chain_is_held_by_its_last_format(seed, through):
    values = np.random.default_rng(seed).normal(size=200) * 0.1
    for name in through[:2]:
        values = round_to(values, name)
    assert np.array_equal(round_to(values, through[1]), values)
    assert narrow_grid([values], "F32") is not None


def test_nothing_to_compare_is_no_chain():
    assert find_chain([]) is None
    assert find_chain([(np.zeros(3), np.zeros(4), "BF16")]) is None
    assert find_chain([(np.ones(3), np.ones(3), "I8")]) is None
