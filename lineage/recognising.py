"""The workflow of `lineage mark verify`: is the mark of a key in these weights, and how surely."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

import numpy as np

from crawl import ModelRef, OpenOptions, WeightSource, open_model
from lineage.documents import log10
from lineage.errors import UsageError
from lineage.marking import scheme_of
from lineage.realigning import realigned
from lineage.record import SCHEMA_VERSION, RunRecord, run_entry
from stats.arrays import Float64Array
from stats.carriers import Carried
from weightmark.errors import MarkedReferenceError, UnfitModelError
from weightmark.files import (
    arrays_of,
    carriers_of,
    controls,
    model_digest,
    n_carriers,
    scan,
    scan_against,
    shapes_of,
    views_of,
    windows,
)
from weightmark.keys import Key
from weightmark.payload import codeword
from weightmark.reading import Reading
from weightmark.scheme import Scheme
from weightmark.schemes import dss

Tell = Callable[[str, int, int], None]
Align = Literal["auto", "none", "full"]
Realigned = tuple[dict[str, Float64Array], tuple[str, ...]]
"""A suspect's matrices in the places of the reference, and what was undone; the same for every key."""

THRESHOLD = 1e-6
LOG_CLAIM = -128.0 * math.log(2.0)
"""Natural log of 2^-128: what a claim has to reach, because no grinding of keys does."""

LEAST_COVERAGE = 5e-4
"""Share of the carriers below which nothing found says nothing."""

_OWN_MARK = 6.0
"""A reference in which the key's own mark is found this strongly is a marked one."""

