"""The training half of `quantgap`: a model learns while its quantised copy stays as it is (arXiv 2310.11237, interval)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from crawl import View
from weightmark.axes import matrices
from weightmark.files import shapes_of
from weightmark.schemes.quantgap import ROOM, cells
from weightmark.training.places import matrix, put


def kept_in_cells(
    model: Any, views: Mapping[str, View], *, bits: int = 8, group: int | None = None
) -> Callable[[], None]:
    """What puts every weight back into its cell after a step, and every other parameter to its value before.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As it is now: the codes that are to stay are those of its weights.
    views : mapping of role to View
    bits : int
    group : int, optional
        Columns that share a step; a whole row when absent.

    Returns
    -------
    callable
        `after` for `weightmark.training.tuning.tune`.

    Notes
    -----
    As the paper: each weight stays within 0.45 steps of the middle of its cell, the largest of each group, which sets the
    step, and whatever is not quantised stay as they were.
    """
    parameters = dict(model.named_parameters())
    roles = matrices(shapes_of(views))
    quantised = {views[role].tensor.name for role in roles}
    with torch.no_grad():
        fixed = {name: p.clone() for name, p in parameters.items() if name not in quantised}
        start = {role: matrix(parameters, views[role]).double().numpy() for role in roles}
    bounds = {}
    for role, x in start.items():
        codes, step = cells(x, bits, group)
        top = np.abs(codes) >= 2 ** (bits - 1) - 1
        low, high = np.where(top, x, (codes - ROOM) * step), np.where(top, x, (codes + ROOM) * step)
        bounds[role] = (np.minimum(low, x), np.maximum(high, x))

    def again() -> None:
        with torch.no_grad():
            for role, (low, high) in bounds.items():
                put(parameters, views[role], np.clip(matrix(parameters, views[role]).double().numpy(), low, high))
            for name, values in fixed.items():
                parameters[name].copy_(values)

    return again
