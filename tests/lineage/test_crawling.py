"""Crawls of a hub on the loopback: each commit once, whatever happens; copies for nothing; every state with its reason."""

import json
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from crawl.catalogue import Query
from crawlrun import HERE, Crawls, code_digest, dump
from hub import Fault, Hub, Repo
from hubdrawn import llama, sharded
from hubworld import FAULTS, Chance, World, commit, light, pack, serve, weights, world
from lineage.crawling import CrawlOptions, crawl
from lineage.errors import UsageError
from lineage.index.store import Store
from lineage.visiting import Terms

CONFIG = json.dumps({"model_type": "llama", "num_attention_heads": 4}).encode()


def model(seed):
    """Files of a model without a known architecture: quickly signed, and here it is all about files."""
    values = np.random.default_rng(seed).normal(size=(64, 64))
    return {"model.safetensors": pack({"some.tensor": values}), "config.json": CONFIG}


@pytest.fixture
def hub():
    repos = {f"org/m{i}": Repo(model(i), commit(f"m{i}")) for i in range(3)}
    with Hub(repos) as made:
        yield made


@pytest.fixture
def crawled(hub, tmp_path):
    def crawling(*sources, name="index.db", query=None, **rest):
        kept = {k: rest.pop(k) for k in ("jobs", "resume", "engine") if k in rest}
        rest = {"longest_wait_seconds": 0.01, "read_seconds": 1.0} | rest
        terms = Terms(endpoint=hub.endpoint, **rest)
        hub.log.clear()
        return crawl(sources or ["hub"], CrawlOptions(tmp_path / name, terms, query or Query(), **kept))

    crawling.path = tmp_path / "index.db"
    return crawling


def entries(path):
    with Store.open(path) as store:
        return {
            e.id.partition("@")[0] + ("#" + e.id.partition("#")[2] if "#" in e.id else ""): e for e in store.entries()
        }


def told(document, word="skipped"):
    return {s["ref"]: s["state"] for s in document[word]}


def test_a_crawl_reads_each_commit_once(hub, crawled):
    first = crawled()
    assert (first["seen"], first["added"], first["models"], first["failed"]) == (3, 3, 3, [])
    assert first["requests"] == len(hub.log) == 1 + 3 * 4  # a look, the file behind its redirect, the config
    assert first["bytes_read"] == sum(s.body_bytes for s in hub.log)
    again = crawled()
    assert (again["unchanged"], again["added"], len(hub.log)) == (3, 0, 1)
    assert {e.state for e in entries(crawled.path).values()} == {"signed"}


def test_only_what_changed_is_read(hub, crawled):
    crawled()
    hub.repos["org/m0"].push({**hub.repos["org/m0"].files, "README.md": b"edited"}, commit("edited"))
    hub.repos["org/m1"].push(model(9), commit("trained on"))
    done = crawled()
    assert (done["updated"], done["unchanged"], done["copies"]) == (2, 1, 1)
    assert len(hub.requests(containing="/m0")) == 1
    found = entries(crawled.path)
    with Store.open(crawled.path) as store:
        assert store.ids_of_repo("org/m0") == [f"org/m0@{commit('edited')}"]
        assert store.ids_of_repo("org/m1") == sorted(f"org/m1@{c}" for c in (commit("m1"), commit("trained on")))
    assert found["org/m0"].signature is not None


def test_copies_and_declared_parents_cost_no_weight_bytes(hub, crawled):
    tags = ["base_model:org/m0", "base_model:quantized:org/m0"]
    hub.repos |= {
        f"org/copy{i}": Repo({**hub.repos["org/m0"].files, "README.md": b"%d" % i}, commit(f"c{i}"), tags=tags)
        for i in range(5)
    }
    done = crawled(jobs=8)
    assert (done["added"], done["copies"]) == (8, 5)
    assert sum(len(hub.requests("storage", x)) for x in ("/copy", "/m0")) == 1
    found = entries(crawled.path)
    assert len({found[n].signature for n in ("org/m0", "org/copy0", "org/copy4")}) == 1
    assert [(p.id, p.relation, p.source) for p in found["org/copy3"].parents] == [("org/m0", "quantized", "tag")]


def test_a_gated_copy_is_known_by_its_hash_and_other_gated_ones_by_name(hub, crawled):
    hub.repos["aaa/first"] = Repo(hub.repos["org/m2"].files, commit("g"), gated=True)
    hub.repos["aaa/shut"] = Repo(model(70), commit("s"), gated=True)
    done = crawled(jobs=1)
    assert told(done) == {"aaa/shut": "gated"}
    found = entries(crawled.path)
    assert found["aaa/first"].signature == found["org/m2"].signature
    assert (found["aaa/shut"].state, found["aaa/shut"].reason) == ("gated", "the model is gated")
    assert len(found["aaa/shut"].files[0].sha256) == 64