_FAR_MEAN, _FAR_SPREAD = 0.9, (0.5, 1.6)
"""Bounds for 32 keys that marked nothing: a sound law leaves them once in eighty thousand readings."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of `verify` that can change its result.

    Attributes
    ----------
    reference : str or None
        The unmarked model.
    align : {"auto", "none", "full"}
        Undo rewrites against the reference: when nothing is found without, never, or at once.
    max_bytes : int or None
        Of weights.
    family_size : int
        Models or keys tested elsewhere; multiplies p.
    log_threshold : float
        Natural log of the level.
    seed : int
        Of the rows read when not all are.
    """

    reference: str | None = None
    align: Align = "auto"
    max_bytes: int | None = None
    family_size: int = 1
    log_threshold: float = math.log(THRESHOLD)
    seed: int = 0
    open_options: OpenOptions | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The reading that decided, of one key.

    Attributes
    ----------
    key : Key
    reading : Reading
    log_pvalue : float
        Natural log, over all variants tried.
    mode : {"blind", "informed"}
    transforms : tuple of str or None
        What was undone; None where nothing was aligned.
    """

    key: Key
    reading: Reading
    log_pvalue: float
    mode: str
    transforms: tuple[str, ...] | None


def verify(
    ref: str, keys: Sequence[Key], options: VerifyOptions | None = None, tell: Tell | None = None
) -> dict[str, Any]:
    """Look for the marks of some keys in a model.

    Parameters
    ----------
    ref : str
        The suspect.
    keys : sequence of Key
        Of one recipient each, where there are several; the strongest is reported, and p counts all.
    options : VerifyOptions, optional
    tell : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    dict
        The document of `schemas/mark-verify-1.json`.

    Raises
    ------
    UsageError
        No key, or an option that the scheme of a key has no use for.
    MarkedReferenceError
        The reference carries the mark itself.
    UnfitModelError
        The model has no place where this mark could be.

    Notes
    -----
    Null: each key was drawn without a look at the suspect. Valid for every suspect and every unmarked reference: what is
    done to the suspect before carriers meet it depends on these two alone.
    """
    options, start = options or VerifyOptions(), time.perf_counter()
    if not keys:
        raise UsageError("no key", where="--key", hint="name the key file of the mark")
    say = tell or (lambda _stage, _done, _total: None)
    with open_model(ModelRef.parse(ref), options=options.open_options) as suspect:
        if options.reference is None:
            found = [_one(suspect, None, key, options, say, lambda: None) for key in keys]
            sources = [suspect]
        else:
            with open_model(ModelRef.parse(options.reference), options=options.open_options) as reference:
                for key in keys:
                    _refuse_marked(reference, key, options, say)
                aligned = cache(partial(realigned, reference, suspect))
                found = [_one(suspect, reference, key, options, say, aligned) for key in keys]
                sources = [suspect, reference]
        best = min(found, key=lambda f: (f.log_pvalue, f.key.channel))
        law = _law(suspect, best.key, options)
        record = _record(sources, keys, options, start)
        return _document(best, found, law, options, record)


def _one(
    suspect: WeightSource,
    reference: WeightSource | None,
    key: Key,
    options: VerifyOptions,
    say: Tell,
    realign: Callable[[], Realigned | None],
) -> Found:
    """The best variant for one key; p is multiplied by the number of variants that were to be tried."""
    scheme = scheme_of(key)
    if options.max_bytes is not None and not scheme.caps.streams:
        raise UsageError(f"{scheme.name} reads whole matrices", where="--max-bytes", hint="leave it out")
    if reference is None and scheme.caps.needs_reference:
        raise UsageError(f"{scheme.name} needs the unmarked model", where="--reference", hint="name it")
    n_variants = 2 if reference is not None and options.align == "auto" else 1
    tried: list[tuple[Reading, tuple[str, ...] | None]] = []
    if options.align != "full" or reference is None:
        tried.append((_plain(suspect, reference, scheme, key, options, say), None))
    enough = tried and _total(tried[0][0], n_variants) <= options.log_threshold - math.log(options.family_size)
    if reference is not None and options.align != "none" and not enough:
        aligned = _aligned(realign(), reference, scheme, key)
        if aligned is not None:
            tried.append(aligned)
    if not tried:
        raise UnfitModelError(
            "nothing of this model could be aligned to the reference", where=suspect.ref.id, hint="use --align none"
        )
    reading, transforms = min(tried, key=lambda t: t[0].test.log_pvalue)
    mode = "blind" if reference is None else "informed"
    return Found(key=key, reading=reading, log_pvalue=_total(reading, n_variants), mode=mode, transforms=transforms)


def _total(reading: Reading, n_variants: int) -> float:
    return min(0.0, reading.test.log_pvalue + math.log(n_variants))


def _plain(
    suspect: WeightSource, reference: WeightSource | None, scheme: Scheme, key: Key, options: VerifyOptions, say: Tell
) -> Reading:
    """The suspect as it is."""
    if not scheme.caps.streams:
        shapes = _shapes(key, reference or suspect, scheme)
        roles = tuple(shapes)
        known = None if reference is None else arrays_of(reference, roles)
        return scheme.verify(arrays_of(suspect, roles), key, shapes=shapes, reference=known)
    views = carriers_of(suspect, scheme, key)
    places = windows(views, options.max_bytes, seed=options.seed)
    blind = _sum(scan(suspect, views, places, key, tell=lambda done, n: say("reading", done, n)))
    informed = None
    if reference is not None:
        against = scan_against(suspect, views, reference, places, key, tell=lambda done, n: say("comparing", done, n))
        informed = _sum(against)
    return dss.read(blind, key, planned=_planned(key, n_carriers(views)), informed=informed)


def _aligned(
    found: Realigned | None, reference: WeightSource, scheme: Scheme, key: Key
) -> tuple[Reading, tuple[str, ...]] | None:
    if found is None:
        return None
    arrays, transforms = found
    shapes = _shapes(key, reference, scheme)
    known = arrays_of(reference, [r for r in shapes if r in arrays])
    return scheme.verify(arrays, key, shapes=shapes, reference=known), transforms


def _refuse_marked(reference: WeightSource, key: Key, options: VerifyOptions, say: Tell) -> None:
    scheme = scheme_of(key)
    same = key.host.get("marked_digest")
    marked = bool(same) and same == model_digest(reference, lambda done, n: say("reading the reference", done, n))
    if not marked and scheme.caps.streams:
        views = carriers_of(reference, scheme, key)
        blind = _sum(scan(reference, views, windows(views, options.max_bytes, seed=options.seed), key))
        marked = blind.statistic(codeword(key.payload)) > _OWN_MARK
    if marked:
        raise MarkedReferenceError(
            "the reference carries this very mark; a suspect held against it would look marked, whoever made it",
            where=reference.ref.id,
            hint="give the model as it was before it was marked",
        )


def _shapes(key: Key, source: WeightSource, scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Shapes of the marked model's carriers: as the key remembers, else those of the model at hand."""
    held = key.host.get("shapes")
    if isinstance(held, dict):
        return {role: tuple(int(n) for n in shape) for role, shape in held.items()}
    shapes = shapes_of(views_of(source))
    return {role: shapes[role] for role in scheme.carriers(shapes, key)}


