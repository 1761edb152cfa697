"""The parts of the schemes against naive twins written from the papers' formulas."""

import hashlib

import numpy as np
import pytest

from oracles import marks
from weightmark import drawing
from weightmark.schemes import emmark, gram, hufunet, uchida


def rng(seed=1):
    return np.random.default_rng(seed)


def stream_of(text):
    """A keystream to test with: SHA-256 in counter mode."""

    def stream(offset, n):
        first, last = offset // 32, (offset + n + 31) // 32
        made = b"".join(hashlib.sha256(f"{text}{i}".encode()).digest() for i in range(first, last))
        return made[offset - 32 * first :][:n]

    return stream


def test_gram_against_loops():
    x = rng().standard_normal((20, 130))
    signs = rng(2).choice([-1.0, 1.0], (2, gram.PAIRS))
    eps = 0.3
    y = gram.pushed(x, np.sqrt((x * x).mean(axis=0)), signs, eps)
    assert np.allclose(y, marks.gram_pushed(x.tolist(), signs.tolist(), eps))
    psi = gram.winsorized(gram.correlations(gram.gram_sums(y)))
    seen = (signs * psi).sum() / np.sqrt((psi * psi).sum())
    assert seen == pytest.approx(marks.gram_statistic(y.tolist(), signs.tolist()), abs=1e-9)
    assert np.array_equal(y[:, 128:], x[:, 128:])


def test_gram_sums_add_up_and_forget_the_order_and_basis_of_rows():
    x = rng().standard_normal((96, 64))
    whole = gram.gram_sums(x)
    assert np.allclose(gram.gram_sums(x[:40]) + gram.gram_sums(x[40:]), whole)
    turn = np.linalg.qr(rng(3).standard_normal((96, 96)))[0]
    assert np.allclose(gram.gram_sums(turn @ x), whole)
    assert np.array_equal(gram.correlations(np.zeros((1, 64, 64))), np.zeros((1, gram.PAIRS)))


def test_uchida_against_loops_and_smallest_push():
    x = rng().standard_normal((30, 60)) + 0.1
    projections = rng(2).standard_normal((16, 60))
    bits = rng(3).choice([-1.0, 1.0], 16)
    mean = uchida.mean_row(x)
    assert uchida.read_bits(mean, projections).tolist() == marks.uchida_bits(x.tolist(), projections.tolist())
    shift = uchida.pushed_row(mean, projections, bits, 0.5)
    room = bits * (projections @ (mean + shift)) / np.linalg.norm(mean)
    assert (room >= 0.5 - 1e-9).all()
    assert uchida.read_bits(mean + shift, projections).tolist() == bits.tolist()
    # of all shifts with these projections it is the smallest: it lies in their span
    residual = shift - projections.T @ np.linalg.lstsq(projections.T, shift, rcond=None)[0]
    assert np.abs(residual).max() < 1e-10


def test_hufunet_positions_against_loops():
    blocks = rng().standard_normal((30, 9)).astype(np.float32).astype(np.float64)
    found = hufunet.positions(blocks, b"seed", 600)
    assert found.tolist() == marks.hufu_positions(blocks.tolist(), b"seed", 600)
    assert np.unique(found).size == found.size
    with pytest.raises(ValueError, match="at most half"):
        hufunet.positions(blocks, b"seed", 500)


@pytest.mark.parametrize("with_activity", [True, False])
def test_emmark_scores_against_loops(with_activity):
    codes = rng().integers(-7, 8, (12, 20)).astype(np.float64)
    activity = rng(2).uniform(0.1, 3.0, 20) if with_activity else None
    found = emmark.scores(codes, activity, 7)
    want = marks.emmark_scores(codes.tolist(), activity.tolist() if with_activity else None, 7)
    assert np.allclose(found, want)
    places = emmark.pool(found, 2)
    assert np.isfinite(found.ravel()[places]).all()
    assert places.size == min(100, np.isfinite(found).sum())
    changed = codes.copy()
    changed.flat[places[:10]] += 1
    assert emmark.matches(changed, codes, places[:20], np.ones(20)) == (10, 10)


def test_normal_values_have_their_law_and_seek():
    stream = stream_of("normal")
    x = drawing.normals(stream, 20_001)
    assert abs(x.mean()) < 0.03
    assert abs(x.std() - 1) < 0.02
    assert abs((np.abs(x) > 2).mean() - 0.0455) < 0.006
    for start in (0, 1, 7, 1000):
        assert np.array_equal(drawing.normals(stream, 5, start), x[start : start + 5])


def test_signs_seek_and_know_their_bits():
    stream = lambda offset, n: bytes([0b00000101, 0x80])[offset : offset + n]  # noqa: E731
    assert drawing.signs(stream, 16).tolist() == [1, -1, 1, -1, -1, -1, -1, -1] + [-1] * 7 + [1]
    assert drawing.signs(stream, 8, 8).tolist() == [-1] * 7 + [1]
    with pytest.raises(ValueError, match="whole bytes"):
        drawing.signs(stream, 4, 3)


def test_orders_are_uniform_and_redrawn_on_ties():
    counts = np.zeros((4, 4))
    for i in range(2000):
        for place, value in enumerate(drawing.order(stream_of(f"o{i}"), 4)):
            counts[place, value] += 1
    assert np.abs(counts - 500).max() < 100
    tied = lambda offset, n: bytes(n) if offset == 0 else bytes(range(n))  # noqa: E731
    assert drawing.order(tied, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="not a random stream"):
        drawing.order(lambda _, n: bytes(n), 3)
    with pytest.raises(ValueError, match="5 places of 4"):
        drawing.chosen(stream_of("x"), 4, 5)
