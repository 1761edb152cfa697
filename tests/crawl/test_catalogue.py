"""Listings of a hub on the loopback: pages, circles, queries, what one model is, and its weight sets."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from crawl import GatedModelError, ModelNotFoundError, NetworkError, OpenOptions
from crawl.catalogue import Catalogue, Query, declared_in, sets_of
from crawl.stores.listing import Listing
from crawl.stores.traffic import Traffic
from hub import Fault, Hub, Repo


@pytest.fixture(scope="module")
def server():
    with Hub(page=10) as hub:
        yield hub


@pytest.fixture
def catalogue(server):
    tags = {0: ["a", "b"], 1: ["a"], 2: []}
    server.repos = {
        f"{'one' if i % 2 else 'two'}/m{i:02d}": Repo(
            {"model.safetensors": b"x" * 600}, tags=tags[i % 3], modified=f"2024-05-{i + 1:02d}T00:00:00.000Z"
        )
        for i in range(25)
    }
    server.faults, server.log, server.moved = [], [], {}
    options = OpenOptions(endpoint=server.endpoint, token=False, sleep=lambda _: None, attempts=3)
    with Traffic(options).installed() as traffic:
        yield Catalogue(replace(options, traffic=traffic))


def names(catalogue, **query):
    return [m.repo for m in catalogue.models(Query(**query))]


def test_a_listing_is_read_to_its_end_the_last_changed_first(server, catalogue):
    found = names(catalogue)
    assert found == sorted(server.repos, key=lambda n: server.repos[n].modified, reverse=True)
    assert len(server.log) == 3
    assert {m.commit for m in catalogue.models(Query())} == {"c0ffee" + "0" * 34}


def test_queries(server, catalogue):
    assert names(catalogue, author="one") == [f"one/m{i:02d}" for i in range(23, 0, -2)]
    assert names(catalogue, search="M07") == ["one/m07"]
    assert len(names(catalogue, filters=("a", "b"))) == 9
    assert len(names(catalogue, limit=12)) == 12
    server.log.clear()
    assert names(catalogue, since=datetime(2024, 5, 21, tzinfo=UTC)) == [
        "two/m24",
        "one/m23",
        "two/m22",
        "one/m21",
        "two/m20",
    ]
    assert len(server.log) == 1


@pytest.mark.parametrize("action", ["same_page", "html", "503", "stall"])
def test_a_page_that_comes_wrong_loses_nothing(server, catalogue, action):
    catalogue._options.traffic.options = replace(catalogue._options.traffic.options, read_seconds=0.2)
    expected = names(catalogue)
    server.faults = [Fault("/api/models$", "", times=1), Fault("/api/models$", action, times=2)]
    assert names(catalogue) == expected


def test_pages_in_a_circle_end(server, catalogue, monkeypatch):
    monkeypatch.setattr("crawl.catalogue._MOST_REPEATED", 40)
    server.faults = [Fault("/api/models$", "cursor_loop", times=10_000)]
    with pytest.raises(NetworkError, match="circle"):
        names(catalogue)
    assert len(server.log) <= 4 * 6


def test_one_model_is_one_request(server, catalogue):
    server.repos["one/m01"].gated = True
    found = catalogue.describe("one/m01")
    assert (found.repo, found.gated, found.sizes) == ("one/m01", True, {"model.safetensors": 600})
    assert len(found.hashes["model.safetensors"]) == 64
    assert len(server.log) == 1
    server.moved["one/m01"] = "one/m03"
    assert catalogue.describe("one/m01").repo == "one/m03"
    with pytest.raises(ModelNotFoundError, match="no such model"):
        catalogue.describe("one/none")
    server.repos["one/m05"].disabled = True
    with pytest.raises(GatedModelError, match="disabled"):
        catalogue.describe("one/m05")


def test_a_model_deleted_between_listing_and_look(server, catalogue):
    server.faults = [Fault("/api/models/one/m01", "deleted")]
    assert "one/m01" in names(catalogue)
    with pytest.raises(ModelNotFoundError):
        catalogue.describe("one/m01")


def sets(*names):
    found, left_out = sets_of(Listing("o/n", "c" * 40, dict.fromkeys(sorted(names), 9)))
    return [(s.variant, s.files, s.claims) for s in found], left_out


def test_weight_sets_of_a_listing():
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = "model.safetensors.index.json"
    found, left_out = sets(*shards, index, "config.json", "model.fp16.safetensors", "original/consolidated.safetensors",
                           "unet/diffusion_pytorch_model.safetensors", "a/b/deep.safetensors", ".hidden/x.safetensors")  # fmt: skip
    assert found == [
        (None, shards, ("config.json", index)),
        ("fp16", ("model.fp16.safetensors",), ("config.json",)),
        ("unet", ("unet/diffusion_pytorch_model.safetensors",), ()),
    ]
    assert left_out == ""
    assert sets("README.md") == ([], "no weight file")
    assert "pytorch_model.bin" in sets("pytorch_model.bin")[1]
    many, left_out = sets(*(f"a{i}.safetensors" for i in range(100)))
    assert len(many) == 64
    assert "100 weight sets" in left_out


def test_declared_parents():
    tags = (
        "base_model:o/p",
        "base_model:finetune:o/p",
        "base_model:o/q",
        "base_model:",
        "license:mit",
        "base_model:odd:o/r",
    )
    assert declared_in(tags) == [("o/p", "finetune"), ("o/q", "")]
