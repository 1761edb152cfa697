"""One pass over two models' values: sums, moments and differences from stored bits. Scores, never p-values."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stats.arrays import Float64Array
from stats.distance import PairSums
from stats.kernels.chunks import CHUNK, COLUMNS, WORK, add_rows, pair_chunks, widen

KINDS = {"BF16": 0, "F16": 1, "F32": 2, "F64": 3}
"""Stored formats that are summed as they lie in the file; any other is decoded to F32 or F64 first."""

_ITEM = (2, 2, 4, 8)
_FLAT = 1e-13
"""A variance below this share of the squared mean is what rounding leaves of a constant."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Central power sums of one set of values; they merge without cancellation.

    Attributes
    ----------
    n : int
        Elements.
    mean : float
    m2, m3, m4 : float
        Sums of the second, third and fourth powers of the deviation from the mean.
    """

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of the union of two disjoint sets of elements (arXiv 1510.04923, pairwise updates)."""
        if not self.n or not other.n:
            return other if not self.n else self
        n = self.n + other.n
        gap, p, q = other.mean - self.mean, self.n / n, other.n / n
        m2 = self.m2 + other.m2 + gap * gap * p * other.n
        m3 = self.m3 + other.m3 + gap**3 * p * other.n * (p - q) + 3.0 * gap * (p * other.m2 - q * self.m2)
        m4 = self.m4 + other.m4 + gap**4 * p * other.n * (p * p - p * q + q * q)
        m4 += 6.0 * gap * gap * (p * p * other.m2 + q * q * self.m2) + 4.0 * gap * (p * other.m3 - q * self.m3)
        return Moments(n, self.mean + gap * q, m2, m3, m4)

    @property
    def variance(self) -> float:
        """Mean squared deviation from the mean."""
        return self.m2 / self.n if self.n else 0.0

    @property
    def skewness(self) -> float | None:
        """Third standardised moment; None for a constant."""
        return math.sqrt(self.n) * self.m3 / self.m2**1.5 if self.m2 > 0.0 else None

    @property
    def kurtosis(self) -> float | None:
        """Fourth standardised moment, 3 for a normal law; None for a constant."""
        return self.n * self.m4 / (self.m2 * self.m2) if self.m2 > 0.0 else None


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything one pass says of paired values; passes over disjoint sets of elements add.

    Attributes
    ----------
    sums : PairSums
    a, b, difference : Moments
        Of either side and of b - a.
    largest : float
        Largest absolute difference.
    """

    sums: PairSums = field(default_factory=PairSums)
    a: Moments = Moments()
    b: Moments = Moments()
    difference: Moments = Moments()
    largest: float = 0.0

    def __add__(self, other: "Pass") -> "Pass":
        """Pass over the union of two disjoint sets of elements."""
        return Pass(
            self.sums + other.sums,
            self.a + other.a,
            self.b + other.b,
            self.difference + other.difference,
            max(self.largest, other.largest),
        )

    @property
    def is_finite(self) -> bool:
        """Whether every value and every fourth power was finite."""
        return math.isfinite(self.a.m4 + self.b.m4 + self.difference.m4 + self.sums.ab + self.largest)

    @property
    def norm_growth(self) -> float | None:
        """Natural log of the norm of b over that of a; None when either is zero."""
        aa, bb = self.sums.aa, self.sums.bb
        return 0.5 * (math.log(bb) - math.log(aa)) if aa > 0.0 and bb > 0.0 else None

    @property
    def kurtosis_change(self) -> float | None:
        """Kurtosis of b minus that of a; None when either is constant."""
        left, right = self.a.kurtosis, self.b.kurtosis
        return right - left if left is not None and right is not None else None


class PassKernel:
    """Sums of chunks with scratch of its own: one a thread.

    Notes
    -----
    Null: none. Error: two 16-bit formats are summed in float32 lanes of 256 elements at most, so that each sum of
    powers p is within 2e-5 of the sum of absolute powers, and about 1e-8 in practice; all else is float64. Cost: one
    read of the elements, no copy.
    """

    def __init__(self) -> None:
        self._narrow = np.zeros(WORK, np.float32)
        self._wide = np.zeros(WORK)

    def rows(self, a: Any, b: Any, formats: tuple[str, str], pivots: tuple[float, float] = (0.0, 0.0)) -> Float64Array:
        """Sums of each chunk of 4,096 elements.

        Parameters
        ----------
        a, b : uint8 array, C-contiguous
            Stored bits of the same elements. All but the last call of a tensor pass whole chunks.
        formats : (str, str)
            Names in `KINDS`.
        pivots : (float, float)
            What is taken off each side before powers are formed; (0, 0) for values that lie around zero.

        Returns
        -------
        (chunks, 15) float64

        Raises
        ------
        ValueError
            The two do not hold the same number of elements.
        """
        kinds = np.array([KINDS[formats[0]], KINDS[formats[1]]])
        n, rest = divmod(a.size, _ITEM[kinds[0]])
        if rest or n * _ITEM[kinds[1]] != b.size:
            raise ValueError(f"a and b must hold the same elements, got {a.size} and {b.size} bytes")
        self._wide[WORK - 3 : WORK - 1] = pivots
        out = np.zeros((-(-n // CHUNK), COLUMNS))
        pair_chunks(_locked(a), _locked(b), kinds, self._narrow, self._wide, out)
        return out


def decoded(bits: Any, name: str) -> Float64Array:
    """Values of stored bits.

    Parameters
    ----------
    bits : uint8 array, C-contiguous
    name : str
        Format, in `KINDS`.

    Returns
    -------
    (n,) float64
        NaN where F16 holds an infinity.
    """
    values = np.empty(bits.size // _ITEM[KINDS[name]])
    widen(_locked(bits), KINDS[name], 0, values)
    return values


def pivot_of(bits: Any, name: str) -> float:
    """Mean of the first chunk of a vector, around which its powers are formed.

    Parameters
    ----------
    bits : uint8 array, C-contiguous
        Stored bits.
    name : str
        Format, in `KINDS`.

    Returns
    -------
    float
        0 where the mean is not finite.
    """
    values = decoded(bits[: CHUNK * _ITEM[KINDS[name]]], name)
    return math.fsum(values.tolist()) / max(1, values.size) if np.isfinite(values).all() else 0.0


def _locked(bits: Any) -> Any:
    """A read-only view: buffers and arrays of files then meet one compiled variant instead of four."""
    view = bits.view()
    view.flags.writeable = False
    return view


class PassTotal:
    """Adds the rows of one tensor in order.

    Parameters
    ----------
    pivots : (float, float)
        As given to `PassKernel.rows`.
    """

    def __init__(self, pivots: tuple[float, float] = (0.0, 0.0)) -> None:
        self._pivots = pivots
        self._sums = np.zeros(COLUMNS)
        self._n = 0

    def add(self, rows: Float64Array, n: int) -> None:
        """Take the rows of the next `n` elements."""
        add_rows(rows, self._sums)
        self._n += n

    def finish(self) -> Pass:
        """Return what the tensor's rows say together."""
        s, n = self._sums.tolist(), self._n
        (ka, kb), (a1, a2), (b1, b2) = self._pivots, s[0:2], s[4:6]
        sums = PairSums(a2 + 2.0 * ka * a1 + n * ka * ka, b2 + 2.0 * kb * b1 + n * kb * kb, s[12], s[9], int(s[13]), n)
        gap = _central(n, 0.0, *s[8:12])  # of a - b; the difference is b - a
        difference = Moments(n, 0.0 - gap.mean, gap.m2, 0.0 - gap.m3, gap.m4)
        return Pass(sums, _central(n, ka, *s[0:4]), _central(n, kb, *s[4:8]), difference, s[14])


