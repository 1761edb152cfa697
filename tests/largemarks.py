"""Marks on the large trained fixture: what is marked, what is done to it, what is foretold and what is seen.

Everything goes through the workflows of `lineage mark`: models are folders, keys mark them, verification opens them.
"""

import hashlib
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crawl import ModelRef, open_model
from lineage.holding import held_weights
from lineage.marking import mark
from lineage.recognising import VerifyOptions, verify
from weightmark.attacks import BY_NAME, Held, chain
from weightmark.attacks.mixing import merge_linear
from weightmark.axes import MATRICES, split_role
from weightmark.files import views_of
from weightmark.keys import Key
from weightmark.schemes import SCHEMES
from weightmark.writing import Draft

WRONG_KEYS = 5
"""Keys that marked nothing, looked for in every attacked file."""

CLIP = 8.0
"""As `dss` clips what differs from the unmarked model, in units of its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row.

    Attributes
    ----------
    name : str
    attacks : tuple of str
        Names of `weightmark.attacks`, or `other` for the mean with another fine-tune of the unmarked model.
    tuned : str
        Which fine-tune of the marked model it starts from: a name of `Recipes`, or empty.
    disguise : tuple of str
        Rewrites that keep what the model computes, at the end.
    halved : bool
        The model is mixed half and half with one that has no mark.
    """

    name: str
    attacks: tuple[str, ...] = ()
    tuned: str = ""
    disguise: tuple[str, ...] = ()
    halved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Marks of one scheme and strength.

    Attributes
    ----------
    name, scheme : str
    eps : float
        0 for the default strength.
    payload : int
        Bytes.
    steps : tuple of Step
    """

    name: str
    scheme: str
    eps: float = 0.0
    payload: int = 0
    steps: tuple[Step, ...] = ()


ORDERS = ("permute-hidden", "permute-heads-aligned", "rotate-aligned")
PLAIN = (
    Step(name="untouched"),
    Step(name="merged with the unmarked", attacks=("merge-base-0.5",), halved=True),
    Step(name="merged with another fine-tune", attacks=("other",), halved=True),
    Step(name="int8", attacks=("int8-row",)),
    Step(name="int4, groups of 64", attacks=("int4-g64",)),
    Step(name="Q4_0", attacks=("q4_0",)),
    Step(name="half pruned", attacks=("prune-magnitude-50",)),
    Step(name="permuted and rotated", disguise=ORDERS),
    Step(name="half pruned, int4", attacks=("prune-magnitude-50", "int4-g64")),
    Step(name="int4, permuted and rotated", attacks=("int4-g64",), disguise=ORDERS),
)
TUNED = (
    Step(name="fine-tuned", tuned="full"),
    Step(name="fine-tuned by LoRA, merged in", tuned="lora"),
    Step(name="fine-tuned, half pruned, int4", tuned="full", attacks=("prune-magnitude-50", "int4-g64")),
    Step(name="fine-tuned, merged with another", tuned="full", attacks=("other",), halved=True),
    Step(name="fine-tuned, permuted and rotated", tuned="full", disguise=ORDERS),
    Step(name="LoRA, int4, permuted and rotated", tuned="lora", attacks=("int4-g64",), disguise=ORDERS),
)
FULLY = tuple(s for s in TUNED if s.tuned == "full")
HIDDEN = Step(name="hidden units permuted", disguise=("permute-hidden",))
FEW = tuple(
    s for s in PLAIN if s.name in {"untouched", "merged with the unmarked", "int4, groups of 64", "half pruned"}
)
PARTS = (
    Part(name="dss", scheme="dss", payload=5, steps=PLAIN + TUNED),
    Part(name="dss, stronger", scheme="dss", eps=0.018, payload=5, steps=PLAIN + FULLY),
    Part(name="gram", scheme="gram", steps=(*FEW, HIDDEN)),
    Part(name="perm", scheme="perm", payload=3, steps=FEW),
)


def key_of(part: Part, number: int) -> Key:
    """The key of this number, the same in every run."""
    scheme = SCHEMES[part.scheme]
    name = f"large|{part.name}|{number}".encode()
    params = dict(scheme.params("default")) | ({"eps": part.eps} if part.eps else {})
    return Key(
        scheme=part.scheme,
        scheme_version=scheme.version,
        channel="0",
        master=hashlib.sha256(name).digest(),
        params=params,
        payload=hashlib.sha256(b"payload|" + name).digest()[: part.payload],
        created="2026-01-01T00:00:00Z",
    )


def written(like: Path, arrays: dict[str, np.ndarray], out: Path) -> Path:
    """A model of these arrays, in the files and number formats of another."""
    with open_model(ModelRef.parse(str(like))) as source, Draft(source, out) as draft:
        for role, view in views_of(source).items():
            draft.put(view, 0, arrays[role].astype(np.float64))
        draft.settle()
    return out


def held(folder: Path) -> tuple[dict[str, np.ndarray], object]:
    """Arrays of a model by role, and its heads."""
    with open_model(ModelRef.parse(str(folder))) as source:
        return held_weights(source)


@dataclass(frozen=True)
class Bench:
    """The unmarked model, another fine-tune of it, and where copies are written for as long as they are needed."""

    base: Path
    other: Path
    room: Path

    def marked(self, part: Part, number: int) -> tuple[Path, Key, dict]:
        """A marked copy, the key that knows it, and the document of `lineage mark embed`."""
        out = self.room / f"{part.name}-{number}".replace(", ", "-")
        shutil.rmtree(out, ignore_errors=True)
        document, key = mark(str(self.base), key_of(part, number), out)
        return out, key, document

    def attacked(self, start: Path, step: Step, out: Path) -> tuple[Path, dict[str, np.ndarray]]:
        """The attacked copy; and its arrays before they were disguised."""
        arrays, heads = held(start)
        base = held(self.base)[0]
        rng = np.random.default_rng([7, *step.name.encode()])
        knows = Held(base=base, heads=heads, mark=lambda w, _: dict(w))
        for name in step.attacks:
            if name == "other":
                arrays = merge_linear([arrays, held(self.other)[0]], [0.5, 0.5])
            else:
                arrays = BY_NAME[name].change(arrays, knows, rng)
        plain = dict(arrays)
        if step.disguise:
            arrays = chain(*(BY_NAME[name].change for name in step.disguise))(arrays, knows, rng)
        shutil.rmtree(out, ignore_errors=True)
        return written(start, arrays, out), plain


def foretold(part: Part, step: Step, models: tuple[dict, dict, dict], document: dict) -> dict[str, float] | None:
    """Statistics to be expected, from sizes alone: no key is asked.

    Parameters
    ----------
    part : Part
    step : Step
    models : (unmarked, marked, attacked)
        Arrays by role; the last before it was disguised.
    document : dict
        Of `lineage mark embed`.

    Notes
    -----
    Blind: what was foretold of the marked copy, times the cosine of attacked and marked weights in units of their rows,
    halved where half of the model has no mark; nothing where its units were moved. Against the unmarked model: relative size times weights that are not zero, over the root of the sum
    of squares of all that differs.
    """
    if part.scheme != "dss":
        return None
    roles = [r for r in models[0] if split_role(r)[1] in MATRICES]
    dot = marked_size = attacked_size = squares = count = 0.0
    for role in roles:
        w, m, x = (held[role].astype(np.float64) for held in models)
        rows = np.sqrt((w * w).mean(axis=1, keepdims=True))
        unit = np.sqrt((m * m).mean(axis=1, keepdims=True)), np.sqrt((x * x).mean(axis=1, keepdims=True))
        a, b = m / unit[0], x / np.where(unit[1] > 0, unit[1], 1.0)
        dot, marked_size, attacked_size = (
            dot + (a * b).sum(),
            marked_size + (a * a).sum(),
            attacked_size + (b * b).sum(),
        )
        change = np.where(x != 0.0, np.clip((x - w) / rows, -CLIP, CLIP), 0.0)
        squares, count = squares + (change * change).sum(), count + np.count_nonzero(x)
    share, whole = 0.5 if step.halved else 1.0, document["statistic"]
    return {
        "blind": 0.0 if step.disguise else share * whole * dot / math.sqrt(marked_size * attacked_size),
        "informed": share * document["strength"] * count / math.sqrt(squares),
    }


def seen(folder: Path, key: Key, reference: Path | None, part: Part) -> dict:
    """What `lineage mark verify` says of the key, and of keys that marked nothing."""
    options = VerifyOptions(reference=None if reference is None else str(reference))
    found = verify(str(folder), [key], options)
    wrong = [replace(key_of(part, 1000 + i), channel=str(i), host=key.host) for i in range(WRONG_KEYS)]
    all_of_them = replace(options, log_threshold=options.log_threshold + math.log(WRONG_KEYS))
    strangers = verify(str(folder), wrong, all_of_them)
    return {
        "verdict": found["verdict"],
        "statistic": round(found["statistic"], 2),
        "log10_p": found["log10_p"],
        "payload_ok": found["payload_ok"],
        "bit_errors": found["bit_errors"],
        "undone": None if found["alignment"] is None else found["alignment"]["transforms"],
        "wrong_keys": WRONG_KEYS,
        "alarms": int(strangers["verdict"] == "found"),
        "wrong_log10_p": strangers["log10_p"],
    }
