"""A mark written into a model's files: read once for what the host already says, written in a second pass, in slices."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl import View, WeightSource
from crawl.casts import can_replay
from stats.arrays import Float64Array
from stats.carriers import Carried
from weightmark.errors import TooStrongError, UnfitModelError
from weightmark.fidelity import LARGEST_ROW, LARGEST_TOTAL, Change, total
from weightmark.files import Window, arrays_of, carriers_of, n_carriers, rows_of, scan, views_of, windows
from weightmark.keys import Key
from weightmark.scheme import Scheme
from weightmark.schemes import dss
from weightmark.writing import Draft

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A marked copy.

    Attributes
    ----------
    changes : mapping of role to Change
    carriers : int
        Weights that carry the mark.
    strength : float
        Relative size of the shifts, of `dss`; the measured relative change for other schemes.
    statistic : float
        What blind verification of the copy should see; NaN where the scheme foretells nothing.
    left_out : tuple of str
        Files beside the model that were not copied.
    """

    changes: Mapping[str, Change]
    carriers: int
    strength: float
    statistic: float
    left_out: tuple[str, ...]


def embed(
    source: WeightSource, scheme: Scheme, key: Key, out: Path, *, force: bool = False, tell: Tell | None = None
) -> Written:
    """Write a marked copy of a local model.

    Parameters
    ----------
    source : WeightSource
        Never changed.
    scheme : Scheme
    key : Key
    out : Path
        The folder to be.
    force : bool
        Write a mark above the limits of `weightmark.fidelity` all the same; marks that change no value have none.
    tell : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    Written

    Raises
    ------
    UnfitModelError
        The model has nothing that could carry the mark, or is stored in a format that is not written.
    TooStrongError
        The mark would change the model more than it may.
    WritingError
        The copy cannot be written; nothing is left of it.

    Notes
    -----
    Cost: `dss` reads the carriers twice and holds a few windows of 16 MB; other schemes hold the arrays they change.
    """
    say = tell or (lambda _stage, _done, _total: None)
    views = carriers_of(source, scheme, key)
    odd = sorted({v.tensor.dtype.name for v in views.values() if not can_replay(v.tensor.dtype.name)})
    if odd:
        raise UnfitModelError(
            f"{', '.join(odd)} numbers are not marked", where=str(source.ref), hint="mark a float copy"
        )
    with Draft(source, out) as draft:
        if scheme.caps.streams:
            changes, strength = _streamed(source, views, key, draft, say)
        else:
            changes, strength = _whole(source, scheme, key, draft), math.nan
        _check(changes, force=force or scheme.caps.zero_distortion, where=str(source.ref))
        draft.settle()
    whole = total(changes.values())
    n = n_carriers(views)
    return Written(
        changes=changes,
        carriers=n,
        strength=whole.relative if math.isnan(strength) else strength,
        statistic=strength * math.sqrt(n),
        left_out=draft.left_out,
    )


def _streamed(
    source: WeightSource, views: Mapping[str, View], key: Key, draft: Draft, say: Tell
) -> tuple[dict[str, Change], float]:
    places = windows(views)
    sums = scan(source, views, places, key, tell=lambda done, n: say("reading", done, n))
    eps = dss.strength(key, n_carriers(views))
    shifts = dss.steps(sum(sums.values(), Carried.none()), key, eps)
    sparse = {r: s.n < (1.0 - dss.SPARSE) * math.prod(views[r].shape) for r, s in sums.items()}
    changes: dict[str, Change] = {}
    for done, (window, before, after) in enumerate(_marked(source, views, places, key, shifts, sparse), start=1):
        view = views[window.role]
        draft.put(view, window.start, after)
        changes.setdefault(window.role, Change()).add(before, after, view.tensor.dtype.name)
        say("marking", done, len(places))
    return changes, eps


def _marked(
    source: WeightSource,
    views: Mapping[str, View],
    places: Sequence[Window],
    key: Key,
    shifts: Float64Array,
    sparse: Mapping[str, bool],
) -> Iterator[tuple[Window, npt.NDArray[Any], Float64Array]]:
    """Windows before and after, in order, a few at a time."""

    def one(window: Window) -> tuple[Window, npt.NDArray[Any], Float64Array]:
        view = views[window.role]
        rows = rows_of(source, view, window)
        dtype = view.tensor.dtype.name
        return window, rows, dss.marked(rows, window.start, window.role, key, shifts, dtype, sparse=sparse[window.role])

    workers = max(1, min(4, os.cpu_count() or 1))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(places), workers):
            yield from pool.map(one, places[start : start + workers])


def _whole(source: WeightSource, scheme: Scheme, key: Key, draft: Draft) -> dict[str, Change]:
    views = views_of(source)
    weights = arrays_of(source, views)
    changes = {}
    for role, values in scheme.embed(_typed(weights, views), key).items():
        held = np.asarray(values).astype(np.float64)
        draft.put(views[role], 0, held)
        changes[role] = Change()
        changes[role].add(weights[role], held, views[role].tensor.dtype.name)
    return changes


def _typed(weights: Mapping[str, npt.NDArray[Any]], views: Mapping[str, View]) -> dict[str, npt.NDArray[Any]]:
    """Arrays in the formats of the file, which some schemes keep inside their cells."""
    return {role: dss.as_stored(w, views[role].tensor.dtype.name) for role, w in weights.items()}


def _check(changes: Mapping[str, Change], *, force: bool, where: str) -> None:
    whole = total(changes.values())
    if force or (whole.relative <= LARGEST_TOTAL and whole.largest_row <= LARGEST_ROW):
        return
    raise TooStrongError(
        f"the mark would change the carriers by {whole.relative:.1%} in all and a row by up to {whole.largest_row:.1%}, "
        f"more than {LARGEST_TOTAL:.0%} and {LARGEST_ROW:.0%}; nothing was written",
        where=where,
        hint="make a key of lower strength, or use --force",
    )
