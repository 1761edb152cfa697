"""The workflow of `lineage mark verify`: is the mark of a key in these weights, and how surely."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

from crawl import ModelRef, OpenOptions, WeightSource, open_model
from lineage.documents import log10
from lineage.errors import UsageError
from lineage.inspecting import Portion, Realigned, Tell, Unmarked, as_it_is, in_place, law
from lineage.marking import scheme_of
from lineage.realigning import realigned
from lineage.record import SCHEMA_VERSION, RunRecord, run_entry
from lineage.sketched import Stand
from weightmark.choices import log_choices
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading

Align = Literal["auto", "none", "full"]

THRESHOLD = 1e-6
LOG_CLAIM = -128.0 * math.log(2.0)
"""Natural log of 2^-128: what a claim has to reach, because no grinding of keys does."""

REFERENCE = "; and the reference was made without a look at the key"
"""What holds besides where an unmarked model is at hand."""

SKETCH = "; and the sketch was made without a look at the key"
"""What holds besides where a sketch of it is."""

LEAST_COVERAGE = 5e-4
"""Share of the carriers below which nothing found says nothing."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of `verify` that can change its result.

    Attributes
    ----------
    reference : str or None
        The unmarked model.
    sketch : str or None
        A file that stands for it; not beside a reference, and not with `original`.
    original : str or None
        Digest of the unmarked model that a claim commits to; the reference must be it.
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
    sketch: str | None = None
    original: str | None = None
    align: Align = "auto"
    max_bytes: int | None = None
    family_size: int = 1
    log_threshold: float = math.log(THRESHOLD)
    seed: int = 0
    open_options: OpenOptions | None = field(default=None, compare=False)

    @property
    def portion(self) -> Portion:
        """Which part of the weights is read."""
        return Portion(self.max_bytes, self.seed)


