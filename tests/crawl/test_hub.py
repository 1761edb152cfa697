"""Models of a hub on the loopback: pinned, counted, checked byte by byte, and every refusal told apart."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from crawl import (
    AmbiguousModelError,
    GatedModelError,
    MissingShardError,
    ModelNotFoundError,
    NetworkError,
    OpenOptions,
    Role,
    TruncatedError,
    open_model,
)
from hub import Fault, Hub, Repo

MODEL = "org/tiny"
COMMIT = "c0ffee" + "0" * 34
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def server():
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server, pack_arrays, shapes, weights):
    server.repos = {
        MODEL: Repo({
            WEIGHTS: pack_arrays(weights(shapes["llama"])),
            "config.json": json.dumps({"num_attention_heads": 2}).encode(),
            "README.md": b"---\nbase_model: org/base\n---\n",
        })
    }  # fmt: skip
    server.faults, server.log = [], []
    return server


@pytest.fixture
def opened(hub):
    slept = []

    def opening(ref=MODEL, **kwargs):
        options = {"endpoint": hub.endpoint, "token": False, "sleep": slept.append, "read_seconds": 5.0} | kwargs
        return open_model(f"hf://{ref}", options=OpenOptions(**options))

    opening.slept = slept
    return opening


@pytest.fixture
def wide(hub, pack_arrays):
    """A model far larger than its first block."""
    array = np.arange(200_000, dtype=np.float32).reshape(200, 1000)
    hub.repos["org/wide"] = Repo({WEIGHTS: pack_arrays({"w": array})})
    return array


def test_a_model_is_pinned_to_its_commit_and_costs_few_requests(hub, opened):
    with opened() as source:
        assert (source.ref.revision, source.ref.id) == (COMMIT, f"{MODEL}@{COMMIT}")
        assert len(source.tensors) == len(source.views) > 0
        assert source.requests == 1 + 1 + 1  # the listing, the header's block, the config
        assert source.card.base_models == ("org/base",)
        assert source.requests == 4  # and the README
        assert len(source.content_hashes()[WEIGHTS]) == 64
    assert all(COMMIT in seen.path for seen in hub.requests(containing="/resolve/"))
    assert len(hub.requests("hub", "/api/")) == 1


def test_bytes_are_counted_as_the_servers_count_them(hub, opened, wide):
    with opened("org/wide") as source:
        assert source.bytes_read == 100_000
        got = source.rows(source.tensors["w"], [150, 151, 199, 0])
        assert np.array_equal(got, wide[[150, 151, 199, 0]])
        assert source.rows(source.tensors["w"], [20, 30]).shape == (2, 1000)
        sent = sum(s.body_bytes for s in hub.requests() if s.status == 206)
        assert source.bytes_read == sent
        assert source.requests == 1 + len(hub.requests("storage"))
    assert len(hub.requests("hub")) == 2  # the listing, and one redirect: its target is remembered


def test_a_read_across_the_first_block(opened, wide):
    with opened("org/wide") as source:
        assert np.array_equal(source.read(source.tensors["w"]), wide)
        assert source.bytes_read == 8 + 800_000 + int.from_bytes(source._store.read(WEIGHTS, _span(0, 8)), "little")


def _span(start, stop):
    from crawl import ByteRange

    return ByteRange(start, stop)


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_revision_may_be_named(opened, revision):
    with opened(f"{MODEL}@{revision}") as source:
        assert source.ref.revision == COMMIT


def test_the_token_never_reaches_the_storage(hub, opened):
    with opened(token=hub.token) as source:
        source.views[Role("mlp.up", 0)]
    assert {s.authorization for s in hub.requests("hub")} == {f"Bearer {hub.token}"}
    assert hub.requests("storage")
    assert {s.authorization for s in hub.requests("storage")} == {None}


def test_without_a_token_none_is_sent(hub, opened):
    with opened(token=False):
        assert {s.authorization for s in hub.requests()} == {None}


def test_a_gated_model_is_told_apart(hub, opened):
    hub.repos[MODEL].gated = True
    for token in (False, "hf_wrong_token"):
        with pytest.raises(GatedModelError, match="gated") as caught:
            opened(token=token)
        assert "hf_wrong_token" not in str(caught.value)
        assert "terms" in caught.value.hint
    with opened(token=hub.token) as source:
        assert source.tensors
    assert opened.slept == []


def test_missing_models_revisions_and_disabled_ones(hub, opened):
    for ref, what in (("org/none", "no such model"), (f"{MODEL}@nope", "no such revision")):
        with pytest.raises(ModelNotFoundError, match=what):
            opened(ref)
    hub.repos[MODEL].disabled = True
    with pytest.raises(GatedModelError, match="disabled"):
        opened()
    assert opened.slept == []


def test_a_model_without_weights(hub, opened):
    hub.repos[MODEL].files.pop(WEIGHTS)
    with pytest.raises(ModelNotFoundError, match="no weight file"):
        opened()


@pytest.mark.parametrize("status", ["429", "500", "502", "503", "504"])
@pytest.mark.parametrize("path", ["/api/", "/resolve/", "org/tiny/model"])
def test_a_busy_server_is_asked_again(hub, opened, status, path):
    hub.faults = [Fault(path, status, times=2)]
    with opened() as source:
        assert source.tensors
        assert source.requests == 2 + 2
    assert len(opened.slept) == 2
    assert all(0 < seconds < 5 for seconds in opened.slept)


def test_a_busy_server_is_not_asked_for_ever(hub, opened):
    hub.faults = [Fault("/resolve/", "503", times=99)]
    with pytest.raises(NetworkError, match=r"503.*3 attempts"):
        opened(attempts=3)
    assert len(opened.slept) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "3000"}, 60.0),
        ({"Retry-After": "1000000000"}, 60.0),
        ({"Retry-After": "9" * 400}, 60.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry-After": "Fri, 21 Oct 2195 07:28:00 GMT"}, 60.0),
        ({"Retry-After": "soon"}, None),
        ({"RateLimit": '"api";r=0;t=5'}, 6.0),
        ({"RateLimit": '"api";r=0;t=99999'}, 60.0),
        ({"RateLimit": '"api";r=7;t=300', "Retry-After": "2"}, 2.0),
    ],
)
@pytest.mark.parametrize("path", ["/api/", "/resolve/"])
def test_waits_are_the_servers_up_to_a_cap(hub, opened, headers, seconds, path):
    hub.faults = [Fault(path, "429", headers=headers)]
    with opened():
        pass
    assert len(opened.slept) == 1
    assert opened.slept == [seconds] if seconds is not None else 0.5 <= opened.slept[0] <= 1.0


@pytest.mark.parametrize(
    ("action", "error", "match"),
    [
        ("ignore_range", NetworkError, "answered 200"),
        ("wrong_range", NetworkError, "was asked"),
        ("gzip", NetworkError, "compressed"),
        ("long", NetworkError, "more than"),
        ("html", NetworkError, "answered 200"),
        ("short", TruncatedError, "were asked"),
        ("cut", NetworkError, "connection failed"),
    ],
)
def test_a_wrong_answer_is_refused_in_one_clear_sentence(hub, opened, wide, action, error, match):
    with opened("org/wide", attempts=2, token=hub.token) as source:
        hub.faults = [Fault("org/wide/model", action, times=99)]
        with pytest.raises(error, match=match) as caught:
            source.rows(source.tensors["w"], [150])
    text = str(caught.value)
    assert text.isprintable()
    assert f"org/wide@{COMMIT}: {WEIGHTS}" in text
    assert hub.token not in text
    assert "signature" not in text


@pytest.mark.parametrize("action", ["short", "cut"])
def test_a_broken_transfer_is_tried_again(hub, opened, wide, action):
    with opened("org/wide") as source:
        hub.faults = [Fault("org/wide/model", action)]
        assert np.array_equal(source.rows(source.tensors["w"], [150]), wide[[150]])
    assert len(opened.slept) == 1


def test_an_expired_signature_is_renewed(hub, opened, wide):
    with opened("org/wide") as source:
        hub.faults = [Fault("^/org/wide/model", "403")]
        assert np.array_equal(source.rows(source.tensors["w"], [150]), wide[[150]])
        assert source.requests == 1 + 1 + 2
    assert opened.slept == []
    assert len(hub.requests("hub", "/resolve/")) == 2


@pytest.mark.parametrize("header", ["an index", "one answer"])
def test_the_headers_of_all_shards_come_in_one_answer(hub, opened, pack_arrays, header):
    names = [f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)]
    files = {n: pack_arrays({n: np.full(200, i, np.float32)}) for i, n in enumerate(names)}
    index = {"weight_map": {n: n for n in names}}
    files |= {"model.safetensors.index.json": json.dumps(index).encode(), "config.json": b'{"model_type": "x"}'}
    hub.repos["org/shards"] = Repo(files)
    if header == "an index":
        hub.faults = [Fault("safetensors-metadata", "404", times=9)]
    with opened("org/shards") as source:
        assert source.read(source.tensors[names[2]])[0] == 2.0
        assert source.card.claims["model_type"] == "x"
        assert source.n_parameters == 800
    assert len(hub.log) == (1 + 1 + 1 + 2 if header == "one answer" else 1 + 1 + 1 + 4 * 2 + 1)


def test_headers_of_another_commit_are_not_used(hub, opened, pack_arrays):
    names = [f"model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {n: n for n in names}}
    files = {n: pack_arrays({n: np.full(200, i, np.float32)}) for i, n in enumerate(names)}
    files |= {"model.safetensors.index.json": json.dumps(index).encode(), "config.json": b"{}"}
    hub.repos["org/shards"] = Repo(files)
    hub.faults = [Fault("safetensors-metadata", "changed")]
    with opened("org/shards") as source:
        assert source.read(source.tensors[names[1]])[0] == 1.0
        assert source.ref.revision == COMMIT
    assert len(hub.requests("hub", f"/resolve/{COMMIT}/")) >= 3


def test_a_silent_server_does_not_hang_the_reader(hub, opened):
    for path in ("/api/", "/resolve/"):
        hub.faults = [Fault(path, "stall", times=9)]
        with pytest.raises(NetworkError, match=r"connection failed.*Timeout"):
            opened(read_seconds=0.2, attempts=2)


def test_an_unreachable_server(opened):
    with pytest.raises(NetworkError, match="connection failed"):
        opened(endpoint="http://127.0.0.1:9", attempts=1)


@pytest.mark.parametrize("action", ["html", "418"])
def test_a_server_that_is_no_hub(hub, opened, action):
    hub.faults = [Fault("/api/", action)]
    with pytest.raises(NetworkError, match=r"not that of a model hub|418"):
        opened()


def test_a_listing_without_a_commit_is_refused(hub, opened):
    hub.repos[MODEL].commit = "main"
    with pytest.raises(NetworkError, match="no commit"):
        opened()


def test_shards_and_components(hub, opened, pack_arrays):
    one, two = (pack_arrays({name: np.ones(3, np.float32)}) for name in "ab")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {"model-00001-of-00002.safetensors": one, "model-00002-of-00002.safetensors": two,
             "model.safetensors.index.json": json.dumps(index).encode()}  # fmt: skip
    hub.repos["org/shards"] = Repo(dict(files))
    hub.repos["org/parts"] = Repo({f"unet/{n}": b for n, b in files.items()} | {"vae/model.safetensors": one})
    with opened("org/shards") as source:
        assert set(source.tensors) == {"a", "b"}
    with opened("org/parts#unet") as source:
        assert set(source.tensors) == {"a", "b"}
        assert source.files[0].startswith("unet/")
        assert str(source.ref) == f"hf://org/parts@{COMMIT}#unet"
    with pytest.raises(AmbiguousModelError, match="#unet"):
        opened("org/parts")
    del hub.repos["org/shards"].files["model-00002-of-00002.safetensors"]
    with pytest.raises(MissingShardError, match="model-00002"):
        opened("org/shards")


def test_concurrent_headers_are_counted_once_each(hub, opened, pack_arrays):
    names = [f"model-{i:05d}-of-00012.safetensors" for i in range(1, 13)]
    hub.repos["org/many"] = Repo({n: pack_arrays({n: np.ones(1, np.float32)}) for n in names})
    with opened("org/many") as source:
        assert len(source.tensors) == 12
        assert source.requests == 13 == len(hub.requests("hub"))


_OFFLINE = """
import sys, crawl
try:
    with crawl.open_model("hf://" + sys.argv[1]) as s:
        print(s.ref.id, len(s.tensors))
except crawl.CrawlError as error:
    print(type(error).__name__, error)
"""


def test_offline_reads_the_cache_or_says_so(tmp_path, pack_arrays):
    place = tmp_path / "hub" / "models--org--tiny"
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "blobs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    (place / "blobs" / "b").write_bytes(pack_arrays({"w": np.ones(2, np.float32)}))
    (place / "snapshots" / COMMIT / WEIGHTS).symlink_to("../../blobs/b")
    env = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}

    def run(ref):
        done = subprocess.run(
            [sys.executable, "-c", _OFFLINE, ref], env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run(MODEL) == f"{MODEL}@{COMMIT} 1"
    missing = run("org/absent")
    assert missing.startswith("ModelNotFoundError")
    assert "offline" in missing


def test_the_environment_is_honoured(hub, tmp_path):
    env = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token}
    done = subprocess.run([sys.executable, "-c", _OFFLINE, MODEL], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{MODEL}@{COMMIT} ")
    assert {s.authorization for s in hub.requests("hub")} == {f"Bearer {hub.token}"}
