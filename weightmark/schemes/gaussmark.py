"""`gaussmark`: a keyed normal shift of one matrix (arXiv 2501.13941), read from weights against the unmarked original."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Float64Array
from weightmark.axes import places
from weightmark.drawing import Draws, normals
from weightmark.errors import UnfitModelError
from weightmark.keys import Key
from weightmark.reading import Reading, result, unit_sum
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_normal_tail


def noise(draws: Draws, role: str, shape: tuple[int, ...]) -> Float64Array:
    """The key's standard normal values for one array."""
    return normals(draws(role, "normal"), int(np.prod(shape))).reshape(shape)


def embed(
    weights: Mapping[str, Float64Array], draws: Draws, *, roles: tuple[str, ...], sigma: float
) -> dict[str, Float64Array]:
    """The roles after adding sigma times the root mean square of each array times the key's noise.

    Parameters
    ----------
    weights : mapping of role to ndarray
    draws : callable
    roles : tuple of str
        Arrays that carry the mark; the paper takes one matrix of a late block.
    sigma : float
        Relative size. The paper's is absolute, 0.0032 to 0.045 on weights of about 0.02.

    Returns
    -------
    dict of role to float64
    """
    out = {}
    for role in roles:
        x = np.asarray(weights[role], dtype=np.float64)
        out[role] = x + sigma * np.sqrt(np.mean(x * x)) * noise(draws, role, x.shape)
    return out


def read(
    weights: Mapping[str, Float64Array],
    draws: Draws,
    *,
    roles: tuple[str, ...],
    reference: Mapping[str, Float64Array],
    method: str = "gaussmark",
) -> Reading:
    """Project the difference from the unmarked original on the key's noise.

    Parameters
    ----------
    weights : mapping of role to ndarray
        The suspect; roles that are missing, or of another shape, are left out.
    draws : callable
    roles : tuple of str
    reference : mapping of role to ndarray
        Unmarked, never the marked file: a suspect brought close to that would carry the key into the difference.
    method : str
        Name in the result.

    Returns
    -------
    Reading

    Notes
    -----
    Null: the key is drawn without a look at the suspect; its noise is normal, so the projection over the length of the
    difference is exactly standard normal for every suspect. Each array's difference is taken over its own size first:
    one that was replaced outright then counts no more than the others.
    """
    carried, moved = [], []
    planned = sum(reference[role].size for role in roles)
    for role in roles:
        if role not in weights or weights[role].shape != reference[role].shape:
            continue
        shift = np.asarray(weights[role], dtype=np.float64) - np.asarray(reference[role], dtype=np.float64)
        size = float(np.sqrt(np.mean(shift * shift)))
        carried.append(noise(draws, role, shift.shape).ravel())
        moved.append((shift / size if size > 0.0 else shift).ravel())
    n = sum(part.size for part in moved)
    statistic = unit_sum(np.concatenate(carried), np.concatenate(moved)) if n else 0.0
    return Reading(
        test=result(method, statistic, n, log_normal_tail(statistic)), carriers=n, coverage=n / max(1, planned)
    )


def late_matrix(shapes: Mapping[str, tuple[int, ...]], kind: str = "mlp.up") -> str:
    """The matrix of this kind in the last layer.

    Raises
    ------
    UnfitModelError
        There is none.
    """
    found = [place + kind for place in places(shapes, kind)]
    if not found:
        raise UnfitModelError(f"the model has no {kind} matrix", where="gaussmark")
    return found[-1]


class GaussMark:
    """A normal shift of one matrix of the last layer, or of the roles the key names."""

    name = "gaussmark"
    version = 1
    caps = Caps(needs_reference=True, takes_reference=True, source="arXiv 2501.13941")

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        return {"sigma": {"low": 0.02, "default": 0.05, "high": 0.1}[strength]}

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles the mark is written to."""
        return tuple(key.params.get("roles") or (late_matrix(shapes),))

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays."""
        shapes = {role: values.shape for role, values in weights.items()}
        return dict(embed(weights, key.draws, roles=self.carriers(shapes, key), sigma=float(key.params["sigma"])))

    def verify(
        self,
        weights: Mapping[str, NDArray[Any]],
        key: Key,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> Reading:
        """Look for the mark."""
        if reference is None:
            raise UnfitModelError("this scheme reads the difference from the unmarked original", where="gaussmark")
        return read(weights, key.draws, roles=self.carriers(shapes, key), reference=reference)
