"""What a model claims about itself: `config.json`, the adapter's config, and the front matter of its README.

Claims are never evidence. They name declared parents, and a few serve as layout hints where the tensors cannot say
(the number of heads), in which case the architecture records the claim it used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crawl.errors import CrawlError, MalformedHeaderError
from crawl.formats.strictjson import parse_object
from crawl.refs import ByteRange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawl.stores import ByteStore

_LARGEST_CONFIG = 10_000_000  # bytes; real ones are below 1 MB even with label tables
_LONGEST_DATE = 40  # characters of a date that are looked at
_LARGEST_FRONT = 100_000  # bytes of a README that are looked at: its front matter is at the start
_CONFIG_KEYS = (
    "architectures",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "quantization_config",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "torch_dtype",
    "dtype",
    "vocab_size",
    "_name_or_path",
)
# The same fact under the names other families give it.
_ALIASES = {"n_head": "num_attention_heads", "n_embd": "hidden_size", "n_layer": "num_hidden_layers"}
_DATE_KEYS = (
    "release_date",
    "created_at",
    "created",
    "date",
)  # of a README's front matter, the first that reads as one
_FRONT_KEYS = (
    *_DATE_KEYS,
    "base_model",
    "base_model_relation",
    "datasets",
    "library_name",
    "license",
    "license_name",
    "tags",
)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Claims of one model.

    Attributes
    ----------
    claims : mapping
        Keys of `config.json` (nested text configs fill what the top level lacks) and of the README's front matter.
    base_models : tuple of str
        Declared parents, in the order given, without repeats.
    licence : str or None
    created : datetime or None
        When the model was released, UTC: as the place it lies in states it, else as its README claims.
    problems : tuple of str
        Why a config or README could not be read; a malformed claim is a value, not an error.
    """

    claims: Mapping[str, object] = field(default_factory=dict)
    base_models: tuple[str, ...] = ()
    licence: str | None = None
    problems: tuple[str, ...] = ()
    created: datetime | None = None

    def integer(self, key: str) -> int | None:
        """Return a claim as a positive integer, or None."""
        value = self.claims.get(key)
        return value if type(value) is int and value > 0 else None


def read_config(store: ByteStore, prefix: str = "") -> ModelCard:
    """Read the claims of the configs beside a weight set: enough for layout hints.

    Parameters
    ----------
    store : ByteStore
    prefix : str
        Folder of the weight set inside the store, with a final slash, or empty.

    Returns
    -------
    ModelCard
        Empty where nothing is claimed.
    """
    problems: list[str] = []
    claims = _config_claims(_json(store, f"{prefix}config.json", problems))
    adapter = _json(store, f"{prefix}adapter_config.json", problems)
    parents: tuple[str, ...] = ()
    if isinstance(name := adapter.get("base_model_name_or_path"), str):
        parents = (name,)
        claims["peft_type"] = adapter.get("peft_type")
    return ModelCard(claims, parents, None, tuple(problems))


def add_readme(card: ModelCard, store: ByteStore, prefix: str = "", stated: object = None) -> ModelCard:
    """Return the claims of the configs and those of the README's front matter.

    Parameters
    ----------
    card : ModelCard
        Of the configs.
    store : ByteStore
    prefix : str
        As of `read_config`.
    stated : object
        When the place the model lies in says it was made; believed before the README.

    Returns
    -------
    ModelCard
    """
    problems = list(card.problems)
    front = _front_matter(store, f"{prefix}README.md", problems)
    claims = {**card.claims, **{key: front[key] for key in _FRONT_KEYS if key in front}}
    parents = dict.fromkeys([*card.base_models, *_texts(front.get("base_model"))])
    licence = _texts(front.get("license"))
    dates = [found for key in _DATE_KEYS if (found := moment(front.get(key))) is not None]
    created = moment(stated) or (dates[0] if dates else None)
    return ModelCard(claims, tuple(parents), licence[0] if licence else None, tuple(problems), created)


def moment(value: object) -> datetime | None:
    """Return a moment in UTC of what a card or a server states; None where it is none. A day alone is its first second."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip()[:_LONGEST_DATE])
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        return None


def _config_claims(config: dict[str, Any]) -> dict[str, object]:
    claims: dict[str, object] = {}
    nested = [config.get(key) for key in ("text_config", "llm_config", "language_config")]
    for source in (config, *[part for part in nested if isinstance(part, dict)]):
        for key, value in source.items():
            wanted = _ALIASES.get(key, key)
            if wanted in _CONFIG_KEYS and value is not None:
                claims.setdefault(wanted, value)
    inner = [part["model_type"] for part in nested if isinstance(part, dict) and "model_type" in part]
    if inner:
        claims["text_model_type"] = inner[0]
    return claims


def _read(store: ByteStore, file: str, most: int) -> bytes:
    size = store.files().get(file, 0)
    return store.read(file, ByteRange(0, min(size, most)))


def _json(store: ByteStore, file: str, problems: list[str]) -> dict[str, Any]:
    size = store.files().get(file)
    if size is None:
        return {}
    if size > _LARGEST_CONFIG:
        problems.append(f"{file}: {size} bytes, more than {_LARGEST_CONFIG}")
        return {}
    try:
        return parse_object(_read(store, file, size).strip(), file)
    except MalformedHeaderError as error:
        problems.append(f"{file}: {error.reason}")
    return {}


def _front_matter(store: ByteStore, file: str, problems: list[str]) -> dict[str, Any]:
    """Read ``key: value`` and ``key:`` + list lines between two ``---``: the part of YAML that claims are written in."""
    if file not in store.files():
        return {}
    try:
        text = _read(store, file, _LARGEST_FRONT).decode("utf-8", "replace")
    except CrawlError as error:
        problems.append(f"{file}: {error.reason}")
        return {}
    found = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---", text, re.DOTALL)
    table: dict[str, Any] = {}
    key = ""
    for line in found[1].splitlines() if found else ():
        if item := re.fullmatch(r"\s*-\s+(.*)", line):
            if isinstance(table.get(key), list):
                table[key].append(_scalar(item[1]))
        elif pair := re.fullmatch(r"([A-Za-z_][\w-]*):(?:\s+(.*))?\s*", line):
            key = pair[1]
            table[key] = _value(pair[2] or "")
    return table


def _value(text: str) -> object:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_scalar(part) for part in text[1:-1].split(",") if part.strip()]
    return _scalar(text) if text else []


def _scalar(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _texts(value: object) -> list[str]:
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, str) and part]
