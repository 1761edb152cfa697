"""Attacks do what their names say: rewrites keep the function, the others change what they claim to change."""

import numpy as np
import pytest

import marked
from forward import logits as forward_logits
from weightmark.attacks import ATTACKS, BY_NAME, SUITES, Held, structure
from weightmark.attacks.dummies import add_cliques, add_zero_units, split_units
from weightmark.attacks.lowrank import largest_directions
from weightmark.attacks.numbers import Weights, add_update, rescale_rows, shift_rows
from weightmark.attacks.pruning import prune_global, prune_random
from weightmark.axes import Heads

HEADS = Heads(4, 2)
TOKENS = np.arange(20) * 7 % 256


def rng(seed=1):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def wide():
    return marked.llama(dtype="float64")


def logits(weights: Weights):
    return forward_logits(marked.by_name(weights), TOKENS, n_heads=4, n_kv=2)


KEPT = {
    "hidden": lambda w: structure.permute_hidden(w, rng()),
    "residual": lambda w: structure.permute_residual(w, rng()),
    "heads": lambda w: structure.permute_heads(w, HEADS, rng()),
    "scales": lambda w: structure.rescale_hidden(w, 10.0, rng()),
    "signs": lambda w: structure.flip_signs(w, rng()),
    "gains": structure.fold_gains,
    "haar": lambda w: structure.rotate_residual(w, structure.haar(64, rng())),
    "hadamard": lambda w: structure.rotate_residual(w, structure.hadamard(64, rng())),
    "rotary": lambda w: structure.turn_rotary(w, HEADS, 2.0, rng()),
    "values": lambda w: structure.mix_values(w, HEADS, rng()),
    "zero": lambda w: add_zero_units(w, 0.2, rng()),
    "clique": lambda w: add_cliques(w, 0.2, rng()),
    "split": lambda w: split_units(w, 0.2, rng()),
}


@pytest.mark.parametrize("change", KEPT.values(), ids=KEPT)
def test_rewrites_keep_the_function(wide, change):
    made = change(wide)
    assert np.abs(logits(made) - logits(wide)).max() < 1e-8
    assert any(made[k].shape != v.shape or not np.array_equal(made[k], v) for k, v in wide.items())


def test_signs_round_nothing(wide):
    narrow = marked.llama(dtype="bfloat16")
    made = structure.flip_signs(narrow, rng())
    for k, v in narrow.items():
        assert np.array_equal(np.abs(made[k].astype(np.float64)), np.abs(v.astype(np.float64)))


def test_dummy_units_change_shapes(wide):
    assert add_zero_units(wide, 0.2, rng())["L0000.mlp.up"].shape == (192, 64)
    assert split_units(wide, 0.2, rng())["L0003.mlp.down"].shape == (64, 192)


def test_a_hadamard_matrix_needs_a_power_of_two():
    turn = structure.hadamard(8, rng())
    assert np.allclose(turn @ turn.T, np.eye(8))
    with pytest.raises(ValueError, match="power of two"):
        structure.hadamard(48, rng())


def test_heads_must_divide():
    with pytest.raises(ValueError, match="do not divide"):
        Heads(4, 3)


def test_pruning_shares(wide):
    w = {k: v for k, v in wide.items() if v.ndim == 2}
    total = sum(v.size for v in w.values())
    pruned = prune_global(w, 0.5)
    assert abs(sum((v == 0).sum() for v in pruned.values()) / total - 0.5) < 0.01
    kept = min(np.abs(v[v != 0]).min() for v in pruned.values())
    gone = max(np.abs(w[k][pruned[k] == 0]).max() for k in w)
    assert gone <= kept * (1 + 1e-6)
    drawn = prune_random(w, 0.3, rng())
    assert abs(sum((v == 0).sum() for v in drawn.values()) / total - 0.3) < 0.01


def test_low_rank_is_the_nearest():
    x = rng().standard_normal((30, 20))
    u, s, vt = np.linalg.svd(x)
    best = u[:, :5] * s[:5] @ vt[:5]
    assert np.allclose(largest_directions(x, 5), best)
    assert np.allclose(largest_directions(x.T, 5), best.T)
    assert np.array_equal(largest_directions(x, 20), x)


def test_updates_rows_and_shifts():
    w = {"L0000.mlp.up": 3.0 * rng().standard_normal((300, 200))}
    x = w["L0000.mlp.up"]
    delta = add_update(w, 0.05, 16, rng(2))["L0000.mlp.up"] - x
    assert abs(np.sqrt((delta**2).mean()) / np.sqrt((x**2).mean()) - 0.05 * np.sqrt(2)) < 0.005
    values = np.linalg.svd(delta, compute_uv=False)
    assert values[15] > 1.5 * values[16]  # sixteen directions stand out
    scaled = rescale_rows(w, 1.0, rng(3))["L0000.mlp.up"] / x
    assert np.allclose(scaled, scaled[:, :1])
    shifted = shift_rows(w, 1.0, 0.0, rng(4))["L0000.mlp.up"]
    assert np.abs(shifted.mean(axis=0)).max() < 1e-12


def test_every_row_runs_and_leaves_its_input_alone():
    """On a small model, with a stand-in for the scheme that adds to every matrix."""

    def mark(w, number):
        return {
            k: v + 0.001 * rng(number).standard_normal(v.shape).astype(v.dtype) if v.ndim == 2 else v
            for k, v in w.items()
        }

    base = {k: v for k, v in marked.llama(dtype="float32").items() if not k.startswith(("L0002", "L0003"))}
    w = mark(base, 99)
    before = {k: v.copy() for k, v in w.items()}
    held = Held(base=base, heads=HEADS, mark=mark)
    for attack in ATTACKS:
        made = attack.change(w, held, rng())
        assert set(w) <= set(made), attack.name
        assert all(np.isfinite(v.astype(np.float64)).all() for v in made.values()), attack.name
        changed = any(made[k].shape != v.shape or not np.array_equal(made[k], v) for k, v in w.items())
        assert changed == (attack.name != "none"), attack.name
    assert all(np.array_equal(w[k], v) for k, v in before.items())


def test_names_are_their_own_and_suites_know_them():
    assert len(BY_NAME) == len(ATTACKS)
    assert all(set(names) <= set(BY_NAME) for names in SUITES.values())


def test_attacks_on_heads_say_what_they_need(wide):
    held = Held(base=wide, heads=None, mark=lambda w, _: dict(w))
    with pytest.raises(ValueError, match="numbers of heads"):
        BY_NAME["mix-values-aligned"].change(wide, held, rng())
