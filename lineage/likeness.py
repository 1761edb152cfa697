"""Unknown architectures: equality and similarity of tensors of one name, without any null.

No axis has been named, so nothing here is a test: two independent models share buffers, masks, slopes, filters and
ramps that come from code. These are left out by name and by value, and what remains still decides no verdict.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from stats.arrays import Float64Array
from stats.distance import PairSums, pair_sums
from stats.features import is_placeholder
from stats.ordering import is_sorted_pair
from stats.result import TestResult

MIN_SAMPLE = 64
"""Elements below which a tensor says nothing."""

SAMPLE_ELEMENTS = 2048
"""Elements read of one tensor at most."""

MOST_TENSORS = 128
"""Tensors of one model at most."""

_BUFFER = re.compile(
    r"inv_freq|rotary|pos(ition)?_?(emb|ids|table)|emb(ed)?_?pos|mask|slopes|alibi|running_|num_batches|filters?$|time_(mix|decay|first)|freqs"
)
_NULL = "none: without named axes no labelling is random, and this number has no null"


def is_buffer(name: str) -> bool:
    """Whether a name is that of a table or statistic which code, not training, made."""
    return bool(_BUFFER.search(name))


def pick_names(names: Sequence[str], most: int = MOST_TENSORS) -> list[str]:
    """At most `most` tensors, spread evenly over the sorted names."""
    if len(names) <= most:
        return list(names)
    return [names[i * len(names) // most] for i in range(most)]


def likeness(a: Mapping[str, Float64Array], b: Mapping[str, Float64Array]) -> tuple[TestResult, ...]:
    """Share of equal tensors and pooled cosine over samples of the same name and shape.

    Parameters
    ----------
    a, b : mapping of str to float64 array
        Samples of two models.

    Returns
    -------
    tuple of TestResult
        Two heuristic rows without an e-value, so that they enter no combination; empty when nothing is comparable.
    """
    total, equal, n = PairSums(), 0, 0
    for name in sorted(a.keys() & b.keys()):
        left, right = a[name], b[name]
        if left.shape != right.shape or not (_looks_trained(left) and _looks_trained(right)):
            continue
        sums = pair_sums(left, right)
        total += sums
        equal += sums.equal == sums.n
        n += 1
    if n == 0:
        return ()
    scope = f"{n} tensors of one name and shape"
    return (_row("tensor-equality", equal / n, n, scope), _row("tensor-cosine", total.cosine, n, scope))


def _looks_trained(values: Float64Array) -> bool:
    """Finite, not constant, and no ramp over the index."""
    flat = values.ravel()
    return bool(np.isfinite(flat).all()) and not is_placeholder(flat) and not is_sorted_pair(flat, flat)


def _row(method: str, value: float, n: int, scope: str) -> TestResult:
    return TestResult(
        method=method,
        null=_NULL,
        statistic=value,
        n=n,
        log_pvalue=0.0,
        log_floor=0.0,
        log_evalue=None,
        exactness="heuristic",
        label_group="none",
        scope=scope,
    )
