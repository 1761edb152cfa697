"""Rows and arrays a step left as they were: a loop says the same, and what cannot be compared says nothing."""

from dataclasses import replace

import numpy as np
import pytest

from crawl.casts import round_to
from lineage.inherited import changed_arrays, changed_rows
from lineage.kinship import Kinship
from lineage.posterior import tree_posterior
from lineage.signals import Traits, weak_signals
from lineage.study import Study


def member(name, embed, *, matrix=None, dtype="BF16", gain=1.0):
    matrix = np.eye(4) if matrix is None else matrix
    stored = {"embed": round_to(np.asarray(embed, dtype=float), dtype), "0.attn.q": round_to(matrix, dtype)}
    return Study(
        name,
        dtype,
        dict.fromkeys((*stored, "0.norm.attn"), dtype),
        {"0.attn.q": stored["0.attn.q"]},
        {"embed": stored["embed"]},
        {"0.norm.attn": np.full(4, gain)},
        1,
        0,
        0,
    )


def naive_rows(members, threshold):
    n = len(members)
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            a, b = members[i].tables["embed"].astype(float), members[j].tables["embed"].astype(float)
            for x, y in zip(a, b, strict=True):
                if not x.any() and not y.any():
                    continue
                size = np.linalg.norm(x) * np.linalg.norm(y)
                cosine = float(x @ y) / size if size else 0.0
                off = np.sqrt(max(0.0, 1.0 - cosine * cosine))
                found[i, j] += i != j and (cosine <= 0.0 or off > threshold)
    return found / len(members[0].tables["embed"])


@pytest.mark.parametrize(("dtype", "threshold"), [("BF16", 2.0**-8), ("F16", 2.0**-11), ("F32", 2.0**-18)])
def test_changed_rows_are_those_of_a_loop(dtype, threshold):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(60, 32))
    base[5] = 0.0
    models = [member("a", base, dtype=dtype)]
    for k in range(4):
        other = base * rng.uniform(0.9, 1.0)
        touched = rng.random(60) < 0.4
        other[touched] += rng.choice([0.0, 0.1, 1.0]) * rng.normal(size=(int(touched.sum()), 32))
        other[7] *= -1.0
        models.append(member(str(k), other, dtype=dtype))
    assert np.allclose(changed_rows(models), naive_rows(models, threshold))


def test_rows_that_only_shrank_did_not_change():
    base = np.random.default_rng(1).normal(size=(40, 16))
    moved = base * 0.93
    moved[:10] += 1.0
    assert changed_rows([member("a", base), member("b", moved)])[0, 1] == pytest.approx(0.25)
    assert changed_rows([member("a", base, dtype="F32"), member("b", base)])[0, 1] == 0.0


def test_rows_of_many_members_are_counted_in_parts_alike():
    rng = np.random.default_rng(2)
    base = rng.normal(size=(700, 8))
    models = [member(str(k), base + (rng.random((700, 1)) < 0.2) * rng.normal(size=base.shape)) for k in range(40)]
    whole = changed_rows(models)
    part = changed_rows(models[:2])
    assert whole[0, 1] == part[0, 1]
    assert np.array_equal(whole, whole.T)


def test_changed_arrays_see_through_a_finer_format_and_nothing_else():
    rng = np.random.default_rng(3)
    base, matrix = rng.normal(size=(20, 8)), rng.normal(size=(4, 4))
    fine = member("fine", base, matrix=matrix, dtype="F32")
    coarse = member("coarse", base, matrix=matrix)
    other = member("other", base, matrix=matrix + 1.0, gain=2.0)
    assert np.allclose(changed_arrays([fine, coarse, other]), np.array([[0, 0, 2], [0, 0, 2], [2, 2, 0]]) / 3)


def test_what_a_sibling_changed_keeps_it_from_being_the_parent():
    """A small sibling lies nearer to a heavy child than the parent does, and lacks rows that both others have."""
    squared = np.array([[0.0, 0.1, 1.0], [0.1, 0.0, 0.9], [1.0, 0.9, 0.0]])
    rows = np.array([[0.0, 0.1, 0.5], [0.1, 0.0, 0.55], [0.5, 0.55, 0.0]])
    plain = Kinship(("a", "b", "c"), squared, {}, np.zeros((3, 3), dtype=bool))
    before, after = tree_posterior(plain).edge, tree_posterior(replace(plain, rows=rows)).edge
    assert before[1, 2] + before[2, 1] > before[0, 2] + before[2, 0]
    assert after[0, 2] + after[2, 0] > 0.9


def test_a_trait_on_which_matrices_disagree_says_less():
    a = Traits(dict.fromkeys("pqrs", 1.0), {}, 0.0)
    agreed = Traits(dict.fromkeys("pqrs", 1.1), {}, 0.0)
    torn = Traits({"p": 1.7, "q": 0.9, "r": 0.9, "s": 1.0}, {}, 0.0)
    full, part = (weak_signals(a, b)[0].log_odds for b in (agreed, torn))
    assert full > part > 0.0
    assert [s.log_odds for s in weak_signals(torn, a)] == [-part]
