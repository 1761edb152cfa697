"""Who made a claim and when: Ed25519 signatures, and time stamps of RFC 3161 where the extra `claims` is there."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

_STAMP_BYTES = 1 << 16
"""Time stamps with all their certificates take a few thousand bytes."""


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature and the public key it is by, 64 and 32 bytes."""

    public: bytes
    value: bytes


def private_key(pem: bytes, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """A signing key from PEM.

    Raises
    ------
    ValueError
        It is no PEM, of another algorithm, or needs a passphrase that was not given, or another one.
    """
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError as error:
        raise ValueError("the signing key needs a passphrase, or has none and was given one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a private key in PEM, or another passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not the call
            "claims are signed with Ed25519; this key is of another algorithm"
        )
    return key


def signed(key: Ed25519PrivateKey, message: bytes) -> Signature:
    """Sign a message."""
    return Signature(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), key.sign(message))


def is_signed(signature: Signature, message: bytes) -> bool:
    """Whether the signature is of this message by the key it names."""
    try:
        Ed25519PublicKey.from_public_bytes(signature.public).verify(signature.value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def stamp_request(message: bytes) -> bytes:
    """The question to a time-stamp authority, DER, for the SHA-256 of a message; its certificate is asked for.

    Raises
    ------
    ImportError
        The extra `claims` is missing.
    """
    client = _client()
    return bytes(
        client.TimestampRequestBuilder().data(message).hash_algorithm(client.HashAlgorithm.SHA256).build().as_bytes()
    )


def stamped_time(response: bytes, message: bytes, roots_pem: bytes) -> datetime:
    """When an authority saw a message.

    Parameters
    ----------
    response : bytes
        The authority's answer, DER.
    message : bytes
        What was stamped.
    roots_pem : bytes
        Certificates of the authorities that are trusted; there is no list of our own.

    Returns
    -------
    datetime
        With its zone.

    Raises
    ------
    ImportError
        The extra `claims` is missing.
    ValueError
        The answer is none, is of another message, or no trusted authority gave it.
    """
    client = _client()
    if len(response) > _STAMP_BYTES:
        raise ValueError(f"a time stamp of {len(response)} bytes; none has more than {_STAMP_BYTES}")
    try:
        answer = client.decode_timestamp_response(response)
        builder = client.VerifierBuilder()
        for root in load_pem_x509_certificates(roots_pem):
            builder = builder.add_root_certificate(root)
        builder.build().verify(answer, hashlib.sha256(message).digest())
        time: datetime = answer.tst_info.gen_time
    except (ValueError, client.VerificationError) as error:
        raise ValueError(f"the time stamp does not hold: {error}") from error
    return time


def _client() -> Any:
    try:
        import rfc3161_client  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ImportError("time stamps need rfc3161-client: install lineage-forensics[claims]") from error
    return rfc3161_client


def as_text(value: bytes) -> str:
    """Bytes as base64, for JSON."""
    return base64.b64encode(value).decode()


def as_bytes(text: object, name: str) -> bytes:
    """Base64 back to bytes.

    Raises
    ------
    ValueError
        Not base64; `name` says which field.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} is not a text")  # noqa: TRY004 - the file is wrong, not the call
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name} is not base64") from error
