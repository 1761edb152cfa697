"""Claims of ownership: what is committed to before release, what is shown later, and whether the two agree.

A commitment hides everything but its own value. It is opened as a whole, with the master secret, or for some tensors only,
each with its path to the committed root; the keys of the others stay secret then. Keys are never part of a claim.

Secrets of single tensors that follow from no master shown could each have been picked to suit a model that was there
already: a few thousand tries a tensor add up over hundreds of tensors. They count only against models that came later.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightmark import merkle
from weightmark.canonical import canonical
from weightmark.errors import UnfitModelError, UnusableKeyError
from weightmark.keys import Key

FORMAT = "weightmark-claim/1"
LOG2_GRADE = -128
"""Claim grade: grinding keys to reach p < 2^-128 takes 2^128 of them."""

TensorKeys = Mapping[str, bytes]
"""Secrets of one tensor by purpose, for instance `sign` and `block`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a commitment binds.

    Attributes
    ----------
    scheme, channel : str
    scheme_version : int
    params : mapping
        Of the key: everything that decides where and how strongly the mark is.
    payload_sha256, key_root, unmarked_digest, marked_digest : str
        Hexadecimal SHA-256. Digests of models do not depend on how they are split into files.
    n_tensors : int
        Leaves under the root.
    """

    scheme: str
    scheme_version: int
    channel: str
    params: Mapping[str, Any]
    payload_sha256: str
    key_root: str
    unmarked_digest: str
    marked_digest: str
    n_tensors: int

    def as_dict(self) -> dict[str, Any]:
        """Every field, and the format."""
        return {"format": FORMAT} | {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """The secrets of one tensor and what ties them to the commitment."""

    tensor: str
    keys: TensorKeys
    path: merkle.Path


def new_nonce() -> bytes:
    """32 random bytes: a commitment to guessable values hides them only behind these."""
    return secrets.token_bytes(32)


def tensor_leaf(tensor: str, keys: TensorKeys) -> bytes:
    """Leaf of one tensor: its name and its secrets, sorted by purpose, each with its length."""
    parts = [tensor.encode(), *(part for purpose in sorted(keys) for part in (purpose.encode(), keys[purpose]))]
    return merkle.leaf(b"".join(len(part).to_bytes(4, "big") + part for part in parts))


def key_root(keys: Mapping[str, TensorKeys]) -> str:
    """Root over the secrets of all tensors, sorted by name, in hexadecimal."""
    return merkle.root([tensor_leaf(name, keys[name]) for name in sorted(keys)]).hex()


def disclosed(keys: Mapping[str, TensorKeys], tensors: Sequence[str]) -> tuple[Disclosure, ...]:
    """What has to be shown for some tensors; the others stay secret."""
    names = sorted(keys)
    leaves = [tensor_leaf(name, keys[name]) for name in names]
    return tuple(
        Disclosure(tensor=name, keys=keys[name], path=merkle.path(leaves, names.index(name))) for name in tensors
    )


def is_of_root(disclosure: Disclosure, root: str) -> bool:
    """Whether the secrets shown are the ones that were committed to."""
    found = merkle.climbed(tensor_leaf(disclosure.tensor, disclosure.keys), disclosure.path)
    return hmac.compare_digest(found.hex(), root)


def commitment(nonce: bytes, statement: Statement) -> str:
    """HMAC-SHA256 of the statement in canonical form, keyed by the nonce, in hexadecimal."""
    return hmac.new(nonce, canonical(statement.as_dict()), hashlib.sha256).hexdigest()


def opens(value: str, nonce: bytes, statement: Statement) -> bool:
    """Whether nonce and statement are what a commitment was made of."""
    return hmac.compare_digest(value, commitment(nonce, statement))


PURPOSES: Mapping[str, tuple[str, ...]] = {
    "dss": ("sign", "block"),
    "emmark": ("places", "bits"),
    "gaussmark": ("normal",),
    "gram": ("pairs",),
    "lastbias": ("normal",),
    "quantgap": ("sign",),
    "uchida": ("projections", "bits"),
}
"""Keystreams by which a tensor's carriers are drawn, of the schemes whose tensors have keys of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKey(Key):
    """A key of which only the secrets of some tensors are known.

    Attributes
    ----------
    shown : mapping of tensor to TensorKeys
        What was disclosed; the master secret is not among it and is all zeros here.
    """

    shown: Mapping[str, TensorKeys]

    def secret(self, role: str, purpose: str) -> bytes:
        """The disclosed secret of a tensor.

        Raises
        ------
        UnusableKeyError
            It was not disclosed.
        """
        try:
            return self.shown[role][purpose]
        except KeyError as error:
            raise UnusableKeyError(f"the key of this tensor for {purpose} was not disclosed", where=role) from error


def tensor_keys(key: Key, tensors: Sequence[str]) -> dict[str, TensorKeys]:
    """The secrets of a key tensor by tensor.

    Raises
    ------
    UnfitModelError
        The scheme draws its carriers for the whole model at once.
    """
    if key.scheme not in PURPOSES:
        raise UnfitModelError(
            "this scheme has no keys of single tensors to commit to",
            where=key.scheme,
            hint=f"claims are made on {', '.join(PURPOSES)}",
        )
    return {name: {purpose: key.secret(name, purpose) for purpose in PURPOSES[key.scheme]} for name in tensors}


def shown_key(statement: Statement, payload: bytes, disclosures: Sequence[Disclosure]) -> ShownKey:
    """What can be verified with after a disclosure."""
    return ShownKey(
        scheme=statement.scheme,
        scheme_version=statement.scheme_version,
        channel=statement.channel,
        master=bytes(32),
        params=statement.params,
        payload=payload,
        shown={d.tensor: d.keys for d in disclosures},
    )
