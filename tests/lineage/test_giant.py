"""The shape of a 70B model, generated: few bytes, little memory, right answers. Runs in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crawl import ModelRef, open_store
from giant import SHAPES, Giant
from lineage.comparing import CompareOptions, compare_signed
from lineage.reading import sign

PROGRAM = """
import json, sys
sys.path[:0] = [{tests!r}]
from giant import Giant
from crawl import ModelRef, open_store
from lineage.comparing import CompareOptions, compare_signed
from lineage.reading import sign
base = Giant(1)
cases = {{
    "related": (base, Giant(2, parent=base)),
    "folded": (base, Giant(4, parent=base, folded=True)),
    "independent": (base, Giant(3)),
}}
out = {{"parameters": base.parameters}}
known = {{}}
for name, pair in cases.items():
    for giant in pair:
        if giant.name not in known:
            known[giant.name] = sign(open_store(giant, ModelRef("dir", giant.name)))
    signed = [known[giant.name] for giant in pair]
    document = compare_signed(*signed, CompareOptions())
    out[name] = {{k: document[k] for k in ("verdict", "log10_p", "detectable_similarity", "exactness")}}
    out[name]["kind"] = document["relation"] and document["relation"]["kind"]
    out[name]["bytes"] = [g.bytes_read for g in pair]
    out[name]["counted"] = [s.bytes_read for s in signed]
    out[name]["reads"] = [g.reads for g in pair]
status = open("/proc/self/status").read()  # not getrusage: that remembers the process this one was forked from
out["peak_kb"] = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def answers():
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(tests=tests)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_it_has_the_shape_of_a_70b_model(answers):
    assert 70e9 < answers["parameters"] < 71e9


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_shape_has_about_the_size_of_its_name(name):
    unit = {"M": 1e6, "B": 1e9}[name[-1]]
    assert Giant(1, shape=SHAPES[name]).parameters == pytest.approx(float(name[:-1]) * unit, rel=0.15)


@pytest.mark.parametrize("name", ["1M", "100M"])
def test_smaller_shapes_are_models_too(name):
    base = Giant(1, shape=SHAPES[name])
    pair = (base, Giant(2, parent=base, shape=SHAPES[name]))
    document = compare_signed(*(sign(open_store(g, ModelRef("dir", g.name))) for g in pair), CompareOptions())
    assert document["verdict"] == "related"
    assert document["a"]["parameters"] == base.parameters


@pytest.mark.parametrize("case", ["related", "folded"])
def test_related_pairs_are_found(answers, case):
    assert answers[case]["verdict"] == "related"
    assert answers[case]["log10_p"] <= -12
    assert answers[case]["exactness"] == "exact"


def test_the_independent_pair_is_not_and_says_its_power(answers):
    assert answers["independent"]["verdict"] == "no-evidence"
    assert 0.0 < answers["independent"]["detectable_similarity"] <= 0.1


@pytest.mark.parametrize("case", ["related", "folded", "independent"])
def test_few_bytes_and_all_of_them_counted(answers, case):
    assert max(answers[case]["bytes"]) <= 4_000_000
    assert answers[case]["counted"] == answers[case]["bytes"]


def test_little_memory(answers):
    assert answers["peak_kb"] < 400 * 1024