@dataclass(frozen=True, slots=True)
class Ways:
    """How a suspect can be read under a key.

    Attributes
    ----------
    mode : callable
        `blind` or `informed`.
    plain : callable
        The suspect as it is.
    aligned : callable or None
        Rewrites undone, and their names; None where nothing is there to undo them by.
    aligns : callable
        Whether a key is read both ways.
    """

    mode: Callable[[Key], str]
    plain: Callable[[Key], Reading]
    aligned: Callable[[Key], tuple[Reading, tuple[str, ...]] | None]
    aligns: Callable[[Key], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The reading that decided, of one key.

    Attributes
    ----------
    key : Key
    reading : Reading
    log_pvalue : float
        Natural log, over all variants that were to be tried and all payloads.
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
        No key, an option that the scheme of a key has no use for, or a sketch that proves nothing.
    MarkedReferenceError
        The reference carries the mark itself, or the sketch is one of the marked model.
    UnusableKeyError
        The sketch is none, or damaged.
    UnfitModelError
        The model has no place where this mark could be.

    Notes
    -----
    Null: the secret of each key was drawn without a look at the suspect, and the reference was made without a look at the
    key. Valid for every suspect and every such reference: what is done to the suspect before carriers meet it depends on
    these two alone. A payload may have been chosen later; p counts all there are. A reference made *with* the key proves
    nothing, and no reading of weights can tell: for a claim only the original it commits to is taken, and the reading counts
    against models younger than the time stamp of the claim.
    """
    options, start = options or VerifyOptions(), time.perf_counter()
    if not keys:
        raise UsageError("no key", where="--key", hint="name the key file of the mark")
    say = tell or (lambda _stage, _done, _total: None)
    _refuse_two(options)
    with ExitStack() as held:
        suspect = held.enter_context(open_model(ModelRef.parse(ref), options=options.open_options))
        sources, bound = [suspect], None
        if options.sketch is not None:
            stand = Stand.opened(suspect, options.sketch)
            for key in keys:
                stand.refuse_if_unfit(key)
            ways = Ways(stand.mode, partial(stand.plain, portion=options.portion, say=say), stand.aligned, stand.aligns)
            bound = all(stand.bound(key) for key in keys)
        elif options.reference is not None:
            reference = held.enter_context(open_model(ModelRef.parse(options.reference), options=options.open_options))
            ways = _against(suspect, reference, keys, options, say)
            sources.append(reference)
        else:
            plain = partial(as_it_is, suspect, None, portion=options.portion, say=say)
            ways = Ways(lambda _key: "blind", plain, lambda _key: None, lambda _key: False)
        found = [_one(suspect, key, options, ways) for key in keys]
        best = min(found, key=lambda f: (f.log_pvalue, f.key.channel))
        return _document(
            best, found, law(suspect, best.key, options.portion), options, _record(sources, keys, options, start)
        ) | {"sketch_bound": bound}


def _refuse_two(options: VerifyOptions) -> None:
    if options.sketch is None:
        return
    if options.reference is not None:
        raise UsageError("a reference and a sketch of it", where="--sketch", hint="give one of them")
    if options.original is not None:
        raise UsageError(
            "a claim commits to the unmarked model, not to a sketch, which could be made to show anything",
            where="--sketch",
            hint="give the original of the claim with --reference",
        )


def _against(
    suspect: WeightSource, reference: WeightSource, keys: Sequence[Key], options: VerifyOptions, say: Tell
) -> Ways:
    """Readings against the unmarked model, which is refused where it is marked or another than a claim's."""
    unmarked = Unmarked(reference, options.portion, say)
    unmarked.refuse_another_than(options.original)
    for key in keys:
        unmarked.refuse_if_marked(key)
    undone = cache(partial(realigned, reference, suspect))

    def aligned(key: Key) -> tuple[Reading, tuple[str, ...]] | None:
        found: Realigned | None = undone()
        return None if found is None else (in_place(found[0], reference, key), found[1])

    plain = partial(as_it_is, suspect, reference, portion=options.portion, say=say)
    # Orders are all that some marks are: undoing them would erase those.
    return Ways(lambda _key: "informed", plain, aligned, lambda key: not scheme_of(key).caps.zero_distortion)


def _one(suspect: WeightSource, key: Key, options: VerifyOptions, ways: Ways) -> Found:
    """The best variant for one key; p counts the variants that were to be tried, and every payload there could be."""
    scheme = scheme_of(key)
    if options.max_bytes is not None and not scheme.caps.streams:
        raise UsageError(f"{scheme.name} reads whole matrices", where="--max-bytes", hint="leave it out")
    if options.reference is None and options.sketch is None and scheme.caps.needs_reference:
        raise UsageError(f"{scheme.name} needs the unmarked model", where="--reference", hint="name it")
    aligns = ways.aligns(key) and options.align != "none"
    n_variants = 2 if aligns and options.align == "auto" else 1
    extra = math.log(n_variants) + log_choices(key.payload)
    tried: list[tuple[Reading, tuple[str, ...] | None]] = []
    if options.align != "full" or not aligns:
        tried.append((ways.plain(key), None))
    enough = tried and _total(tried[0][0], extra) <= options.log_threshold - math.log(options.family_size)
    if aligns and not enough:
        aligned = ways.aligned(key)
        if aligned is not None:
            tried.append(aligned)
    if not tried:
        raise UnfitModelError(
            "nothing of this model could be aligned to the reference", where=suspect.ref.id, hint="use --align none"
        )
    reading, transforms = min(tried, key=lambda t: t[0].test.log_pvalue)
    log_p = _total(reading, extra)
    return Found(key=key, reading=reading, log_pvalue=log_p, mode=ways.mode(key), transforms=transforms)


def _total(reading: Reading, extra: float) -> float:
    return min(0.0, reading.test.log_pvalue + extra)


def _verdict(log_p: float, best: Found, controls: Mapping[str, Any] | None, options: VerifyOptions) -> str:
    if controls is not None and not controls["as_expected"]:
        return "inconclusive"
    if log_p <= options.log_threshold:
        return "found"
    return "inconclusive" if best.reading.coverage < LEAST_COVERAGE else "not-found"


def _document(
    best: Found,
    found: Sequence[Found],
    controls: Mapping[str, Any] | None,
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
        "verdict": _verdict(log_p, best, controls, options),
        "scheme": best.key.scheme,
        "key_id": best.key.id,
        "channel": best.key.channel,
        "statistic": round(test.statistic, 6),
        "log10_p": log10(log_p),
        "log10_p_of_key": log10(test.log_pvalue),
        "floor_log10_p": log10(test.log_floor),
        "null": test.null + _besides(best, options),
        "payload_choices_log10": log10(log_choices(best.key.payload)),
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
        "reference_committed": options.original is not None,
        "sketch_used": options.sketch,
        "alignment": None if best.transforms is None else {"transforms": list(best.transforms)},
        "controls": controls,
    }


def _besides(best: Found, options: VerifyOptions) -> str:
    """What the null holds beyond the drawing of the key."""
    return SKETCH if options.sketch is not None else REFERENCE if best.mode == "informed" else ""


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
