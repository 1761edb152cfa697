"""The permutation e-process: an exact, anytime-valid test from any score between units."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, as_matrix
from stats.kernels.reveal import reveal
from stats.tails import log_factorial

N_BETAS = 8
"""Eight inverse temperatures a factor 2 (cosines) or 4 (gaps) apart span the useful range; see cosine_grid and gap_grid."""

_BATCH = 1 << 18
"""Scores handled at once in plain numpy (2 MB): beyond, the compiled loop wins back what loading it costs."""

_SMALLEST = 1e-280
"""Floor of a weight: a candidate is never impossible, only 280 decades away."""

_LOG_PRIOR = np.array([-math.log(2.0), *([-math.log(2.0 * N_BETAS)] * N_BETAS)])
"""Of the mixture over the grid, beta = 0 first."""


@dataclass(frozen=True, slots=True)
class EProcess:
    """Outcome of a permutation e-process.

    Attributes
    ----------
    log_evalue : float
        Natural log of the final e-value: the number that may be averaged and multiplied.
    trajectory : (s,) float64
        Log of the running mixture after each reveal. Its maximum gives this process's own p-value by Ville's
        inequality; maxima of several processes must never be multiplied (that rejects 20 % at level 0.05).
        It ends in `log_evalue`, but for `either_eprocess`.
    log_floor : float
        Minus the log of the number of labellings read.
    n : int
        Number of labels revealed.
    """

    log_evalue: float
    trajectory: Float64Array
    log_floor: float
    n: int

    @property
    def log_pvalue(self) -> float:
        """Log of the p-value of this process alone: 1 / max over time of E_t (Ville), in [log_floor, 0]."""
        best = float(self.trajectory.max()) if self.trajectory.size else 0.0
        return min(0.0, max(-best, self.log_floor))


@dataclass(frozen=True, slots=True)
class BetaGrid:
    """Inverse temperatures of the mixture: smallest * (2 ** squarings) ** g, g = 0 .. N_BETAS - 1."""

    smallest: float
    squarings: int


def cosine_grid(effective_dimension: float) -> BetaGrid:
    """Temperatures for cosine scores: a cosine c over d effective dimensions wants beta near c d.

    Parameters
    ----------
    effective_dimension : float
        Number of features behind a cosine, >= 1.

    Returns
    -------
    BetaGrid
        c from 1/64 to 2, a factor two apart.
    """
    return BetaGrid(smallest=max(1.0, effective_dimension) / 64.0, squarings=1)


def gap_grid() -> BetaGrid:
    """Temperatures for squared gaps of standardised values: sigma from 2 down to 2^-6, a factor two apart."""
    return BetaGrid(smallest=0.25, squarings=2)


def permutation_eprocess(
    windows: Iterable[ArrayLike], *, grid: BetaGrid, truth: Sequence[int] | None = None
) -> EProcess:
    """Test whether scores know the labels, revealing one pair at a time.

    Parameters
    ----------
    windows : iterable of (s_w, n_w) float
        Score matrices of disjoint windows of labels; row r of a window scores its query r against the window's
        candidates. Labels are permuted inside a window only, a subgroup of all permutations, which keeps the
        cost linear in the number of units.
    grid : BetaGrid
        Inverse temperatures.
    truth : sequence of int, optional
        For a single wide window: the column that carries the label of each row. By default row r is column r.

    Returns
    -------
    EProcess

    Raises
    ------
    ValueError
        A window is taller than wide or not finite, or truth is not a set of distinct columns.

    Notes
    -----
    Null: given the queries and the multiset of candidates, every labelling within windows is equally likely.
    At step t with R_t the N_t unrevealed candidates and weights w fixed by the past,
    e_t = N_t w(own) / sum_{j in R_t} w(j) has conditional mean exactly 1. The e-value is the mixture of the
    running products over the grid, half of the prior weight on beta = 0: under the null it never falls below
    1/2, so that an uninformative group costs at most 0.3 decades when groups are multiplied.
    Error: none; the mean over all n! labellings is 1 (checked by enumeration for n <= 7).
    Cost: O(sum s_w n_w) exponentials and N_BETAS times as many products.

    References
    ----------
    Exchangeability: arXiv 2502.12292, Theorem 1; the process is ours (Ville's inequality, no asymptotics).

    Examples
    --------
    >>> import numpy as np
    >>> process = permutation_eprocess([np.eye(12)], grid=cosine_grid(16))
    >>> bool(process.log_evalue > 10), bool(process.log_pvalue >= process.log_floor)
    (True, True)
    """
    return _processes(_batches(windows, truth), grid, sides=1)[0]


def either_eprocess(windows: Iterable[ArrayLike], *, grid: BetaGrid) -> EProcess:
    """Test square windows so that it is enough for the labels of *either* model to be random.

    Parameters
    ----------
    windows : iterable of (n_w, n_w) float
        Scores of the units of a (rows) against those of b (columns); partners share an index.
    grid : BetaGrid
        Inverse temperatures.

    Returns
    -------
    EProcess
        The smaller of two e-values: of the process whose queries are the rows, and of the one whose queries are the
        columns. The trajectory is the one with the smaller maximum, so the p-value is the larger of the two.

    Raises
    ------
    ValueError
        A window is not square or not finite.

    Notes
    -----
    Null: the labels of the rows, or those of the columns, are uniformly random given everything else. One process
    alone needs the candidates' labels to be random: with a hub among the columns that sits at the same index as the
    first query, random rows give it a mean of up to n. The smaller of both is at most the valid one.
    Cost: twice `permutation_eprocess`.

    References
    ----------
    As `permutation_eprocess`.

    Examples
    --------
    >>> import numpy as np
    >>> either_eprocess([np.tile([9.0, 0.0, 0.0], (3, 1))], grid=cosine_grid(64)).log_evalue <= 0.1
    True
    """
    held = [as_matrix(w, "scores") for w in windows]
    if any(w.shape[0] != w.shape[1] for w in held):
        raise ValueError("scores must be square: both models' units are candidates")
    return _weaker(*_processes(_batches(held, None), grid, sides=2))


def each_eprocess(windows: Float64Array, *, grid: BetaGrid) -> list[EProcess]:
    """What `either_eprocess` gives for each of (w, n, n) windows by itself, many at once.

    Raises
    ------
    ValueError
        The windows are not square or not finite.
    """
    _check_square(windows)
    _, n, _ = windows.shape
    lot = max(1, _BATCH // (n * n))
    found: list[EProcess] = []
    for start in range(0, windows.shape[0], lot):
        part = windows[start : start + lot]
        factors = _log_factors(np.concatenate((part, part.swapaxes(1, 2))), grid)
        made = [EProcess(float(t[-1]), t, -log_factorial(n), n) for t in _mixtures(factors)]
        found += [_weaker(*sides) for sides in zip(made[: len(part)], made[len(part) :], strict=True)]
    return found


def _weaker(rows: EProcess, columns: EProcess) -> EProcess:
    """What is valid when the labels of either side are random."""
    weaker = rows if rows.log_pvalue >= columns.log_pvalue else columns
    return EProcess(min(rows.log_evalue, columns.log_evalue), weaker.trajectory, rows.log_floor, rows.n)


def _processes(batches: Iterable[Float64Array], grid: BetaGrid, *, sides: int) -> list[EProcess]:
    """The process whose queries are the rows and, with two sides, the one whose queries are the columns."""
    log_labels = 0.0
    factors: list[Float64Array] = []
    for batch in batches:
        count, queries, candidates = batch.shape
        both = batch if sides == 1 else np.concatenate((batch, batch.swapaxes(1, 2)))
        factors.append(_log_factors(both, grid).reshape(sides, count * queries, N_BETAS))
        log_labels += count * (log_factorial(candidates) - log_factorial(candidates - queries))
    if not factors:
        return [EProcess(log_evalue=0.0, trajectory=np.zeros(0), log_floor=-log_labels, n=0)] * sides
    joined = factors[0] if len(factors) == 1 else np.concatenate(factors, axis=1)
    return [EProcess(float(t[-1]), t, -log_labels, t.size) for t in _mixtures(joined)]


def _batches(windows: Iterable[ArrayLike], truth: Sequence[int] | None) -> Iterator[Float64Array]:
    """Consecutive windows of one shape stacked as (w, s, n), column r of a window carrying the label of row r."""
    held: list[Float64Array] = []
    for window in windows:
        score = as_matrix(window, "scores")
        order = _check_truth(truth, *score.shape)
        score = score if truth is None else np.concatenate((score[:, order], np.delete(score, order, axis=1)), axis=1)
        if held and (held[0].shape != score.shape or len(held) * score.size >= _BATCH):
            yield np.stack(held)
            held = []
        held.append(score)
    if held:
        yield np.stack(held)


def _log_factors(batch: Float64Array, grid: BetaGrid) -> Float64Array:
    """(w, s, N_BETAS) log factors of every reveal: small windows all at once, large ones in the compiled loop."""
    count, queries, candidates = batch.shape
    out = np.empty((count, queries, N_BETAS))
    if queries * candidates > _BATCH:
        for i in range(count):
            reveal(np.ascontiguousarray(batch[i]), grid.smallest, grid.squarings, out[i])
    else:
        _reveal_all(batch, grid, out)
    return out


def _reveal_all(batch: Float64Array, grid: BetaGrid, out: Float64Array) -> None:
    """What `stats.kernels.reveal` does, for all windows and steps at once: at step r columns r and beyond are unrevealed.

    Loading compiled code costs more than the whole ladder of a small pair, so small windows never need it.
    """
    count, queries, candidates = batch.shape
    alive, floor, left = _steps(queries, candidates)
    weight = np.where(alive, batch, -np.inf)
    weight -= weight.max(axis=2, keepdims=True)
    np.multiply(weight, grid.smallest, out=weight)
    np.exp(weight, out=weight)
    np.maximum(weight, floor, out=weight)
    own = weight.diagonal(axis1=1, axis2=2)
    owns, totals = np.empty((2, N_BETAS, count, queries))
    for g in range(N_BETAS):
        owns[g] = own
        np.add.reduce(weight, axis=2, out=totals[g])
        for _ in range(grid.squarings if g + 1 < N_BETAS else 0):
            np.multiply(weight, weight, out=weight)
            np.maximum(weight, floor, out=weight)
    np.log(owns, out=owns)
    owns += left
    owns -= np.log(totals, out=totals)
    out[:] = owns.transpose(1, 2, 0)


@lru_cache(maxsize=8)
def _steps(
    queries: int, candidates: int
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.bool_]], Float64Array, Float64Array]:
    """(s, n) which candidates are unrevealed at each step, their least weights, and (s,) the log of their number."""
    steps = np.arange(queries)
    alive = np.arange(candidates) >= steps[:, None]
    return alive, np.where(alive, _SMALLEST, 0.0), np.asarray(np.log(candidates - steps))


def _mixtures(factors: Float64Array) -> Float64Array:
    """Log of the mixture over the grid after each reveal of (k, m, N_BETAS) processes: (k, m).

    Half of the prior weight lies on beta = 0.
    """
    running = np.zeros((*factors.shape[:2], N_BETAS + 1))
    np.cumsum(factors, axis=1, out=running[:, :, 1:])
    return _mixed(running)


def _mixed(log_evalues: Float64Array) -> Float64Array:
    """Log of the prior mixture of (..., N_BETAS + 1) log e-values, beta = 0 first."""
    weighted = log_evalues + _LOG_PRIOR
    peak = weighted.max(axis=-1)
    return np.asarray(peak + np.log(np.exp(weighted - peak[..., None]).sum(axis=-1)))


def square_evalues(windows: Float64Array, *, grid: BetaGrid) -> Float64Array:
    """Log of the final e-value of each window by itself, valid when the labels of either side are random.

    Parameters
    ----------
    windows : (w, n, n) float64
        Scores, finite; partners share an index.
    grid : BetaGrid
        Inverse temperatures.

    Returns
    -------
    (w,) float64
        For each window what `either_eprocess` gives for it alone, all computed at once.

    Raises
    ------
    ValueError
        The windows are not square or not finite.
    """
    _check_square(windows)
    count, n, _ = windows.shape
    factors = np.empty((2, count, n, N_BETAS))
    for side, out in zip((windows, np.ascontiguousarray(windows.swapaxes(1, 2))), factors, strict=True):
        _reveal_all(side, grid, out)
    totals = np.zeros((2, count, N_BETAS + 1))
    np.add.reduce(factors, axis=2, out=totals[:, :, 1:])
    return np.asarray(np.minimum(*_mixed(totals)))


def _check_square(windows: Float64Array) -> None:
    if windows.ndim != 3 or windows.shape[1] != windows.shape[2] or not np.isfinite(windows).all():
        raise ValueError(f"windows must be finite and square, got shape {windows.shape}")


def _check_truth(
    truth: Sequence[int] | None, queries: int, candidates: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if queries > candidates:
        raise ValueError(f"scores must not be taller than wide, got {queries} x {candidates}")
    if truth is None:
        return np.arange(queries)
    order = np.asarray(truth, dtype=np.int64)
    if order.shape != (queries,) or np.unique(order).size != queries or order.min() < 0 or order.max() >= candidates:
        raise ValueError(f"truth must name {queries} distinct columns of {candidates}")
    return order
