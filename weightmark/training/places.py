"""A role's ``[out, in]`` matrix among the parameters of a PyTorch module, wherever and however it is stored there."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from crawl import View
from stats.arrays import Float64Array
from weightmark.errors import UnfitModelError


def matrix(parameters: Mapping[str, Any], view: View) -> Any:
    """The matrix of a view, differentiable.

    Parameters
    ----------
    parameters : mapping of name to tensor
        Named as the tensors of the file.
    view : View

    Returns
    -------
    (out, in) tensor

    Raises
    ------
    UnfitModelError
        The module has no parameter of this name.
    """
    held = _held(parameters, view)
    return held[_rows(view)]


def put(parameters: Mapping[str, Any], view: View, values: Float64Array) -> None:
    """Write the matrix of a view, (out, in), into its parameter."""
    with torch.no_grad():
        held = _held(parameters, view)
        held[_rows(view)] = torch.from_numpy(np.ascontiguousarray(values)).to(held.dtype)


def _held(parameters: Mapping[str, Any], view: View) -> Any:
    """The whole parameter with outputs along its first axis."""
    name = view.tensor.name
    if name not in parameters:
        raise UnfitModelError("the module names its weights otherwise than the file", where=name)
    return parameters[name].T if view.transposed else parameters[name]


def _rows(view: View) -> Any:
    return torch.from_numpy(view.base + view.pick.stored(np.arange(view.shape[0])))
