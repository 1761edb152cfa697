"""Marks in files: written whole or not at all, nothing else changed, read from any part, shard, name or place."""

import errno
import json
import math
import os

import numpy as np
import pytest

import derive
import marked
from crawl import OpenOptions, open_model
from hub import Hub
from hubpages import Repo
from stats.carriers import Carried
from weightmark import embedding, files, writing
from weightmark.errors import TooStrongError, UnfitModelError, WritingError
from weightmark.keys import Key
from weightmark.payload import codeword
from weightmark.schemes import SCHEMES, dss
from wrongkeys import key as numbered

DSS = SCHEMES["dss"]
KEY = numbered(1)
COLUMNS, ROWS = 256, 512


def base(dtype="bfloat16"):
    rng = np.random.default_rng(31)
    w = marked.planted(rng, rows=ROWS, columns=COLUMNS, layers=2)
    w |= {name: rng.standard_normal((100, COLUMNS)).astype(np.float32) for name in ("embed", "unembed")}
    w |= {f"L000{i}.norm.{k}": np.ones(COLUMNS, np.float32) for i in range(2) for k in ("attn_in", "mlp_in")}
    return marked.by_name(derive.cast(w | {"norm.final": np.ones(COLUMNS, np.float32)}, dtype))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Three shards, an index, a config, other files beside it."""
    folder = tmp_path_factory.mktemp("host") / "model"
    derive.save(base(), folder, shards=3)
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    (folder / "README.md").write_text("a model\n")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights, unmarked")
    return folder


@pytest.fixture(scope="module")
def copy(model, tmp_path_factory):
    """(its marked copy, what was told of it)."""
    out = tmp_path_factory.mktemp("out") / "copy"
    with open_model(str(model)) as source:
        return out, embedding.embed(source, DSS, KEY, out, force=True)


def looked(place, k=KEY, *, reference=None, max_bytes=None, seed=0, **options):
    with open_model(str(place), **options) as source:
        views = files.carriers_of(source, DSS, k)
        places = files.windows(views, max_bytes, seed=seed)
        blind = sum(files.scan(source, views, places, k).values(), Carried.none())
        informed = None
        if reference is not None:
            with open_model(str(reference)) as known:
                informed = sum(files.scan_against(source, views, known, places, k).values(), Carried.none())
        return dss.read(blind, k, planned=files.n_carriers(views), informed=informed), source.bytes_read


def listing(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_copy_is_marked_and_nothing_else_in_it_changed(model, copy):
    out, told = copy
    before, after = listing(model), listing(out)
    assert set(before) - set(after) == {"pytorch_model.bin"} == set(told.left_out)
    assert set(after) <= set(before)
    for name in after:
        if not name.endswith(".safetensors"):
            assert after[name] == before[name]
            continue
        size = 8 + int.from_bytes(before[name][:8], "little")
        assert after[name][:size] == before[name][:size]
        assert len(after[name]) == len(before[name])
    old, new = derive.load(model), derive.load(out)
    assert list(old) == list(new)
    for name, w in old.items():
        changed = not np.array_equal(w.view(np.uint16), new[name].view(np.uint16))
        assert changed == (name.split(".")[-2] in {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})  # fmt: skip


def test_what_is_told_of_a_copy_is_so(model, copy):
    out, told = copy
    old, new = (marked.by_role(derive.load(f)) for f in (model, out))
    roles = [r for r in old if ".attn." in r or ".mlp." in r]
    assert set(told.changes) == set(roles)
    assert told.carriers == sum(old[r].size for r in roles)
    assert told.strength == 0.05
    found, _ = looked(out)
    assert found.test.statistic == pytest.approx(told.statistic, rel=0.03)
    for role in roles:
        w, d = old[role].astype(np.float64), new[role].astype(np.float64) - old[role].astype(np.float64)
        entry = told.changes[role].as_dict()
        assert entry["relative_change"] == pytest.approx(np.linalg.norm(d) / np.linalg.norm(w))
        assert entry["changed_share"] == pytest.approx(np.mean(d != 0.0))
        assert entry["largest_change"] == pytest.approx(np.abs(d).max())
        rows = np.linalg.norm(d, axis=1) / np.linalg.norm(w, axis=1)
        assert entry["largest_row_change"] == pytest.approx(rows.max())
        assert entry["zeros_changed"] == np.count_nonzero(d[w == 0.0])
        assert 0.001 < entry["rounding_noise"] < 0.003


def test_files_and_arrays_are_marked_alike(model, copy):
    arrays = marked.by_role(derive.load(model))
    wanted = DSS.embed(arrays, KEY)
    got = marked.by_role(derive.load(copy[0]))
    assert all(np.array_equal(wanted[r].view(np.uint16), got[r].view(np.uint16)) for r in wanted)


def test_the_mark_is_there_and_no_other(copy, model):
    assert looked(copy[0])[0].payload == b"owner".ljust(14, b"\0")
    assert looked(copy[0])[0].bit_errors == 0
    assert looked(copy[0], numbered(2))[0].test.log_pvalue > math.log(1e-6)
    assert looked(model)[0].test.log_pvalue > math.log(1e-6)
    assert looked(copy[0], reference=model)[0].test.statistic > 500


@pytest.mark.parametrize(
    "how", ["one file", "seven shards", "other names", "another order", "float32", "a single file"]
)
def test_no_split_name_or_order_of_files_matters(copy, tmp_path, how):
    weights, place = derive.load(copy[0]), tmp_path / "other"
    if how == "float32":
        weights = derive.cast(weights, "float32")
    order = list(reversed(weights)) if how == "another order" else None
    derive.save(weights, place, shards=7 if how == "seven shards" else 1, order=order)
    if how == "other names":
        (place / "model.safetensors").rename(place / "weights.safetensors")
    (place / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    if how == "a single file":
        place = place / "model.safetensors"
    assert looked(place)[0].test.statistic == looked(copy[0])[0].test.statistic


@pytest.mark.parametrize("place", ["gpt2-a", "bert-a", "llama-a"])
def test_fused_and_turned_matrices_are_written_in_place(place, tmp_path, zoo):
    """GPT-2 stores [in, out] with queries, keys and values side by side."""
    out = tmp_path / "copy"
    with open_model(str(zoo / place)) as source:
        told = embedding.embed(source, DSS, KEY, out, force=True)
        held = {role: source.view_rows(v, np.arange(v.shape[0])) for role, v in files.carriers_of(source, DSS, KEY).items()}  # fmt: skip
    wanted = DSS.embed({r: dss.as_stored(w, source.dtype) for r, w in held.items()}, KEY)
    with open_model(str(out)) as source:
        views = files.carriers_of(source, DSS, KEY)
        for role, view in views.items():
            assert np.array_equal(source.view_rows(view, np.arange(view.shape[0])), wanted[role].astype(np.float32))
    old, new = derive.load(zoo / place), derive.load(out)
    moved = {n for n in old if not np.array_equal(old[n].view(np.uint16), new[n].view(np.uint16))}
    assert moved <= {v.tensor.name for v in views.values()}
    assert told.carriers == sum(w.size for w in wanted.values())
    assert looked(out, reference=zoo / place)[0].test.log_pvalue < -128 * math.log(2)


def test_a_single_weight_file_alone_is_copied(model, tmp_path):
    derive.save(base(), tmp_path / "in")
    (tmp_path / "in" / "notes.txt").write_text("private")
    with open_model(str(tmp_path / "in" / "model.safetensors")) as source:
        embedding.embed(source, DSS, KEY, tmp_path / "out", force=True)
    assert sorted(listing(tmp_path / "out")) == ["model.safetensors"]


def test_the_digest_of_a_model_knows_no_files(model, copy, tmp_path):
    derive.save(derive.load(model), tmp_path / "other", shards=1)
    digests = []
    for place in (model, tmp_path / "other", copy[0]):
        with open_model(str(place)) as source:
            digests.append(files.model_digest(source))
    assert digests[0] == digests[1] != digests[2]


class Interrupted:
    """Raises once so many pieces were written."""

    def __init__(self, after, error):
        self.left, self.error, self.real = after, error, os.pwrite

    def __call__(self, *args):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.real(*args)


@pytest.mark.parametrize("after", [0, 1, 10])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full disk", "interrupt"])  # fmt: skip
def test_a_copy_that_fails_leaves_nothing_and_the_model_as_it_was(model, tmp_path, monkeypatch, after, error):
    before = listing(model)
    monkeypatch.setattr(writing.os, "pwrite", Interrupted(after, error))
    wanted = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else WritingError
    with open_model(str(model)) as source, pytest.raises(wanted) as caught:
        embedding.embed(source, DSS, KEY, tmp_path / "new" / "copy", force=True)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not (tmp_path / "new" / "copy").exists()
    assert listing(model) == before
    if wanted is WritingError:
        assert "no space left" in str(caught.value)


def test_a_disk_that_is_full_while_files_are_copied(model, tmp_path, monkeypatch):
    def full(*_args, **_rest):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.shutil, "copyfile", full)
    with open_model(str(model)) as source, pytest.raises(WritingError, match="no space left"):
        embedding.embed(source, DSS, KEY, tmp_path / "copy", force=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(model, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    for place in ("full", "file"):
        with open_model(str(model)) as source, pytest.raises(WritingError, match="exists"):
            embedding.embed(source, DSS, KEY, tmp_path / place, force=True)
    (tmp_path / "empty").mkdir()
    with open_model(str(model)) as source:
        embedding.embed(source, DSS, KEY, tmp_path / "empty", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_a_copy_is_never_made_in_the_model_itself(model):
    before = listing(model)
    for out in (model, model / "marked", model / "a" / "b"):
        with open_model(str(model)) as source, pytest.raises(WritingError):
            embedding.embed(source, DSS, KEY, out, force=True)
    assert listing(model) == before


def test_marks_that_are_too_strong_are_refused_before_anything_is_there(model, tmp_path):
    loud = Key(scheme="dss", scheme_version=1, channel="0", master=bytes(32), params={**KEY.params, "eps": 0.2})
    with open_model(str(model)) as source, pytest.raises(TooStrongError, match="nothing was written"):
        embedding.embed(source, DSS, loud, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_models_without_a_place_for_a_mark_are_refused(tmp_path):
    derive.save({"a.b": np.ones((100, 100), np.float32)}, tmp_path / "odd")
    derive.save({k: v[:32, :32] if v.ndim > 1 else v[:32] for k, v in base().items()}, tmp_path / "small")
    for place, words in (("odd", "not recognised"), ("small", "can carry")):
        with open_model(str(tmp_path / place)) as source, pytest.raises(UnfitModelError, match=words):
            embedding.embed(source, DSS, KEY, tmp_path / "copy", force=True)
    assert not (tmp_path / "copy").exists()


def test_random_windows_of_a_part_say_what_their_share_allows(copy):
    """T falls with the root of what was read; windows are placed by a seed, not by the key."""
    whole, all_bytes = looked(copy[0])
    for share in (0.5, 0.1, 0.02):
        part, n_bytes = looked(copy[0], max_bytes=int(share * 2 * whole.carriers), seed=3)
        assert part.coverage == pytest.approx(share, rel=0.35)
        assert part.test.statistic == pytest.approx(whole.test.statistic * math.sqrt(part.coverage), abs=5)
        assert n_bytes < 0.1 * all_bytes + 1.4 * share * all_bytes
    with open_model(str(copy[0])) as source:
        views = files.carriers_of(source, DSS, KEY)
        assert files.windows(views, 10_000, seed=1) == files.windows(views, 10_000, seed=1)
        assert files.windows(views, 10_000, seed=1) != files.windows(views, 10_000, seed=2)


def test_windows_cover_every_row_once(copy):
    with open_model(str(copy[0])) as source:
        views = files.carriers_of(source, DSS, KEY)
        seen = {role: np.zeros(v.shape[0], int) for role, v in views.items()}
        for w in files.windows(views):
            seen[w.role][w.start : w.stop] += 1
    assert all((n == 1).all() for n in seen.values())


@pytest.mark.parametrize("share", [1.0, 0.05])
def test_marks_are_read_from_a_hub_by_ranges(copy, share):
    content = {n: b for n, b in listing(copy[0]).items() if not n.endswith(".md")}
    total = sum(map(len, content.values()))
    with Hub({"org/marked": Repo(content)}) as made:
        options = OpenOptions(endpoint=made.endpoint, token=False)
        found, n_bytes = looked("org/marked", max_bytes=int(share * total), seed=1, options=options)
        sent = sum(s.body_bytes for s in made.log)
    local, _ = looked(copy[0], max_bytes=int(share * total), seed=1)
    assert found.test == local.test
    assert sent < 1.3 * share * total + 300_000
    assert n_bytes <= sent + 1


def test_keys_that_marked_nothing_behave_on_a_marked_model(copy):
    with open_model(str(copy[0])) as source:
        views = files.carriers_of(source, DSS, KEY)
        t = files.controls(source, views, files.windows(views), KEY, codeword(KEY.payload))
    assert len(t) == files.CONTROLS
    assert abs(np.mean(t)) < 0.9
    assert 0.5 < np.std(t) < 1.6


def test_threads_cannot_show_in_sums(copy, monkeypatch):
    wanted = looked(copy[0])[0].test
    monkeypatch.setattr(files.os, "cpu_count", lambda: 1)
    assert looked(copy[0])[0].test == wanted


def test_other_schemes_are_written_and_read_too(model, tmp_path):
    for name in ("gram", "perm"):
        scheme, out = SCHEMES[name], tmp_path / name
        k = Key(scheme=name, scheme_version=1, channel="0", master=bytes(32), params=scheme.params("default"))
        with open_model(str(model)) as source:
            # Orders move every value and change none: that is no stronger a mark.
            embedding.embed(source, scheme, k, out, force=name != "perm")
            known = files.arrays_of(source, files.views_of(source))
            shapes = files.shapes_of(files.carriers_of(source, scheme, k))
        with open_model(str(out)) as source:
            found = scheme.verify(files.arrays_of(source, shapes), k, shapes=shapes, reference=known)
        assert found.test.log_pvalue < math.log(1e-6), name
