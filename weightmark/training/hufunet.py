"""The training half of `hufunet`: the host learns around the values at keyed positions, which stay (arXiv 2103.13628)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from crawl import View
from weightmark.files import shapes_of
from weightmark.keys import Key
from weightmark.schemes.hufunet import HufuNet
from weightmark.training.places import matrix, put


def planted(model: Any, key: Key, views: Mapping[str, View]) -> Callable[[], None]:
    """Write the key's values into a model, and return what puts them back after every step.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    key : Key
        Of `hufunet`.
    views : mapping of role to View
        Of the same model.

    Returns
    -------
    callable
        `after` for `weightmark.training.tuning.tune`.

    Notes
    -----
    The paper fuses a piece of a second network and lets both learn; here the piece is the template of the key, in units of
    the rows as they were, so nothing of it has to learn.
    """
    parameters = dict(model.named_parameters())
    roles = HufuNet().carriers(shapes_of(views), key)
    with torch.no_grad():
        before = {role: matrix(parameters, views[role]).double().numpy() for role in roles}
    wanted = HufuNet().embed(before, key)
    moved = {role: wanted[role] != before[role] for role in roles if not np.array_equal(wanted[role], before[role])}

    def again() -> None:
        with torch.no_grad():
            for role, places in moved.items():
                now = matrix(parameters, views[role]).double().numpy()
                put(parameters, views[role], np.where(places, wanted[role], now))

    again()
    return again
