"""`gram`: a mark between the input columns of matrices, which no order, sign or rotation of their rows touches."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array
from weightmark.axes import places
from weightmark.drawing import Draws, signs
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading, result, unit_sum
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_sign_tail

BLOCK = 64
"""Columns that share one Gram matrix; columns left over carry nothing."""

PAIRS = BLOCK * (BLOCK - 1) // 2
_UPPER = np.triu_indices(BLOCK, 1)

_WINSOR = 5.0
"""Correlations further out than this many median absolute deviations are moved there: a few strong common directions of
the columns would otherwise make up the whole sum of squares."""


def gram_sums(rows: Float64Array) -> Float64Array:
    """Sums over rows of products of columns, block by block; they add up over any split of the rows.

    Parameters
    ----------
    rows : (m, n) float64
        Some rows of a matrix, or of several that read the same inputs.

    Returns
    -------
    (n // 64, 64, 64) float64
    """
    n_blocks = rows.shape[1] // BLOCK
    sums = np.empty((n_blocks, BLOCK, BLOCK))
    for block in range(n_blocks):
        part = np.ascontiguousarray(rows[:, block * BLOCK : (block + 1) * BLOCK])
        sums[block] = part.T @ part
    return sums


def correlations(sums: Float64Array) -> Float64Array:
    """Cosines between columns above the diagonal, one row a block; 0 where a column is empty.

    Parameters
    ----------
    sums : (b, 64, 64) float64

    Returns
    -------
    (b, 2016) float64
    """
    size = np.sqrt(np.maximum(np.einsum("bii->bi", sums), 0.0))
    size[size == 0.0] = np.inf
    made: Float64Array = (sums / (size[:, :, None] * size[:, None, :]))[:, _UPPER[0], _UPPER[1]]
    return made


def winsorized(values: Float64Array) -> Float64Array:
    """Values moved to at most five median absolute deviations from zero."""
    cut = _WINSOR * float(np.median(np.abs(values))) if values.size else 0.0
    return np.clip(values, -cut, cut) if cut > 0.0 else values


def symmetric_signs(signs: Float64Array) -> Float64Array:
    """Signs of pairs, one row a block, as symmetric matrices with an empty diagonal."""
    made = np.zeros((signs.shape[0], BLOCK, BLOCK))
    made[:, _UPPER[0], _UPPER[1]] = signs
    return made + made.transpose(0, 2, 1)


def pushed(rows: Float64Array, column_rms: Float64Array, signs: Float64Array, eps: float) -> Float64Array:
    """Rows after Z (I + eps / sqrt(63) S), Z the columns in units of their own size.

    Parameters
    ----------
    rows : (m, n) float64
    column_rms : (n,) float64
        Root mean squares of the columns of the whole matrix, of all that are stacked; empty columns stay empty.
    signs : (n // 64, 2016) float64
        Keyed signs of the pairs.
    eps : float
        Relative change of every row, about.

    Returns
    -------
    (m, n) float64
    """
    n_blocks = signs.shape[0]
    width = n_blocks * BLOCK
    unit = np.where(column_rms[:width] > 0.0, column_rms[:width], np.inf)
    scale = np.where(np.isfinite(unit), unit, 0.0)
    out = rows.copy()
    for block, matrix in enumerate(symmetric_signs(signs)):
        own = slice(block * BLOCK, (block + 1) * BLOCK)
        moved = np.ascontiguousarray(rows[:, own] / unit[own]) @ matrix
        out[:, own] += eps / np.sqrt(BLOCK - 1.0) * moved * scale[own]
    return out


READERS = (("mlp.gate", "mlp.up"), ("attn.q",), ("attn.k",), ("attn.v",))
"""Kinds that read the residual stream; those of one group are stacked and share their carriers."""

Sums: TypeAlias = dict[str, tuple[int, Float64Array]]
"""By carrier id: rows seen, and their column products. Parts of a model add up."""


def groups(roles: Iterable[str]) -> dict[str, list[str]]:
    """Carrier ids, and the roles that are stacked under each."""
    made: dict[str, list[str]] = {}
    for kinds in READERS:
        for kind in kinds:
            for place in places(roles, kind):
                made.setdefault(place + kinds[0], []).append(place + kind)
    return dict(sorted(made.items()))


def sums_of(weights: Mapping[str, Float64Array]) -> Sums:
    """Column products of every group that is there in full; what is kept of an unmarked model as a sketch."""
    found: Sums = {}
    for name, roles in groups(weights).items():
        parts = [np.asarray(weights[role], dtype=np.float64) for role in roles]
        if parts[0].shape[1] >= BLOCK:
            found[name] = (sum(p.shape[0] for p in parts), sum((gram_sums(p) for p in parts[1:]), gram_sums(parts[0])))
    return found


def _carriers(draws: Draws, name: str, n_blocks: int) -> Float64Array:
    return signs(draws(name, "pairs"), n_blocks * PAIRS).reshape(n_blocks, PAIRS)


def embed(weights: Mapping[str, Float64Array], draws: Draws, *, eps: float) -> dict[str, Float64Array]:
    """Every matrix that reads the residual stream with its columns mixed by the key.

    Parameters
    ----------
    weights : mapping of role to ndarray
    draws : callable
    eps : float
        Relative change.

    Returns
    -------
    dict of role to float64
    """
    out: dict[str, Float64Array] = {}
    for name, roles in groups(weights).items():
        parts = [np.asarray(weights[role], dtype=np.float64) for role in roles]
        n_blocks = parts[0].shape[1] // BLOCK
        rms = np.sqrt(sum(np.einsum("ij,ij->j", p, p) for p in parts) / sum(p.shape[0] for p in parts))
        carriers = _carriers(draws, name, n_blocks)
        out |= {role: pushed(p, rms, carriers, eps) for role, p in zip(roles, parts, strict=True)}
    return out


def read(suspect: Sums, draws: Draws, *, planned: int, reference: Sums | None = None) -> Reading:
    """Add up keyed signs times correlations of columns.

    Parameters
    ----------
    suspect : Sums
        Of the weights in question, of any part of them.
    draws : callable
    planned : int
        Pairs of columns in the whole model.
    reference : Sums, optional
        Of the unmarked model: its correlations are taken away first.

    Returns
    -------
    Reading

    Notes
    -----
    Null: every sign is fair and drawn without a look at the suspect or at the unmarked reference, so the sum over the
    root sum of squares exceeds t with probability at most 3.178 Q(t), for every suspect. Correlations of m rows wander
    by 1 / sqrt(m), so those of taller groups weigh more, by the number of rows.
    """
    carried, seen = [], []
    for name, (rows, sums) in suspect.items():
        values = correlations(sums)
        if reference is not None:
            if name not in reference or reference[name][1].shape != sums.shape:
                continue
            values = values - correlations(reference[name][1])
        values = winsorized(values)
        carried.append(_carriers(draws, name, sums.shape[0]).ravel())
        seen.append(values.ravel() * rows)
    n = sum(part.size for part in seen)
    statistic = unit_sum(np.concatenate(carried), np.concatenate(seen)) if n else 0.0
    return Reading(
        test=result("gram", statistic, n, log_sign_tail(statistic)), carriers=n, coverage=n / max(1, planned)
    )


def n_pairs(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Pairs of columns that carry a sign in a model of these shapes."""
    return sum(shapes[roles[0]][1] // BLOCK * PAIRS for roles in groups(shapes).values())


def strength_of(shapes: Mapping[str, tuple[int, ...]], params: Mapping[str, Any]) -> float:
    """The relative change that reaches the wanted statistic, sqrt(2) eps sqrt(N) on columns without correlations.

    A number `eps` in the parameters goes before; without one no change exceeds `eps_cap`.
    """
    if params.get("eps"):
        return float(params["eps"])
    n = sum(shapes[role][0] * (shapes[role][1] // BLOCK * BLOCK) for roles in groups(shapes).values() for role in roles)
    return min(float(params["eps_cap"]), float(params["strength_T"]) / float(np.sqrt(2.0 * max(1, n))))


class Gram:
    """Correlations of input columns, by key."""

    name = "gram"
    version = 1
    caps = Caps(takes_reference=True)

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"strength_T": {"low": 60.0, "default": 120.0, "high": 240.0}[strength], "eps": 0, "eps_cap": 0.012}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        del key
        return tuple(role for roles in groups(shapes).values() for role in roles if shapes[role][1] >= BLOCK)

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        shapes = {role: values.shape for role, values in weights.items()}
        if not self.carriers(shapes, key):
            raise UnfitModelError(f"no matrix that reads the residual stream has {BLOCK} columns", where="gram")
        return dict(embed(weights, key.draws, eps=strength_of(shapes, key.params)))

    def verify(
        self,
        weights: Mapping[str, NDArray[Any]],
        key: Key,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> Reading:
        """Look for the mark."""
        mine = {role: weights[role] for role in self.carriers(shapes, key) if role in weights}
        whole = {name: roles for name, roles in groups(shapes).items() if all(role in mine for role in roles)}
        part = {role: mine[role] for roles in whole.values() for role in roles}
        known = None if reference is None else sums_of({role: reference[role] for role in part if role in reference})
        return read(sums_of(part), key.draws, planned=n_pairs(shapes), reference=known)
