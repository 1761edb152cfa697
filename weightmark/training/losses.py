"""How well a model predicts a text: the loss of each window, so that two models can be compared window by window."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stats.arrays import Float64Array
from weightmark.errors import UnfitModelError

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Loss:
    """Next-token loss of a model on a text.

    Attributes
    ----------
    windows : (n,) float64
        Mean loss of each window, nats a token.
    tokens : int
        Predicted in all.
    """

    windows: Float64Array
    tokens: int

    @property
    def mean(self) -> float:
        """Nats a token."""
        return float(np.mean(self.windows))

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss."""
        return math.exp(self.mean)

    def above(self, other: "Loss") -> tuple[float, float]:
        """By how much this loss is larger, relative to the other's mean, and the standard error over windows."""
        change = (self.windows - other.windows) / other.mean
        return float(np.mean(change)), float(np.std(change, ddof=1) / math.sqrt(len(change)))


def loss_of(model: Any, tokens: Any, *, length: int = 96, windows: int = 256) -> Loss:
    """Next-token loss on windows spread evenly over a text.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    tokens : (n,) int64 tensor
    length : int
        Tokens of a window; the first of each is not predicted.
    windows : int
        At most so many, none overlapping.

    Returns
    -------
    Loss

    Raises
    ------
    UnfitModelError
        The text is shorter than two windows.

    Notes
    -----
    Cost: one forward pass over `windows * length` tokens.
    """
    count = min(windows, len(tokens) // length)
    if count < 2:
        raise UnfitModelError(
            f"a text of {len(tokens)} tokens; two windows of {length} are needed", hint="give a longer text"
        )
    starts = np.linspace(0, len(tokens) - length, count).astype(np.int64)
    found = []
    with torch.no_grad():
        for at in range(0, count, _AT_ONCE):
            batch = torch.stack([tokens[s : s + length] for s in starts[at : at + _AT_ONCE].tolist()])
            found.append(token_losses(model(input_ids=batch).logits, batch).mean(dim=1).double().numpy())
    return Loss(np.concatenate(found), count * (length - 1))


def token_losses(logits: Any, batch: Any) -> Any:
    """Loss of each predicted token, (windows, length - 1)."""
    flat = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="none"
    )
    return flat.view(batch.shape[0], -1)
