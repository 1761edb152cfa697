"""Matching units, and directions that are the same in every basis: against loops, and under rotations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power

import derive
from oracles import naive
from stats.matching import agreement, cosines, fitted_rotation, inner_profiles, levelled_tokens, mutual_matches

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(1, 7), st.integers(1, 7))
def test_mutual_matches_are_those_of_a_loop(seed, n, m):
    scores = np.random.default_rng(seed).integers(0, 9, (n, m)) / 8.0  # ties are frequent
    found = mutual_matches(scores)
    assert list(zip(found.a.tolist(), found.b.tolist(), strict=True)) == naive.mutual_best(scores.tolist())
    assert np.array_equal(found.score, scores[found.a, found.b])


@given(SEEDS)
def test_relabelling_relabels_the_pairs_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    scores, order = rng.standard_normal((9, 6)), rng.permutation(6)
    plain, moved = mutual_matches(scores), mutual_matches(scores[:, order])
    assert np.array_equal(plain.a, moved.a)
    assert np.array_equal(plain.b, order[moved.b])


def test_agreement_counts_units_with_one_partner():
    first, second = np.eye(4), np.eye(4)[[0, 1, 3, 2]]
    assert agreement(first, first) == 4
    assert agreement(first, second) == 2


@given(SEEDS, st.integers(3, 9), st.integers(3, 9))
def test_levelled_tokens_are_those_of_a_matrix_power(seed, t, d):
    tokens = np.random.default_rng(seed).standard_normal((t, d))
    rows = tokens - tokens.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(rows, full_matrices=False)
    kept = s > 1e-5 * s[0]
    expected = vt[kept].T @ np.diag(np.sqrt(s[kept])) @ u[:, kept].T
    assert np.allclose(levelled_tokens(tokens), expected, atol=1e-7)
    if t <= d - 1 and kept.all():
        assert np.allclose(rows.T @ fractional_matrix_power(rows @ rows.T, -0.25).real, expected, atol=1e-6)


@given(SEEDS)
def test_rows_have_the_same_answers_in_every_basis(seed):
    rng = np.random.default_rng(seed)
    tokens, rows, turn = rng.standard_normal((20, 8)), rng.standard_normal((5, 8)), derive.haar(8, rng)
    assert np.allclose(rows @ levelled_tokens(tokens), rows @ turn @ levelled_tokens(tokens @ turn), atol=1e-8)


def test_tokens_that_are_all_alike_give_no_directions():
    assert not levelled_tokens(np.ones((5, 3))).any()


@given(SEEDS)
def test_a_rotation_is_recovered(seed):
    rng = np.random.default_rng(seed)
    points, turn = rng.standard_normal((30, 5)), derive.haar(5, rng)
    assert np.allclose(fitted_rotation(points @ turn, points), turn)


def test_cosines_of_zero_rows_are_zero():
    found = cosines(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[6.0, 8.0]]))
    assert found == pytest.approx(np.array([[1.0], [0.0]]))


@given(SEEDS, st.integers(2, 7), st.booleans())
def test_inner_profiles_are_those_of_a_loop(seed, n, signed):
    rows = np.random.default_rng(seed).standard_normal((n, 4))
    table = [
        sorted(naive.cosine(x, y) if signed else abs(naive.cosine(x, y)) for j, y in enumerate(rows) if j != i)
        for i, x in enumerate(rows)
    ]
    assert np.allclose(inner_profiles(rows, signed=signed), np.array(table) - np.mean(table, axis=0))


@given(SEEDS)
def test_inner_profiles_know_no_basis_no_scale_no_sign_and_follow_the_units(seed):
    rng = np.random.default_rng(seed)
    rows, order = rng.standard_normal((9, 6)), rng.permutation(9)
    moved = (rows @ derive.haar(6, rng))[order] * rng.uniform(0.5, 2.0, (9, 1))
    assert np.allclose(inner_profiles(moved, signed=True), inner_profiles(rows, signed=True)[order])
    flipped = moved * rng.choice([-1.0, 1.0], (9, 1))
    assert np.allclose(inner_profiles(flipped, signed=False), inner_profiles(rows, signed=False)[order])
