"""Folders and files: shards, variants, links, hostile indexes, claims, and finding models."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import crawl
from crawl import (
    AmbiguousModelError,
    ByteRange,
    CountingStore,
    MalformedHeaderError,
    MissingShardError,
    ModelNotFoundError,
    ModelRef,
    TruncatedError,
    UnsafePathError,
    find_models,
    open_model,
)
from crawl.stores import open_place
from crawl.stores.local import LocalStore
from crawl.weightsets import weight_sets


@pytest.fixture
def write(tmp_path, pack_arrays):
    def written(name, folder="m", **arrays):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = arrays or {"w": np.arange(4.0, dtype=np.float32)}
        path.write_bytes(pack_arrays({k: np.asarray(v, np.float32) for k, v in arrays.items()}))
        return path

    return written


@pytest.fixture
def sharded(write, tmp_path):
    def made(weight_map=None, **extra):
        write("model-00001-of-00002.safetensors", a=[1.0])
        write("model-00002-of-00002.safetensors", b=[2.0])
        one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
        table = {"a": one, "b": two} if weight_map is None else weight_map
        index = tmp_path / "m" / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": table} | extra))
        return tmp_path / "m"

    return made


def test_folder_file_and_index_open_the_same_model(sharded, write):
    folder = sharded()
    for ref in (folder, folder / "model.safetensors.index.json"):
        with open_model(str(ref)) as source:
            assert list(source.tensors) == ["a", "b"]
            assert source.read(source.tensors["b"]).tolist() == [2.0]
            assert len(source.files) == 2
    with open_model(str(write("x.safetensors", "single", a=[1.0], b=[2.0]))) as source:
        assert (source.ref.scheme, list(source.tensors)) == ("file", ["a", "b"])
        digest = source.header_digest()
    with open_model(str(folder)) as source:
        assert source.header_digest() == digest


def test_a_single_file_wins_over_an_index(sharded, write):
    folder = sharded()
    write("model.safetensors", c=[3.0])
    with open_model(str(folder)) as source:
        assert list(source.tensors) == ["c"]


def test_shards_without_an_index_are_one_model_when_complete(sharded):
    folder = sharded()
    (folder / "model.safetensors.index.json").unlink()
    with open_model(str(folder)) as source:
        assert list(source.tensors) == ["a", "b"]
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(MissingShardError, match="number 1 is not"):
        open_model(str(folder))


def test_a_missing_shard_is_named(sharded):
    folder = sharded()
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MissingShardError, match="model-00002-of-00002"):
        open_model(str(folder))


def test_a_tensor_must_be_where_the_index_says(sharded):
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    for table, name in (({"a": two, "b": one}, "'a'"), ({"a": one, "b": two, "ghost": two}, "'ghost'")):
        with pytest.raises(MissingShardError, match=name):
            open_model(str(sharded(table)))


def test_a_tensor_in_two_shards_is_refused(sharded, write):
    folder = sharded()
    write("model-00002-of-00002.safetensors", a=[1.0], b=[2.0])
    with pytest.raises(MalformedHeaderError, match="two shards"):
        open_model(str(folder))


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b", "x\0y", "..", "", "C:x", "a\nb"]
)
def test_a_shard_outside_the_folder_is_refused(sharded, write, shard):
    write("x.safetensors", folder=".")
    with pytest.raises(UnsafePathError, match="index names"):
        open_model(str(sharded({"a": shard})))


@pytest.mark.parametrize("table", [[], {"a": 1}, None, "x", {}])
def test_a_broken_weight_map_is_refused(sharded, tmp_path, table):
    folder = sharded({})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    with pytest.raises(MalformedHeaderError):
        open_model(str(folder))


def test_a_million_shards_are_refused(sharded):
    with pytest.raises(MalformedHeaderError, match="more than 10000"):
        open_model(str(sharded({str(i): f"s{i}.safetensors" for i in range(10_001)})))


def test_links_may_not_leave_the_folder(write, tmp_path):
    outside = write("secret.safetensors", "elsewhere")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").symlink_to(outside)
    with pytest.raises(UnsafePathError, match="leaves the model folder"):
        open_model(str(tmp_path / "m"))
    with open_model(str(tmp_path / "m" / "model.safetensors")) as source:
        assert "w" in source.tensors


def test_only_the_named_file_may_be_a_link_to_elsewhere(write, tmp_path):
    (tmp_path / "away.json").write_text('{"model_type": "gemma"}')
    path = write("model.safetensors")
    (tmp_path / "m" / "config.json").symlink_to(tmp_path / "away.json")
    with open_model(str(path)) as source:
        assert source.card.claims == {}
    with open_model(str(path.parent)) as source:
        assert source.card.claims == {}


def test_a_file_that_becomes_a_link_is_not_followed(write, tmp_path):
    path, other = write("model.safetensors"), write("other.safetensors", "elsewhere")
    store, _ = open_place(ModelRef("dir", str(path.parent)), crawl.OpenOptions())
    path.unlink()
    path.symlink_to(other)
    with pytest.raises(ModelNotFoundError, match="cannot be opened"):
        store.read("model.safetensors", crawl.ByteRange(0, 8))


def test_links_inside_the_folder_are_followed(write, tmp_path):
    write("real.bin")
    (tmp_path / "m" / "model.safetensors").symlink_to("real.bin")
    with open_model(str(tmp_path / "m")) as source:
        assert "w" in source.tensors


@pytest.mark.parametrize("target", ["nowhere", "model.safetensors"])
def test_dangling_and_looping_links(tmp_path, target):
    (tmp_path / "model.safetensors").symlink_to(target)
    with pytest.raises(UnsafePathError, match="nowhere"):
        open_model(str(tmp_path))


def test_the_cache_of_the_hub_client_is_read(write, tmp_path):
    blob = write("0f" * 32, "hub/models--o--n/blobs")
    snapshot = tmp_path / "hub" / "models--o--n" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(os.path.relpath(blob, snapshot))
    with open_model(str(snapshot)) as source:
        assert "w" in source.tensors
    assert [ref.location for ref in find_models(tmp_path)] == [str(snapshot)]
    shared = write("1e" * 32, "hub/blobs/1e")
    blob.unlink()
    blob.symlink_to(shared)
    with pytest.raises(UnsafePathError):
        open_model(str(snapshot))
    (tmp_path / "hub" / "blobs" / ".huggingface-shared-blobs").write_text("1")
    with open_model(str(snapshot)) as source:
        assert "w" in source.tensors


def test_pipes_and_folders_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(ModelNotFoundError, match="no weight file"):
        open_model(str(tmp_path))


def test_what_is_not_there(tmp_path, write):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match="no weight file"):
        open_model(str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        open_model(str(tmp_path / "none"))
    with pytest.raises(ModelNotFoundError, match="no such file"):
        open_model(str(tmp_path / "none.safetensors"))
    write("model.safetensors", ".")
    with pytest.raises(ModelNotFoundError, match="fp16"):
        open_model(f"{tmp_path}#fp16")


def test_several_models_in_one_folder(write, tmp_path):
    write("a.safetensors", a=[1.0])
    write("b.safetensors", b=[1.0])
    folder = tmp_path / "m"
    with pytest.raises(AmbiguousModelError) as caught:
        open_model(str(folder))
    assert f"{folder}#a" in caught.value.hint
    assert f"{folder}#b" in caught.value.hint
    with open_model(f"{folder}#b") as source:
        assert list(source.tensors) == ["b"]
    assert [ref.id for ref in find_models(folder)] == [f"{folder}#a", f"{folder}#b"]


def test_variants_of_one_model(write, tmp_path):
    write("model.safetensors", a=[1.0])
    write("model.fp16.safetensors", a=[2.0])
    write("adapter_model.safetensors", c=[2.0])
    write("consolidated.safetensors", a=[1.0])
    write("consolidated.00.safetensors", "m/original", a=[1.0])
    folder = tmp_path / "m"
    assert [ref.id for ref in find_models(folder)] == [str(folder), f"{folder}#adapter_model", f"{folder}#fp16"]
    for ref in find_models(folder):
        with open_model(ref) as source:
            assert len(source.tensors) == 1
            assert ModelRef.parse(str(source.ref)) == ref


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors"], [None]),
        (["odd name.safetensors"], [None]),
        (["model.fp16.safetensors"], [None]),
        (["model.fp16.safetensors", "model.bf16.safetensors"], ["bf16", "fp16"]),
        (["model.safetensors.index.fp16.json", "model.safetensors"], [None, "fp16"]),
        (["model.safetensors.index.json", "model-00001-of-00001.safetensors"], [None]),
        (["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"], [None, "fp16"]),
        (["model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors"], [None]),
        (["config.json", "pytorch_model.bin"], []),
    ],
)
def test_names_are_grouped_into_sets(names, expected):
    assert [found.variant for found in weight_sets(names)] == expected


def test_models_are_found_without_leaving_the_folder(write, tmp_path):
    write("model.safetensors", "all/b")
    write("model.safetensors", "all/a/deep")
    write("model.safetensors", "away")
    (tmp_path / "all" / "link").symlink_to(tmp_path / "away")
    (tmp_path / "all" / "g").mkdir()
    (tmp_path / "all" / "g" / "x.gguf").write_bytes(b"GGUF")
    root = tmp_path / "all"
    assert [ref.id for ref in find_models(root)] == [f"{root}/a/deep", f"{root}/b", f"{root}/g"]
    with pytest.raises(crawl.UnsupportedFormatError, match="GGUF"):
        open_model(f"{root}/g")
    with pytest.raises(ModelNotFoundError):
        find_models(tmp_path / "none")


def test_a_file_that_shrinks_is_reported(write):
    path = write("model.safetensors", w=np.arange(4000.0))
    with open_model(str(path.parent)) as source:
        os.truncate(path, 500)
        with pytest.raises(TruncatedError, match="expected"):
            source.read(source.tensors["w"])


def test_threads_read_the_same_numbers_and_the_count_is_right(write):
    path = write("model.safetensors", w=np.arange(4096.0).reshape(64, 64))
    with open_model(str(path)) as source:
        before, wrong = source.bytes_read, []

        def work(row):
            got = source.rows(source.tensors["w"], [row])
            if got[0, 0] != row * 64:
                wrong.append(row)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert source.bytes_read - before == 32 * 64 * 4


def _descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_many_shards_do_not_exhaust_descriptors(write, tmp_path):
    for i in range(200):
        write(f"model-{i + 1:05d}-of-00200.safetensors", **{f"w{i}": [float(i)]})
    before = _descriptors()
    with open_model(str(tmp_path / "m")) as source:
        assert len(source.tensors) == 200
        assert _descriptors() - before <= 130
        assert source.read(source.tensors["w199"]).tolist() == [199.0]
    assert _descriptors() <= before


def test_claims(write, tmp_path):
    write("model.safetensors")
    folder = tmp_path / "m"
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llava", "n_head": 3, "text_config": {"num_attention_heads": 4, "hidden_size": 8}, "secret": 1,
    }))  # fmt: skip
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "org/zero", "peft_type": "LORA"})
    )
    (folder / "README.md").write_text(
        '---\nlicense: mit\nbase_model:\n- org/one\n- "org/two"\n- org/one\ntags: [a, b]\nx: {y: 1}\n---\nbase_model: no\n'
    )
    with open_model(str(folder)) as source:
        card = source.card
    assert card.base_models == ("org/zero", "org/one", "org/two")
    assert card.licence == "mit"
    assert card.claims["tags"] == ["a", "b"]
    assert card.claims["hidden_size"] == 8
    assert card.integer("num_attention_heads") == 3
    assert "secret" not in card.claims
    assert card.problems == ()


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"a":1,"a":2}', b"[" * 100_000])
def test_a_broken_config_is_a_value_with_a_reason(write, tmp_path, text):
    write("model.safetensors")
    (tmp_path / "m" / "config.json").write_bytes(text)
    (tmp_path / "m" / "README.md").write_bytes(b"---\n- x\n:\nbase_model:\n---")
    with open_model(str(tmp_path / "m")) as source:
        assert source.card.claims == {"base_model": []}
        assert source.card.base_models == ()
        assert len(source.card.problems) == 1
        assert source.card.problems[0].startswith("config.json: ")


def test_a_local_model_needs_no_hub_client(write):
    path = write("model.safetensors")
    code = (
        "import sys, crawl\n"
        "with crawl.open_model(sys.argv[1]) as s: s.architecture, s.read(s.tensors['w'])\n"
        "print(*[m for m in ('huggingface_hub', 'torch', 'pickle', 'safetensors', 'httpx2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"pickle"}  # numpy itself imports pickle; nothing here calls it


def test_reading_into_a_buffer_gives_the_same_bytes_and_is_counted(tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(200)))
    store = CountingStore(LocalStore(tmp_path, "here"))
    room = memoryview(bytearray(50))
    store.read_into("x", ByteRange(30, 80), room)
    assert bytes(room) == store.read("x", ByteRange(30, 80))
    assert (store.bytes_read, store.reads) == (100, 2)
    store.read_into("x", ByteRange(7, 7), room[:0])
    assert (store.bytes_read, store.reads) == (100, 2)


def test_reading_into_a_buffer_refuses_what_reading_refuses(tmp_path):
    (tmp_path / "x").write_bytes(bytes(200))
    store = CountingStore(LocalStore(tmp_path, "here"))
    room = memoryview(bytearray(50))
    with pytest.raises(ValueError, match="a buffer of 50 bytes for 49"):
        store.read_into("x", ByteRange(0, 49), room)
    with pytest.raises(TruncatedError, match="asked of a file of 200"):
        store.read_into("x", ByteRange(180, 230), room)
    with pytest.raises(ModelNotFoundError):
        store.read_into("y", ByteRange(0, 50), room)
    (tmp_path / "x").write_bytes(bytes(100))
    with pytest.raises(TruncatedError, match="the file ends at byte 100"):
        store.read_into("x", ByteRange(80, 130), room)
    assert store.bytes_read == 0


def test_a_store_that_cannot_fill_a_buffer_is_read_and_copied():
    class Plain:
        name = "plain"

        def files(self):
            return {"x": 10}

        def read(self, file, span):
            return bytes(range(span.start, span.stop))

    store = CountingStore(Plain())
    room = memoryview(bytearray(4))
    store.read_into("x", ByteRange(3, 7), room)
    assert bytes(room) == bytes([3, 4, 5, 6])
    assert (store.bytes_read, store.reads) == (4, 1)
