"""Free scales of paired units: whether one model reads larger what it writes smaller, and how to undo it."""

from dataclasses import dataclass, field

import numpy as np

from stats.arrays import Float64Array

_LOG_SPREAD = 0.1
"""Spread of the logarithms of scales above which they may be a rescaling: rounding and light training stay below."""

_NEGATIVE = 0.02
"""Share of negative scales above which signs are called flipped."""

_WIDER = 2.0
"""Spread of sizes over the turn of directions above which the reading side alone tells a rescaling."""

_FEW = 8
"""Units below which nothing is said of scales and signs."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Sizes of units of b over their partners in a, on the side that reads and on the side that writes.

    Attributes
    ----------
    read : (m,) float64
        Signed least-squares factors; 0 where the rows hardly agree.
    written : (m,) float64
        Ratios of norms, positive; 0 where the writing side was not read.
    alike : (m,) float64
        Cosines on the side that reads, without sign. Empty unless that side alone was read.
    """

    read: Float64Array
    written: Float64Array
    alike: Float64Array = field(default_factory=lambda: np.zeros(0))

    @property
    def is_rescaled(self) -> bool:
        """Whether reading was scaled up where writing was scaled down: training does not trade one for the other.

        Seen from the reading side alone: whether sizes spread far wider than directions, which training turns as well.
        """
        if self.alike.size:
            return self._is_stretched
        kept = (self.read != 0.0) & (self.written > 0.0)
        if np.count_nonzero(kept) < _FEW:
            return False
        x, y = np.log(np.abs(self.read[kept])), np.log(self.written[kept])
        spread = float(np.std(x)) * float(np.std(y))
        return bool(np.std(x) > _LOG_SPREAD and np.mean((x - x.mean()) * (y - y.mean())) < -0.5 * spread)

    @property
    def _is_stretched(self) -> bool:
        kept = self.read != 0.0
        if np.count_nonzero(kept) < _FEW:
            return False
        turned_by = float(np.median(np.sqrt(np.maximum(0.0, 1.0 - self.alike[kept] ** 2))))
        spread = float(np.std(np.log(np.abs(self.read[kept]))))
        return spread > max(_LOG_SPREAD, _WIDER * turned_by)

    @property
    def is_flipped(self) -> bool:
        """Whether some units had their sign changed."""
        kept = self.read[self.read != 0.0]
        return bool(kept.size >= _FEW and np.mean(kept < 0.0) > _NEGATIVE)

    @property
    def undone(self) -> Float64Array:
        """(m,) factor to divide by: the scale where one was applied, its sign where signs were, else 1."""
        whole = np.where(self.read == 0.0, 1.0, self.read)
        return whole if self.is_rescaled else np.sign(whole) if self.is_flipped else np.ones_like(whole)


def norm_ratios(x: Float64Array, y: Float64Array) -> Float64Array:
    """Norms of the rows of y over those of x; 0 for zero rows."""
    first, second = (np.sqrt(np.einsum("ij,ij->i", v, v)) for v in (x, y))
    return np.asarray(np.where(first > 0.0, second / np.where(first > 0.0, first, 1.0), 0.0))


def ratios(x: Float64Array, y: Float64Array) -> Float64Array:
    """Least-squares factor from each row of x to the row of y; 0 where the rows hardly agree."""
    size = np.einsum("ij,ij->i", x, x)
    inner = np.einsum("ij,ij->i", x, y)
    cosine = inner / np.sqrt(np.maximum(size * np.einsum("ij,ij->i", y, y), 1e-300))
    return np.asarray(np.where(np.abs(cosine) > 0.5, inner / np.maximum(size, 1e-300), 0.0))
