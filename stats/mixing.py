"""What a vector is made of: least squares on inner products kept by block, with errors from leaving blocks out.

Describes, never tests: the z-scores are sizes against an error, and no null hypothesis stands behind them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, IntVector, as_matrix

BLOCK = 4096
"""Elements of a block: what is left out at once when the error of a coefficient is measured."""

_RIDGE = 1e-12
"""Relative to the largest inner product: columns that are combinations of others share a coefficient instead of failing."""


@dataclass(frozen=True, slots=True)
class BlockGram:
    """Inner products of the same columns over disjoint blocks of elements; row and column 0 belong to the target.

    Attributes
    ----------
    products : (b, m, m) float64
        One symmetric matrix a block.
    sizes : (b,) int64
        Elements of each block.
    """

    products: Float64Array
    sizes: IntVector

    @property
    def total(self) -> Float64Array:
        """(m, m) float64, blocks added in order."""
        return np.asarray(self.products.sum(axis=0))

    @property
    def n(self) -> int:
        """Elements of all blocks."""
        return int(self.sizes.sum())

    def __add__(self, other: "BlockGram") -> "BlockGram":
        """Both sets of blocks."""
        return BlockGram(np.concatenate([self.products, other.products]), np.concatenate([self.sizes, other.sizes]))

    def combined(self, rows: ArrayLike) -> "BlockGram":
        """Inner products of linear combinations of the columns.

        Parameters
        ----------
        rows : (r, m) array_like
            One combination a row; the first makes the new target.

        Returns
        -------
        BlockGram
        """
        mix = as_matrix(rows, "rows")
        if mix.shape[1] != self.products.shape[1]:
            raise ValueError(f"rows must combine {self.products.shape[1]} columns, got {mix.shape[1]}")
        half = np.einsum("ri,bij->brj", mix, self.products)
        return BlockGram(np.einsum("brj,sj->brs", half, mix), self.sizes)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A target as a combination of columns.

    Attributes
    ----------
    columns : tuple of int
        Columns of the BlockGram that take part, 1 and up.
    coefficients, errors : (k,) float64
        In that order; errors are standard errors from leaving out one block at a time, infinite with fewer than three
        blocks.
    residual : float
        Sum of squares that is left.
    explained : float
        Share of the target's sum of squares that is explained; 1 for a target of zeros.
    """

    columns: tuple[int, ...]
    coefficients: Float64Array
    errors: Float64Array
    residual: float
    explained: float

    @property
    def z(self) -> Float64Array:
        """Coefficients in units of their errors; 0 where the coefficient is 0, huge or infinite where the error is."""
        safe = np.where(self.errors > 0.0, self.errors, np.finfo(np.float64).tiny)
        with np.errstate(over="ignore"):
            return np.where(self.coefficients == 0.0, 0.0, self.coefficients / safe)


def block_gram(columns: ArrayLike, *, block: int = BLOCK) -> BlockGram:
    """Inner products of all pairs of columns, block by block.

    Parameters
    ----------
    columns : (m, n) array_like
        The target first, then what may explain it; n elements each.
    block : int
        Elements of a block; the last one may be shorter.

    Returns
    -------
    BlockGram

    Raises
    ------
    ValueError
        Not a finite matrix, or a block of no elements.

    Notes
    -----
    Null: none. Summed in float64 in a fixed order. Cost: O(n m^2).
    """
    values = as_matrix(columns, "columns")
    if block < 1:
        raise ValueError(f"a block needs elements, got {block}")
    starts = range(0, values.shape[1], block)
    parts = [values[:, s : s + block] for s in starts]
    products = np.stack([np.einsum("ik,jk->ij", p, p) for p in parts])
    return BlockGram(products, np.array([p.shape[1] for p in parts], dtype=np.int64))


def least_squares(gram: BlockGram, columns: Sequence[int], *, sum_to_one: bool = False) -> Mixture:
    """Coefficients that bring a combination of columns nearest to the target.

    Parameters
    ----------
    gram : BlockGram
    columns : sequence of int
        Columns that may take part, each once, 1 and up.
    sum_to_one : bool
        Ask that the coefficients sum to one: a combination of models without a known base.

    Returns
    -------
    Mixture
        `explained` is relative to the target itself; with `sum_to_one` to its difference from the last column.

    Raises
    ------
    ValueError
        A column is named twice or does not exist, or none is named.

    Notes
    -----
    Null: none. Errors: delete-one-block jackknife, so they hold where elements of a block go together. Adding one
    column's copies, or combinations, spreads its coefficient. Cost: O(b k^3) beside the inner products.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> models = rng.normal(size=(3, 5000))
    >>> merge = 0.7 * models[0] + 0.3 * models[1]
    >>> found = least_squares(block_gram(np.vstack([merge, models])), (1, 2, 3))
    >>> print("shares of " + ", ".join(f"{c:.1f}" for c in np.abs(found.coefficients)))
    shares of 0.7, 0.3, 0.0
    """
    chosen = checked_columns(gram, columns)
    if sum_to_one:
        return _affine(gram, chosen)
    picked = gram.products[:, [0, *chosen]][:, :, [0, *chosen]]
    total = picked.sum(axis=0)
    coefficients = solve(total[1:, 1:], total[1:, 0])
    residual = residual_of(total, coefficients)
    return Mixture(
        chosen, coefficients, _errors(picked, total), residual, explained_share(residual, float(total[0, 0]))
    )


