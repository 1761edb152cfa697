"""Trees of merged adapters: products of low rank on a trained model, in forms and sizes that mislead distances and ranks."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import treescores
from crawl import open_model
from crawl.casts import round_to
from lineage.kinship import kinship
from lineage.plan import PUBLIC_KEY
from lineage.posterior import SHARPNESS, sharpness_of, tree_posterior
from lineage.signals import growth_signal, traits_of
from lineage.study import study
from nulls import ROOT
from twins import Family

FORM = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 2, 7: 3, 8: 5}


@pytest.fixture(scope="module")
def base():
    with open_model(str(ROOT / "fixtures" / "zoo" / "llama-a")) as source:
        return study(source, PUBLIC_KEY, name="m0")


def adapted(parent, name, rng, size, rank=4, kinds=("attn.q", "attn.v", "mlp.up")):
    """A copy with a product of low rank added to some matrices, rounded to its format."""
    made = {}
    for k, held in parent.matrices.items():
        x = made[k] = np.asarray(held, dtype=np.float64)
        if k.endswith(kinds):
            update = rng.standard_normal((len(x), rank)) @ rng.standard_normal((rank, x.shape[1]))
            made[k] = round_to(x + size * np.linalg.norm(x) * update / np.linalg.norm(update), "BF16")
    return replace(parent, id=name, matrices=made)


def grown(base, seed):
    """A tree of nine with steps of very different sizes; names say nothing."""
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in rng.permutation(100)[: len(FORM) + 1]]
    studies = {names[0]: replace(base, id=names[0])}
    for child, parent in FORM.items():
        size = float(rng.choice([0.03, 0.06, 0.25]))
        studies[names[child]] = adapted(studies[names[parent]], names[child], rng, size)
    parents = {names[0]: ()} | {names[c]: (names[p],) for c, p in FORM.items()}
    return Family(studies, parents, dict.fromkeys(names, "lora-merge"))


@pytest.mark.parametrize("seed", range(2))
def test_trees_of_adapters_are_found_with_root_and_directions(base, seed):
    family = grown(base, seed)
    counts, likely = treescores.score(family, treescores.answered(family))
    assert counts["undirected"] == counts["directed"] == len(FORM)
    assert counts["roots_right"] == 1
    assert min(p for p, *_ in likely) > 0.5


def test_growth_speaks_of_low_rank_only_and_changes_sign_with_the_order(base):
    rng = np.random.default_rng(5)
    child = adapted(base, "child", rng, 0.1)
    ((forward),) = growth_signal(base, child)
    ((backward),) = growth_signal(child, base)
    assert forward.log_odds == -backward.log_odds > 1.0
    dense = adapted(base, "dense", rng, 0.1, rank=64)
    assert growth_signal(base, dense) is None
    assert growth_signal(base, replace(base, id="same")) is None


def test_other_signals_are_silent_on_adapters(base):
    child = adapted(base, "child", np.random.default_rng(6), 0.2, kinds=("mlp.up", "mlp.down"))
    kin = kinship([base, child], {s.id: traits_of(s) for s in (base, child)})
    assert [s.name for s in kin.signals[0, 1]] == ["orthogonal-growth"]


def test_distances_that_add_are_trusted_more_and_others_as_before(base):
    family = grown(base, 9)
    members = [family.studies[i] for i in sorted(family.studies)]
    kin = kinship(members, {m.id: traits_of(m) for m in members})
    found = tree_posterior(kin)
    assert found.sharpness == sharpness_of(kin.squared) > 5 * SHARPNESS
    shared = np.random.default_rng(0).standard_normal((2, 40))
    points = np.random.default_rng(1).standard_normal((9, 2)) @ shared
    near = np.square(points[:, None] - points[None]).sum(axis=2)
    assert sharpness_of(near) == SHARPNESS
    assert sharpness_of(near[:3, :3]) == SHARPNESS
    assert sharpness_of(np.full((9, 9), np.inf)) == SHARPNESS


def test_order_and_names_do_not_matter(base):
    family = grown(base, 4)
    named = {n: f"x{i}" for i, n in enumerate(sorted(family.studies, reverse=True))}
    turned = Family(
        {named[n]: replace(s, id=named[n]) for n, s in family.studies.items()},
        {named[n]: tuple(named[p] for p in parents) for n, parents in family.parents.items()},
        {named[n]: k for n, k in family.kinds.items()},
    )
    one, two = (treescores.answered(f) for f in (family, turned))
    links = [{(named.get(k.link.a, k.link.a), named.get(k.link.b, k.link.b)) for k in p.links} for p in (one, two)]
    assert {frozenset(k) for k in links[0]} == {frozenset(k) for k in links[1]}
    assert named[one.root] == two.root
    assert len(list(combinations(family.studies, 2))) == 36
