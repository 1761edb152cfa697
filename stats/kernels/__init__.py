"""Loops only. Every kernel is compiled by the one decorator below and trusts the wrapper that calls it.

No fast-math: it reorders sums and makes `isnan` lie. No kernel calls another kernel: the on-disk cache does not notice
an edit in the callee. No parallel reduction: the same bits for any number of threads.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile `function` in nopython mode on its first call, cached on disk, without the GIL and without fast-math.

    Importing the compiler and its registries costs more than a whole default comparison, which needs no kernel.
    """
    compiled: list[Any] = []

    @wraps(function)
    def call(*args: Any) -> object:
        if not compiled:
            import numba  # noqa: PLC0415 - see above

            compiled.append(numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function))
        return compiled[0](*args)

    return cast("F", call)
