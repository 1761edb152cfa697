"""The file of an index: all or nothing, refusals, every flipped byte seen, merging in any order."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lineage.errors import LineageError, UnusableIndexError, UsageError
from lineage.index.matrix import sign_matrix
from lineage.index.merging import better, merge
from lineage.index.opening import APPLICATION, SCHEMA
from lineage.index.parquet import COLUMNS, export
from lineage.index.records import STATES, DeclaredParent, Entry, FileFact, digest_of
from lineage.index.sealing import seal_path
from lineage.index.store import Store
from lineage.index.verifying import verify
from nulls import ROOT


def silent(_stage, _done, _total):
    """No progress."""


def entry(name="org/m@1", data=b"signature", **more):
    facts = {
        "id": name,
        "ref": f"hf://{name}",
        "repo": name.partition("@")[0],
        "revision": "1",
        "state": "signed",
        "files": (FileFact("b.safetensors", 7, "ab" * 32), FileFact("a.safetensors", 5)),
        "parents": (DeclaredParent("x/y"), DeclaredParent("a/b", "finetune", "tag")),
        "facts": {"width": 64, "architecture": "llama", "nested": {"a": [1, None, 0.5]}},
        "signature": digest_of(data),
        "vector": b"v" * 50,
    }
    return Entry(**{**facts, **more})


def listed(name, state="listed", **more):
    return entry(name, state=state, signature=None, vector=None, reason="because", **more)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "i.db", create=True) as opened:
        yield opened


def test_an_entry_comes_back_as_it_was(store):
    store.put_model(entry(), b"signature")
    found = store.get("org/m@1")
    assert found.as_dict() == entry().as_dict()
    assert found.vector == b"v" * 50
    assert found.digest == entry().digest
    assert store.blob(found.signature) == b"signature"
    assert store.get("org/other@1") is None


def test_the_order_of_files_and_parents_does_not_matter():
    other = entry(files=entry().files[::-1], parents=entry().parents[::-1])
    assert other.digest == entry().digest
    assert entry(reason="x").digest != entry().digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "lost"},
        {"signature": None},
        {"state": "listed"},
        {"id": "\ud800"},
        {"reason": "x" * 200_000},
    ],
)
def test_entries_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"state|signature|stored"):
        entry(**wrong)


def test_entries_are_in_the_order_of_their_ids(store):
    for name in ("b/m@1", "a/m@2", "a/m@1"):
        store.put_model(entry(name), b"signature")
    store.put_model(listed("c/m@1", "gated"))
    assert store.ids() == ["a/m@1", "a/m@2", "b/m@1", "c/m@1"]
    assert store.ids(state="gated") == ["c/m@1"]
    assert [e.id for e in store.entries(state="signed")] == ["a/m@1", "a/m@2", "b/m@1"]
    assert store.ids_of_repo("a/m") == ["a/m@1", "a/m@2"]
    assert store.ids_with_file("ab" * 32) == ["a/m@1", "a/m@2", "b/m@1", "c/m@1"]
    assert store.count(state="signed") == 3
    assert store.twins(digest_of(b"signature")) == ["a/m@1", "a/m@2", "b/m@1"]


def test_blobs_are_shared_and_go_with_their_last_model(store):
    for name in ("a/m@1", "b/m@1"):
        store.put_model(entry(name), b"signature")
    assert next(store.rows("SELECT count(*) FROM blobs"))[0] == 1
    assert store.remove("a/m@1")
    assert store.blob(digest_of(b"signature")) == b"signature"
    store.put_model(entry("b/m@1", b"another"), b"another")
    with pytest.raises(UnusableIndexError, match="missing"):
        store.blob(digest_of(b"signature"))
    assert store.remove("b/m@1")
    assert not store.remove("b/m@1")
    tables = ("models", "files", "vectors", "blobs")
    assert [next(store.rows(f"SELECT count(*) FROM {t}"))[0] for t in tables] == [0] * 4  # noqa: S608 - literals


def test_a_digest_without_its_bytes_is_refused(store):
    with pytest.raises(ValueError, match="no bytes"):
        store.put_model(entry())
    assert store.ids() == []


def test_a_transaction_is_all_or_nothing(store):
    store.put_model(entry("a/m@1"), b"signature")

    def fail():
        with store.transaction():
            store.put_model(entry("b/m@1"), b"signature")
            with store.transaction():
                store.remove("a/m@1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.ids() == ["a/m@1"]


def test_one_index_holds_one_reading(store):
    facts = {"signature_version": 2, "row_key": "public"}
    store.put_model(entry("a/m@1", facts=facts), b"signature")
    with pytest.raises(UsageError, match="row key"):
        store.put_model(entry("b/m@1", facts={**facts, "row_key": "0123"}), b"signature")
    assert store.ids() == ["a/m@1"]


def test_what_is_no_index_is_refused(tmp_path):
    with pytest.raises(UnusableIndexError, match="there is no index"):
        Store.open(tmp_path / "none.db")
    with pytest.raises(UnusableIndexError, match="a folder"):
        Store.open(tmp_path)
    (tmp_path / "text.db").write_text("words " * 1000)
    with pytest.raises(UnusableIndexError, match="not an index"):
        Store.open(tmp_path / "text.db")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(UnusableIndexError, match="something else"):
        Store.open(tmp_path / "other.db", create=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableIndexError):
        Store.open(tmp_path / "file" / "i.db", create=True)


@pytest.mark.parametrize(("version", "word"), [(SCHEMA + 1, "newer"), (0, "unknown")])
def test_another_schema_is_refused(tmp_path, version, word):
    place = tmp_path / "i.db"
    Store.open(place, create=True).close()
    with sqlite3.connect(place) as other:
        other.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(UnusableIndexError, match=word):
        Store.open(place)


def test_the_file_is_what_it_says(store):
    (application,) = store.connection.execute("PRAGMA application_id").fetchone()
    (page,) = store.connection.execute("PRAGMA page_size").fetchone()
    (mode,) = store.connection.execute("PRAGMA journal_mode").fetchone()
    assert (application, page, mode) == (APPLICATION, 16384, "wal")


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from lineage.index.store import Store
from lineage.index.records import Entry, digest_of
store = Store.open({path!r})
for i in range(1000):
    data = b"x" * 3000 + str(i).encode()
    store.put_model(Entry(f"k/m{{i:04d}}@1", "r", "k", "1", "signed", signature=digest_of(data)), data)
    print(i, flush=True)
"""


