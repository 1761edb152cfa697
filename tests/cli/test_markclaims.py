"""`lineage mark bench`, `commit` and `contest` through the program: files, exit codes, one sentence for what is wrong."""

import json
import stat

import pytest

from program import run


def call(*words, code=0):
    done = run("mark", *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def folder(zoo, tmp_path_factory):
    """Our marked copy, and the thief's mark on top of it, with claims and openings."""
    here = tmp_path_factory.mktemp("claims")
    for name, source, out in (("a", zoo / "llama-a", "ours"), ("b", here / "ours", "theirs")):
        call("keygen", "--out", here / f"{name}.key", "--eps", 0.05, "-q")
        call("embed", source, "--key", here / f"{name}.key", "--out", here / out, "--force", "-q")
        call("commit", here / out, "--original", source, "--key", here / f"{name}.key", "--out", here / f"{name}.json", "--opening", here / f"{name}.opening")  # fmt: skip
    return here


def contest(folder, zoo, *more, code=0):
    words = [w for n in "ab" for w in ("--claims", folder / f"{n}.json", "--openings", folder / f"{n}.opening")]
    return call("contest", *words, "--originals", zoo / "llama-a", "--originals", folder / "ours", *more, code=code)


def test_the_thief_loses(folder, zoo):
    assert contest(folder, zoo).startswith("claim a stands")
    document = json.loads(contest(folder, zoo, "--json"))
    assert document["winner"] == "a"
    assert document["a"]["own_mark_in_other_original"]["log10_p"] < -38.6


def test_an_opening_is_for_nobody_else(folder):
    assert stat.S_IMODE((folder / "a.opening").stat().st_mode) == 0o600
    claim = (folder / "a.json").read_text()
    opening = json.loads((folder / "a.opening").read_text())
    assert all(opening[secret] not in claim for secret in ("nonce", "master"))


def test_undecided_is_four(folder, zoo, tmp_path):
    (tmp_path / "x.json").write_text((folder / "a.json").read_text())
    words = ("--claims", tmp_path / "x.json", "--openings", folder / "a.opening", "--originals", zoo / "llama-a")
    assert "undecided" in call("contest", *words, *words, code=4)


def test_what_is_wrong_is_said_in_one_sentence(folder, zoo, tmp_path):
    (tmp_path / "junk").write_text("{}")
    for words, code, said in (
        (("contest", "--claims", tmp_path / "junk", "--claims", tmp_path / "junk", "--openings", folder / "a.opening", "--openings", folder / "a.opening", "--originals", zoo / "llama-a", "--originals", zoo / "llama-a"), 3, "not a claim"),
        (("bench", zoo / "llama-a", "--suite", "none,nonesuch"), 2, "no suite and no attack"),
        (("bench", tmp_path / "missing"), 3, "missing"),
        (("commit", folder / "ours", "--original", zoo / "llama-a", "--key", tmp_path / "junk", "--out", tmp_path / "c", "--opening", tmp_path / "o"), 3, "not a key"),
    ):  # fmt: skip
        done = run("mark", *words)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "o").exists()


def test_usage(folder, zoo):
    for words in (
        ("contest", "--claims", "x", "--openings", "y", "--originals", "z"),
        ("commit", folder / "ours", "--out", folder / "new.json"),
        ("bench", zoo / "llama-a", "--eps", 0.5),
        ("bench", zoo / "llama-a", "--strength", "vast"),
    ):
        done = run("mark", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
    assert not (folder / "new.json").exists()


def test_bench_writes_what_it_is_asked_for(zoo, tmp_path):
    out = call("bench", zoo / "llama-a", "--schemes", "gram", "--suite", "none", "--keys", 1, "--informed", "--out", tmp_path / "b.json", "--markdown", tmp_path / "b.md", "--plot", tmp_path / "b.svg")  # fmt: skip
    assert (tmp_path / "b.md").read_text() == out
    assert json.loads((tmp_path / "b.json").read_text())["keys"] == 1
    assert (tmp_path / "b.svg").read_text().startswith("<svg")
