"""Which candidates may be sources and which the base, before any way of merging is tried."""

import numpy as np

from lineage.ensemble import Ensemble, spacing
from stats.masking import ratio_peak
from stats.mixing import Mixture, least_squares
from stats.selecting import benjamini_hochberg, two_sided

LEVEL = 1e-3
LEAST_Z = 6.0
LEAST_WEIGHT = 0.02
"""A source has a weight that is larger, counted in errors, and kept by the step-up rule over all candidates."""

LEAST_PEAK = 0.02
LEAST_PEAK_Z = 20.0
"""Share of elements with the most common ratio, beyond those around it, and its z. Parents of the fixtures' merges have
0.1 and more, all other relatives 0.01 and less."""

ENOUGH = 500
"""Elements from which the absence of a common ratio says something."""

N_BASES = 3


def everything(models: Ensemble) -> Mixture:
    """The child as a combination of all candidates, one weight each for all tensors, summing to one."""
    return least_squares(models.gram, range(1, len(models.candidates) + 1), sum_to_one=True)


def weighted(models: Ensemble) -> tuple[int, ...]:
    """Candidates with a weight of their own in least squares over all, the largest z first."""
    found = everything(models)
    z = np.where(np.isfinite(found.errors), found.z, 0.0)
    kept = benjamini_hochberg(two_sided(z), LEVEL) & (np.abs(z) >= LEAST_Z)
    kept &= np.abs(found.coefficients) >= LEAST_WEIGHT
    order = sorted(np.flatnonzero(kept), key=lambda i: -abs(float(z[i])))
    return tuple(int(i) for i in order)


def sources_of(models: Ensemble, base: int) -> tuple[tuple[int, float], ...]:
    """Candidates whose difference from a base appears in the child with a common factor, and that factor.

    Those with the most common factor come first. Where no candidate moves enough elements by far more than a step of the
    number format, those that least squares gives a weight, with that weight.
    """
    child, *others = models.sample
    origin = others[base]
    step = spacing(child, models.dtype)
    peaks = {i: ratio_peak(child - origin, x - origin, step) for i, x in enumerate(others) if i != base}
    sharp = [i for i, p in peaks.items() if p.share >= LEAST_PEAK and p.z >= LEAST_PEAK_Z]
    if sharp or any(p.n >= ENOUGH for p in peaks.values()):
        return tuple((i, peaks[i].ratio) for i in sorted(sharp, key=lambda i: -peaks[i].share))
    coefficients = everything(models).coefficients
    return tuple((i, float(coefficients[i])) for i in weighted(models) if i != base)


def bases_of(models: Ensemble) -> tuple[int, ...]:
    """Candidates that differences may be taken from.

    First those that the child equals at most elements where candidates differ: there nothing was added to a base. Then
    those with the clearest weight in least squares.
    """
    child, *others = models.sample
    differ = np.any(models.sample[1:] != models.sample[1], axis=0)
    equal = [int(np.count_nonzero((x == child) & differ)) for x in others]
    order = sorted(range(len(others)), key=lambda i: (-equal[i], i))
    return tuple(dict.fromkeys((*order[:N_BASES], *weighted(models)[:N_BASES])))


def explained(models: Ensemble, members: tuple[int, ...]) -> float:
    """Share of the squared difference from the nearest candidate that a set explains, one weight for all tensors."""
    total = models.gram.combined(models.rows(members, free=True)).total
    whole = float(models.gram.total[0, 0])
    inner = np.linalg.lstsq(total[1:, 1:], total[1:, 0], rcond=1e-13)[0]
    left = max(0.0, float(total[0, 0] - inner @ total[1:, 0]))
    return max(0.0, 1.0 - left / whole) if whole > 0.0 else 1.0