def test_a_killed_writer_leaves_whole_entries(tmp_path):
    place = tmp_path / "i.db"
    with Store.open(place, create=True) as store:
        store.put_model(entry(), b"signature")
    code = KILLED.format(root=str(ROOT), path=str(place))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ) as writer:
        while int(writer.stdout.readline()) < 25:
            pass
        writer.kill()
    found = verify(place, silent)
    assert found.problems == ()
    assert not found.sealed
    assert found.models >= 26
    with Store.open(place) as store:
        store.remove("org/m@1")
    assert verify(place, silent).sealed


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    place = tmp_path_factory.mktemp("sealed") / "i.db"
    with Store.open(place, create=True) as store:
        for i in range(12):
            data = b"".join(digest_of(bytes([i, k])).encode() for k in range(140))
            store.put_model(entry(f"o/m{i}@1", data), data)
        store.put_model(listed("o/g@1", "gated"))
        store.remove("o/m3@1")
    return place


def test_a_whole_index_is_intact(sealed):
    found = verify(sealed, silent)
    assert (found.problems, found.sealed, found.models, found.blobs) == ((), True, 12, 11)


@pytest.mark.parametrize("part", ["the start", "anywhere", "the seal"])
def test_any_flipped_byte_is_found(sealed, tmp_path, part):
    raw = sealed.read_bytes()
    rng = random.Random(part)  # noqa: S311 - places of flips
    size = len(seal_path(sealed).read_bytes()) if part == "the seal" else len(raw)
    places = range(0, 100, 7) if part == "the start" else [rng.randrange(size) for _ in range(15)]
    missed = []
    for at in places:
        place = tmp_path / f"{at}.db"
        shutil.copy(sealed, place)
        shutil.copy(seal_path(sealed), seal_path(place))
        target = seal_path(place) if part == "the seal" else place
        data = bytearray(target.read_bytes())
        data[at] ^= 1 << rng.randrange(8)
        target.write_bytes(data)
        if not verify(place, silent).problems:
            missed.append(at)
    assert missed == []


