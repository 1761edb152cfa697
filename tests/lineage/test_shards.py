"""Rows as Parquet files: written where fsspec reaches, read back whole or not at all, merged like indexes."""

from pathlib import Path

import pytest

from hubworld import serve, world
from lineage.crawling import CrawlOptions, crawl
from lineage.errors import OutputError, UnusableIndexError, UsageError
from lineage.index.merging import merge
from lineage.index.parquet import export, library
from lineage.index.records import DeclaredParent, Entry, FileFact, digest_of
from lineage.index.shards import is_shards, read_shard, shards_in, write_shard
from lineage.index.store import Store
from lineage.visiting import Terms


def silent(_stage, _done, _total):
    """No progress."""


def entry(number, **more):
    data, name = bytes([number]) * 100, f"o/m{number}@1"
    facts = {
        "id": name,
        "ref": f"hf://{name}",
        "repo": f"o/m{number}",
        "revision": "1",
        "state": "signed",
        "files": (FileFact("a.safetensors", 5, "ab" * 32),),
        "parents": (DeclaredParent("a/b", "finetune", "tag"),),
        "facts": {"width": 64, "nested": {"a": [1, None, 0.5]}},
        "signature": digest_of(data),
        "vector": b"v" * 50,
    }
    return Entry(**{**facts, **more}), (data,)


ROWS = [entry(i) for i in range(5)]


def export_of(path, folder):
    with Store.open(path) as store:
        return [(folder / n).read_bytes() for n in export(store, folder, blobs=True, tell=silent)]


@pytest.mark.parametrize(
    ("place", "found"),
    [("s3://bucket/rows", True), ("x.parquet", True), ("index.db", False), ("missing", False), ("hub", False)],
)
def test_places_of_shards_are_told_by_their_look(place, found):
    assert is_shards(place) is found


def test_a_folder_of_a_model_may_hold_tables_of_its_own(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    assert not is_shards(str(tmp_path))
    (tmp_path / "models-00000.parquet").write_bytes(b"PAR1")
    assert is_shards(str(tmp_path))
    assert shards_in(str(tmp_path)) == [str(tmp_path / "models-00000.parquet")]


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    def none(name):
        raise ImportError(name)

    monkeypatch.setattr("lineage.index.parquet.importlib.import_module", none)
    with pytest.raises(UsageError, match="extra `index`"):
        library()
    with pytest.raises(UsageError, match="fsspec cannot reach"):
        shards_in("nonesuch://bucket/rows")
    with pytest.raises(UnusableIndexError, match="no Parquet file"):
        shards_in(str(tmp_path))


@pytest.mark.outside("duckdb")
@pytest.mark.parametrize("place", ["memory://rows", "here"])
def test_rows_come_back_as_they_were_and_again_under_the_same_name(tmp_path, place):
    folder = place if "://" in place else str(tmp_path / place)
    name = write_shard(ROWS, folder)
    assert write_shard(list(reversed(ROWS)), folder) == name
    assert shards_in(folder) == [name]
    found = list(read_shard(name))
    assert [e.as_dict() for e, _ in found] in ([e.as_dict() for e, _ in rows] for rows in (ROWS, ROWS[::-1]))
    assert all(digest_of(blobs[0]) == e.signature for e, blobs in found)


@pytest.mark.outside("duckdb")
def test_shards_are_merged_like_indexes(tmp_path):
    for rows in (ROWS[:3], ROWS[2:]):
        write_shard(rows, str(tmp_path / "rows"))
    with Store.open(tmp_path / "a.db", create=True) as store:
        first = merge(store, [tmp_path / "rows"], silent)
        assert (first["seen"], first["added"], first["unchanged"]) == (6, 5, 1)
        assert merge(store, [tmp_path / "rows"], silent)["unchanged"] == 6
    with Store.open(tmp_path / "b.db", create=True) as store:
        for e, blobs in ROWS:
            store.put_model(e, *blobs)
    assert export_of(tmp_path / "a.db", tmp_path / "x") == export_of(tmp_path / "b.db", tmp_path / "y")
    with Store.open(tmp_path / "c.db", create=True) as store:
        assert merge(store, [tmp_path / "y"], silent)["added"] == 5


@pytest.mark.outside("duckdb")
def test_damaged_and_foreign_files_give_nothing(tmp_path):
    import duckdb

    good = write_shard(ROWS, str(tmp_path / "rows"))
    data = Path(good).read_bytes()
    cases = {"cut": data[: len(data) // 2], "junk": b"PAR1 nothing PAR1", "empty": b""}
    for name, content in cases.items():
        (tmp_path / f"rows-{name}.parquet").write_bytes(content)
    with duckdb.connect() as db:
        db.execute(f"COPY (SELECT 1 AS id) TO '{tmp_path}/rows-foreign.parquet' (FORMAT parquet)")
        db.read_parquet(good).create("t")
        db.execute("UPDATE t SET reason = 'another' WHERE id LIKE 'o/m4%'")
        db.execute(f"COPY t TO '{tmp_path}/rows-edited.parquet' (FORMAT parquet)")
        db.execute("UPDATE t SET reason = '', signature = 'x'::BLOB WHERE id LIKE 'o/m4%'")
        db.execute(f"COPY t TO '{tmp_path}/rows-blob.parquet' (FORMAT parquet)")
        db.execute("UPDATE t SET signature = NULL")
        db.execute(f"COPY t TO '{tmp_path}/rows-bare.parquet' (FORMAT parquet)")
        db.execute("UPDATE t SET files = '[[[[', facts = '3'")
        db.execute(f"COPY t TO '{tmp_path}/rows-json.parquet' (FORMAT parquet)")
    with Store.open(tmp_path / "i.db", create=True) as store:
        for name in (*cases, "foreign", "edited", "blob", "bare", "json", "missing"):
            with pytest.raises(UnusableIndexError) as caught:
                merge(store, [tmp_path / f"rows-{name}.parquet"], silent)
            assert str(caught.value).count("\n") == 0
            assert store.ids() == []


@pytest.mark.outside("duckdb")
def test_no_place_to_write_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="rows cannot be written"):
        write_shard(ROWS, str(tmp_path / "file" / "rows"))


@pytest.mark.outside("duckdb")
@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_a_crawl_that_leaves_shards_gives_the_same_index_and_so_do_the_shards(tmp_path, engine):
    with serve(world(4)) as hub:
        plain = Terms(endpoint=hub.endpoint)
        crawl(["hub"], CrawlOptions(tmp_path / "plain.db", plain, jobs=2))
        terms = Terms(endpoint=hub.endpoint, shards=str(tmp_path / "rows"))
        done = crawl(["hub"], CrawlOptions(tmp_path / "kept.db", terms, jobs=2, engine=engine))
    assert done["left"] == 0
    wanted = export_of(tmp_path / "plain.db", tmp_path / "x")
    assert export_of(tmp_path / "kept.db", tmp_path / "y") == wanted
    with Store.open(tmp_path / "kept.db") as kept, Store.open(tmp_path / "from.db", create=True) as store:
        assert merge(store, [tmp_path / "rows"], silent)["seen"] > 0
        signed = {e.signature for e in kept.entries(state="signed")}
        assert signed == {e.signature for e in store.entries(state="signed")}
