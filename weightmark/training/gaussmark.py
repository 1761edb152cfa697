"""`gaussmark` read from text: the projection of the text's gradient on the key's noise (arXiv 2501.13941, Algorithm 2)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from crawl import View
from weightmark.files import shapes_of
from weightmark.keys import Key
from weightmark.reading import Reading, result, unit_sum
from weightmark.schemes.gaussmark import GaussMark, noise
from weightmark.tails import log_normal_tail
from weightmark.training.losses import token_losses
from weightmark.training.places import matrix


def read_text(model: Any, batch: Any, key: Key, views: Mapping[str, View]) -> Reading:
    """Test whether a text was written by the marked model.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The *unmarked* model.
    batch : (n, length) int64 tensor
        Passages; the first token of each is not counted.
    key : Key
        Of `gaussmark`.
    views : mapping of role to View
        Of the unmarked model.

    Returns
    -------
    Reading
        Of the text, not of weights; `carriers` are predicted tokens.

    Notes
    -----
    Null: the text was written without a look at the key. Its gradient is then any fixed vector to the key's normal noise,
    and the projection over its length is exactly standard normal: for every model and every text. Cost: one forward and
    one backward pass.
    """
    roles = GaussMark().carriers(shapes_of(views), key)
    parameters = dict(model.named_parameters())
    model.zero_grad()
    for name, p in parameters.items():
        p.requires_grad_(any(views[role].tensor.name == name for role in roles))
    (-token_losses(model(input_ids=batch).logits, batch).sum()).backward()
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    carried, seen = [], []
    for role in roles:
        g = matrix(gradients, views[role]).double().numpy()
        with torch.no_grad():
            size = float(matrix(parameters, views[role]).double().square().mean().sqrt())
        carried.append(noise(key.draws, role, g.shape).ravel())
        seen.append(size * g.ravel())
    statistic, n = unit_sum(np.concatenate(carried), np.concatenate(seen)), int(batch[:, 1:].numel())
    return Reading(test=result("gaussmark", statistic, n, log_normal_tail(statistic)), carriers=n, coverage=1.0)
