"""`dss`: found blind and informed in every format, silent under other keys, the same from any part."""

import hashlib
import importlib.util
import inspect
import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
import forward
import marked
import nulls
import wrongkeys
from oracles import spread
from stats.carriers import Carried
from weightmark.keys import Key
from weightmark.payload import codeword
from weightmark.schemes import SCHEMES, dss
from weightmark.tails import log_sign_tail

DSS = SCHEMES["dss"]
EPS = 0.05
HOST = marked.planted(np.random.default_rng(11), rows=512, columns=256, layers=2)
SHAPES = {role: w.shape for role, w in HOST.items()}
N = sum(w.size for w in HOST.values())
IDEAL = EPS * math.sqrt(N)
DTYPES = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip


def key(number=1, payload=b"owner", **params):
    master = hashlib.sha256(b"dss test %d" % number).digest()
    held = dict(DSS.params("default")) | {"eps": EPS} | params
    return Key(scheme="dss", scheme_version=1, channel="0", master=master, params=held, payload=payload)


def cast(weights, dtype, factor=1.0):
    return {r: (w * factor).astype(DTYPES[dtype]) for r, w in weights.items()}


def look(weights, k, **rest):
    return DSS.verify(weights, k, shapes=SHAPES, **rest)


MARKED = HOST | DSS.embed(HOST, key())


def test_known_answers_that_no_later_version_may_change():
    k = Key(scheme="dss", scheme_version=1, channel="0", master=bytes(range(32)), params=DSS.params("default"))
    stream = dss.Stream(k, "L0003.attn.q", 130)
    assert stream.signs(5, 6).tobytes().hex() == "c4cf12863f4f74d719e1680f0f4dbc4be6cf0c2b46449ba88b455a9d2ec1fcda"
    assert stream.symbols(5, 7).tolist() == [[402, 412, 334], [234, 495, 315]]
    assert stream.dither(5, 6)[0, :4].tolist() == [61655, 31793, 31875, 13650]
    rows = (np.sin(np.arange(64 * 130) * 0.7) * np.arange(1, 64 * 130 + 1) % 3.7).reshape(64, 130)
    seen = dss.scanned(rows, 0, "L0003.attn.q", k).statistic(codeword(b"owner"))
    assert seen == pytest.approx(-0.044507072440, abs=1e-9)


