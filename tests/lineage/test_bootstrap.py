"""Trees from matrices drawn with replacement: the same as by hand, and what the share means."""

import numpy as np
import pytest

from lineage import bootstrap
from lineage.bootstrap import link_support
from lineage.distances import block_distances, squared_distances
from lineage.kinship import Kinship
from lineage.posterior import tree_posterior
from stats.arborescence import minimum_arborescence

REPLICATES = 40


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    monkeypatch.setattr(bootstrap, "REPLICATES", REPLICATES)


def family(n_blocks=6, noise=0.0, seed=0):
    """A path of five models; of some matrices the last model is near the first."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(5, n_blocks, 40))
    at = np.cumsum(steps, axis=0)
    at[4] += noise * (at[0] - at[3]) * (np.arange(n_blocks) % 2)[:, None]
    return [{f"{k}.attn.q": 5.0 + at[m, k].reshape(5, 8) for k in range(n_blocks)} for m in range(5)]


def kin_of(models):
    n = len(models)
    return Kinship(tuple("abcdefgh"[:n]), squared_distances(models), {}, np.zeros((n, n), dtype=bool))


def support(models, seed=0):
    kin = kin_of(models)
    return link_support(models, kin.squared, tree_posterior(kin), np.random.default_rng(seed))


def test_blocks_add_up_to_the_distance():
    models = family()
    assert np.allclose(block_distances(models).mean(axis=0), squared_distances(models), rtol=1e-12)


def test_shares_are_those_of_trees_drawn_by_hand():
    models = family(noise=0.9)
    kin = kin_of(models)
    found = tree_posterior(kin)
    rest = found.log_weight + 4.0 * np.log(np.maximum(kin.squared, 1e-12))
    counts, names = np.zeros((5, 5)), sorted(models[0])
    for draw in np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=REPLICATES):
        drawn = np.zeros((5, 5))
        for k, times in enumerate(draw.tolist()):
            for _ in range(times):
                drawn += squared_distances([{names[k]: m[names[k]]} for m in models]) / 6
        cost = 4.0 * np.log(np.maximum(drawn, 1e-12)) - rest
        for child, parent in enumerate(minimum_arborescence(cost).tolist()):
            if parent >= 0:
                counts[child, parent] += 1
                counts[parent, child] += 1
    expected = counts / REPLICATES
    assert np.array_equal(support(models, seed=3), expected)
    assert 0.0 < expected[expected > 0].min() < 1.0


def test_every_replicate_is_a_tree():
    found = support(family(noise=0.9))
    assert np.array_equal(found, found.T)
    assert found.sum() / 2 == pytest.approx(4.0)


def test_matrices_that_agree_leave_no_doubt_and_others_do():
    found = support(family())
    assert [found[i, i + 1] for i in range(4)] == [1.0] * 4
    assert support(family(noise=0.9)).max(axis=1).min() < 1.0


def test_the_seed_decides():
    models = family(noise=0.9)
    assert np.array_equal(support(models, 1), support(models, 1))
    assert not np.array_equal(support(models, 1), support(models, 2))


def test_too_little_to_draw_from_says_nothing():
    assert support(family()[:2]) is None
    assert support(family(n_blocks=3)) is None


def test_many_blocks_are_put_together(monkeypatch):
    monkeypatch.setattr(bootstrap, "MOST_BLOCKS", 4)
    found = support(family(n_blocks=9))
    assert found.sum() / 2 == pytest.approx(4.0)
