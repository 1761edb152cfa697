"""Loops only. Every kernel is compiled by the one decorator below and trusts the wrapper that calls it.

No fast-math: it reorders sums and makes `isnan` lie. No kernel calls a kernel of another file: the on-disk cache does
not notice an edit in the callee. No parallel reduction: the same bits for any number of threads.
"""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., object])


class _Lazy:
    """A kernel, compiled on its first call; importing the compiler costs more than a whole default comparison."""

    def __init__(
        self, function: Callable[..., object], compile_it: Callable[[Any, Callable[..., object]], Any]
    ) -> None:
        self._function = function
        self._compile = compile_it
        self._ready: Any = None
        update_wrapper(self, function)

    def __call__(self, *args: Any) -> object:
        return self.ready()(*args)

    def ready(self) -> Any:
        """The compiled kernel; kernels of the same file that it calls are compiled first and take their names."""
        if self._ready is None:
            import numba  # noqa: PLC0415 - see the class

            known = self._function.__globals__
            for name in self._function.__code__.co_names:
                if isinstance(known.get(name), _Lazy):
                    known[name] = known[name].ready()
            self._ready = self._compile(numba, self._function)
        return self._ready


def kernel(function: F) -> F:
    """Compile `function` in nopython mode on its first call, cached on disk, without the GIL and without fast-math."""
    return cast("F", _Lazy(function, _jit))


def instruction(function: Callable[..., object]) -> Any:
    """Make `function`, a typing function of numba, an instruction that kernels of the same file may use."""
    return _Lazy(function, _intrinsic)


def _jit(numba: Any, function: Callable[..., object]) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function)


def _intrinsic(numba: Any, function: Callable[..., object]) -> Any:
    return numba.extending.intrinsic(function)
