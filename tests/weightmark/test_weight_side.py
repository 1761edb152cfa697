"""Every published scheme on weights: found under its key, absent under others, exact under the null, against loops."""

import math

import ml_dtypes
import numpy as np
import pytest

import forward
import marked
from oracles import marks
from weightmark import drawing
from weightmark.attacks import grids
from weightmark.errors import UnfitModelError
from weightmark.schemes import emmark, gaussmark, gram, hufunet, lastbias, perm, quantgap, tattooed, uchida

GRADE = -128 * math.log(2.0)
HOST = marked.planted(np.random.default_rng(5), rows=256, columns=128, layers=2, dtype="float32")
UP = "L0001.mlp.up"
MATRICES = tuple(sorted(HOST))
SHAPES = {role: HOST[role].shape for role in MATRICES}
GRID = {role: grids.symmetric(values.astype(np.float64), 4, 64) for role, values in HOST.items()}
MLP = {role: HOST[role] for role in MATRICES if role.endswith(("up", "gate"))}
MLP_SHAPES = {role: values.shape for role, values in MLP.items()}
WORD = np.random.default_rng(6).choice([-1.0, 1.0], 64)
BIAS = {"bias.unembed": np.random.default_rng(7).normal(0, 0.1, 4000).astype(np.float32)}


def _gram(weights, draws, reference=None):
    planned = sum(s.shape[0] * gram.PAIRS for _, s in gram.sums_of(HOST).values())
    return gram.read(gram.sums_of(weights), draws, planned=planned, reference=reference)


SCHEMES = {
    "gaussmark": (HOST, lambda w, d: gaussmark.embed(w, d, roles=(UP,), sigma=0.05), lambda w, d: gaussmark.read(w, d, roles=(UP,), reference=HOST)),
    "lastbias": (BIAS, lambda w, d: lastbias.embed(w, d, eps=0.02), lambda w, d: lastbias.verify(w, d, reference=BIAS)),
    "hufunet": (HOST, lambda w, d: hufunet.embed(w, d, roles=MATRICES, n_blocks=200, strength=1.0), lambda w, d: hufunet.verify(w, d, roles=MATRICES, n_blocks=200, shapes=SHAPES)),
    "uchida": (HOST, lambda w, d: uchida.embed(w, d, role=UP, n_bits=100, margin=2.0), lambda w, d: uchida.verify(w, d, role=UP, n_bits=100)),
    "emmark": (GRID, lambda w, d: emmark.embed(w, d, roles=MATRICES, grid=(4, 64)), lambda w, d: emmark.verify(w, d, roles=MATRICES, grid=(4, 64), reference=GRID)),
    "tattooed": (MLP, lambda w, d: tattooed.embed(w, d, codeword=WORD, n_carriers=40_000, rel=0.05), lambda w, d: tattooed.verify(w, d, shapes=MLP_SHAPES, n_carriers=40_000, codeword=WORD)),
    "quantgap": (HOST, lambda w, d: quantgap.embed(w, d, roles=MATRICES, grid=(4, 64), share=0.05), lambda w, d: quantgap.verify(w, d, roles=MATRICES, grid=(4, 64), shapes=SHAPES)),
    "gram": (HOST, lambda w, d: gram.embed(w, d, eps=0.05), lambda w, d: _gram(w, d, gram.sums_of(HOST))),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMES)
def test_found_under_its_key_and_no_other(name):
    host, embed, verify = SCHEMES[name]
    before = {k: v.copy() for k, v in host.items()}
    made = host | embed(host, marked.draws(1))
    assert all(np.array_equal(host[k], before[k]) for k in host)
    found = verify(made, marked.draws(1))
    grade = GRADE if name not in {"uchida", "tattooed"} else math.log(1e-15)
    assert found.test.log_pvalue < grade, found
    assert found.coverage > 0.5
    for other in range(2, 6):
        assert verify(made, marked.draws(other)).test.log_pvalue > math.log(1e-4)
        assert verify(host, marked.draws(other)).test.log_pvalue > math.log(1e-4)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_null_is_kept_on_marked_and_unmarked_weights(name):
    """Wrong keys: p at or below a level no more often than the level, but for one chance in a million."""
    host, embed, verify = SCHEMES[name]
    made = host | embed(host, marked.draws(1))
    other = {
        k: v + np.float32(0.01) * np.random.default_rng(8).standard_normal(v.shape).astype(v.dtype)
        for k, v in host.items()
    }
    few = name in {"hufunet", "tattooed", "gram", "emmark", "quantgap"}
    for suspect in (made, other):
        p = np.exp([verify(suspect, marked.draws(100 + i)).test.log_pvalue for i in range(8 if few else 30)])
        assert (p <= 0.05).sum() <= (5 if few else 9)  # one chance in a million, were they fair
        assert (p <= 1e-3).sum() <= 3


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_missing_or_empty_says_nothing(name):
    host, _, verify = SCHEMES[name]
    for suspect in ({}, {k: np.zeros_like(v) for k, v in host.items()}):
        found = verify(suspect, marked.draws(1))
        assert found.test.log_pvalue > math.log(0.01)


