"""The hub of the tests is true to the protocol: clients that are not ours read it, each call with its requests counted."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub import Fault, Hub, Repo

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def server():
    with Hub(page=10) as hub:
        yield hub


@pytest.fixture
def hub(server, pack_arrays):
    names = [f"model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    files = {n: pack_arrays({f"w{i}": np.full(200, i, np.float32)}) for i, n in enumerate(names)}
    files["model.safetensors.index.json"] = json.dumps(
        {"metadata": {"total_size": 1600}, "weight_map": {f"w{i}": n for i, n in enumerate(names)}}
    ).encode()
    files |= {"config.json": b'{"model_type": "x"}', "unet/config.json": b"{}"}
    repo = Repo({"config.json": b"{}"}, OLD, tags=["base_model:org/base"])
    repo.push(files, NEW)
    server.repos = {"org/shards": repo} | {
        f"org/m{i:02d}": Repo({"model.safetensors": b"x" * 600}, NEW) for i in range(24)
    }
    server.repos["org/m00"].gated = True
    server.repos["org/m01"].disabled = True
    server.repos["org/m02"].private = True
    server.moved = {"org/older": "org/shards"}
    server.faults, server.log = [], []
    return server


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.endpoint, token=False)


def test_listings_and_single_models(hub, api):
    assert len(list(api.list_models())) == 24
    assert len(hub.log) == 3
    assert [m.id for m in api.list_models(filter="base_model:org/base", author="org")] == ["org/shards"]
    assert len(list(HfApi(endpoint=hub.endpoint, token=hub.token).list_models())) == 25
    info = api.model_info("org/older", files_metadata=True)
    assert (info.id, info.sha, len(info.siblings)) == ("org/shards", NEW, 5)
    assert info.siblings[1].lfs.sha256 != info.siblings[2].lfs.sha256
    assert api.model_info("org/shards", revision=OLD).sha == OLD
    assert api.model_info("org/m03", expand=["sha"]).sha == NEW


def test_trees_paths_commits_and_refs(hub, api):
    tree = {e.path: e for e in api.list_repo_tree("org/shards", recursive=True)}
    assert len(tree) == 6
    assert tree["model-00001-of-00002.safetensors"].lfs.size == tree["model-00001-of-00002.safetensors"].size
    assert [e.path for e in api.list_repo_tree("org/shards", "unet")] == ["unet/config.json"]
    assert [e.path for e in api.list_repo_tree("org/shards", revision=OLD)] == ["config.json"]
    assert [e.path for e in api.get_paths_info("org/shards", ["config.json", "none"])] == ["config.json"]
    assert [c.commit_id for c in api.list_repo_commits("org/shards")] == [NEW, OLD]
    assert api.list_repo_refs("org/shards").branches[0].target_commit == NEW
    found = api.get_sharded_safetensors_metadata("org/shards")
    assert found.weight_map == {f"w{i}": f"model-{i + 1:05d}-of-00002.safetensors" for i in (0, 1)}
    assert found.files_metadata == api.get_safetensors_metadata("org/shards").files_metadata


def test_files_are_downloaded_whole(hub, api, tmp_path):
    for name in ("config.json", "model-00002-of-00002.safetensors"):
        place = api.hf_hub_download("org/shards", name, cache_dir=tmp_path)
        assert Path(place).read_bytes() == hub.repos["org/shards"].files[name]
    assert api.file_exists("org/shards", "config.json")
    assert not api.file_exists("org/shards", "none")
    assert {s.authorization for s in hub.requests("storage")} == {None}


def test_a_body_cut_short_is_taken_up_again(hub, api, tmp_path):
    hub.faults = [Fault("org/shards/model-00002", "x", times=2), Fault("org/shards/model-00002", "cut")]
    place = api.hf_hub_download("org/shards", "model-00002-of-00002.safetensors", cache_dir=tmp_path)
    assert Path(place).read_bytes() == hub.repos["org/shards"].files["model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda api: api.model_info("org/none"), RepositoryNotFoundError),
        (lambda api: api.model_info("org/m02"), RepositoryNotFoundError),
        (lambda api: api.model_info("org/m01"), DisabledRepoError),
        (lambda api: api.auth_check("org/m00"), GatedRepoError),
        (lambda api: api.hf_hub_download("org/m00", "model.safetensors"), GatedRepoError),
        (lambda api: api.model_info("org/shards", revision="none"), RevisionNotFoundError),
        (lambda api: list(api.list_repo_tree("org/shards", "none")), RemoteEntryNotFoundError),
    ],
    ids=["absent", "private", "disabled", "gated", "gated file", "revision", "folder"],
)
def test_refusals_are_told_apart(hub, api, call, error):
    with pytest.raises(error):
        call(api)


_SCRIPT = """
import { listModels, modelInfo, listFiles, fileDownloadInfo, downloadFile, pathsInfo, listCommits, parseSafetensorsMetadata }
  from "@huggingface/hub";
const hubUrl = process.argv[2], repo = "org/shards", out = {};
out.models = [];
for await (const m of listModels({ search: { owner: "org" }, hubUrl })) out.models.push(m.name);
out.info = (await modelInfo({ name: repo, hubUrl, additionalFields: ["sha", "tags"] })).sha;
out.files = [];
for await (const f of listFiles({ repo, recursive: true, hubUrl })) if (f.type === "file") out.files.push([f.path, f.lfs?.oid]);
const shard = "model-00001-of-00002.safetensors";
const told = await fileDownloadInfo({ repo, path: shard, hubUrl });
out.size = told.size;
out.slice = Array.from(new Uint8Array(await (await downloadFile({ repo, path: shard, hubUrl, xet: false })).slice(0, 8).arrayBuffer()));
out.config = await (await downloadFile({ repo, path: "config.json", hubUrl, xet: false })).text();
out.paths = (await pathsInfo({ repo, paths: ["config.json", "none"], hubUrl })).map(p => p.path);
out.commits = [];
for await (const c of listCommits({ repo, hubUrl })) out.commits.push(c.oid);
out.headers = Object.keys((await parseSafetensorsMetadata({ repo, hubUrl })).headers);
console.log(JSON.stringify(out));
"""


@pytest.mark.outside("node")
def test_the_official_client_in_another_language_reads_it(hub):
    """`@huggingface/hub`, fetched by npm on first use."""
    assert shutil.which("node"), "node is missing"
    folder = Path(__file__).parents[2] / ".cache" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"type": "module", "dependencies": {"@huggingface/hub": "^2.17.5"}}')
    if not (folder / "node_modules" / "@huggingface" / "hub").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    (folder / "read.mjs").write_text(_SCRIPT)
    done = subprocess.run(["node", "read.mjs", hub.endpoint], check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    files = hub.repos["org/shards"].files
    shard = files["model-00001-of-00002.safetensors"]
    assert len(out["models"]) == 24
    assert out["info"] == NEW
    assert [p for p, _ in out["files"]] == sorted(files)
    assert out["size"] == len(shard)
    assert bytes(out["slice"]) == shard[:8]
    assert out["config"] == '{"model_type": "x"}'
    assert out["paths"] == ["config.json"]
    assert out["commits"] == [NEW, OLD]
    assert sorted(out["headers"]) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
