"""What is asked of the extra `torch`: the loss of a model on a text, and fine-tuning as an attack on marks."""

import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from crawl import ModelRef, open_model
from lineage.errors import MalformedDocumentError, UnreadableDocumentError, UsageError, words_of
from lineage.holding import held_weights
from lineage.inputs import read_bounded
from weightmark.attacks.numbers import Weights
from weightmark.benchmark import Outcome, Trial, Unrun, distortion, key_of, marked
from weightmark.files import views_of
from weightmark.writing import Draft

if TYPE_CHECKING:
    from weightmark.training.losses import Loss
    from weightmark.training.tuning import Recipe

MOST_TEXT = 1 << 26
"""Bytes of a text."""

RANK = 16
"""Of updates of low rank, as in the grid of arXiv 2502.10525."""

_NAME = re.compile(r"(tune|lora)-([1-9]\d{0,5})")

_WRONG = 500
"""Keys from this number on marked nothing, as in `weightmark.benchmark`."""


def is_training(attack: str) -> bool:
    """Whether a name is that of an attack by fine-tuning: `tune-N`, all weights, or `lora-N`, N steps."""
    return _NAME.fullmatch(attack) is not None


def text_of(path: str) -> bytes:
    """A text from a file.

    Raises
    ------
    UnreadableDocumentError
        It cannot be read.
    MalformedDocumentError
        It is empty or too long.
    """
    try:
        text = read_bounded(path, MOST_TEXT)
    except OSError as error:
        raise UnreadableDocumentError(f"cannot be read ({words_of(error)})", where=path) from error
    if not 0 < len(text) <= MOST_TEXT:
        reason = f"a text has 1 to {MOST_TEXT:,} bytes"
        raise MalformedDocumentError(reason, where=path, hint="give plain text of a few pages or more")
    return text


def local_folder(ref: str) -> Path:
    """The folder of a model, once it is clear that it can be opened for training.

    Raises
    ------
    UsageError
        torch is missing, or the model is no local folder.
    """
    if any(find_spec(name) is None for name in ("torch", "transformers")):
        raise UsageError("losses and fine-tuning need the extra `torch`", hint="pip install 'lineage-forensics[torch]'")
    parsed = ModelRef.parse(ref)
    if parsed.scheme != "dir" or parsed.variant:
        raise UsageError(
            "a text is read by a model in a local folder with its config.json", where=ref, hint="give that folder"
        )
    return Path(parsed.location)


def loss_on(folder: Path, text: bytes) -> "Loss":
    """Loss of a model on a text.

    Raises
    ------
    UnfitModelError
        It is no causal language model, or the text is too short.
    """
    from weightmark.training.losses import loss_of  # noqa: PLC0415 - an extra
    from weightmark.training.models import opened, tokens_of, window_of  # noqa: PLC0415 - an extra

    model = opened(folder)
    return loss_of(model, tokens_of(folder, text, model.config.vocab_size), length=window_of(model))


def comparison(before: "Loss", after: "Loss") -> dict[str, Any]:
    """The entry `text` of a report: perplexities, and the relative change of the loss with its standard error."""
    change, error = after.above(before)
    return {
        "tokens": before.tokens,
        "windows": len(before.windows),
        "perplexity_before": before.perplexity,
        "perplexity_after": after.perplexity,
        "loss_before": before.mean,
        "loss_change": change,
        "loss_change_error": error,
    }


@dataclass(frozen=True)
class Retrained:
    """Fine-tunes of one model, whatever values its arrays have.

    Attributes
    ----------
    ref : str
        The unmarked model, a local folder.
    text : bytes
    lr : float
        Largest learning rate.
    """

    ref: str
    text: bytes
    lr: float

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError("fine-tuning needs a text", where="--suite", hint="give --text FILE")
        local_folder(self.ref)

    @cached_property
    def tokens(self) -> Any:
        """The text as the model reads it."""
        from weightmark.training.models import opened, tokens_of  # noqa: PLC0415 - an extra

        folder = local_folder(self.ref)
        return tokens_of(folder, self.text, opened(folder).config.vocab_size)

    def tuned(self, arrays: Mapping[str, NDArray[Any]], attack: str, seed: int) -> Weights:
        """Arrays of the model after N steps, stored in the format they had."""
        from weightmark.training.models import opened, saved, window_of  # noqa: PLC0415 - an extra
        from weightmark.training.tuning import tune  # noqa: PLC0415 - an extra

        with tempfile.TemporaryDirectory() as room:
            copy, made = Path(room) / "marked", Path(room) / "tuned"
            with open_model(ModelRef.parse(self.ref)) as source, Draft(source, copy) as draft:
                views = views_of(source)
                for role, view in views.items():
                    draft.put(view, 0, arrays[role].astype("float64"))
                draft.settle()
            model = opened(copy)
            tune(model, self.tokens, self._recipe(attack, seed, window_of(model)))
            saved(model, made, next(iter(views.values())).tensor.dtype.name)
            with open_model(ModelRef.parse(str(made))) as after:
                return held_weights(after)[0]

    def _recipe(self, attack: str, seed: int, length: int) -> "Recipe":
        from weightmark.training.tuning import Recipe  # noqa: PLC0415 - an extra

        found = _NAME.fullmatch(attack)
        if found is None:
            raise ValueError(f"no attack by fine-tuning: {attack}")
        rank = RANK if found[1] == "lora" else 0
        return Recipe(steps=int(found[2]), lr=self.lr, rank=rank, size=8, length=length, seed=seed)


def run_trained(
    trial: Trial,
    weights: Mapping[str, NDArray[Any]],
    attacks: Sequence[str],
    retrained: Retrained | None,
    *,
    keys: int,
    seed: int = 0,
) -> Iterator[Outcome | Unrun]:
    """Mark, fine-tune and read, key by key: `weightmark.benchmark.run` for attacks that train.

    Yields
    ------
    Outcome
        Two for each key and attack: under the key, and under one that marked nothing.
    """
    if retrained is None:
        return
    for number in range(keys):
        mine = marked(trial, weights, key_of(trial, number, seed))
        for attack in attacks:
            suspect = retrained.tuned(mine, attack, seed)
            moved = distortion(mine, suspect)
            for control in (False, True):
                yield _outcome(trial, weights, suspect, (attack, number, control, seed), moved)


def _outcome(
    trial: Trial,
    weights: Mapping[str, NDArray[Any]],
    suspect: Weights,
    which: tuple[str, int, bool, int],
    moved: float,
) -> Outcome:
    attack, number, control, seed = which
    key = key_of(trial, number + _WRONG * control, seed)
    shapes = {role: values.shape for role, values in weights.items()}
    started = time.perf_counter()
    found = trial.scheme.verify(suspect, key, shapes=shapes, reference=weights if trial.informed else None)
    return Outcome(
        scheme=trial.scheme.name,
        attack=attack,
        key=number,
        control=control,
        statistic=found.test.statistic,
        log_pvalue=found.test.log_pvalue,
        bit_errors=found.bit_errors,
        bits=found.bits,
        payload_ok=None if not trial.payload_bytes else found.payload == key.payload,
        coverage=found.coverage,
        seconds=time.perf_counter() - started,
        distortion=moved,
    )
