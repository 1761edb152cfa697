"""Language models as PyTorch modules: from a local folder of safetensors, and back into one."""

from pathlib import Path
from typing import Any

import torch
import transformers

from weightmark.errors import UnfitModelError

_BYTES = 256
"""A model of at least so many tokens without a tokenizer of its own is taken to read bytes."""

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
_WINDOW = 96
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


def opened(folder: Path) -> Any:
    """The causal language model of a local folder, in float32 and ready for evaluation.

    Parameters
    ----------
    folder : Path
        In Hub layout: `config.json` and safetensors. No code of the folder runs and no pickle is read.

    Returns
    -------
    transformers.PreTrainedModel

    Raises
    ------
    UnfitModelError
        It is no causal language model that transformers knows, or its weights do not fit it.
    """
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        model, about = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        words = str(error).strip().splitlines() or ["it failed"]
        raise UnfitModelError(
            f"transformers cannot open it as a causal language model ({words[0].rstrip('.')})",
            where=str(folder),
            hint="give a local folder with config.json and safetensors",
        ) from error
    missing = sorted(about["missing_keys"])
    if missing:
        raise UnfitModelError(f"weights are missing, first {missing[0]}", where=str(folder), hint="fetch all files")
    if any("MaskedLM" in name for name in model.config.architectures or ()):
        raise UnfitModelError(
            "it sees the tokens it would have to predict", where=str(folder), hint="give a causal language model"
        )
    return model.eval()


def window_of(model: Any) -> int:
    """Tokens of a window: 96, or as many as the model has positions."""
    return min(_WINDOW, int(getattr(model.config, "max_position_embeddings", _WINDOW)))


def tokens_of(folder: Path, text: bytes, vocabulary: int) -> Any:
    """A text as tokens of the model of a folder: those of its tokenizer, else bytes.

    Parameters
    ----------
    folder : Path
    text : bytes
        UTF-8; what is not is replaced where a tokenizer reads it.
    vocabulary : int
        Tokens the model knows.

    Returns
    -------
    (n,) int64 tensor

    Raises
    ------
    UnfitModelError
        There is no tokenizer and the model knows fewer tokens than there are bytes.
    """
    if any((folder / name).is_file() for name in _TOKENIZERS):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        ids = tokenizer(text.decode("utf-8", "replace"), add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.int64)
    if vocabulary < _BYTES:
        raise UnfitModelError(
            f"no tokenizer, and {vocabulary} tokens are too few for bytes", where=str(folder), hint="add its tokenizer"
        )
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def saved(model: Any, folder: Path, dtype: str) -> None:
    """Write a model into a folder, its numbers in the format that safetensors calls by this name."""
    model.to(_DTYPES[dtype]).save_pretrained(str(folder))
