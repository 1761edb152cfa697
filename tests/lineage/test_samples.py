"""A closer look at models too large to be held: what it reads, and that it finds the same and accuses nobody."""

import json
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

import derive
from crawl import ModelRef, open_store
from disguised import FAMILIES, REWRITES, compared, config, names_of, weights
from giant import SHAPES, Giant
from lineage.body import Body
from lineage.budget import N_UNITS, Allowance, Limits, Plan, Sample, pick_lookups, pick_units, plan_sample
from lineage.looking import look
from lineage.plan import PUBLIC_KEY
from nulls import opened
from reshaped import CASES

NOTHING_WHOLE = Limits(whole=0, whole_remote=0, whole_thorough=0)
UNSEEN = {"head-permutation"}
"""What a sample of MLP rows cannot show."""


def sampled(first, second, config_a, config_b, plan=None):
    """A closer look by samples, of models that would otherwise be read whole."""
    with ExitStack() as stack:
        a = stack.enter_context(opened(first, "a", config_a))
        b = stack.enter_context(opened(second, "b", config_b))
        plan = plan or plan_sample(a, b, Allowance(limits=NOTHING_WHOLE))
        pair = Body(a, a.architecture), Body(b, b.architecture)
        return look(*pair, dtype=a.dtype, key=PUBLIC_KEY, related=False, labelled=False, plan=plan)


@cache
def rewritten(a, b, rewrite):
    rng = np.random.default_rng([*a.encode(), *b.encode(), *rewrite.encode()])
    return sampled(weights(a), REWRITES[rewrite](weights(b), rng), config(a), config(b))


LOOKED_BELOW = ("turned", "all and noise")
PAIRS = [(family, rewrite) for family in FAMILIES for rewrite in LOOKED_BELOW]


@pytest.mark.parametrize(("family", "rewrite"), PAIRS)
def test_kin_resemble_below_every_rewrite(family, rewrite):
    for a, b in FAMILIES[family][0]:
        seen = rewritten(a, b, rewrite)
        assert seen.resembles, (a, b)
        assert all(m.a == m.b for m in seen.alignment.layers), (a, b)


@pytest.mark.parametrize(("family", "rewrite"), PAIRS)
def test_what_was_done_is_named(family, rewrite):
    """But for scales of value dimensions, the only ones without a gate, and scales that long training has blurred."""
    for a, b in FAMILIES[family][0]:
        expected = names_of(family, rewrite) - UNSEEN
        if family != "llama":
            expected -= {"rescale", "sign"}
        if b.endswith("cpt"):
            expected -= {"rescale"}
        assert set(rewritten(a, b, rewrite).transforms) == expected, (a, b)


def test_no_stranger_is_accused_and_the_gap_is_wide():
    seen = {related: [] for related in (True, False)}
    for kin, strangers in FAMILIES.values():
        for rewrite in LOOKED_BELOW:
            seen[True] += [rewritten(a, b, rewrite) for a, b in kin]
            seen[False] += [rewritten(a, b, rewrite) for a, b in strangers]
    assert len(seen[False]) == 18
    assert not any(s.resembles for s in seen[False])
    assert min(s.resemblance.statistic for s in seen[True]) > 0.5
    assert max(s.resemblance.statistic for s in seen[False]) < 0.05


def test_strangers_in_place_are_not_accused_either_way():
    names = ("llama-a-cpt", "llama-b", "llama-a-student")
    for a, b in permutations(names, 2):
        seen = sampled(weights(a), weights(b), config(a), config(b))
        assert not seen.resembles
        assert seen.resemblance.statistic < 0.05
        assert all(f.log_evalue < 1.0 for f in seen.layers)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_is_mapped(case):
    make, expected, _ = CASES[case]
    seen = sampled(weights("llama-a"), make(weights("llama-a")), config("llama-a"), config("llama-a"))
    assert [m.a for m in seen.alignment.layers] == expected
    if "rewritten" not in case:
        assert set(seen.transforms) <= {"hidden-permutation"}


@pytest.mark.parametrize("rewrite", ["turned", "all and noise"])
def test_few_units_among_part_of_one_layer_are_enough(rewrite):
    """The plan of a 70B model in small: every layer of a, a part of the units of one layer of b."""
    plan = Plan(("mlp.gate", "mlp.up"), Sample((0, 1, 2, 3), 64), Sample((2,), 100))
    rng = np.random.default_rng(0)
    other = REWRITES[rewrite](weights("llama-a-ft1"), rng)
    seen = sampled(weights("llama-a"), other, config("llama-a"), config("llama-a"), plan)
    assert [(m.a, m.b) for m in seen.alignment.layers] == [(2, 2)]
    assert seen.alignment.table.shape == (4, 1)
    assert seen.alignment.sampled[2, 0] == pytest.approx(64 * 100 / 160)
    assert seen.alignment.table[2, 0] > 0.7
    assert seen.alignment.table[[0, 1, 3], 0].max() < 0.1
    assert not seen.resembles  # three pairs are too few controls


def test_layers_keep_exact_evidence_where_units_keep_their_index():
    stacked = derive.stack(weights("llama-a"), weights("llama-b"), [(0, 0), (0, 1), (1, 2), (1, 3)])
    seen = sampled(weights("llama-a"), stacked, config("llama-a"), config("llama-a"))
    assert [f.log_evalue > 20.0 for f in seen.layers] == [True, True, False, False]


