"""Loops only. Every kernel is compiled by the one decorator below and trusts the wrapper that calls it.

No fast-math: it reorders sums and makes `isnan` lie. No kernel calls a kernel of another file: the on-disk
cache does not notice an edit in the callee. No parallel reduction: the same bits for any number of threads.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile `function` in nopython mode, cached on disk, without the GIL and without fast-math."""
    compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function)
    return cast("F", compiled)
