"""Fine-tuning: all weights, or an update of low rank on every linear layer that is merged at the end."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from weightmark.errors import UnfitModelError
from weightmark.training.losses import token_losses

Penalty = Callable[[Mapping[str, Any]], Any]
"""Parameters by name to a term of the loss."""

_SCALE = 2.0
"""Of the update, alpha over rank: 32 over 16 in the grid of arXiv 2502.10525."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is fine-tuned: AdamW, a linear start over a tenth of the steps, then half a cosine to nothing.

    Attributes
    ----------
    steps : int
    lr : float
        Largest learning rate.
    rank : int
        0 trains all weights; else that of the update of every linear layer.
    size, length : int
        Windows of a step and their tokens.
    seed : int
        Of the windows and of the start of the update.
    """

    steps: int
    lr: float
    rank: int = 0
    size: int = 16
    length: int = 96
    seed: int = 0


def tune(
    model: Any,
    tokens: Any,
    recipe: Recipe,
    *,
    penalty: Penalty | None = None,
    after: Callable[[], None] | None = None,
) -> float:
    """Train a model further, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    tokens : (n,) int64 tensor
    recipe : Recipe
    penalty : callable, optional
        Added to the loss of every step, for instance the regulariser of a mark.
    after : callable, optional
        Called after every step, for instance to put values back.

    Returns
    -------
    float
        Mean loss on the text over the last fifty steps.

    Raises
    ------
    UnfitModelError
        The text is shorter than a window, or the model has no linear layer for an update.
    """
    if len(tokens) <= recipe.length:
        raise UnfitModelError(f"a text of {len(tokens)} tokens is shorter than a window of {recipe.length}")
    generator = torch.Generator().manual_seed(recipe.seed)
    held = {name: p.requires_grad_(not recipe.rank) for name, p in model.named_parameters()}
    updates = _updates(model, recipe.rank, generator) if recipe.rank else {}
    trained = [x for pair in updates.values() for x in pair] or list(held.values())
    optimiser = torch.optim.AdamW(trained, lr=recipe.lr, weight_decay=0.0 if updates else 0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate(s, recipe.steps))
    model.train()
    recent: list[float] = []
    for batch in _batches(tokens, recipe, generator):
        now = held | {name: held[name] + _SCALE * (up @ down) for name, (up, down) in updates.items()}
        logits = torch.func.functional_call(model, now, kwargs={"input_ids": batch}).logits
        loss = token_losses(logits, batch).mean()
        optimiser.zero_grad()
        (loss if penalty is None else loss + penalty(now)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        if after is not None:
            after()
        recent = [*recent[-49:], loss.item()]
    with torch.no_grad():
        for name, (up, down) in updates.items():
            held[name] += _SCALE * (up @ down)
    model.eval()
    return sum(recent) / len(recent)


def _rate(step: int, steps: int) -> float:
    start = max(1, steps // 10)
    return min((step + 1) / start, 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps))))


def _updates(model: Any, rank: int, generator: Any) -> dict[str, tuple[Any, Any]]:
    """Factors (out, rank), zero, and (rank, in), of every linear layer but the head, by the name of its weight."""
    head = model.get_output_embeddings()
    made = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            down = torch.randn(rank, module.in_features, generator=generator) / math.sqrt(module.in_features)
            made[f"{name}.weight"] = (
                torch.zeros(module.out_features, rank, requires_grad=True),
                down.requires_grad_(),
            )
    if not made:
        raise UnfitModelError("no linear layer that an update of low rank could be added to")
    return made


def _batches(tokens: Any, recipe: Recipe, generator: Any) -> Iterator[Any]:
    """Random windows, (size, length)."""
    for _ in range(recipe.steps):
        starts = torch.randint(0, len(tokens) - recipe.length, (recipe.size,), generator=generator)
        yield torch.stack([tokens[s : s + recipe.length] for s in starts.tolist()])