def _planned(key: Key, at_hand: int) -> int:
    planned = key.host.get("n_carriers")
    return planned if isinstance(planned, int) and planned > 0 else at_hand


def _sum(parts: Mapping[str, Carried]) -> Carried:
    return sum(parts.values(), Carried.none())


def _law(suspect: WeightSource, key: Key, options: VerifyOptions) -> dict[str, Any] | None:
    """Mean and spread of the statistic under keys that marked nothing; None for schemes that do not stream."""
    scheme = scheme_of(key)
    if not scheme.caps.streams:
        return None
    views = carriers_of(suspect, scheme, key)
    values = controls(suspect, views, windows(views, options.max_bytes, seed=options.seed), key, codeword(key.payload))
    mean, spread = float(np.mean(values)), float(np.std(values))
    odd = abs(mean) > _FAR_MEAN or not _FAR_SPREAD[0] <= spread <= _FAR_SPREAD[1]
    return {"keys": len(values), "mean": round(mean, 4), "spread": round(spread, 4), "as_expected": not odd}


def _verdict(log_p: float, best: Found, law: Mapping[str, Any] | None, options: VerifyOptions) -> str:
    if law is not None and not law["as_expected"]:
        return "inconclusive"
    if log_p <= options.log_threshold:
        return "found"
    return "inconclusive" if best.reading.coverage < LEAST_COVERAGE else "not-found"


def _document(
    best: Found,
    found: Sequence[Found],
    law: Mapping[str, Any] | None,
    options: VerifyOptions,
    record: RunRecord,
) -> dict[str, Any]:
    reading, test = best.reading, best.reading.test
    log_p = min(0.0, best.log_pvalue + math.log(len(found)) + math.log(options.family_size))
    expected = best.key.payload
    decoded = reading.payload
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "verdict": _verdict(log_p, best, law, options),
        "scheme": best.key.scheme,
        "key_id": best.key.id,
        "channel": best.key.channel,
        "statistic": round(test.statistic, 6),
        "log10_p": log10(log_p),
        "log10_p_of_key": log10(test.log_pvalue),
        "floor_log10_p": log10(test.log_floor),
        "null": test.null,
        "exactness": test.exactness,
        "n": test.n,
        "threshold_log10": log10(options.log_threshold),
        "keys": len(found),
        "family_size": options.family_size,
        "mode": best.mode,
        "payload": None if decoded is None else decoded.hex(),
        "payload_ok": None if decoded is None or not expected else decoded.startswith(expected),
        "bit_errors": reading.bit_errors,
        "bits": reading.bits,
        "coverage": round(reading.coverage, 8),
        "bytes_read": record.run["bytes_read"],
        "reference_used": options.reference,
        "alignment": None if best.transforms is None else {"transforms": list(best.transforms)},
        "controls": law,
    }


def _record(sources: Sequence[WeightSource], keys: Sequence[Key], options: VerifyOptions, start: float) -> RunRecord:
    record = RunRecord(
        command="mark verify",
        seed=options.seed,
        parameters={
            "keys": [k.id for k in keys],
            "align": options.align,
            "max_bytes": options.max_bytes,
            "family_size": options.family_size,
        },
        inputs=[{"id": s.ref.id, "header_digest": s.header_digest()} for s in sources],
    )
    record.run.update(run_entry([s.ref.id for s in sources], list(sources), time.perf_counter() - start))
    return record
