"""The door to bytes for reading: which rows of which matrices, and their sums, slice by slice and in bounded memory."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl import ByteRange, View, WeightSource
from stats.carriers import Carried
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.scheme import Scheme
from weightmark.schemes import dss

Tell = Callable[[int, int], None]

_WEIGHTS = 1 << 20
"""Weights of one window: 2 MB of bfloat16."""

_LEAST_ROWS = 4
"""Rows of a window when only a part is read: fewer would be mostly requests."""

_HASHED = 1 << 24
"""Bytes hashed at once."""

CONTROLS = 32
_CONTROL_WEIGHTS = 1 << 22
"""Weights on which keys that marked nothing are tried, to see that the law of the statistic is what it should be."""


@dataclass(frozen=True, slots=True)
class Window:
    """Some rows of one matrix.

    Attributes
    ----------
    role : str
    start, stop : int
        Half-open.
    """

    role: str
    start: int
    stop: int


def views_of(source: WeightSource) -> dict[str, View]:
    """The arrays of a model by role; tied or repeated storage once.

    Raises
    ------
    UnfitModelError
        The architecture is not recognised, so there are no roles to address carriers by.
    """
    if not source.views:
        raise UnfitModelError(
            "this architecture is not recognised, so a mark has no addresses in it",
            where=str(source.ref),
            hint="see docs/methods/axes.md for those that are",
        )
    seen: set[tuple[object, ...]] = set()
    found = {}
    for role, view in sorted(source.views.items(), key=lambda item: str(item[0])):
        place = (view.tensor.file, view.tensor.span, view.pick, view.base, view.transposed)
        if place not in seen:
            seen.add(place)
            found[str(role)] = view
    return found


def shapes_of(views: Mapping[str, View]) -> dict[str, tuple[int, ...]]:
    """The logical shape of each role."""
    return {role: tuple(view.shape) for role, view in views.items()}


def carriers_of(source: WeightSource, scheme: Scheme, key: Key) -> dict[str, View]:
    """Views of the roles that a scheme reads or writes under a key.

    Raises
    ------
    UnfitModelError
        There are none.
    """
    views = views_of(source)
    roles = scheme.carriers(shapes_of(views), key)
    if not roles:
        raise UnfitModelError(
            f"nothing in this model can carry a mark of {scheme.name}",
            where=str(source.ref),
            hint="its matrices are too small or of other kinds; another scheme may fit (lineage mark schemes)",
        )
    return {role: views[role] for role in roles}


def windows(views: Mapping[str, View], max_bytes: int | None = None, *, seed: int = 0) -> list[Window]:
    """Rows to read: all, or a random part of every matrix within a budget, never chosen by the key or the values.

    Parameters
    ----------
    views : mapping of role to View
        Matrices.
    max_bytes : int, optional
        Of weights, over all.
    seed : int
        Of the places.

    Returns
    -------
    list of Window
        In file order.
    """
    total = sum(_row_bytes(v) * v.shape[0] for v in views.values())
    share = 1.0 if max_bytes is None else min(1.0, max_bytes / max(1, total))
    generator = np.random.default_rng(seed)
    found: list[Window] = []
    for role, view in views.items():
        n, most = view.shape[0], max(1, _WEIGHTS // view.shape[1])
        if share >= 1.0:
            found += [Window(role, a, min(n, a + most)) for a in range(0, n, most)]
            continue
        rows = round(share * n + generator.random() - 0.5)
        if share * n < _LEAST_ROWS:  # whole windows in some matrices rather than a row in each
            rows = min(n, _LEAST_ROWS) if generator.random() < share * n / _LEAST_ROWS else 0
        start = int(generator.integers(0, n - rows + 1))
        found += [Window(role, a, min(start + rows, a + most)) for a in range(start, start + rows, most)]
    return sorted(found, key=lambda w: (views[w.role].tensor.file, views[w.role].tensor.span, w.role, w.start))


def rows_of(source: WeightSource, view: View, window: Window, *, stored: bool = False) -> npt.NDArray[Any]:
    """The rows of a window as floats; as bits where `stored` and the format is bfloat16."""
    bits = stored and view.tensor.dtype.name == "BF16"
    return source.view_rows(view, np.arange(window.start, window.stop), stored=bits)


def scan(
    source: WeightSource,
    views: Mapping[str, View],
    places: Sequence[Window],
    key: Key,
    *,
    tell: Tell | None = None,
) -> dict[str, Carried]:
    """Blind sums of `dss` by role over some windows.

    Parameters
    ----------
    source : WeightSource
    views : mapping of role to View
    places : sequence of Window
    key : Key
    tell : callable, optional
        Called with windows done and all.

    Returns
    -------
    dict of role to Carried
        Whole numbers: the same for any order, number of threads or split of the windows.
    """

    def one(window: Window) -> Carried:
        rows = rows_of(source, views[window.role], window, stored=True)
        return dss.scanned(rows, window.start, window.role, key)

    return _by_role(places, one, tell)


def scan_against(
    source: WeightSource,
    views: Mapping[str, View],
    reference: WeightSource,
    places: Sequence[Window],
    key: Key,
    *,
    tell: Tell | None = None,
) -> dict[str, Carried]:
    """Sums of what differs from the unmarked model, where it has the same matrix; see `scan`."""
    known = views_of(reference)

    def one(window: Window) -> Carried:
        other = known.get(window.role)
        if other is None or tuple(other.shape) != tuple(views[window.role].shape):
            return Carried.none()
        rows = rows_of(source, views[window.role], window)
        return dss.compared(rows, rows_of(reference, other, window), window.start, window.role, key)

    return _by_role(places, one, tell)


def controls(
    source: WeightSource, views: Mapping[str, View], places: Sequence[Window], key: Key, code: npt.NDArray[np.float64]
) -> list[float]:
    """The statistic under keys that marked nothing, on the first windows: their mean is near 0, their spread near 1."""
    keys = [key.for_channel(f"control-{i}") for i in range(CONTROLS)]
    totals = [Carried.none() for _ in keys]
    left = _CONTROL_WEIGHTS
    for window in places:
        columns = views[window.role].shape[1]
        stop = min(window.stop, window.start + max(1, left // columns))
        rows = rows_of(source, views[window.role], Window(window.role, window.start, stop), stored=True)
        totals = [t + dss.scanned(rows, window.start, window.role, k) for t, k in zip(totals, keys, strict=True)]
        left -= (stop - window.start) * columns
        if left <= 0:
            break
    return [t.statistic(code) for t in totals]


def arrays_of(source: WeightSource, roles: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Whole arrays by role as floats, for schemes that do not stream; roles that are missing are left out."""
    views = views_of(source)
    found = {}
    for role in roles:
        view = views.get(role)
        if view is not None:
            found[role] = (
                source.view_vector(view) if len(view.shape) == 1 else source.view_rows(view, np.arange(view.shape[0]))
            )
    return found


