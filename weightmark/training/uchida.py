"""The training half of `uchida`: the regulariser of arXiv 1701.04082, equations 2 to 4, for the keys of our scheme."""

from collections.abc import Mapping
from typing import Any

import torch

from crawl import View
from weightmark.files import shapes_of
from weightmark.keys import Key
from weightmark.schemes.uchida import Uchida, key_values
from weightmark.training.places import matrix
from weightmark.training.tuning import Penalty

WEIGHT = 0.01
"""Lambda of the paper's experiments."""


def regulariser(key: Key, views: Mapping[str, View], weight: float = WEIGHT) -> Penalty:
    """What is added to the loss so that the mean row of one matrix comes to spell the bits of a key.

    Parameters
    ----------
    key : Key
        Of `uchida`.
    views : mapping of role to View
        Of the model that is trained.
    weight : float
        Times the binary cross-entropies of all bits.

    Returns
    -------
    callable
        For `weightmark.training.tuning.tune`.
    """
    shapes = shapes_of(views)
    role, n_bits = Uchida().plan(shapes, key)
    projections, bits = key_values(key.draws, role, n_bits, shapes[role][1])
    x, wanted = torch.from_numpy(projections).float(), torch.from_numpy((bits + 1.0) / 2.0).float()

    def penalty(parameters: Mapping[str, Any]) -> Any:
        spelt = x @ matrix(parameters, views[role]).mean(dim=0)
        return weight * torch.nn.functional.binary_cross_entropy_with_logits(spelt, wanted, reduction="sum")

    return penalty