def test_gaussian_statistics_against_loops():
    d = marked.draws(3)
    made = gaussmark.embed(HOST, d, roles=(UP,), sigma=0.001)
    found = gaussmark.read(made, d, roles=(UP,), reference=HOST)
    shift = (made[UP] - HOST[UP].astype(np.float64)).ravel()
    noise = gaussmark.noise(d, UP, HOST[UP].shape).ravel()
    assert found.test.statistic == pytest.approx(marks.gaussian_statistic(noise.tolist(), shift.tolist()), rel=1e-12)
    biased = lastbias.embed(BIAS, d, eps=0.02)["bias.unembed"] - BIAS["bias.unembed"].astype(np.float64)
    assert np.allclose(biased, 0.02 * gaussmark.noise(d, "bias.unembed", (4000,)))
    with pytest.raises(ValueError, match="no output bias"):
        lastbias.embed(HOST, d, eps=0.02)


def test_tattooed_against_loops():
    d = marked.draws(4)
    small = {UP: HOST[UP][:20]}
    made = tattooed.embed(small, d, codeword=WORD[:8], n_carriers=300, rel=0.05)
    at = drawing.chosen(d("", "places"), small[UP].size, 300)
    chips = [drawing.signs(d("", "chips"), 300, j * 304) for j in range(208)]
    symbols = np.concatenate([drawing.signs(d("", "preamble"), 200), WORD[:8]])
    found = tattooed.verify(made, d, shapes={UP: small[UP].shape}, n_carriers=300, codeword=WORD[:8])
    want = marks.tattooed_statistic(made[UP].ravel()[at].tolist(), symbols.tolist(), [c.tolist() for c in chips])
    assert found.test.statistic == pytest.approx(want, rel=1e-9)
    added = (made[UP] - small[UP].astype(np.float64)).ravel()
    assert np.count_nonzero(np.delete(added, at)) == 0
    rel = np.sqrt(np.mean(added[at] ** 2)) / np.sqrt(np.mean(small[UP].ravel()[at].astype(np.float64) ** 2))
    assert rel == pytest.approx(0.05, rel=0.3)
    with pytest.raises(ValueError, match="relative size"):
        tattooed.embed(small, d, codeword=WORD[:8], n_carriers=300, rel=0.06)


def test_tattooed_despreads_to_its_symbols_when_strong():
    """Raw bit errors follow Q of the statistic a symbol: 0.05 sqrt(n / L)."""
    d = marked.draws(9)
    made = tattooed.embed(HOST, d, codeword=WORD, n_carriers=200_000, rel=0.05)
    found = tattooed.verify(made, d, shapes=SHAPES, n_carriers=200_000, codeword=WORD)
    expected = 64 * 0.5 * math.erfc(0.05 * math.sqrt(200_000 / 264) / math.sqrt(2))
    assert abs(found.bit_errors - expected) < 4 * math.sqrt(expected) + 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("grid", [(8, None), (4, 64)])
def test_quantgap_leaves_the_export_as_it_is(dtype, grid):
    host = {k: v.astype(np.dtype(getattr(ml_dtypes, dtype, dtype))) for k, v in HOST.items()}
    made = quantgap.embed(host, marked.draws(1), roles=MATRICES, grid=grid, share=0.1)
    for role in MATRICES:
        assert made[role].dtype == host[role].dtype
        for a, b in zip(
            quantgap.cells(made[role].astype(np.float64), *grid),
            quantgap.cells(host[role].astype(np.float64), *grid),
            strict=True,
        ):
            assert np.array_equal(a, b)
    quantised = {k: grids.symmetric(v.astype(np.float64), *grid).astype(v.dtype) for k, v in made.items()}
    found = quantgap.verify(quantised, marked.draws(1), roles=MATRICES, grid=grid, shapes=SHAPES)
    assert found.test.log_pvalue > math.log(1e-3), "a quantised copy must say nothing"


