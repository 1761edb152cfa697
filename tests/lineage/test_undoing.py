"""Rewrites are taken back against the unmarked reference; a stranger stays a stranger, and marks are found again."""

from functools import partial

import numpy as np
import pytest

import marked
from crawl import ModelRef, open_model
from lineage.holding import held_weights
from lineage.undoing import undone
from weightmark.attacks import BY_NAME, Held
from weightmark.keys import Key
from weightmark.schemes import SCHEMES

NAMES = [name for name in BY_NAME if name.endswith("aligned")]


@pytest.fixture(scope="module")
def host(zoo):
    with open_model(ModelRef.parse(str(zoo / "llama-a"))) as source:
        weights, heads = held_weights(source)
        return weights, heads, source.architecture


def key(number):
    dss = SCHEMES["dss"]
    return Key(scheme="dss", scheme_version=1, channel="0", master=bytes([number] * 32), params=dss.params("default"))


@pytest.mark.parametrize("name", NAMES)
def test_rewrites_are_undone(host, name):
    weights, heads, architecture = host
    made = BY_NAME[name].change(
        weights, Held(base=weights, heads=heads, mark=lambda w, _: dict(w)), np.random.default_rng(1)
    )
    found = undone(made, weights, architecture)
    assert len(found) == 28
    for role, values in found.items():
        known = weights[role].astype(np.float64)
        assert values.shape == known.shape
        most = 0.2 if name.startswith("split") and role.endswith("down") else 0.01
        assert np.linalg.norm(values - known) < most * np.linalg.norm(known), role


@pytest.mark.parametrize("name", ["permute+rotate-aligned", "mix-values-aligned"])
def test_a_mark_is_found_again_under_noise(host, name):
    weights, heads, architecture = host
    dss, shapes = SCHEMES["dss"], {r: v.shape for r, v in weights.items()}
    ours = weights | dss.embed(weights, key(1))
    moved = BY_NAME[name].change(
        ours, Held(base=weights, heads=heads, mark=lambda w, _: dict(w)), np.random.default_rng(2)
    )
    read = partial(dss.verify, key=key(1), shapes=shapes, reference=weights)
    whole = read(ours).test.statistic
    found = read(undone(moved, weights, architecture)).test
    assert found.log_pvalue < np.log(1e-6)
    assert found.statistic > 0.2 * whole
    assert read(undone(moved, weights, architecture), key=key(2)).test.log_pvalue > np.log(1e-4)


def test_a_stranger_finds_no_place(host, zoo):
    """Layers without a partner are left out: an unrelated suspect is not bent towards the reference."""
    weights, _, architecture = host
    with open_model(ModelRef.parse(str(zoo / "llama-b"))) as source:
        assert undone(held_weights(source)[0], weights, architecture) == {}
    rng = np.random.default_rng(1)
    shuffled = {r: rng.permutation(v.ravel()).reshape(v.shape) for r, v in weights.items()}
    assert undone(shuffled | {r: weights[r] for r in ("embed", "unembed")}, weights, architecture) == {}


def test_aligning_an_unmarked_suspect_to_the_unmarked_reference_leaks_nothing(host):
    weights, heads, architecture = host
    dss, shapes = SCHEMES["dss"], {r: v.shape for r, v in weights.items()}
    held = Held(base=weights, heads=heads, mark=lambda w, _: dict(w))
    seen = []
    for number in range(4):
        rng = np.random.default_rng(number)
        noisy = {
            r: (v + 0.5 * v.astype(np.float64).std() * rng.standard_normal(v.shape)).astype(v.dtype)
            for r, v in weights.items()
        }
        moved = BY_NAME["permute+rotate-aligned"].change(noisy, held, rng)
        found = undone(moved, weights, architecture)
        assert len(found) > 14
        seen.append(dss.verify(found, key(number + 20), shapes=shapes, reference=weights).test.statistic)
    assert abs(np.mean(seen)) < 4 / np.sqrt(4)
    assert max(seen) < 5


def test_layers_are_found_where_others_were_dropped(host):
    weights, _, architecture = host
    fewer = {r: v for r, v in weights.items() if not r.startswith("L0001.")}
    names = {2: 1, 3: 2}
    moved = {
        f"L{names.get(int(r[1:5]), int(r[1:5])):04d}{r[5:]}" if r.startswith("L") else r: v for r, v in fewer.items()
    }
    found = undone(moved, weights, architecture)
    assert {r[:5] for r in found} == {"L0000", "L0002", "L0003"}
    assert all(np.allclose(v, weights[r].astype(np.float64), atol=1e-6) for r, v in found.items())


def test_roles_of_the_reference_are_those_of_the_scheme(host):
    weights, _, architecture = host
    carriers = SCHEMES["gram"].carriers({r: v.shape for r, v in weights.items()}, key(1))
    assert set(carriers) <= set(undone(weights, weights, architecture))
    assert marked.name_of("L0000.attn.q") == "model.layers.0.self_attn.q_proj.weight"