def test_a_document_says_what_a_sample_does_not_cover():
    w = weights("llama-a")
    turned = REWRITES["all"](w, np.random.default_rng(1))
    found = compared(w, turned, config("llama-a"), config("llama-a"), limits=NOTHING_WHOLE)
    assert found["verdict"] in {"related", "resembles"}
    assert found["relation"]["kind"] == "identical"
    assert found["relation"]["probability"] == 0.5
    assert "sampled" in found["relation"]["details"]["compared"]
    row = next(t for t in found["tests"] if t["method"] == "unit-agreement")
    assert "a sample" in row["scope"]
    stranger = compared(w, weights("llama-b"), config("llama-a"), config("llama-b"), limits=NOTHING_WHOLE)
    assert stranger["verdict"] == "no-evidence"
    assert any("not sampled" in text for text in stranger["not_covered"])


def test_runs_of_units_hold_each_other_and_tokens_stay():
    for n in (100, 352, 11008):
        few, many = pick_units(n, N_UNITS, PUBLIC_KEY), pick_units(n, 3000, PUBLIC_KEY)
        assert few.size == min(n, N_UNITS)
        assert many.size == min(n, 3000)
        assert np.isin(few, many).all()
        assert many.min() >= 0
        assert many.max() < n
    for n in (256, 1000, 32000, 128256):
        rows = pick_lookups(n, PUBLIC_KEY)
        assert np.unique(rows).size == rows.size == 256
        assert rows.max() < min(n, 4096)
    assert np.array_equal(pick_lookups(32000, PUBLIC_KEY), pick_lookups(128256, PUBLIC_KEY))


def cost(giant, layers, n_units):
    item, shape = 2, giant.shape
    return len(layers) * 2 * item * shape.width * min(n_units, shape.hidden)


@pytest.mark.parametrize("name", ["100M", "1B", "7B", "70B"])
def test_a_plan_stays_within_its_limit_and_looks_at_enough(name):
    giant = Giant(1, shape=SHAPES[name])
    source = open_store(giant, ModelRef("dir", giant.name))
    for limits in (Limits(), Limits(sampled=128_000_000)):
        plan = plan_sample(source, source, Allowance(limits=limits))
        if name == "70B" and limits != Limits():
            assert plan is None  # ten units could hardly be found
            continue
        for part in (plan.few, plan.many):
            assert cost(giant, part.layers, part.n_units) <= limits.sampled
        assert set(plan.many.layers) <= set(plan.few.layers)
        assert len(plan.few.layers) * len(plan.many.layers) - len(plan.many.layers) >= 6
        assert plan.many.n_units / giant.shape.hidden * N_UNITS >= 10
    whole = plan_sample(source, source, Allowance(thorough=True))
    assert whole.many == Sample(tuple(range(giant.shape.layers)), giant.shape.hidden)
    assert plan_sample(source, source, Allowance(max_bytes=1_000_000)) is None


PROGRAM = """
import json, sys
sys.path[:0] = [{tests!r}]
from giant import SHAPES, Giant
from crawl import ModelRef, open_store
from lineage.budget import Limits
from lineage.comparing import CompareOptions, compare_signed, look_closely
from lineage.reading import sign
shape, limit = SHAPES[{shape!r}], {limit}
base = Giant(1, shape=shape)
out = {{}}
for name in {names}:
    changed = dict(parent=base, folded=True, shuffled=True) if name == "shuffled" else dict()
    other = Giant(3, shape=shape, **changed)
    base.bytes_read = 0
    sources = [open_store(g, ModelRef("dir", g.name)) for g in (base, other)]
    a, b = (sign(s) for s in sources)
    options = CompareOptions(limits=Limits(sampled=limit))
    d = compare_signed(a, b, options, closer=lambda found: look_closely(*sources, a, b, options, found))
    row = [t for t in d["tests"] if t["method"] == "unit-agreement"][0]
    out[name] = {{
        "verdict": d["verdict"], "bytes": [g.bytes_read for g in (base, other)], "statistic": row["statistic"],
        "layers": [[e["a"], e["b"]] for e in d["layers"]], "disguise": d["disguise"], "controls": row["controls"],
    }}
status = open("/proc/self/status").read()
out["peak_kb"] = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps(out))
"""


def measured(shape, limit, names=("independent", "shuffled")):
    tests = str(Path(__file__).parent.parent)
    program = PROGRAM.format(tests=tests, shape=shape, limit=limit, names=names)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def check_giant(found, limit):
    assert found.pop("peak_kb") < 400 * 1024
    for case in found.values():
        assert max(case["bytes"]) <= limit
        assert case["controls"] >= 6
    assert found["shuffled"]["verdict"] == "related"
    assert found["shuffled"]["statistic"] > 0.7
    assert found["shuffled"]["disguise"]["transforms"] == ["gain-folding", "hidden-permutation"]
    assert all(a == b for a, b in found["shuffled"]["layers"])
    if "independent" in found:
        assert found["independent"]["verdict"] == "no-evidence"
        assert found["independent"]["statistic"] < 0.2


def test_a_model_of_1b_is_looked_at_in_few_bytes_and_little_memory():
    check_giant(measured("1B", 32_000_000, ("shuffled",)), 32_000_000)


@pytest.mark.calibrate
@pytest.mark.parametrize("shape", ["7B", "70B"])
def test_the_default_limit_holds_for_large_models(shape):
    check_giant(measured(shape, Limits().sampled), Limits().sampled)