def test_removed_renamed_and_disabled(hub, crawled):
    crawled()
    hub.repos["org/new"] = hub.repos.pop("org/m0")
    hub.moved["org/m0"] = "org/new"
    del hub.repos["org/m1"]
    hub.repos["org/m2"].disabled = True
    done = crawled()
    assert told(done) == {"org/m1": "removed", "org/m2": "gated"}
    found = entries(crawled.path)
    assert "org/m0" not in found
    assert found["org/new"].facts["former"] == ["org/m0"]
    assert found["org/m1"].facts["gone"] == "no such model on the Hub"
    assert found["org/m1"].signature is not None  # what was read stays
    assert len(hub.requests("storage")) == 0
    back = crawled()
    assert (back["updated"], told(back)) == (0, {"org/m2": "gated"})


def test_a_model_that_comes_back_is_there_again(hub, crawled):
    crawled()
    kept = hub.repos.pop("org/m1")
    crawled()
    hub.repos["org/m1"] = kept
    assert crawled()["updated"] == 1
    assert "gone" not in entries(crawled.path)["org/m1"].facts


@pytest.mark.parametrize("action", ["deleted", "changed"])
def test_a_repository_that_changes_between_look_and_reading(hub, crawled, action):
    hub.faults = [Fault("^/org/m1/resolve", action)]
    done = crawled()
    state = entries(crawled.path)
    if action == "changed":
        assert state["org/m1"].revision == commit("m1")  # the pinned commit is read
        assert done["failed"] == []
    else:
        assert told(done) == {"org/m1": "removed"}
        assert state["org/m1"].state == "removed"


@pytest.mark.parametrize(
    ("budget", "word"), [({"budget_requests": 7}, "requests"), ({"budget_bytes": 10_000}, "bytes")]
)
def test_a_spent_budget_stops_and_resume_goes_on(hub, crawled, budget, word):
    stopped = crawled(jobs=1, **budget)
    assert (stopped["stopped"], stopped["failed"]) == (word, [])
    assert stopped["left"] > 0
    done = crawled(resume=True, jobs=1)
    assert (done["added"], done["left"]) == (3, 0)
    whole = crawled(name="other.db")
    assert whole["added"] == 3
    assert dump(crawled.path) == dump(crawled.path.with_name("other.db"))


def test_nothing_answers(hub, crawled, monkeypatch):
    monkeypatch.setattr("lineage.dispatching.MOST_FAILING", 2)
    hub.faults = [Fault("/api/models/", "503", times=10_000)]
    done = crawled(attempts=1, jobs=1)
    assert done["stopped"] == "network"
    assert all(f["retryable"] for f in done["failed"])
    hub.faults = []
    assert crawled(resume=True)["added"] == 3


def test_permanent_failures_are_named_and_not_asked_again(hub, crawled):
    hub.repos["org/bad"] = Repo(
        {"model.safetensors": b"\x14" + bytes(7) + b"{not json at all....}" + bytes(700)}, commit("bad")
    )
    done = crawled()
    assert [(f["ref"], f["retryable"]) for f in done["failed"]] == [("org/bad", False)]
    assert "JSON" in done["failed"][0]["reason"]
    assert entries(crawled.path)["org/bad"].state == "failed"
    assert crawled()["unchanged"] == 4


def test_names_that_no_file_system_takes_are_left_out(hub, crawled):
    odd = ("\ud800.safetensors", "x" * 2000 + ".safetensors", "a\0b.safetensors", "new\nline.safetensors")
    hub.repos["org/m0"].files |= dict.fromkeys(odd, b"x" * 600)
    hub.repos["org/m1"].tags = ["base_model:\ud800", "base_model:" + "x" * 200_000, "base_model:org/m0"]
    hub.repos["org/../m9"] = hub.repos["\ud800"] = hub.repos["x" * 200_000] = hub.repos["org/m2"]
    done = crawled()
    assert (done["seen"], done["added"], done["failed"]) == (3, 3, [])
    assert [p.id for p in entries(crawled.path)["org/m1"].parents] == ["org/m0"]


def test_sources(hub, crawled, tmp_path):
    place = tmp_path / "models"
    for name in ("a", "b"):
        (place / name).mkdir(parents=True)
        for file, data in model(ord(name)).items():
            (place / name / file).write_bytes(data)
    listed = tmp_path / "ids.txt"
    listed.write_text("# some\norg/m1\norg/none\n\nnot an id\n")
    first = crawled(str(place), str(listed))
    assert (first["seen"], first["added"]) == (5, 3)
    assert told(first) == {"org/none": "removed"}
    assert told(first, "failed") == {"not an id": "failed"}
    second = crawled(str(place), str(listed))
    assert second["unchanged"] == 3
    (place / "b" / "config.json").write_bytes(CONFIG + b" ")
    (place / "a" / "model.safetensors").unlink()
    (place / "a" / "config.json").unlink()
    third = crawled(str(place))
    assert told(third) == {str(place / "a"): "removed"}
    assert entries(crawled.path)["a"].facts["gone"]
    fourth = crawled(str(crawled.path), name="joined.db")
    assert (fourth["seen"], fourth["added"]) == (4, 4)
    assert dump(crawled.path) == dump(tmp_path / "joined.db")


