"""Two claims on one model: openings checked against commitments, originals searched for the other side's mark."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from crawl import ModelRef, WeightSource, open_model
from lineage.claiming import Entry, is_signed, stamped
from lineage.documents import log10
from lineage.errors import MalformedDocumentError
from lineage.marking import check_params
from lineage.record import SCHEMA_VERSION, RunRecord
from stats.carriers import Carried
from stats.tails import log_choose
from weightmark import claims
from weightmark.choices import log_choices
from weightmark.contest import Party, judged
from weightmark.files import arrays_of, model_digest, scan, shapes_of, views_of, windows
from weightmark.keys import Key
from weightmark.reading import Reading
from weightmark.schemes import SCHEMES, dss

LOG_GRADE = claims.LOG2_GRADE * math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A claim and its opening, checked against each other.

    Attributes
    ----------
    statement : Statement
    key : ShownKey
        Knows the disclosed tensors only.
    opens : bool
        The commitment opens to the statement, every disclosed key leads to its root, the payload is the one meant.
    whole : bool
        The master secret was shown, from which all keys follow.
    stamped : datetime or None
    """

    statement: claims.Statement
    key: claims.ShownKey
    opens: bool
    whole: bool
    stamped: datetime | None

    @property
    def log_choices(self) -> float:
        """Log of what may have been chosen to suit a model: the payload, and the set of tensors that is shown."""
        return log_choices(self.key.payload) + log_choose(self.statement.n_tensors, len(self.key.shown))

    def counts_against(self, other: "Opened") -> bool:
        """Whether keys could not have been picked to suit the other side's model: whole, or stamped before it."""
        if self.whole:
            return True
        return self.stamped is not None and (other.stamped is None or self.stamped < other.stamped)


def opened(claim: Entry, opening: Entry, *, roots: bytes | None = None, where: str = "") -> Opened:
    """Check a claim against its opening.

    Raises
    ------
    MalformedDocumentError
        A field is missing or of another kind.
    """
    try:
        statement = claims.Statement(
            **{name: opening["statement"][name] for name in claims.Statement.__dataclass_fields__}
        )
        payload = bytes.fromhex(opening["payload"])
        key, of_root = _key_shown(opening, statement, payload)
        fits = (
            claims.opens(claim["commitment"]["value"], bytes.fromhex(opening["nonce"]), statement)
            and of_root
            and hashlib.sha256(payload).hexdigest() == statement.payload_sha256
            and is_signed(claim) is not False
        )
        times = stamped(claim, roots)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"a claim or its opening is damaged ({type(error).__name__}: {error})"
        raise MalformedDocumentError(reason, where=where, hint="use the files as they were made") from error
    return Opened(statement=statement, key=key, opens=fits, whole="master" in opening, stamped=times)


def _key_shown(opening: Entry, statement: claims.Statement, payload: bytes) -> tuple[claims.ShownKey, bool]:
    """The key as far as it is shown, and whether all of it is what was committed to."""
    if statement.scheme not in claims.PURPOSES:
        raise ValueError(f"no claims are made on {statement.scheme!r}")
    if "master" not in opening:
        shown = tuple(_disclosure(entry) for entry in opening["tensors"])
        return claims.shown_key(statement, payload, shown), all(claims.is_of_root(d, statement.key_root) for d in shown)
    master = replace(claims.shown_key(statement, payload, ()), master=bytes.fromhex(opening["master"]))
    whole = Key(**{name: getattr(master, name) for name in Key.__dataclass_fields__})
    keys = claims.tensor_keys(whole, [str(name) for name in opening["tensors"]])
    fits = claims.key_root(keys) == statement.key_root and len(keys) == statement.n_tensors
    return replace(master, master=bytes(32), shown=keys), fits


def _disclosure(entry: Mapping[str, Any]) -> claims.Disclosure:
    path = tuple((str(side), bytes.fromhex(digest)) for side, digest in entry["path"])
    keys = {str(purpose): bytes.fromhex(secret) for purpose, secret in entry["keys"].items()}
    return claims.Disclosure(tensor=str(entry["tensor"]), keys=keys, path=path)


def looked_for(source: WeightSource, key: claims.ShownKey) -> Reading:
    """Look for a mark in the disclosed tensors of a model, blind; `dss` in bounded memory."""
    scheme = SCHEMES[key.scheme]
    check_params(scheme, key.params, where=f"the claim of {key.scheme}")
    views = {role: view for role, view in views_of(source).items() if role in key.shown}
    if key.scheme == "dss":
        total = sum(scan(source, views, windows(views), key).values(), Carried.none())
        return dss.read(total, key, planned=sum(v.shape[0] * v.shape[1] for v in views.values()))
    return scheme.verify(arrays_of(source, views), key, shapes=shapes_of(views))


def contest(
    sides: Sequence[tuple[Entry, Entry]], originals: Sequence[str], *, roots: bytes | None = None
) -> dict[str, Any]:
    """Decide between two claims from their openings and the two originals.

    Parameters
    ----------
    sides : two of (claim, opening)
        First a, then b.
    originals : two of str
        The unmarked model that each side hands in.
    roots : bytes, optional
        Certificates of trusted time-stamp authorities, PEM.

    Returns
    -------
    dict
        The document: what was found of each side, the ruling and its reason.
    """
    both = [opened(claim, opening, roots=roots, where=name) for (claim, opening), name in zip(sides, "ab", strict=True)]
    parties, entries = [], []
    for i, side in enumerate(both):
        own, other = originals[i], originals[1 - i]
        with open_model(ModelRef.parse(own)) as source:
            shows, in_own = model_digest(source) == side.statement.unmarked_digest, _log_p(source, side)
        with open_model(ModelRef.parse(other)) as source:
            in_other = _log_p(source, side)
        counts = side.counts_against(both[1 - i])
        party = Party(
            opens=side.opens,
            shows_original=shows,
            marks_own=in_own < LOG_GRADE,
            marks_other=counts and in_other < LOG_GRADE,
            stamped=side.stamped,
        )
        parties.append(party)
        entries.append(_party_entry(party, in_own, in_other, own, counts=counts))
    ruling = judged(parties[0], parties[1])
    record = RunRecord("mark contest", {"threshold": "2^-128"}, 0, inputs=[{"id": o} for o in originals])
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "winner": ruling.winner,
        "reason": ruling.reason,
        "a": entries[0],
        "b": entries[1],
    }


def _log_p(source: WeightSource, side: Opened) -> float:
    """Log p of a side's mark in a model, over all sets of tensors that could have been shown."""
    try:
        return min(0.0, looked_for(source, side.key).test.log_pvalue + side.log_choices)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"the parameters of the claim do not fit this model or its scheme ({error})"
        raise MalformedDocumentError(reason, where=str(source.ref)) from error


def _party_entry(party: Party, in_own: float, in_other: float, original: str, *, counts: bool) -> Entry:
    return {
        "original": original,
        "opens": party.opens,
        "shows_original": party.shows_original,
        "own_mark_in_own_original": {"found": party.marks_own, "log10_p": log10(in_own)},
        "own_mark_in_other_original": {"found": party.marks_other, "log10_p": log10(in_other), "counts": counts},
        "stamped": None if party.stamped is None else party.stamped.isoformat(),
    }
