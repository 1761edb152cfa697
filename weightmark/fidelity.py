"""What a mark did to each matrix, beside what storing the numbers did before: added up window by window."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl.casts import SIGNIFICANT_BITS
from stats.arrays import Float64Array
from stats.dither import change

LARGEST_TOTAL = 0.02
LARGEST_ROW = 0.05
"""Relative changes above which a mark is refused unless it is forced."""


@dataclass(slots=True)
class Change:
    """Sums over what was written of one role, or of several.

    Attributes
    ----------
    sums : (8,) float64
        As `stats.dither.change` returns them.
    """

    sums: Float64Array = field(default_factory=lambda: np.zeros(8))

    def add(self, before: npt.NDArray[Any], after: npt.NDArray[Any], dtype: str) -> None:
        """Take some rows in, stored in the format of this name."""
        self.join(change(np.atleast_2d(before), np.atleast_2d(after), SIGNIFICANT_BITS[dtype]))

    def join(self, sums: Float64Array) -> None:
        """Take the sums of others in."""
        self.sums[:6] += sums[:6]
        self.sums[6:] = np.maximum(self.sums[6:], sums[6:])

    @property
    def relative(self) -> float:
        """Size of all changes against that of all weights."""
        return self._against_weights(3)

    @property
    def largest_row(self) -> float:
        """Largest relative change of a row."""
        return float(self.sums[7])

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "weights": int(self.sums[0]),
            "changed_share": float(self.sums[1] / max(1.0, self.sums[0])),
            "relative_change": self.relative,
            "rounding_noise": self._against_weights(4),
            "largest_change": float(self.sums[6]),
            "largest_row_change": self.largest_row,
            "zeros_changed": int(self.sums[5]),
        }

    def _against_weights(self, at: int) -> float:
        return math.sqrt(self.sums[at] / self.sums[2]) if self.sums[2] else 0.0


def total(changes: Iterable[Change]) -> Change:
    """All together."""
    out = Change()
    for c in changes:
        out.join(c.sums)
    return out