def test_a_changed_row_is_found_without_a_seal(sealed, tmp_path):
    place = tmp_path / "i.db"
    changes = {
        "UPDATE models SET reason = 'x' WHERE id = 'o/m1@1'": "o/m1@1",
        "UPDATE files SET size = size + 1 WHERE path = 'a.safetensors'": "o/m1@1",
        "UPDATE vectors SET data = x'00'": "o/m2@1",
        "UPDATE blobs SET data = x'00' WHERE number = 1": "digest",
        "DELETE FROM blobs WHERE number = 2": "names what is not there",
    }
    for change, told in changes.items():
        shutil.copy(sealed, place)
        with suppress(FileNotFoundError):
            seal_path(place).unlink()
        with sqlite3.connect(place) as other:
            other.execute(change)
        found = verify(place, silent)
        assert not found.sealed
        assert any(told in p for p in found.problems), (change, found)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE models SET facts = '[1]'",
        "UPDATE models SET facts = 'words'",
        "UPDATE models SET parents = '[1]'",
        "UPDATE models SET state = 'odd'",
        "UPDATE models SET parents = replace(hex(zeroblob(60000)), '0', '[')",
        "UPDATE vectors SET data = 'words'",
        "UPDATE vectors SET data = 7",
        "UPDATE blobs SET data = 'words'",
        "UPDATE meta SET value = 'words'",
    ],
)
def test_rows_of_strangers_end_in_a_sentence(sealed, tmp_path, change):
    place = tmp_path / "i.db"
    shutil.copy(sealed, place)
    with sqlite3.connect(place) as other:
        other.execute(change)
    with Store.open(place) as store, suppress(LineageError):
        for e in store.entries():
            store.blob(e.signature or "")
    with Store.open(place) as store, suppress(LineageError):
        sign_matrix(store)
    assert verify(place, silent).problems


def test_a_cut_file_is_found(sealed, tmp_path):
    place = tmp_path / "i.db"
    for share in (0.3, 0.7, 0.99):
        place.write_bytes(sealed.read_bytes()[: int(share * sealed.stat().st_size)])
        assert verify(place, silent).problems


ENTRIES = st.lists(
    st.builds(
        lambda i, state, salt: (
            entry(f"o/m{i}@1", bytes([salt]) * 30)
            if state == "signed"
            else listed(f"o/m{i}@1", state, facts={"s": salt})
        ),
        st.integers(0, 5),
        st.sampled_from(STATES),
        st.integers(0, 2),
    ),
    max_size=6,
)


@settings(max_examples=8, phases=[Phase.generate])
@given(st.lists(ENTRIES, min_size=2, max_size=3), st.randoms())
def test_merging_knows_no_order_and_no_repetition(tmp_path_factory, groups, rng):
    folder = tmp_path_factory.mktemp("merge")
    paths = []
    for number, group in enumerate(groups):
        paths.append(folder / f"{number}.db")
        with Store.open(paths[-1], create=True) as store:
            for e in group:
                store.put_model(e, *([bytes([salt]) * 30 for salt in range(3)] if e.signature else []))
    orders = [paths, rng.sample(paths, len(paths)), [*paths, *paths[::-1]]]
    answers = []
    for number, order in enumerate(orders):
        with Store.open(folder / f"all-{number}.db", create=True) as store:
            merge(store, order, silent)
            answers.append([e.digest for e in store.entries()])
            again = merge(store, order, silent)
            assert again["unchanged"] == again["seen"]
    assert answers[0] == answers[1] == answers[2]


def test_whoever_knows_more_is_kept():
    known = [listed("o/m@1", s) for s in ("listed", "skipped", "failed", "removed", "gated")] + [entry("o/m@1")]
    for i, weaker in enumerate(known):
        for stronger in known[i:]:
            assert better(weaker, stronger) is stronger or weaker.digest == stronger.digest
            assert better(stronger, weaker).digest == stronger.digest
    studied = entry("o/m@1", study=digest_of(b"s"))
    assert better(entry("o/m@1"), studied) is studied


def test_an_index_is_not_merged_with_itself(store):
    with pytest.raises(UsageError, match="itself"):
        merge(store, [store.path], silent)


@pytest.mark.outside("duckdb")
def test_parquet_has_the_same_bytes_in_any_order_of_insertion(tmp_path):
    import duckdb

    made = []
    for number, order in enumerate((range(300), reversed(range(300)))):
        with Store.open(tmp_path / f"{number}.db", create=True) as store:
            for i in order:
                store.put_model(entry(f"o/m{i}@1", bytes([i % 7]) * 100), bytes([i % 7]) * 100)
            (name,) = export(store, tmp_path / f"out-{number}", blobs=True, tell=silent)
        made.append((tmp_path / f"out-{number}" / name).read_bytes())
    assert made[0] == made[1]
    table = duckdb.read_parquet(str(tmp_path / "out-0" / "models-00000.parquet"))
    assert [(name, str(kind)) for name, kind in zip(table.columns, table.types, strict=True)] == list(COLUMNS)
    rows = table.fetchall()
    assert [r[0] for r in rows] == sorted(f"o/m{i}@1" for i in range(300))
    assert all(digest_of(r[18]) == r[15] for r in rows)


@pytest.mark.outside("duckdb")
def test_a_folder_that_holds_something_is_refused(store, tmp_path):
    with pytest.raises(UsageError, match="not empty"):
        export(store, tmp_path, blobs=True, tell=silent)