def test_emmark_keeps_to_one_step_and_to_the_grid():
    made = emmark.embed(GRID, marked.draws(1), roles=MATRICES, grid=(4, 64))
    for role in MATRICES:
        codes, step = emmark.on_grid(GRID[role], 4, 64)
        again, same = emmark.on_grid(made[role], 4, 64)
        assert np.allclose(step, same)
        assert np.abs(again - codes).max() == 1
        assert np.count_nonzero(again != codes) == 40


@pytest.mark.parametrize("grid", emmark.GRIDS)
def test_emmark_finds_the_grid(grid):
    for dtype in ("float32", "bfloat16"):
        made = {
            r: grids.symmetric(v.astype(np.float64), *grid).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
            for r, v in HOST.items()
        }
        assert emmark.grid_of(made) == grid
    with pytest.raises(UnfitModelError, match="do not stand"):
        emmark.grid_of(HOST)


def test_gram_survives_what_moves_hidden_units():
    rng = np.random.default_rng(3)
    made = HOST | gram.embed(HOST, marked.draws(1), eps=0.05)
    before = _gram(made, marked.draws(1)).test.statistic
    moved = dict(made)
    for layer in ("L0000.", "L0001."):
        order = rng.permutation(256)
        for kind in ("mlp.gate", "mlp.up"):
            moved[layer + kind] = made[layer + kind][order] * rng.choice([-1.0, 1.0], (256, 1))
    assert _gram(moved, marked.draws(1)).test.statistic == pytest.approx(before, rel=1e-9)
    assert before > 6


def test_gram_change_is_as_large_as_said():
    made = gram.embed(HOST, marked.draws(1), eps=0.02)
    change = np.linalg.norm(made[UP] - HOST[UP]) / np.linalg.norm(HOST[UP])
    assert change == pytest.approx(0.02, rel=0.3)


class TestPerm:
    weights = marked.llama(dtype="float32")
    found = perm.slots_of({role: values.shape for role, values in marked.llama().items()})

    def orders(self, number):
        d = marked.draws(number)
        return {slot.name: drawing.order(d(slot.name, f"perm/{5}"), slot.n) for slot in self.found}

    def test_function_and_bits_stay(self):
        assert [s.name for s in self.found] == [
            "L0000.hidden",
            "L0001.hidden",
            "L0002.hidden",
            "L0003.hidden",
            "residual",
        ]
        made = perm.apply(self.weights, self.orders(1))
        tokens = np.arange(20) * 11 % 256
        a, b = (forward.logits(marked.by_name(w), tokens, n_heads=4, n_kv=2) for w in (self.weights, made))
        assert np.abs(a - b).max() < 1e-9
        assert sorted(made["L0000.mlp.up"].ravel().tolist()) == sorted(self.weights["L0000.mlp.up"].ravel().tolist())

    def test_orders_are_read_back_and_agree(self):
        orders = self.orders(1)
        made = perm.apply(self.weights, orders)
        noisy = {k: v + 0.1 * v.std() * np.random.default_rng(1).standard_normal(v.shape) for k, v in made.items()}
        read = perm.found_orders(noisy, self.weights)
        right = sum(perm.agreeing(orders[s.name], read[s.name]) for s in self.found)
        assert right > 0.9 * sum(s.n for s in self.found)
        wrong = sum(perm.agreeing(self.orders(2)[s.name], read[s.name]) for s in self.found)
        assert wrong < 25

    def test_symbols(self):
        d = marked.draws(1)
        candidates = [drawing.order(d("slot", f"perm/{i}"), 200) for i in range(256)]
        read = candidates[77].copy()
        read[12:] = np.random.default_rng(1).permutation(200)[12:]
        assert perm.best_symbol(candidates, read) == 77
        assert perm.best_symbol(candidates, np.full(200, -1)) is None

    def test_code(self):
        payload = bytes(range(16))
        word = list(perm.codeword(payload, 33))
        assert perm.decoded(word, 16) == payload
        for lost in range(18):
            assert perm.decoded([None] * lost + word[lost:], 16) == payload
        wrong = [w ^ 1 for w in word[:8]] + word[8:]
        assert perm.decoded(wrong, 16) == payload
        assert perm.decoded([None] * 18 + word[18:], 16) is None
        assert perm.decoded([w ^ 1 for w in word[:12]] + word[12:], 16) != payload
