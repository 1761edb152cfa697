"""Keys: keystreams against RFC 5869 and FIPS 197 in loops, files that open, files that must not."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import spread
from weightmark import keys
from weightmark.canonical import canonical
from weightmark.errors import UnusableKeyError, WrongPassphraseError
from weightmark.keys import Key, opened, sealed
from weightmark.schemes import SCHEMES

ROLE = "L0003.attn.q"


@pytest.fixture
def _quick(monkeypatch):
    """Passphrases stretched a thousandth as long."""
    monkeypatch.setattr(keys, "_SCRYPT", {"n": 1 << 7, "r": 8, "p": 1})


def key(**changes):
    made = Key(
        scheme="dss",
        scheme_version=1,
        channel="0",
        master=bytes(range(32)),
        params=SCHEMES["dss"].params("default"),
        payload=b"owner",
        created="2026-01-01T00:00:00Z",
    )
    return replace(made, **changes)


def test_known_answers_that_no_later_version_may_change():
    assert key().id == "wmk_hjwrnk4jyaitgzjl"
    secrets = {p: key().secret(ROLE, p).hex() for p in ("sign", "block", "dither")}
    assert secrets == {
        "sign": "de04e61dbbbe55b4683ddcaae738f534701daf8342984d40d645eaead8056bfd",
        "block": "b3c816ebadb5f6e27087ae010b380904397bbf0b2cb4883c5382f63cca36f55e",
        "dither": "709a02076de3e4922b2134d2725b9a89bdea2b01d81f9fe236495ae5d0255bb1",
    }
    assert key().stream(ROLE, "sign")(0, 32).hex() == "d9e21b7a67271478a22be09d6c58a19026d789ad82231f5648bec171e9fe4f60"
    assert key().stream(ROLE, "block")(1000, 16).hex() == "fd3a1823fc80260157f5d47e408298dc"


def test_the_loops_know_the_vector_of_the_standard():
    """FIPS 197, appendix C.3."""
    schedule = spread._expanded(bytes(range(32)))
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert spread._encrypted(block, schedule).hex() == "8ea2b7ca516745bfeafc49904b496089"


@given(
    master=st.binary(min_size=32, max_size=32),
    channel=st.text("abc-019", min_size=1, max_size=8),
    start=st.integers(0, 1 << 40),
    n=st.integers(0, 70),
)
def test_keystreams_against_loops_from_any_byte_on(master, channel, start, n):
    made = key(master=master, channel=channel)
    secret = spread.secret(master, "dss", channel, ROLE, "sign")
    assert made.secret(ROLE, "sign") == secret
    assert made.stream(ROLE, "sign")(start, n) == spread.keystream(secret, start, n)


def test_streams_of_other_channels_roles_purposes_and_schemes_share_nothing():
    made = [key(), key().for_channel("1"), key(scheme="gram"), key(master=bytes(32))]
    blocks = [k.stream(r, p)(0, 64) for k in made for r in (ROLE, "L0003.attn.k") for p in ("sign", "block")]
    pieces = [b[i : i + 16] for b in blocks for i in range(0, 64, 16)]
    assert len(set(pieces)) == len(pieces)


def test_a_name_stays_when_the_key_has_marked_and_changes_with_everything_else():
    assert key(host={"marked_digest": "00"}).id == key().id
    others = [
        key(channel="1"),
        key(master=bytes(32)),
        key(payload=b"x"),
        key(created="2027-01-01T00:00:00Z"),
        key(params={**key().params, "clip": 5.0}),
        key(scheme="gram"),
    ]
    assert len({k.id for k in others} | {key().id}) == len(others) + 1


def test_nothing_public_and_no_representation_shows_the_secret():
    shown = json.dumps(key().public()) + repr(key())
    master = key().master
    for form in (master.hex(), base64.b64encode(master).decode(), repr(master), "owner"):
        assert form not in shown


def test_fresh_keys_differ():
    made = [Key.new("dss", {}, created="") for _ in range(20)]
    assert len({k.master for k in made}) == 20


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("word", [None, "correct horse", ""])
def test_files_open_again(word):
    held = key(host={"n_carriers": 5})
    entry = json.loads(json.dumps(sealed(held, word)))
    assert opened(entry, word) == held
    assert (entry["secret"]["kind"] == "raw") == (word is None)
    if word is not None:
        assert held.master.hex() not in json.dumps(entry)
        assert base64.b64encode(held.master).decode() not in json.dumps(entry)
        with pytest.raises(WrongPassphraseError, match="does not open"):
            opened(entry, word + "x")
        with pytest.raises(WrongPassphraseError, match="needs a passphrase"):
            opened(entry)


@pytest.mark.usefixtures("_quick")
def test_an_encrypted_secret_is_bound_to_the_public_part():
    """A key moved under another scheme, strength or channel does not open: the name is made anew, the seal is not."""
    entry = sealed(key(), "word")
    for changes in ({"channel": "7"}, {"params": {**entry["params"], "target": 1.0}}, {"scheme": "gram"}):
        moved = {**entry, **changes}
        public = {n: moved[n] for n in key().public()}
        moved["key_id"] = "wmk_" + base64.b32encode(hashlib.sha256(canonical(public)).digest()[:10]).decode().lower()
        with pytest.raises(WrongPassphraseError):
            opened(moved, "word")


def broken_entries():
    entry = sealed(key())
    raw = entry["secret"]
    yield "another format", {**entry, "format": "weightmark-key/2"}
    yield "changed strength", {**entry, "params": {**entry["params"], "target": 60.0}}
    yield "changed channel", {**entry, "channel": "1"}
    yield "changed name", {**entry, "key_id": "wmk_aaaaaaaaaaaaaaaa"}
    yield "another secret", {**entry, "secret": {**raw, "master": base64.b64encode(bytes(32)).decode()}}
    yield "short secret", {**entry, "secret": {**raw, "master": base64.b64encode(bytes(31)).decode()}}
    yield "not base64", {**entry, "secret": {**raw, "master": "*" * 44}}
    yield "another kind", {**entry, "secret": {"kind": "rot13"}}
    yield "another payload", {**entry, "payload": {"hex": "00"}}
    yield "long payload", {**entry, "payload": {"hex": "00" * 17}}
    yield "not hex", {**entry, "payload": {"hex": "zz"}}
    yield "a version that is a truth", {**entry, "scheme_version": True}
    yield "no channel", {**entry, "channel": ""}
    yield "params no table", {**entry, "params": []}
    yield "a list", [entry]
    yield "nothing", None
    for name in entry:
        if name != "host":
            yield f"without {name}", {k: v for k, v in entry.items() if k != name}


@pytest.mark.parametrize(("what", "entry"), list(broken_entries()))
def test_what_is_no_key_or_was_changed_is_refused_in_a_sentence(what, entry):
    with pytest.raises(UnusableKeyError) as caught:
        opened(entry, where="k.json")
    words = str(caught.value)
    assert words.startswith("k.json: ")
    assert "\n" not in words


def test_guessing_a_passphrase_costs_as_much_as_is_meant():
    cost = sealed(key(), "word")["secret"]
    assert cost["n"] * cost["r"] * 128 >= 1 << 27


@pytest.mark.usefixtures("_quick")
def test_a_file_cannot_ask_for_more_memory_than_is_bearable():
    entry = sealed(key(), "word")
    for cost in ({"n": 1 << 30}, {"r": 1 << 20}, {"p": 1 << 20}):
        with pytest.raises(UnusableKeyError, match="cost too much"):
            opened({**entry, "secret": {**entry["secret"], **cost}}, "word")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from([n for n in sealed(key()) if n != "host"]), value=json_values)
def test_any_value_in_any_field_is_the_same_or_refused(name, value):
    entry = sealed(key())
    if value == entry[name] and type(value) is type(entry[name]):
        return
    with pytest.raises(UnusableKeyError):
        opened({**entry, name: value})


def test_a_master_of_another_length_and_odd_channels_are_bugs():
    for changes in ({"master": bytes(16)}, {"channel": "a|b"}, {"channel": ""}, {"payload": bytes(17)}):
        with pytest.raises(ValueError, match=r"."):
            key(**changes)
    assert keys.LONGEST_PAYLOAD == 16
