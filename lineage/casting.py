"""Roundings replayed one after the other: through which number formats one model became another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from crawl.casts import SIGNIFICANT_BITS, can_replay, round_to
from lineage.stored import SMALLEST, Values
from stats.arrays import Float64Array
from stats.levels import half_steps

SHARE = 0.9999
"""Share of elements a replay must hit; the rest is left to unusual rounding of the smallest numbers."""

NARROW = ("BF16", "F16", "F8_E4M3", "F8_E5M2")
"""Formats a value may have passed through; a wider one than it is stored in leaves no trace."""

_LONGEST = 2
"""Formats passed through before the last store: three roundings in a row are not made in practice."""

LEAST_SPREAD = 0.35
"""Root mean square of what a rounding took away, in units of the most it can take, below which nothing was rounded:
values that were anything before give 0.58. A copy in a finer format, trained a little, stays nearer than that."""

_PROBE = 1 << 12
"""Values on which every chain is tried first."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Roundings that turn the values of one model into those of another.

    Attributes
    ----------
    formats : tuple of str
        Formats whose rounding changed a value, in order; empty for equal values.
    share : float
        Of the values compared, those that come out bit for bit.
    n : int
        Values compared.
    spread : float
        Root mean square of the differences other than zero, in units of half a step of the coarsest format.
    """

    formats: tuple[str, ...]
    share: float
    n: int
    spread: float

    @property
    def is_rounding(self) -> bool:
        """Whether values were taken away, and as many as a rounding takes."""
        return bool(self.formats) and self.spread >= LEAST_SPREAD


def find_chain(pairs: Sequence[tuple[Values, Values, str]]) -> Chain | None:
    """Find the shortest chain of roundings that turns the first values of each pair into the second.

    Parameters
    ----------
    pairs : sequence of (values, values, str)
        Of one tensor each: of the parent, of the child in the same shape, and the format the child is stored in.

    Returns
    -------
    Chain or None
        None where no chain of at most three roundings gives 0.9999 of the values. Of chains that differ nowhere the
        shortest: what left no trace is not claimed.

    Notes
    -----
    Null: none; a replay. Rounding is to nearest, ties to even, as casts of frameworks are. An 11-bit significand lies on a
    tie of an 8-bit one once in eight, so F32 to F16 to BF16 differs from F32 to BF16 in one value of sixteen. Cost:
    17 chains on 4,096 values, a few on all.
    """
    usable = [(p, c, store) for p, c, store in pairs if p.shape == c.shape and p.size and can_replay(store)]
    if not usable or len(usable) < len(pairs):
        return None
    probe = _probed(usable)
    hopeful = [chain for chain in _chains() if _share(probe, chain) >= SHARE]
    best: Chain | None = None
    for through in hopeful:
        found = _replayed(usable, through)
        if found.share >= SHARE and (best is None or found.share > best.share):
            best = found
    return best


def is_held(arrays: Sequence[Values], dtype: str) -> bool:
    """Whether a format holds every value without rounding; False for no values."""
    return bool(arrays) and all(_is_held(v, dtype) for v in arrays)


def narrow_grid(arrays: Sequence[Values], stored: str) -> str | None:
    """The coarsest format below the stored one that holds every value; None where there is none."""
    known = [f for f in NARROW if SIGNIFICANT_BITS[f] < SIGNIFICANT_BITS.get(stored, 53)]
    return next((f for f in sorted(known, key=SIGNIFICANT_BITS.__getitem__) if is_held(arrays, f)), None)


def _is_held(values: Values, dtype: str) -> bool:
    few = values.ravel()[:64]  # nearly every array that is not on the grid shows it here
    return bool(np.array_equal(round_to(few, dtype), few)) and bool(np.array_equal(round_to(values, dtype), values))


def _chains() -> Iterator[tuple[str, ...]]:
    """Formats passed through on the way, fewest first."""
    for length in range(_LONGEST + 1):
        yield from permutations(NARROW, length)


def _probed(pairs: Sequence[tuple[Values, Values, str]]) -> list[tuple[Values, Values, str]]:
    """A few values of every pair, those of one format in one array: a rounding costs more to call than to do."""
    each = max(1, _PROBE // len(pairs))
    few: dict[str, list[tuple[Values, Values]]] = {}
    for p, c, store in pairs:
        step = max(1, p.size // each)
        few.setdefault(store, []).append((p.ravel()[::step], c.ravel()[::step]))
    return [(np.concatenate([p for p, _ in h]), np.concatenate([c for _, c in h]), store) for store, h in few.items()]


def _share(pairs: Sequence[tuple[Values, Values, str]], through: Sequence[str]) -> float:
    hits = sum(int(np.count_nonzero(_through(p, (*through, store)) == c)) for p, c, store in pairs)
    return hits / sum(p.size for p, _, _ in pairs)


def _replayed(pairs: Sequence[tuple[Values, Values, str]], through: Sequence[str]) -> Chain:
    """One chain on all values, with those of its formats that changed any."""
    hits = n = 0
    changed: list[str] = []
    for parent, child, store in pairs:
        values = np.asarray(parent, dtype=np.float64)
        for name in (*through, store):
            after = round_to(values, name)
            if name not in changed and not np.array_equal(after, values):
                changed.append(name)
            values = after
        hits, n = hits + int(np.count_nonzero(values == child)), n + parent.size
    order = [*through, *(c for c in changed if c not in through)]
    formats = tuple(f for f in order if f in changed)
    return Chain(
        formats, hits / n, n, _spread(pairs, min(formats, key=SIGNIFICANT_BITS.__getitem__)) if formats else 0.0
    )


def _spread(pairs: Sequence[tuple[Values, Values, str]], dtype: str) -> float:
    """How far the differences reach, of what rounding to a format allows."""
    total = n = 0.0
    for parent, child, _ in pairs:
        half = half_steps(np.asarray(child, dtype=np.float64), SIGNIFICANT_BITS[dtype], SMALLEST[dtype])
        gap = np.minimum(np.abs(np.asarray(parent, dtype=np.float64) - child) / half, 1.0)
        total, n = total + float(np.sum(gap * gap)), n + int(np.count_nonzero(gap))
    return float(np.sqrt(total / n)) if n else 0.0


def _through(values: Values, formats: Sequence[str]) -> Float64Array:
    rounded = np.asarray(values, dtype=np.float64)
    for name in formats:
        rounded = round_to(rounded, name)
    return rounded
