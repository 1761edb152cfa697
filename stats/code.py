"""The error-correcting code of payloads: 130 bits spread over 512 signs, read back from soft sums.

Quasi-cyclic low-density parity check: 3 x 4 circulants of 128 places, three checks for each of 512 bits, four bits in each
of 384 checks, no cycle shorter than ten.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from stats.arrays import Float64Array, IntVector
from stats.kernels.minsum import min_sum

LENGTH = 512
BITS = 130
LIFTING = 128
SHIFTS = ((0, 0, 0, 0), (0, 74, 71, 65), (0, 127, 103, 101))
ROUNDS = 50
SCALE = 0.8
"""Min-sum overrates its messages; this factor makes up for it."""

BitVector = npt.NDArray[np.uint8]


@cache
def parity_checks() -> IntVector:
    """Variables of each check, (384, 4): in block (i, j) row t has its one in column (t + shift) mod 128."""
    t = np.arange(LIFTING)
    rows = [np.stack([j * LIFTING + (t + shift) % LIFTING for j, shift in enumerate(row)], axis=1) for row in SHIFTS]
    out: IntVector = np.concatenate(rows).astype(np.int64)
    out.flags.writeable = False
    return out


@cache
def _systematic() -> tuple[IntVector, IntVector, BitVector]:
    """Free columns (130), pivots (382), and which free bits each pivot sums, after row reduction from the left."""
    checks = parity_checks()
    matrix = np.zeros((len(checks), LENGTH), dtype=np.uint8)
    matrix[np.arange(len(checks))[:, None], checks] = 1
    pivots: list[int] = []
    for column in range(LENGTH):
        below = np.flatnonzero(matrix[len(pivots) :, column])
        if not below.size:
            continue
        row = len(pivots)
        matrix[[row, row + below[0]]] = matrix[[row + below[0], row]]
        others = np.flatnonzero(matrix[:, column])
        matrix[others[others != row]] ^= matrix[row]
        pivots.append(column)
    pivot = np.array(pivots, dtype=np.int64)
    free = np.setdiff1d(np.arange(LENGTH), pivot)
    return free, pivot, matrix[: len(pivot)][:, free]


def encode(bits: BitVector) -> Float64Array:
    """The code word of 130 bits as signs, bit 0 as +1.

    Parameters
    ----------
    bits : (130,) uint8
        Zeros and ones.

    Returns
    -------
    (512,) float64

    Raises
    ------
    ValueError
        Not 130 bits.
    """
    free, pivot, sums = _systematic()
    if bits.shape != (BITS,) or np.any(bits > 1):
        raise ValueError(f"encode: {BITS} bits are needed, not an array of shape {bits.shape}")
    word = np.zeros(LENGTH, dtype=np.uint8)
    word[free] = bits
    word[pivot] = (sums.astype(np.int64) @ bits.astype(np.int64)) % 2
    signs: Float64Array = 1.0 - 2.0 * word.astype(np.float64)
    return signs


def decode(soft: Float64Array) -> BitVector | None:
    """The 130 bits of the code word that soft values lead to, by normalised min-sum; None where it finds none.

    Parameters
    ----------
    soft : (512,) float64
        Evidence for +1 in any common unit; 0 says nothing.

    Returns
    -------
    (130,) uint8 or None

    Raises
    ------
    ValueError
        Not 512 finite values.

    Notes
    -----
    Cost: at most 50 rounds over 1,536 edges.
    """
    if soft.shape != (LENGTH,) or not np.isfinite(soft).all():
        raise ValueError(f"decode: {LENGTH} finite values are needed")
    checks = parity_checks()
    beliefs = np.empty(LENGTH)
    messages: Float64Array = np.zeros(checks.shape)
    rounds = min_sum(np.ascontiguousarray(soft, dtype=np.float64), checks, SCALE, ROUNDS, messages, beliefs)
    if rounds < 0 or not soft.any():
        return None
    return (beliefs[_systematic()[0]] < 0.0).astype(np.uint8)