def fit_each(gram: BlockGram) -> tuple[Float64Array, Float64Array]:
    """Coefficients of all columns, fitted in each block by itself.

    Parameters
    ----------
    gram : BlockGram
        With one block for every part that may have coefficients of its own, a tensor say.

    Returns
    -------
    (b, m - 1) float64, (b,) float64
        Coefficients, and the sums of squares they leave.

    Notes
    -----
    Null: none. A block of fewer elements than columns leaves nothing. Cost: O(b m^3).
    """
    inner, moment = gram.products[:, 1:, 1:], gram.products[:, 1:, 0]
    coefficients = solve(inner, moment)
    ends = np.concatenate([np.ones((len(coefficients), 1)), -coefficients], axis=1)
    return coefficients, np.maximum(0.0, np.einsum("bi,bij,bj->b", ends, gram.products, ends))


def checked_columns(gram: BlockGram, columns: Sequence[int]) -> tuple[int, ...]:
    """The columns as a tuple; ValueError when one is named twice or does not exist, or none is named."""
    chosen = tuple(int(c) for c in columns)
    m = gram.products.shape[1]
    if not chosen or len(set(chosen)) < len(chosen) or not all(1 <= c < m for c in chosen):
        raise ValueError(f"columns must be distinct and lie in 1 to {m - 1}, got {chosen}")
    return chosen


def _affine(gram: BlockGram, chosen: tuple[int, ...]) -> Mixture:
    """Least squares on differences to the last column, whose coefficient is what the others leave of one."""
    m = gram.products.shape[1]
    rows = np.zeros((len(chosen), m))
    rows[:, chosen[-1]] = -1.0
    for row, column in enumerate((0, *chosen[:-1])):
        rows[row, column] = 1.0
    moved = gram.combined(rows)
    if len(chosen) == 1:
        residual = float(moved.total[0, 0])
        return Mixture(chosen, np.ones(1), np.zeros(1), residual, float(residual == 0.0))
    found = least_squares(moved, range(1, len(chosen)))
    last = 1.0 - math.fsum(found.coefficients)
    picked = moved.products
    spread = _replicates(picked, picked.sum(axis=0)).sum(axis=1)
    error = _jackknife(spread[:, None])[0] if spread.size else math.inf
    return Mixture(
        chosen, np.append(found.coefficients, last), np.append(found.errors, error), found.residual, found.explained
    )


def solve(inner: Float64Array, moment: Float64Array) -> Float64Array:
    """Solution of one or many small symmetric systems, scaled to unit diagonals, with a ridge of rounding's size."""
    scale = np.sqrt(np.einsum("...ii->...i", inner))
    scale = np.where(scale > 0.0, scale, 1.0)
    unit = inner / (scale[..., :, None] * scale[..., None, :])
    unit = unit + _RIDGE * np.eye(inner.shape[-1])
    return np.asarray(np.linalg.solve(unit, (moment / scale)[..., None])[..., 0] / scale)


def residual_of(total: Float64Array, coefficients: Float64Array) -> float:
    """Sum of squares a combination leaves of the target, from the inner products of all of them."""
    ends = np.concatenate([[1.0], -coefficients])
    return max(0.0, float(np.einsum("i,ij,j->", ends, total, ends)))


def explained_share(residual: float, whole: float) -> float:
    """Share of a sum of squares that is explained; 1 for a target of zeros."""
    return 1.0 - residual / whole if whole > 0.0 else 1.0


def _replicates(picked: Float64Array, total: Float64Array) -> Float64Array:
    """Coefficients with each block left out in turn; none with fewer than three blocks."""
    if picked.shape[0] < 3:
        return np.zeros((0, picked.shape[1] - 1))
    rest = total[None] - picked
    return solve(rest[:, 1:, 1:], rest[:, 1:, 0])


def _jackknife(replicates: Float64Array) -> Float64Array:
    b = replicates.shape[0]
    return np.asarray(np.sqrt((b - 1) / b * np.sum((replicates - replicates.mean(axis=0)) ** 2, axis=0)))


def _errors(picked: Float64Array, total: Float64Array) -> Float64Array:
    replicates = _replicates(picked, total)
    return _jackknife(replicates) if replicates.size else np.full(picked.shape[1] - 1, math.inf)
