"""References and roles print and parse; errors are one line."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crawl
from crawl import ByteRange, ModelNotFoundError, ModelRef, Role

_PART = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12)
_KIND = st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True), min_size=1, max_size=3).map(".".join)
_COUNT = st.none() | st.integers(0, 10**6)


@given(_PART, _PART, st.none() | _PART, st.none() | _PART)
def test_hub_reference_round_trip(org, name, revision, variant):
    ref = ModelRef("hub", f"{org}/{name}", revision, variant)
    assert ModelRef.parse(str(ref)) == ref


@given(_KIND, _COUNT, _COUNT)
def test_role_round_trip(kind, layer, expert):
    role = Role(kind, layer, expert)
    assert Role.parse(str(role)) == role


def test_role_text_is_frozen():
    assert str(Role("attn.q", 3)) == "L0003.attn.q"
    assert str(Role("mlp.gate", 3, 7)) == "L0003.E07.mlp.gate"
    assert str(Role("embed")) == "embed"


@pytest.mark.parametrize("text", ["", "L3.attn.q", "L0003", "L0003.E7.mlp.up", "Attn.q", "attn..q", "attn.q "])
def test_what_is_not_a_role_is_refused(text):
    with pytest.raises(ValueError, match="not a role"):
        Role.parse(text)


def test_local_path_wins_and_round_trips(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "w.safetensors").touch()
    (tmp_path / "a#b").mkdir()
    assert ModelRef.parse("org/name") == ModelRef("dir", "org/name")
    assert ModelRef.parse("org/name#fp16") == ModelRef("dir", "org/name", None, "fp16")
    assert ModelRef.parse("w.safetensors") == ModelRef("file", "w.safetensors")
    assert ModelRef.parse("a#b") == ModelRef("dir", "a#b")
    assert ModelRef.parse("hf://org/name").scheme == "hub"
    for text in ("org/name", "org/name#fp16", "w.safetensors", "a#b", "hf://org/name"):
        assert ModelRef.parse(str(ModelRef.parse(text))) == ModelRef.parse(text)


def test_hub_forms():
    assert (
        ModelRef.parse("org/name@main") == ModelRef.parse("hf://org/name@main") == ModelRef("hub", "org/name", "main")
    )
    assert ModelRef.parse("hf://gpt2") == ModelRef("hub", "gpt2")
    assert ModelRef.parse("org/name@refs/pr/3#unet").id == "org/name@refs/pr/3#unet"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "a/b/c",
        "org/na me",
        "org/..",
        "../x@y#",
        "org/name@",
        "org/name@../x",
        "hf://",
        "hf:///x",
        "org/n\0",
    ],
)
def test_what_is_no_reference_or_a_missing_path_is_refused(text):
    with pytest.raises(ModelNotFoundError) as caught:
        crawl.open_model(text)
    assert str(caught.value).isprintable()


def test_byte_ranges_are_ordered():
    assert len(ByteRange(2, 5)) == 3
    for start, stop in ((-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="not ordered"):
            ByteRange(start, stop)


@given(st.text(), st.text(), st.text())
def test_error_text_is_one_printable_line_with_its_fields(reason, where, hint):
    error = crawl.CrawlError(reason, where=where, hint=hint)
    assert str(error).isprintable()
    assert error.reason in str(error)
    assert error.where in str(error)
    assert error.hint in str(error)


def test_errors_are_also_the_fitting_builtin():
    assert issubclass(crawl.ModelNotFoundError, FileNotFoundError)
    assert issubclass(crawl.GatedModelError, PermissionError)
    assert issubclass(crawl.MalformedHeaderError, ValueError)
    assert "x.safetensors: broken; fix it" in str(crawl.TruncatedError("broken", where="x.safetensors", hint="fix it"))
