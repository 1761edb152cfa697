"""Rewrites that keep the function: the relation is still found, what was done is named, strangers stay strangers."""

import numpy as np
import pytest

from disguised import FAMILIES, REWRITES, answer, compared, config, names_of, weights

PAIRS = [(family, rewrite) for family in FAMILIES for rewrite in REWRITES]
FARTHEST = {"llama-a-cpt", "gpt2-a-cpt", "bert-a-ft"}
CLOSEST = {("llama-a", "llama-b"), ("llama-a", "llama-a-student"), ("gpt2-a-cpt", "gpt2-b"), ("bert-a-ft", "bert-b")}


def kin_of(family, rewrite):
    """After all rewrites every relative, else the base and the farthest: the table of calibration asks them all."""
    return [(a, b) for a, b in FAMILIES[family][0] if rewrite == "all" or a == b or b in FARTHEST]


def strangers_of(family, rewrite):
    """After all rewrites every pair, else those of one data set, one of them distilled: the table asks them all."""
    return [pair for pair in FAMILIES[family][1] if rewrite == "all" or pair in CLOSEST]


@pytest.mark.parametrize(("family", "rewrite"), PAIRS)
def test_kin_are_found_below_every_rewrite(family, rewrite):
    for a, b in kin_of(family, rewrite):
        found = answer(a, b, rewrite)
        allowed = {"related"} if rewrite in {"permuted", "rescaled"} else {"related", "resembles"}
        assert found["verdict"] in allowed, (a, b, rewrite, found["log10_p"])
        if family != "gpt2":
            assert found["verdict"] == "related", (a, b, rewrite)


@pytest.mark.parametrize(("family", "rewrite"), PAIRS)
def test_what_was_done_is_named(family, rewrite):
    expected = names_of(family, rewrite)
    for a, b in kin_of(family, rewrite):
        found = answer(a, b, rewrite)
        if found["disguise"] is None:  # plainly related as it stands: nobody looked closer
            assert rewrite in {"permuted", "rescaled"}
            continue
        assert set(found["disguise"]["transforms"]) == expected, (a, b)
        assert all(entry["a"] == entry["b"] for entry in found["layers"]), (a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pure_rewrite_is_the_same_model(family):
    base = FAMILIES[family][0][0][0]
    for rewrite in ("permuted", "turned", "all"):
        found = answer(base, base, rewrite)
        assert found["relation"]["kind"] == "identical", rewrite
        after = found["disguise"]["agreement_after"]
        moved_only = rewrite == "permuted" or (family == "bert" and rewrite == "turned")
        assert after["exactness"] == ("bits" if moved_only else "rounding")


@pytest.mark.parametrize(("family", "rewrite"), PAIRS)
def test_strangers_put_through_the_same_rewrites_stay_strangers(family, rewrite):
    for a, b in strangers_of(family, rewrite):
        found = answer(a, b, rewrite)
        assert found["verdict"] == "no-evidence", (a, b, rewrite)
        assert found["disguise"] is None
        assert all(entry["a"] is not None for entry in found["layers"])  # no map is shown where nothing was found


def test_the_gap_between_kin_and_strangers_is_wide():
    """Share of units whose views agree, once undone: every relative far above every stranger."""
    seen = {True: [], False: []}
    for family, rewrite in PAIRS:
        for group, related in ((kin_of(family, rewrite), True), (strangers_of(family, rewrite), False)):
            for a, b in group:
                rows = [t for t in answer(a, b, rewrite)["tests"] if t["method"] == "unit-agreement"]
                seen[related] += [t["statistic"] for t in rows]
    assert len(seen[True]) >= 30
    assert len(seen[False]) == 25
    assert min(seen[True]) > 0.5
    assert max(seen[False]) < 0.05


def test_a_resemblance_is_no_proof_and_says_so():
    found = answer("gpt2-a", "gpt2-a-cpt", "all")
    assert found["verdict"] == "resembles"
    assert found["exactness"] == "calibrated"
    row = next(t for t in found["tests"] if t["method"] == "unit-agreement")
    assert row["log10_e"] is None
    assert row["controls"] == 2
    assert row["log10_p"] == found["log10_p"] == pytest.approx(-np.log10(3), abs=1e-5)


def test_a_model_rewritten_in_every_way_and_trained_on_is_found():
    """Really trained after the rewrite, value dimensions permuted as well: no exact test is left, the resemblance is."""
    found = compared(weights("llama-a"), weights("llama-a-disguised"), config("llama-a"), config("llama-a-disguised"))
    assert found["verdict"] in {"related", "resembles"}
    assert {"hidden-permutation", "residual-rotation", "gain-folding", "head-permutation"} <= set(
        found["disguise"]["transforms"]
    )
    assert [(e["a"], e["b"]) for e in found["layers"]] == [(i, i) for i in range(4)]
    other = compared(weights("llama-b"), weights("llama-a-disguised"), config("llama-b"), config("llama-a-disguised"))
    assert other["verdict"] == "no-evidence"