def one_pass(a: Any, b: Any, format_a: str, format_b: str, *, centred: bool = False) -> Pass:
    """Pass over two tensors in memory.

    Parameters
    ----------
    a, b : uint8 array, C-contiguous
        Stored bits of the same elements.
    format_a, format_b : str
        Names in `KINDS`.
    centred : bool
        Form powers around the mean of the first chunk: for vectors of values far from zero, such as norm gains.

    Returns
    -------
    Pass

    Raises
    ------
    ValueError
        The two do not hold the same number of elements.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> base = rng.normal(size=10_000)
    >>> found = one_pass(base.view(np.uint8), (2 * base).view(np.uint8), "F64", "F64")
    >>> print(f"twice as large: log norm ratio {found.norm_growth:.3f}, cosine {found.sums.cosine:.1f}")
    twice as large: log norm ratio 0.693, cosine 1.0
    """
    pivots = (pivot_of(a, format_a), pivot_of(b, format_b)) if centred else (0.0, 0.0)
    total = PassTotal(pivots)
    total.add(PassKernel().rows(a, b, (format_a, format_b), pivots), a.size // _ITEM[KINDS[format_a]])
    return total.finish()


def _central(n: int, pivot: float, s1: float, s2: float, s3: float, s4: float) -> Moments:
    """Central power sums from power sums around a pivot."""
    if not n:
        return Moments()
    shift = s1 / n
    mean = pivot + shift
    m2 = s2 - shift * s1
    if m2 <= _FLAT * n * mean * mean:
        return Moments(n, mean)
    m3 = s3 - 3.0 * shift * s2 + 2.0 * n * shift**3
    m4 = s4 - 4.0 * shift * s3 + 6.0 * shift * shift * s2 - 3.0 * n * shift**4
    return Moments(n, mean, m2, m3, m4)
