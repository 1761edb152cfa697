"""`lineage mark bench`: marks of one model under a suite of attacks, measured and summed up."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from crawl import Architecture, ModelRef, open_model
from lineage.documents import log10
from lineage.errors import UsageError
from lineage.holding import held_weights
from lineage.record import SCHEMA_VERSION, RunRecord
from lineage.retraining import Retrained, is_training, run_trained
from lineage.undoing import undone
from weightmark.attacks import BY_NAME, SUITES
from weightmark.attacks.numbers import Array
from weightmark.axes import MATRICES, split_role
from weightmark.benchmark import Outcome, Trial, Undo, Unrun, run, wilson
from weightmark.scheme import Strength
from weightmark.schemes import SCHEMES

LEVELS = {"1e-2": math.log(1e-2), "1e-6": math.log(1e-6), "2^-128": -128 * math.log(2.0)}
"""Natural logs of the levels that are counted."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What is measured.

    Attributes
    ----------
    schemes : tuple of str
    suite : str
        Name of a suite, or names of attacks with commas between.
    keys : int
        Keys a row, and as many that marked nothing.
    strength : {"low", "default", "high"}
    eps : float or None
        Relative size of the marks that have one, in place of what the strength gives.
    informed : bool
        The unmarked model is at hand for schemes that can use it.
    seed : int
    text : bytes
        What models are fine-tuned on, where the suite asks for that.
    lr : float
        Learning rate of fine-tuning.
    """

    schemes: tuple[str, ...]
    suite: str = "quick"
    keys: int = 3
    strength: Strength = "default"
    eps: float | None = None
    informed: bool = False
    seed: int = 0
    text: bytes = b""
    lr: float = 2e-5


def attacks_of(suite: str) -> tuple[str, ...]:
    """The attacks of a suite, or those named with commas between.

    Raises
    ------
    UsageError
        A name is none.
    """
    if suite in SUITES:
        return SUITES[suite]
    names = tuple(name.strip() for name in suite.split(","))
    unknown = [name for name in names if name not in BY_NAME and not is_training(name)]
    if unknown:
        known = f"suites are {', '.join(SUITES)}; attacks are listed in docs/methods/marks.md"
        raise UsageError(f"no suite and no attack of this name: {unknown[0]!r}", where="--suite", hint=known)
    return tuple(dict.fromkeys(names))


def bench(ref: str, options: BenchOptions, *, tell: Tell | None = None) -> dict[str, Any]:
    """Mark a model under many keys, attack every copy, look for the marks.

    Parameters
    ----------
    ref : str
        The unmarked model. Nothing is written to it.
    options : BenchOptions
    tell : callable, optional
        Progress: stage, done, total.

    Returns
    -------
    dict
        The document: every outcome, and a summary by scheme and attack.

    Raises
    ------
    UsageError
        A scheme or an attack is unknown, or the model is too large to be held several times.
    """
    names = attacks_of(options.suite)
    trained = tuple(name for name in names if is_training(name))
    names = tuple(name for name in names if name not in trained)
    retrained = Retrained(ref, options.text, options.lr) if trained else None
    trials = [_trial(scheme, options) for scheme in options.schemes]
    started = time.perf_counter()
    with open_model(ModelRef.parse(ref)) as source:
        weights, heads = held_weights(source)
        counted = {"bytes_read": source.bytes_read, "requests": source.requests}
        undo = undo_of(source.architecture)
        entry = {"id": source.ref.id, "header_digest": source.header_digest()}
    outcomes: list[Outcome] = []
    unrun: list[Unrun] = []
    for trial in trials:
        own = None if trial.scheme.caps.zero_distortion else undo  # orders are that mark: undoing them erases it
        found = run(trial, weights, names, keys=options.keys, seed=options.seed, heads=heads, undo=own)
        more = run_trained(trial, weights, trained, retrained, keys=options.keys, seed=options.seed)
        total = 2 * options.keys * (len(names) + len(trained))
        _gather(trial, chain(found, more), outcomes, unrun, tell, total=total)
    record = RunRecord("mark bench", _parameters(options), options.seed, inputs=[entry])
    record.run = {"seconds": round(time.perf_counter() - started, 3), **counted}
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "model": entry["id"],
        "suite": options.suite,
        "keys": options.keys,
        "rows": [_row(outcome) for outcome in outcomes],
        "summary": summary(outcomes),
        "skipped": [{"scheme": u.scheme, "attack": u.attack, "reason": u.reason} for u in unrun],
    }


def undo_of(architecture: Architecture | None) -> Undo | None:
    """What undoes relabellings of models of an architecture; None where it is unknown."""
    if architecture is None:
        return None

    def undo(suspect: Mapping[str, Array], reference: Mapping[str, Array]) -> Mapping[str, Array]:
        rest = {role: values for role, values in suspect.items() if split_role(role)[1] not in MATRICES}
        return rest | undone(suspect, reference, architecture)

    return undo


def _gather(
    trial: Trial,
    found: Iterable[Outcome | Unrun],
    outcomes: list[Outcome],
    unrun: list[Unrun],
    tell: Tell | None,
    *,
    total: int,
) -> None:
    done = 0
    try:
        for each in found:
            if isinstance(each, Unrun):
                unrun.append(each)
                continue
            outcomes.append(each)
            done += 1
            if tell is not None:
                tell(f"bench {trial.scheme.name}", done, total)
    except ValueError as error:  # the scheme has nothing to write to in this model
        unrun.append(Unrun(scheme=trial.scheme.name, attack="all", reason=str(error)))


def _parameters(options: BenchOptions) -> dict[str, Any]:
    return {
        "schemes": list(options.schemes),
        "suite": options.suite,
        "keys": options.keys,
        "strength": options.strength,
        "eps": options.eps,
        "informed": options.informed,
    } | ({"lr": options.lr, "text_bytes": len(options.text)} if options.text else {})


def _trial(name: str, options: BenchOptions) -> Trial:
    if name not in SCHEMES:
        raise UsageError(f"no scheme of this name: {name!r}", where="--schemes", hint=f"one of {', '.join(SCHEMES)}")
    scheme = SCHEMES[name]
    params = dict(scheme.params(options.strength))
    if options.eps is not None and name in {"dss", "gram"}:
        params["eps"] = options.eps
    informed = scheme.caps.needs_reference or (options.informed and scheme.caps.takes_reference)
    n_bytes = 2 if scheme.caps.zero_distortion else scheme.caps.payload_bytes
    return Trial(scheme=scheme, params=params, informed=informed, payload_bytes=n_bytes)


def _row(o: Outcome) -> dict[str, Any]:
    return {
        "scheme": o.scheme,
        "attack": o.attack,
        "key": o.key,
        "control": o.control,
        "statistic": round(o.statistic, 6),
        "log10_p": log10(o.log_pvalue),
        "bit_errors": o.bit_errors,
        "bits": o.bits,
        "payload_ok": o.payload_ok,
        "coverage": round(o.coverage, 6),
        "seconds": round(o.seconds, 4),
        "distortion": round(o.distortion, 6) if np.isfinite(o.distortion) else None,
    }


def summary(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One entry for each scheme and attack: medians, counts at three levels with intervals, alarms of controls."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.scheme, outcome.attack].append(outcome)
    whole: Mapping[str, float] = {
        scheme: float(np.median([o.statistic for o in found if not o.control]))
        for (scheme, attack), found in groups.items()
        if attack == "none"
    }
    return [_entry(scheme, attack, found, whole.get(scheme)) for (scheme, attack), found in groups.items()]


def _entry(scheme: str, attack: str, found: Sequence[Outcome], whole: float | None) -> dict[str, Any]:
    own, controls = [o for o in found if not o.control], [o for o in found if o.control]
    statistic = float(np.median([o.statistic for o in own]))
    errors = [o.bit_errors / o.bits for o in own if o.bit_errors is not None and o.bits]
    payloads = [o.payload_ok for o in own if o.payload_ok is not None]
    counts = {name: sum(o.log_pvalue < level for o in own) for name, level in LEVELS.items()}
    moved = float(np.median([o.distortion for o in own]))
    return {
        "scheme": scheme,
        "attack": attack,
        "keys": len(own),
        "statistic": round(statistic, 4),
        "kept": None if not whole else round(statistic / whole, 4),
        "found": {name: {"n": n, "interval": [round(x, 4) for x in wilson(n, len(own))]} for name, n in counts.items()},
        "bit_error_rate": round(float(np.mean(errors)), 4) if errors else None,
        "payload_ok": sum(payloads) if payloads else None,
        "controls": len(controls),
        "control_alarms": sum(o.log_pvalue < LEVELS["1e-6"] for o in controls),
        "seconds": round(float(np.median([o.seconds for o in own])), 4),
        "distortion": round(moved, 6) if np.isfinite(moved) else None,
    }