@given(role=st.sampled_from(["L0000.attn.q", "L0011.E07.mlp.up"]), columns=st.integers(1, 300), row=st.integers(0, 40))
def test_carriers_of_a_row_against_loops(role, columns, row):
    """A row begins at its number times a stride, whatever was read before: bits and words, lowest first."""
    k, stream = key(), dss.Stream(key(), role, columns)

    def words(purpose, stride):
        return spread.keystream(spread.secret(k.master, "dss", "0", role, purpose), row * stride, stride)

    bits = words("sign", 16 * -(-columns // 128))
    assert np.unpackbits(stream.signs(row, row + 1), bitorder="little")[:columns].tolist() == [
        (bits[i // 8] >> (i % 8)) & 1 for i in range(columns)
    ]
    n = -(-columns // 64)
    blocks = words("block", 16 * -(-2 * n // 16))
    assert stream.symbols(row, row + 1)[0].tolist() == [
        int.from_bytes(blocks[2 * i : 2 * i + 2], "little") % 512 for i in range(n)
    ]
    dither = words("dither", 16 * -(-2 * columns // 16))
    assert stream.dither(row, row + 1)[0].tolist() == [
        int.from_bytes(dither[2 * i : 2 * i + 2], "little") for i in range(columns)
    ]


def test_the_statistic_of_a_matrix_against_loops():
    role, k = "L0000.attn.k", key()
    w = HOST[role][:20].astype(np.float64)
    stream = dss.Stream(k, role, w.shape[1])
    signs = 2.0 * np.unpackbits(stream.signs(0, 20), axis=1, bitorder="little") - 1.0
    wanted = spread.statistic(w.tolist(), signs.tolist(), stream.symbols(0, 20).tolist(), codeword(b"owner").tolist())
    assert dss.scanned(w, 0, role, k).statistic(codeword(b"owner")) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.startswith("float8")])
def test_a_mark_in_every_format_is_read_as_strongly_as_foretold(dtype):
    """Within three parts in a hundred of eps sqrt(N), although a step of bfloat16 is as large as the shift."""
    host = cast(HOST, dtype)
    made = DSS.embed(host, key())
    assert {r: (w.dtype, w.shape) for r, w in made.items()} == {r: (w.dtype, w.shape) for r, w in host.items()}
    found = look(host | made, key())
    assert found.test.statistic == pytest.approx(IDEAL, rel=0.03)
    assert found.bit_errors == 0
    assert found.payload == b"owner".ljust(14, b"\0")
    assert look(made, key(), reference=host).test.statistic > 2 * IDEAL


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.startswith("float8")])
def test_eight_bits_carry_a_mark_as_well(dtype):
    """Rows scaled into the range of the format, as 8-bit checkpoints store them; clipping of the tails costs a little."""
    host = cast(HOST, dtype, 50.0)
    made = DSS.embed(host, key())
    found = look(host | made, key())
    assert found.test.statistic == pytest.approx(IDEAL, rel=0.05)
    assert found.payload == b"owner".ljust(14, b"\0")
    moved = [np.abs(made[r].astype(float) - host[r].astype(float)) / np.abs(host[r].astype(float)).mean() for r in made]
    assert max(float(m.mean()) for m in moved) < 0.12


def test_marking_again_gives_the_same_bytes_and_changes_no_input():
    host = cast(HOST, "bfloat16")
    before = {r: w.tobytes() for r, w in host.items()}
    first, second = DSS.embed(host, key()), DSS.embed(host, key())
    assert all(first[r].tobytes() == second[r].tobytes() for r in first)
    assert {r: w.tobytes() for r, w in host.items()} == before


def test_parts_of_a_model_add_up_to_the_whole():
    roles = sorted(MARKED)
    whole = sum((dss.scanned(MARKED[r], 0, r, key()) for r in roles), Carried.none())
    parts = [dss.scanned(MARKED[r][a:b], a, r, key()) for r in roles for a, b in ((100, 512), (0, 37), (37, 100)) if a < len(MARKED[r])]  # fmt: skip
    total = sum(parts, Carried.none())
    assert all(np.array_equal(getattr(whole, f), getattr(total, f)) for f in ("sums", "high", "low", "counts"))


def test_a_slice_says_what_its_share_allows():
    role = "L0000.mlp.up"
    part = dss.scanned(MARKED[role][64:128], 64, role, key())
    assert part.statistic(codeword(b"owner")) == pytest.approx(EPS * math.sqrt(64 * 256), abs=4)


def test_rows_at_other_addresses_say_nothing():
    role = "L0000.mlp.up"
    for found in (
        dss.scanned(MARKED[role][64:128], 65, role, key()),
        dss.scanned(MARKED[role], 0, "L0001.mlp.up", key()),
        dss.scanned(MARKED[role][np.random.default_rng(0).permutation(512)], 0, role, key()),
    ):
        assert abs(found.statistic(codeword(b"owner"))) < 5


def test_scaled_rows_are_read_as_before():
    rng = np.random.default_rng(5)
    scaled = {r: w * rng.lognormal(0, 1, (len(w), 1)).astype(np.float32) for r, w in MARKED.items()}
    assert look(scaled, key()).test.statistic == pytest.approx(look(MARKED, key()).test.statistic, abs=0.01)


def test_strength_follows_the_target_within_its_bounds():
    free = key(eps=0)
    assert dss.strength(free, 10**8) == pytest.approx(0.012)
    assert dss.strength(free, 10**10) == pytest.approx(0.0012)
    assert dss.strength(free, 10**12) == pytest.approx(0.0004)
    assert dss.strength(free, 0) == pytest.approx(0.012)
    assert [DSS.params(s)["target"] for s in ("low", "default", "high")] == [60.0, 120.0, 240.0]


def hurt(rng):
    """A matrix with a row of zeros, of NaN, one infinity, one of the smallest numbers, and a third of zeros elsewhere."""
    w = HOST["L0000.attn.q"].copy()
    w[rng.random(w.shape) < 0.3] = 0.0
    w[3], w[4] = 0.0, np.nan
    w[5, 7], w[6] = np.inf, 1e-44
    return w


def test_what_must_not_be_touched_is_not():
    w = hurt(np.random.default_rng(6))
    made = DSS.embed({"L0000.attn.q": w}, key())["L0000.attn.q"]
    assert np.array_equal(np.isnan(made), np.isnan(w))
    assert np.array_equal(np.isinf(made), np.isinf(w))
    assert np.array_equal(made == 0.0, w == 0.0) or np.array_equal((made == 0.0)[:6], (w == 0.0)[:6])
    assert not made[3].any()
    dense = HOST["L0000.attn.q"].copy()
    dense[:, :5] = 0.0
    assert DSS.embed({"L0000.attn.q": dense}, key())["L0000.attn.q"][:, :5].any()


def test_bad_weights_do_not_read_as_marked():
    w = hurt(np.random.default_rng(6))
    for number in range(30):
        found = dss.read(dss.scanned(w, 0, "L0000.attn.q", key(number)), key(number), planned=w.size)
        assert found.test.log_pvalue > math.log(1e-6)


def test_other_keys_channels_and_payloads():
    assert look(MARKED, key()).test.log_pvalue < -128 * math.log(2)
    for other in (key(2), key().for_channel("1")):
        found = look(MARKED, other)
        assert found.test.log_pvalue > math.log(1e-6)
        assert found.payload is None
    assert look(HOST, key()).payload is None
    wrong = look(MARKED, key(payload=b"thief"))
    assert wrong.payload == b"owner".ljust(14, b"\0")
    assert wrong.test.log_pvalue > look(MARKED, key()).test.log_pvalue


def test_two_marks_lie_beside_each_other():
    both = MARKED | DSS.embed(MARKED, key(2, b"second"))
    for k, payload in ((key(), b"owner"), (key(2, b"second"), b"second")):
        found = look(both, k)
        assert found.test.statistic > 0.95 * IDEAL
        assert found.payload == payload.ljust(14, b"\0")


def test_copies_averaged_keep_their_part():
    others = [HOST | DSS.embed(HOST, key(n)) for n in range(2, 5)]
    mean = {r: (MARKED[r] + sum(o[r] for o in others)) / 4 for r in MARKED}
    assert look(mean, key()).test.statistic == pytest.approx(IDEAL / 4, abs=4)
    assert look(mean, key(), reference=HOST).test.statistic > IDEAL


def test_the_unmarked_original_makes_it_far_stronger():
    """Psi is then the mark and the noise alone: eps sqrt(N) / sqrt(eps^2 + noise^2)."""
    rng = np.random.default_rng(7)
    noisy = {
        r: w + 0.3 * np.sqrt((w * w).mean(axis=1, keepdims=True)) * rng.standard_normal(w.shape).astype(np.float32)
        for r, w in MARKED.items()
    }
    found = look(noisy, key(), reference=HOST)
    assert found.test.statistic == pytest.approx(IDEAL / math.hypot(EPS, 0.3), rel=0.1)
    assert found.payload == b"owner".ljust(14, b"\0")
    again = look({r: w.copy() for r, w in HOST.items()}, key(), reference=HOST)
    assert again.test.log_pvalue == 0.0
    assert again.carriers == 0


@pytest.mark.parametrize("suspect", [{}, {r: np.zeros_like(w) for r, w in HOST.items()}, {"L0000.attn.q": HOST["L0000.attn.q"].T[:3]}])  # fmt: skip
def test_what_is_missing_or_empty_says_nothing(suspect):
    found = look(suspect, key())
    assert (found.test.log_pvalue, found.carriers, found.coverage, found.payload) == (0.0, 0, 0.0, None)


def test_variants_multiply_the_pvalue():
    sums = dss.scanned(MARKED["L0000.attn.q"], 0, "L0000.attn.q", key())
    one, three = (dss.read(sums, key(), planned=N, n_variants=n).test.log_pvalue for n in (1, 3))
    assert three == pytest.approx(one + math.log(3))
    assert one == pytest.approx(log_sign_tail(sums.statistic(codeword(b"owner"))))


def test_only_large_matrices_of_the_kinds_of_the_key_carry():
    shapes = {
        "L0000.attn.q": (64, 64), "L0000.attn.k": (63, 64), "L0001.mlp.up": (256, 64), "embed": (1000, 64),
        "L0000.norm.attn_in": (64,), "L0000.router": (64, 64), "L0002.E03.mlp.down": (64, 128), "bias.attn.q": (64,),
    }  # fmt: skip
    assert DSS.carriers(shapes, key()) == ("L0000.attn.q", "L0001.mlp.up", "L0002.E03.mlp.down")
    assert DSS.carriers(shapes, key(kinds=["mlp.up"])) == ("L0001.mlp.up",)


@pytest.mark.parametrize("what", wrongkeys.CASES)
def test_wrong_keys_read_as_chance(what):
    """As many small p as chance allows but once in a million; docs/methods/marks-null.md has 20,000 keys a case."""
    n = 2000 if what == "marked" else 400
    t, p = wrongkeys.read(wrongkeys.matrix(what), n)
    for level in nulls.LEVELS:
        assert (p <= math.log(level)).sum() <= nulls.limit(n, level), level
    assert t.max() < 5
    assert abs(t.mean()) < 5 / math.sqrt(n)
    assert abs(t.std() - 1) < 5 / math.sqrt(2 * n)


def test_a_trained_model_predicts_as_well_as_before(zoo):
    """Mean loss on ten windows of text, under two keys at the default strength: within a fifth of a percent."""
    weights = derive.load(zoo / "llama-a")
    text = np.frombuffer(inspect.getsource(inspect).encode()[20_000:40_000], np.uint8).astype(int)

    def loss(w):
        found = []
        for start in range(0, 20_000, 2_000):
            window = text[start : start + 129]
            z = forward.logits(w, window[:-1], n_heads=4, n_kv=2)
            z = z - z.max(-1, keepdims=True)
            found.append(np.mean(np.log(np.exp(z).sum(-1)) - z[np.arange(128), window[1:]]))
        return float(np.mean(found))

    before = loss(weights)
    for number in (1, 2):
        made = weights | marked.by_name(DSS.embed(marked.by_role(weights), key(number, eps=0)))
        assert loss(made) == pytest.approx(before, rel=0.002)
        assert loss(made) != before


spec = importlib.util.spec_from_file_location("marknull", nulls.ROOT / "tests" / "calibration" / "marknull.py")
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


def test_the_long_table_is_of_this_code_and_clean():
    data = json.loads(program.DATA.read_text())
    assert data["digest"] == program.digest(), "dss changed: run python tests/calibration/marknull.py, commit its page"
    assert data["keys"] >= 20_000
    assert tuple(data["rows"]) == tuple(sorted(wrongkeys.CASES))
    assert program.page(data).rstrip() + "\n" == program.PAGE.read_text()
    for row in data["rows"].values():
        assert all(row["counts"][x] <= row["normal"][x] <= row["limits"][x] for x in row["limits"])
        assert row["ks"] < row["ks_limit"]
        assert row["largest"] < 5
