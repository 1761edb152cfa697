"""Merges computed again as merge tools compute them, value by value, and how many values come out the same."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crawl.casts import round_to
from stats.arrays import Float64Array

Kept: TypeAlias = NDArray[np.bool_]

PARALLEL = 0.9995
"""Cosine from which tools interpolate on the line instead of the arc."""


PROOF = 0.99
"""Share of contested values that a replay must reproduce bit for bit."""

NOVEL = 0.9
N_NOVEL = 200
"""Share, and least number, of values no source has that a replay must reproduce: what is most common among the children
of a model reproduces the model as well, where they changed little."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a tool computes.

    Attributes
    ----------
    output : str
        Number format of the result.
    width : str
        Format every operation is rounded to: F64 for none, F32, or `output` for tools that stay in the dtype of the
        tensors.
    casts : bool
        Whether inputs are brought into the output format first.
    """

    output: str
    width: str
    casts: bool = False

    @property
    def name(self) -> str:
        """For the report."""
        return f"{self.width.lower()}{' after a cast' if self.casts else ''}"

    def load(self, values: Float64Array) -> Float64Array:
        """An input, as the tool reads it."""
        return round_to(values, self.output) if self.casts else values

    def step(self, values: Float64Array) -> Float64Array:
        """The result of one operation."""
        return values if self.width == "F64" else round_to(values, self.width)

    def scalar(self, value: float) -> float:
        """A weight, as the tool holds it."""
        return value if self.width == "F64" else float(round_to(np.array([value]), self.width)[0])

    def total(self, terms: Sequence[Float64Array]) -> Float64Array:
        """Sum over models: tools accumulate 16-bit formats in single width and round once."""
        out = terms[0]
        for term in terms[1:]:
            out = out + term
            if self.width != "F64":
                out = round_to(out, "F32")
        return self.step(out)

    def store(self, values: Float64Array) -> Float64Array:
        """The result as it is stored."""
        return round_to(values, self.output)


def arithmetics(output: str, *, casts: bool) -> tuple[Arithmetic, ...]:
    """Ways to compute a result of this format, the plainest first; with `casts` also those that cast inputs first."""
    widths = dict.fromkeys(("F64", "F32", output))
    plain = [Arithmetic(output, w) for w in widths if w != output or output in {"F64", "F32"}]
    rounded = [Arithmetic(output, w, casts=True) for w in widths] if casts else []
    own = [] if output in {"F64", "F32"} or casts else [Arithmetic(output, output)]
    return (*plain, *own, *rounded)


def linear(how: Arithmetic, models: Sequence[Float64Array], weights: Sequence[float], *, mean: bool) -> Float64Array:
    """Weighted sum of values; with `mean` divided by the sum of the weights as the tool holds them."""
    held = [how.scalar(w) for w in weights]
    mixed = how.total([how.step(w * how.load(m)) for w, m in zip(held, models, strict=True)])
    divisor = how.scalar(math.fsum(held)) if mean else 1.0
    return how.store(how.step(mixed / divisor) if divisor not in {0.0, 1.0} else mixed)


def tasks(
    how: Arithmetic, base: Float64Array, models: Sequence[Float64Array], weights: Sequence[float]
) -> Float64Array:
    """The base plus weighted differences from it."""
    origin = how.load(base)
    held = [how.scalar(w) for w in weights]
    parts = [how.step(w * how.step(how.load(m) - origin)) for w, m in zip(held, models, strict=True)]
    return how.store(how.step(origin + how.total(parts)))


def arc(how: Arithmetic, a: Float64Array, b: Float64Array, t: float) -> Float64Array:
    """Spherical interpolation from a (t = 0) to b (t = 1); on the line where the cosine exceeds 0.9995."""
    first, second = how.load(a), how.load(b)
    low, high = arc_weights(cosine_of(first, second), t)
    return how.store(
        how.step(how.step(how.scalar(low) * first) + how.step(how.scalar(high) * second)),
    )


def arc_weights(cosine: float, t: float) -> tuple[float, float]:
    """Weights of both ends of an arc."""
    if abs(cosine) > PARALLEL:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def cosine_of(a: Float64Array, b: Float64Array) -> float:
    """Cosine of two vectors; 1 where one is zero, so that an arc between them is a line."""
    size = math.sqrt(float(np.sum(a * a))) * math.sqrt(float(np.sum(b * b)))
    return float(np.sum(a * b)) / size if size > 0.0 else 1.0


def stock(how: Arithmetic, base: Float64Array, models: Sequence[Float64Array], t: float) -> Float64Array:
    """From the base (t = 0) to the mean of the models (t = 1)."""
    origin = how.load(base)
    mean = how.step(how.total([how.load(m) for m in models]) / len(models))
    return how.store(how.step(how.step(how.scalar(t) * mean) + how.step(how.scalar(1.0 - t) * origin)))


def elected(
    how: Arithmetic,
    base: Float64Array,
    models: Sequence[Float64Array],
    weights: Sequence[float],
    kept: Sequence[Kept],
    *,
    mean: bool,
    scale: float = 1.0,
) -> Float64Array:
    """The base plus what is kept of weighted differences and agrees with the elected sign (arXiv 2306.01708).

    With `mean` the sum is divided by the weights that took part; `scale` multiplies the mixed difference.
    """
    origin = how.load(base)
    held = [how.scalar(w) for w in weights]
    deltas = [np.where(k, how.step(how.load(m) - origin), 0.0) for k, m in zip(kept, models, strict=True)]
    weighted = [how.step(w * d) for w, d in zip(held, deltas, strict=True)]
    sign = np.where(how.total(weighted) >= 0.0, 1.0, -1.0)
    agree = [np.sign(d) == sign for d in weighted]
    mixed = how.total([np.where(g, d, 0.0) for g, d in zip(agree, weighted, strict=True)])
    if mean:
        divisor = how.total([np.where(g, w, 0.0) for g, w in zip(agree, held, strict=True)])
        mixed = how.step(mixed / np.where(divisor == 0.0, 1.0, divisor))
    return how.store(how.step(origin + (mixed if scale == 1.0 else how.step(how.scalar(scale) * mixed))))


def dropped(
    how: Arithmetic,
    base: Float64Array,
    models: Sequence[Float64Array],
    settings: Sequence[tuple[float, float]],
    kept: Sequence[bool],
) -> Float64Array:
    """The base plus those differences that are kept, scaled by one over the density, then by the weight."""
    origin = how.load(base)
    parts = [np.zeros(origin.shape)]
    for model, (density, weight), keep in zip(models, settings, kept, strict=True):
        if keep:
            scaled = how.step(how.scalar(1.0 / density) * how.step(how.load(model) - origin))
            parts.append(how.step(how.scalar(weight) * scaled))
    return how.store(how.step(origin + how.total(parts)))


@dataclass(frozen=True, slots=True)
class Hits:
    """Values that a replay reproduced; counts over disjoint elements add.

    Attributes
    ----------
    n, hits : int
        Elements, and those that came out bit for bit.
    contested, contested_hits : int
        Elements at which the sources do not all agree.
    novel, novel_hits : int
        Elements at which the replay gives a value that no source has: no copy and no majority can explain a hit.
    """

    n: int = 0
    hits: int = 0
    contested: int = 0
    contested_hits: int = 0
    novel: int = 0
    novel_hits: int = 0

    def __add__(self, other: "Hits") -> "Hits":
        """Hits over the union of two disjoint sets of elements."""
        return Hits(*(getattr(self, f) + getattr(other, f) for f in self.__slots__))

    @property
    def share(self) -> float:
        """Share of elements reproduced."""
        return self.hits / self.n if self.n else 0.0

    @property
    def contested_share(self) -> float:
        """Share reproduced of the elements at which the sources differ."""
        return self.contested_hits / self.contested if self.contested else 0.0

    @property
    def novel_share(self) -> float:
        """Share reproduced of the elements at which the replay gives a value of its own."""
        return self.novel_hits / self.novel if self.novel else 0.0


def count_hits(
    replayed: Float64Array, child: Float64Array, sources: Sequence[Float64Array], certain: Kept | None = None
) -> Hits:
    """Compare a replay with the model; elements that are not `certain` are left out."""
    equal = replayed == child
    contested = np.zeros(equal.shape, dtype=np.bool_)
    novel = np.ones(equal.shape, dtype=np.bool_)
    for source in sources:
        contested |= source != sources[0]
        novel &= source != replayed
    counted = np.ones(equal.shape, dtype=np.bool_) if certain is None else certain
    pairs = [(counted & c, counted & c & equal) for c in (counted, contested, novel)]
    return Hits(*(int(np.count_nonzero(m)) for pair in pairs for m in pair))


def is_proof(hits: Hits) -> bool:
    """Whether a replay leaves no other explanation."""
    return hits.contested_share >= PROOF and hits.novel >= N_NOVEL and hits.novel_share >= NOVEL