def test_queries_look_for_what_is_gone_only_where_names_say_so(hub, crawled):
    crawled()
    del hub.repos["org/m1"]
    assert crawled(query=Query(author="other"))["seen"] == 0
    assert crawled(query=Query(limit=1))["seen"] == 1
    assert told(crawled(query=Query(author="org"))) == {"org/m1": "removed"}


def test_nothing_to_resume(hub, crawled, tmp_path):
    with pytest.raises(UsageError, match="nothing to resume"):
        crawl([], CrawlOptions(tmp_path / "x.db", Terms(endpoint=hub.endpoint), resume=True))


def test_a_model_of_seven_billion_parameters_costs_sixteen_exchanges(hub, crawled):
    hub.repos = {"org/seven": Repo(sharded(llama(4096, 11008, 32, 32000), 4, 1))}
    assert crawled()["added"] == 1
    log = hub.requests(containing="/seven")
    assert len(log) <= 16
    assert sum(s.body_bytes for s in log) <= 2_000_000
    from lineage.index.shelf import Shelf

    with Store.open(crawled.path) as store:
        signature = Shelf(store).signature(store.ids()[0])
    assert [b.layer for b in signature.blocks] == [4, 12, 20, 28]
    assert all(b.parts["mlp.up"].shape == (4096, 16) for b in signature.blocks)
    assert signature.tables["embed"].values.shape == (64, 4096)


def test_slim_readings_of_relatives_are_related(open_arrays_at):
    from lineage.evidence import gather
    from lineage.reading import sign

    base = weights(1)
    a, b, c = (sign(open_arrays_at(w), slim=True) for w in (base, weights(2, base), weights(3)))
    assert gather(a, b).log_evalue > 30
    assert gather(a, c).log_evalue < 5


@pytest.fixture
def open_arrays_at(tmp_path):
    from crawl import open_model

    def opened(arrays):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        for file, data in {"model.safetensors": pack(arrays), "config.json": CONFIG}.items():
            (place / file).write_bytes(data)
        return open_model(str(place))

    return opened


def test_forty_repositories_under_faults_and_kills(tmp_path):
    made: World = world(10, drawn=light)
    with serve(made, page=15) as hub, Crawls(tmp_path, hub.endpoint, HF_TOKEN="hf_nobodyMaySeeThis") as runs:  # noqa: S106
        calm = runs.wait(*runs.start(tmp_path / "calm.db", jobs=1), 60)
        assert (calm["added"], calm["models"], calm["copies"]) == (len(made.signed), made.models, made.copies)
        assert sorted(f["ref"] for f in calm["failed"]) == sorted(made.failed)
        assert told(calm) == made.skipped
        hub.chance = Chance(5, 0.05)
        rest = {"jobs": 8, "read_seconds": 0.3, "resume": True, "authorised": True}
        rng = random.Random(3)  # noqa: S311
        for _ in range(2):
            before = len(hub.log)
            pid, _place = runs.start(tmp_path / "killed.db", **rest)
            while len(hub.log) < before + rng.randint(20, 50):
                time.sleep(0.002)
            runs.kill(pid)
        done = runs.wait(*runs.start(tmp_path / "killed.db", **rest), 60)
        assert (done["added"], done["left"]) == (calm["added"], 0)
        assert set(hub.chance.made) <= set(FAULTS)
        assert sum(hub.chance.made.values()) > 3
    assert dump(tmp_path / "killed.db") == dump(tmp_path / "calm.db")
    for file in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert b"hf_nobodyMaySeeThis" not in file.read_bytes()
    assert all(s.authorization is None for s in hub.requests("storage"))


def test_the_measured_page_is_of_this_code():
    page = (HERE.parent / "docs" / "crawl-measured.md").read_text()
    assert f"`{code_digest()}`" in page, "the crawler changed: run tests/calibration/crawling.py and commit its page"


@pytest.mark.outside("ray")
def test_two_workers_of_ray_one_of_them_killed(tmp_path):
    """The same index as of threads, though a worker is killed half-way; rows go through Parquet files."""
    import os
    import signal
    import subprocess
    import threading

    import ray

    assert ray.__version__
    with serve(world(10)) as hub:
        terms = Terms(endpoint=hub.endpoint)
        crawl(["hub"], CrawlOptions(tmp_path / "threads.db", terms, jobs=2))
        start, killed = len(hub.log), []

        def kill() -> None:
            while not killed:
                time.sleep(0.1)
                lines = subprocess.run(
                    ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
                ).stdout.splitlines()
                busy = [int(line.split()[0]) for line in lines if "ray::read" in line]
                if busy and len(hub.log) > start + 30:
                    os.kill(busy[0], signal.SIGKILL)
                    killed.append(busy[0])

        threading.Thread(target=kill, daemon=True).start()
        kept = replace(terms, shards=str(tmp_path / "rows"))
        done = crawl(["hub"], CrawlOptions(tmp_path / "ray.db", kept, jobs=2, engine="ray"))
    assert killed
    assert done["left"] == 0
    assert list((tmp_path / "rows").glob("rows-*.parquet"))
    assert dump(tmp_path / "ray.db") == dump(tmp_path / "threads.db")
