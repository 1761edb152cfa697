"""One key file for many recipients."""

import json

import pytest

from lineage.errors import UsageError
from lineage.issuing import for_recipient, recipients_of, with_copy
from lineage.marking import keygen, recipient
from lineage.recipients import in_channels
from program import run
from weightmark.keys import Key, opened, sealed

HOST = {"unmarked_digest": "u", "marked_digest": "m", "n_carriers": 8, "shapes": {"L0000.mlp.up": [4, 2]}}


def key(**host):
    return Key(scheme="dss", scheme_version=1, channel="0", master=bytes(32), params={}, host=host)


def copy(channel, **more):
    return Key(scheme="dss", scheme_version=1, channel=channel, master=bytes(32), params={}, host=HOST | more)


def test_what_is_known_of_a_copy_comes_back_with_its_recipient():
    kept = with_copy(with_copy(key(), copy("b", marked_digest="mb")), copy("a", marked_digest="ma"))
    assert recipients_of(kept) == ("0", "a", "b")
    assert for_recipient(kept, "b").host == HOST | {"marked_digest": "mb"}
    assert for_recipient(kept, "0").host == {"shapes": HOST["shapes"]}
    assert for_recipient(kept, "never").host == {}
    assert kept.id == key().id
    assert for_recipient(kept, "a").id == key().for_channel("a").id
    again = opened(json.loads(json.dumps(sealed(kept))))
    assert recipients_of(again) == recipients_of(kept)


def test_the_copy_of_the_key_itself_keeps_the_others():
    kept = with_copy(with_copy(key(), copy("a")), copy("0", marked_digest="m0"))
    assert for_recipient(kept, "0").host == HOST | {"marked_digest": "m0"}
    assert for_recipient(kept, "a").host == HOST


def test_shapes_are_kept_once_and_apart_where_they_differ():
    kept = with_copy(with_copy(key(), copy("a")), copy("b", shapes={"L0000.mlp.up": [8, 2]}))
    assert "shapes" not in kept.host["copies"]["a"]
    assert for_recipient(kept, "b").host["shapes"] == {"L0000.mlp.up": [8, 2]}


@pytest.mark.parametrize("held", ["x", 3, [1], {"a": 3}, {"a|b": {}}, {"": {}}, {"a\n": {}}])
def test_what_is_no_table_of_copies_is_none(held):
    """A key file is anybody's."""
    assert recipients_of(key(copies=held)) == ("0",)
    assert for_recipient(key(copies=held), "a").host == {}


def test_all_are_those_of_the_file_and_nobody_is_called_so():
    kept = with_copy(with_copy(key(), copy("a")), copy("b"))
    assert [k.channel for k in in_channels([kept], "all")] == ["0", "a", "b"]
    assert in_channels([kept], "c")[0].host == dict(kept.host)
    with pytest.raises(UsageError, match="no recipient is called"):
        recipient(kept, "all")
    with pytest.raises(UsageError, match="no recipient is called"):
        keygen("dss", "default", payload=b"", channel="all")
    with pytest.raises(UsageError, match="without"):
        recipient(kept, "a|b")


def test_one_file_marks_many_and_names_who_leaked(tmp_path, zoo):
    def call(*words, code=0):
        done = run("mark", *words)
        assert done.returncode == code, done.stderr
        return done

    place = tmp_path / "k.json"
    call("keygen", "--out", place, "--eps", 0.05, "-q")
    for name in ("ann", "bob"):
        call("embed", zoo / "llama-a", "--key", place, "--channel", name, "--out", tmp_path / name, "--force", "-q")
    twice = call(
        "embed", zoo / "llama-a", "--key", place, "--channel", "bob", "--out", tmp_path / "x", "--force", code=3
    )
    assert "marked a model already" in twice.stderr
    assert not (tmp_path / "x").exists()
    words = ("verify", tmp_path / "bob", "--key", place, "--channels", "all", "--json")
    found = json.loads(call(*words).stdout)
    assert (found["verdict"], found["channel"], found["keys"]) == ("found", "bob", 3)
    assert json.loads(call("verify", zoo / "llama-a", *words[2:], code=4).stdout)["verdict"] == "not-found"
