"""Marks under attack: every scheme, attack and key measured, with keys that marked nothing beside them."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from weightmark.attacks import BY_NAME, Attack, Held
from weightmark.attacks.numbers import Array, Weights, is_float
from weightmark.axes import Heads
from weightmark.keys import Key
from weightmark.reading import Reading
from weightmark.scheme import Scheme

Undo: TypeAlias = Callable[[Mapping[str, Array], Mapping[str, Array]], Mapping[str, Array]]
"""A suspect and the unmarked reference to the suspect in the reference's order and basis."""

_FOREIGN = 1000
"""Keys from this number on belong to others: overwriters and colluders."""

_WRONG = 500
"""Keys from this number on marked nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is measured.

    Attributes
    ----------
    scheme : Scheme
    params : mapping
        Of its keys.
    informed : bool
        The unmarked model is at hand for verification.
    payload_bytes : int
        Random bytes its keys carry.
    """

    scheme: Scheme
    params: Mapping[str, Any]
    informed: bool
    payload_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One reading.

    Attributes
    ----------
    scheme, attack : str
    key : int
        Number of the key that is looked for.
    control : bool
        A key that marked nothing.
    statistic, log_pvalue : float
        Natural log.
    bit_errors : int or None
    bits : int
    payload_ok : bool or None
        None where the scheme decodes none.
    coverage, seconds : float
        Share of carriers read; of verification.
    distortion : float
        Relative change of the marked model by the attack, over the arrays both have in one shape.
    """

    scheme: str
    attack: str
    key: int
    control: bool
    statistic: float
    log_pvalue: float
    bit_errors: int | None
    bits: int
    payload_ok: bool | None
    coverage: float
    seconds: float
    distortion: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrun:
    """An attack that could not be run on this model, with the reason."""

    scheme: str
    attack: str
    reason: str


def key_of(trial: Trial, number: int, seed: int) -> Key:
    """The key of this number: the same for the same seed."""
    name = f"bench|{seed}|{number}|{trial.scheme.name}".encode()
    master = hashlib.sha256(name).digest()
    payload = hashlib.sha256(b"payload|" + name).digest()[: trial.payload_bytes]
    return Key(
        scheme=trial.scheme.name,
        scheme_version=trial.scheme.version,
        channel="0",
        master=master,
        params=trial.params,
        payload=payload,
    )


def marked(trial: Trial, weights: Mapping[str, Array], key: Key) -> Weights:
    """A marked copy in the dtypes of the model."""
    made = trial.scheme.embed(weights, key)
    return dict(weights) | {role: values.astype(weights[role].dtype) for role, values in made.items()}


def run(
    trial: Trial,
    weights: Mapping[str, Array],
    attacks: Sequence[str],
    *,
    keys: int,
    seed: int = 0,
    heads: Heads | None = None,
    undo: Undo | None = None,
) -> Iterator[Outcome | Unrun]:
    """Mark, attack and read, key by key.

    Parameters
    ----------
    trial : Trial
    weights : mapping of role to ndarray
        The unmarked model, all of its arrays.
    attacks : sequence of str
        Names of `weightmark.attacks.ATTACKS`.
    keys : int
        Keys, and as many that marked nothing.
    seed : int
        Of keys and attacks.
    heads : Heads, optional
    undo : callable, optional
        Finds and undoes relabellings; aligned attacks are left out without it.

    Yields
    ------
    Outcome or Unrun
        Two outcomes for each key and attack: under the key, and under one that marked nothing.
    """
    stopped: set[str] = set()
    for number in range(keys):
        key, wrong = key_of(trial, number, seed), key_of(trial, _WRONG + number, seed)
        mine = marked(trial, weights, key)
        held = Held(base=weights, heads=heads, mark=lambda w, i: marked(trial, w, key_of(trial, _FOREIGN + i, seed)))
        for name in attacks:
            if name in stopped:
                continue
            try:
                suspect = _attacked(BY_NAME[name], mine, held, np.random.default_rng([seed, number, _code(name)]), undo)
            except ValueError as error:
                stopped.add(name)
                yield Unrun(scheme=trial.scheme.name, attack=name, reason=str(error))
                continue
            moved = distortion(mine, suspect)
            for control, looked_for in ((False, key), (True, wrong)):
                yield replace(
                    _read(trial, weights, suspect, looked_for),
                    attack=name,
                    key=number,
                    control=control,
                    distortion=moved,
                )


def _code(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _attacked(
    attack: Attack, mine: Weights, held: Held, rng: np.random.Generator, undo: Undo | None
) -> Mapping[str, Array]:
    if attack.aligned and undo is None:
        raise ValueError("relabellings cannot be undone here")
    made: Mapping[str, Array] = attack.change(mine, held, rng)
    return undo(made, held.base) if attack.aligned and undo is not None else made


def _read(trial: Trial, weights: Mapping[str, Array], suspect: Mapping[str, Array], key: Key) -> Outcome:
    shapes = {role: values.shape for role, values in weights.items()}
    started = time.perf_counter()
    found: Reading = trial.scheme.verify(suspect, key, shapes=shapes, reference=weights if trial.informed else None)
    return Outcome(
        scheme=trial.scheme.name,
        attack="",
        key=0,
        control=False,
        statistic=found.test.statistic,
        log_pvalue=found.test.log_pvalue,
        bit_errors=found.bit_errors,
        bits=found.bits,
        payload_ok=None if not trial.payload_bytes else found.payload == key.payload,
        coverage=found.coverage,
        seconds=time.perf_counter() - started,
        distortion=0.0,
    )


def distortion(before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]) -> float:
    """Relative Frobenius change over the float arrays that both hold in one shape; infinite where there is none."""
    moved = size = 0.0
    for role, values in before.items():
        if role in after and after[role].shape == values.shape and is_float(values):
            x = values.astype(np.float64).ravel()
            d = after[role].astype(np.float64).ravel() - x
            moved, size = moved + float(np.einsum("i,i->", d, d)), size + float(np.einsum("i,i->", x, x))
    return math.sqrt(moved / size) if size > 0.0 else math.inf


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's interval for a share at 95 % (1927, doi 10.1080/01621459.1927.10502953); all of [0, 1] without trials."""
    if n == 0:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    middle = (hits + z2 / 2) / (n + z2)
    half = math.sqrt(z2) / (n + z2) * math.sqrt(hits * (n - hits) / n + z2 / 4)
    return max(0.0, middle - half), min(1.0, middle + half)
