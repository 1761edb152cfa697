"""Claims on marked models: committing before release, signing, stamping, and the files of both."""

import hashlib
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from crawl import ModelRef, open_model
from lineage.errors import MalformedDocumentError, UnreadableDocumentError, words_of
from lineage.inputs import read_bounded
from weightmark import attest, claims
from weightmark.canonical import canonical
from weightmark.files import carriers_of, model_digest
from weightmark.keys import Key
from weightmark.schemes import SCHEMES

OPENING = "weightmark-opening/1"
_MOST_BYTES = 1 << 26
"""Openings hold one entry a tensor; the largest models have ten thousand."""

Entry = dict[str, Any]


def commit(
    marked: str, original: str, key: Key, *, signer: Ed25519PrivateKey | None = None, share: float = 1.0, created: str
) -> tuple[Entry, Entry]:
    """Commit to a key, its payload and both models.

    Parameters
    ----------
    marked, original : str
        The marked model and the unmarked one it was made of.
    key : Key
    signer : Ed25519PrivateKey, optional
    share : float
        1 for an opening with the master secret. Below, the keys of this share of the tensors, drawn at random: the others
        stay secret when it is shown, and it counts only against models that came after the time stamp of the claim.
    created : str
        Date and time, UTC.

    Returns
    -------
    dict, dict
        The claim, to be published; the opening, to be kept secret until it is needed.
    """
    with open_model(ModelRef.parse(marked)) as source:
        tensors = sorted(carriers_of(source, SCHEMES[key.scheme], key))
        marked_digest = model_digest(source)
    with open_model(ModelRef.parse(original)) as source:
        unmarked_digest = model_digest(source)
    keys = claims.tensor_keys(key, tensors)
    statement = claims.Statement(
        scheme=key.scheme,
        scheme_version=key.scheme_version,
        channel=key.channel,
        params=key.params,
        payload_sha256=hashlib.sha256(key.payload).hexdigest(),
        key_root=claims.key_root(keys),
        unmarked_digest=unmarked_digest,
        marked_digest=marked_digest,
        n_tensors=len(tensors),
    )
    nonce = claims.new_nonce()
    body = _body(key, claims.commitment(nonce, statement), statement, created)
    signed = [] if signer is None else [_signature_entry(attest.signed(signer, canonical(body)))]
    opening = {
        "format": OPENING,
        "key_id": key.id,
        "nonce": nonce.hex(),
        "statement": statement.as_dict(),
        "payload": key.payload.hex(),
        **_shown(key, keys, share),
    }
    return body | {"attestations": signed}, opening


def _shown(key: Key, keys: Mapping[str, claims.TensorKeys], share: float) -> Entry:
    """The master and the names of all tensors, or the keys of some with their paths."""
    names = sorted(keys)
    if share >= 1.0:
        return {"master": key.master.hex(), "tensors": names}
    chosen = sorted(random.SystemRandom().sample(names, max(1, round(share * len(names)))))
    return {"tensors": [_disclosure_entry(d) for d in claims.disclosed(keys, chosen)]}


def _body(key: Key, value: str, statement: claims.Statement, created: str) -> Entry:
    """Everything of a claim that is signed."""
    return {
        "format": claims.FORMAT,
        "key_id": key.id,
        "scheme": key.scheme,
        "channel": key.channel,
        "created": created,
        "host": {"unmarked_digest": statement.unmarked_digest, "marked_digest": statement.marked_digest},
        "commitment": {"alg": "HMAC-SHA256", "value": value},
    }


def _signature_entry(signature: attest.Signature) -> Entry:
    return {"type": "ed25519", "pub": signature.public.hex(), "sig": signature.value.hex()}


def _disclosure_entry(d: claims.Disclosure) -> Entry:
    keys = {purpose: secret.hex() for purpose, secret in d.keys.items()}
    return {"tensor": d.tensor, "keys": keys, "path": [[side, digest.hex()] for side, digest in d.path]}


def to_stamp(claim: Entry) -> bytes:
    """What a time stamp is asked for: the signature where there is one, else the claim itself."""
    signed = next((a for a in claim["attestations"] if a["type"] == "ed25519"), None)
    return bytes.fromhex(signed["sig"]) if signed else canonical(_signed_part(claim))


def with_stamp(claim: Entry, response: bytes, roots: bytes) -> Entry:
    """The claim with a time stamp that holds under the trusted certificates."""
    attest.stamped_time(response, to_stamp(claim), roots)
    entry = {"type": "rfc3161", "response": response.hex()}
    return claim | {"attestations": [*claim["attestations"], entry]}


def _signed_part(claim: Entry) -> Entry:
    return {name: value for name, value in claim.items() if name != "attestations"}


def is_signed(claim: Entry) -> bool | None:
    """Whether every signature of a claim holds; None without one."""
    found = [a for a in claim["attestations"] if a["type"] == "ed25519"]
    message = canonical(_signed_part(claim))
    held = [
        attest.is_signed(attest.Signature(bytes.fromhex(a["pub"]), bytes.fromhex(a["sig"])), message) for a in found
    ]
    return all(held) if held else None


def stamped(claim: Entry, roots: bytes | None) -> datetime | None:
    """The earliest time at which a trusted authority saw a claim; None without one, or without anybody to trust."""
    responses = [bytes.fromhex(a["response"]) for a in claim["attestations"] if a["type"] == "rfc3161"]
    if roots is None or not responses:
        return None
    return min(attest.stamped_time(response, to_stamp(claim), roots).astimezone(UTC) for response in responses)


def read_entry(path: str, expected: str) -> Entry:
    """A claim or an opening from its file.

    Raises
    ------
    UnreadableDocumentError, MalformedDocumentError
    """
    try:
        data = read_bounded(path, _MOST_BYTES)
    except OSError as error:
        raise UnreadableDocumentError(f"cannot be read ({words_of(error)})", where=path) from error
    try:
        entry = json.loads(data) if len(data) <= _MOST_BYTES else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or entry.get("format") != expected:
        kind = "claim" if expected == claims.FORMAT else "opening"
        raise MalformedDocumentError(f"not a {kind} of this program", where=path, hint="made by `lineage mark commit`")
    return entry


def signing_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """An Ed25519 key from a PEM file.

    Raises
    ------
    UnreadableDocumentError, MalformedDocumentError
    """
    try:
        pem = read_bounded(str(path), 1 << 16)
    except OSError as error:
        raise UnreadableDocumentError(f"cannot be read ({words_of(error)})", where=str(path)) from error
    try:
        return attest.private_key(pem, passphrase)
    except ValueError as error:
        raise MalformedDocumentError(str(error), where=str(path), hint="openssl genpkey -algorithm ed25519") from error