def model_digest(source: WeightSource, tell: Tell | None = None) -> str:
    """SHA-256 (hex) over name, format, shape and content of every tensor, sorted by name: no split into files alters it."""
    lines = []
    for done, name in enumerate(sorted(source.tensors)):
        t = source.tensors[name]
        content = hashlib.sha256()
        for start in range(t.span.start, t.span.stop, _HASHED):
            span = ByteRange(start, min(t.span.stop, start + _HASHED))
            buffer = bytearray(len(span))
            source.read_into(t.file, span, memoryview(buffer))
            content.update(buffer)
        lines.append(json.dumps([name, t.dtype.name, list(t.shape), content.hexdigest()]))
        if tell is not None:
            tell(done + 1, len(source.tensors))
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


def n_carriers(views: Mapping[str, View]) -> int:
    """Weights in all these matrices."""
    return sum(math.prod(view.shape) for view in views.values())


def _by_role(places: Sequence[Window], one: Callable[[Window], Carried], tell: Tell | None) -> dict[str, Carried]:
    found: dict[str, Carried] = {}
    for done, (window, part) in enumerate(zip(places, _in_threads(one, places), strict=True), start=1):
        found[window.role] = found.get(window.role, Carried.none()) + part
        if tell is not None:
            tell(done, len(places))
    return found


def _in_threads(one: Callable[[Window], Carried], places: Sequence[Window]) -> Iterator[Carried]:
    """Results in order; what is added up is exact, so threads cannot show in it."""
    with ThreadPoolExecutor(max_workers=max(1, min(4, os.cpu_count() or 1))) as pool:
        yield from pool.map(one, places)


def _row_bytes(view: View) -> int:
    return max(1, view.shape[1] * view.tensor.dtype.bits // 8)
