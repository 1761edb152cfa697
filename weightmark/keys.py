"""Keys: a secret, what it marks and how strongly; and the keystreams that follow from it, addressed by tensor and row.

Chance is in the key and nowhere else: every p-value of this package is over the drawing of 32 random bytes.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from weightmark.canonical import canonical
from weightmark.drawing import Draws, Stream
from weightmark.errors import UnusableKeyError, WrongPassphraseError

FORMAT = "weightmark-key/1"
LONGEST_PAYLOAD = 16
_SALT = hashlib.sha256(b"weightmark/v1").digest()
_SCRYPT = {"n": 1 << 17, "r": 8, "p": 1}
_MOST_SCRYPT = 1 << 20
"""A hostile key file may ask for any amount of memory; this is one gigabyte with r = 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One secret for one scheme and channel.

    Attributes
    ----------
    scheme : str
    scheme_version : int
    channel : str
        Number of the mark or name of the recipient: one secret serves many, whose streams share nothing.
    master : bytes
        32 random bytes.
    params : mapping
        Where and how strongly the scheme writes.
    payload : bytes
        Up to 16 bytes; empty where none is carried.
    host : mapping
        What was marked: digests of the unmarked and the marked model, number of carriers; empty before.
    created : str
        Date and time, UTC.
    """

    scheme: str
    scheme_version: int
    channel: str
    master: bytes = field(repr=False)
    params: Mapping[str, Any]
    payload: bytes = field(default=b"", repr=False)
    host: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        if len(self.master) != 32:
            raise ValueError(f"a master secret has 32 bytes, not {len(self.master)}")
        if len(self.payload) > LONGEST_PAYLOAD:
            raise ValueError(f"a payload has at most {LONGEST_PAYLOAD} bytes, not {len(self.payload)}")
        if "|" in self.channel or not self.channel.isprintable() or not self.channel:
            raise ValueError(f"a channel is printable text without |, not {self.channel!r}")

    @staticmethod
    def new(scheme: str, params: Mapping[str, Any], *, payload: bytes = b"", channel: str = "0", created: str) -> "Key":
        """A key with a fresh secret from the system's generator."""
        return Key(
            scheme=scheme,
            scheme_version=1,
            channel=channel,
            master=secrets.token_bytes(32),
            params=params,
            payload=payload,
            created=created,
        )

    @property
    def id(self) -> str:
        """Name of the key: a digest of its public part, which any change of scheme or strength alters."""
        digest = hashlib.sha256(canonical(self.public())).digest()[:10]
        return "wmk_" + base64.b32encode(digest).decode("ascii").lower()

    def public(self) -> dict[str, Any]:
        """What may be shown: everything but secret and payload, of which there are digests."""
        return {
            "format": FORMAT,
            "scheme": self.scheme,
            "scheme_version": self.scheme_version,
            "channel": self.channel,
            "created": self.created,
            "params": dict(self.params),
            "secret_sha256": hashlib.sha256(b"weightmark/1|id|" + self.master).hexdigest(),
            "payload_sha256": hashlib.sha256(self.payload).hexdigest(),
        }

    def for_channel(self, channel: str) -> "Key":
        """The key of another mark or recipient under the same secret."""
        return replace(self, channel=channel)

    def secret(self, role: str, purpose: str) -> bytes:
        """The 32 bytes behind one keystream: HKDF-Expand (RFC 5869) under scheme, channel, role and purpose."""
        return _secret(self.master, f"weightmark/1|{self.scheme}|{self.channel}|{role}|{purpose}")

    def stream(self, role: str, purpose: str) -> Stream:
        """The keystream of one tensor and purpose: AES-256 in counter mode, read at any offset."""
        secret = self.secret(role, purpose)

        def read(offset: int, count: int) -> bytes:
            start = (offset // 16).to_bytes(16, "big")
            return Cipher(AES(secret), CTR(start)).encryptor().update(bytes(offset % 16 + count))[offset % 16 :]

        return read

    @property
    def draws(self) -> Draws:
        """`stream`, as schemes take it."""
        return self.stream


@cache
def _pseudorandom(master: bytes) -> bytes:
    """HKDF-Extract (RFC 5869)."""
    return hmac.new(_SALT, master, hashlib.sha256).digest()


def _secret(master: bytes, info: str) -> bytes:
    return HKDFExpand(SHA256(), 32, info.encode()).derive(_pseudorandom(master))


def sealed(key: Key, passphrase: str | None = None) -> dict[str, Any]:
    """A key as the values of a JSON file.

    Parameters
    ----------
    key : Key
    passphrase : str, optional
        The secret is then encrypted by AES-256-GCM under scrypt of it, bound to the public part.

    Returns
    -------
    dict
    """
    entry = key.public() | {"key_id": key.id, "payload": {"hex": key.payload.hex()}, "host": dict(key.host)}
    if passphrase is None:
        entry["secret"] = {"kind": "raw", "master": base64.b64encode(key.master).decode("ascii")}
        return entry
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    box = AESGCM(_stretched(passphrase, salt, **_SCRYPT)).encrypt(nonce, key.master, canonical(key.public()))
    entry["secret"] = {
        "kind": "scrypt-aesgcm",
        **{
            name: base64.b64encode(value).decode("ascii")
            for name, value in (("salt", salt), ("nonce", nonce), ("ct", box))
        },
        **_SCRYPT,
    }
    return entry


def opened(entry: Mapping[str, Any], passphrase: str | None = None, *, where: str = "") -> Key:
    """A key from the values of its file.

    Raises
    ------
    UnusableKeyError
        It is no key, of another version, or contradicts its own name.
    WrongPassphraseError
        It is encrypted, and the passphrase is missing or another one.
    """
    if not isinstance(entry, Mapping) or entry.get("format") != FORMAT:
        raise UnusableKeyError("not a key of this program", where=where, hint="make one with `lineage mark keygen`")
    try:
        head: dict[str, Any] = {
            "scheme": _text(entry["scheme"]),
            "scheme_version": _count(entry["scheme_version"]),
            "channel": _text(entry["channel"]),
            "created": _text(entry["created"]),
            "params": _table(entry["params"]),
            "host": _table(entry.get("host", {})),
            "payload": bytes.fromhex(_text(entry["payload"]["hex"])),
        }
        public = {name: entry[name] for name in ("format", "scheme", "scheme_version", "channel", "created", "params")}
        public |= {name: _text(entry[name]) for name in ("secret_sha256", "payload_sha256")}
        key = Key(master=_master(entry["secret"], canonical(public), passphrase, where), **head)
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        if isinstance(error, WrongPassphraseError):
            raise
        raise UnusableKeyError(f"the key is damaged ({_words(error)})", where=where, hint="use a copy of it") from error
    if key.id != entry.get("key_id") or key.public() != public:
        raise UnusableKeyError(
            "the key contradicts its own name: it was changed", where=where, hint="use a copy of it as it was made"
        )
    return key


def _master(secret: Any, bound: bytes, passphrase: str | None, where: str) -> bytes:
    if secret["kind"] == "raw":
        return base64.b64decode(_text(secret["master"]), validate=True)
    if secret["kind"] != "scrypt-aesgcm":
        raise ValueError("an unknown kind of secret")
    if passphrase is None:
        raise WrongPassphraseError("the key needs a passphrase", where=where, hint="give it with --passphrase")
    cost = {name: _count(secret[name]) for name in ("n", "r", "p")}
    if cost["n"] * cost["r"] > 8 * _MOST_SCRYPT or cost["p"] > 16:
        raise ValueError("opening it would cost too much")
    salt, nonce, box = (base64.b64decode(_text(secret[name]), validate=True) for name in ("salt", "nonce", "ct"))
    try:
        return AESGCM(_stretched(passphrase, salt, **cost)).decrypt(nonce, box, bound)
    except InvalidTag as error:
        raise WrongPassphraseError(
            "the passphrase does not open the key, or the key was changed", where=where, hint="try again"
        ) from error


def _stretched(passphrase: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase.encode())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text is missing")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("a number is missing")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a table is missing")
    return value


def _words(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
