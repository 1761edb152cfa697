"""Which files of a folder belong together: one complete weight set is one model.

Only names are looked at here. A single file wins over an index of the same name, because it is complete by itself and
cannot disagree with its parts; repacks of a set that is there under its usual name (``consolidated``) are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crawl.errors import AmbiguousModelError, MissingShardError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHARD = re.compile(r"(.+)-(\d{5,6})-of-(\d{5,6})(\.[^.]+)?\.safetensors")
_INDEX = re.compile(r"(.+)\.safetensors\.index(\.[^.]+)?\.json")
_SINGLE = re.compile(r"(.+)\.safetensors")
# The names under which libraries save a model's weights; the first one present is the model of a folder.
MAIN_STEMS = ("model", "diffusion_pytorch_model", "pytorch_model", "adapter_model")
_REPACKS = ("consolidated",)
OTHER_ENDINGS = (".bin", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack", ".npz", ".onnx", ".pb", ".pt", ".pth", ".tflite")
_NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state|tokenizer|.*_states).*")


@dataclass(frozen=True, slots=True)
class WeightSet:
    """One complete set of weight files in one folder.

    Attributes
    ----------
    stem : str
        ``model``, ``model.fp16``, or the name of a lone file without its ending.
    variant : str or None
        What follows ``#`` in a reference; None for the set that the folder itself stands for.
    files : tuple of str
        Its weight files; empty when an index says which.
    index : str or None
    """

    stem: str
    variant: str | None
    files: tuple[str, ...]
    index: str | None = None


def weight_sets(names: Iterable[str]) -> list[WeightSet]:
    """Return the sets among the file names of one folder, sorted, the main one first.

    Parameters
    ----------
    names : iterable of str
        Names directly in the folder, without slashes.
    """
    single, index, shards = _by_stem(names)
    stems = set(single) | set(index) | (set(shards) if not index else set())
    main = next((stem for stem in MAIN_STEMS if stem in stems), None)
    if main is not None:
        stems = {stem for stem in stems if stem not in _REPACKS}
    elif len(stems) == 1:
        main = next(iter(stems))
    sets = []
    for stem in sorted(stems, key=lambda s: (s != main, s)):
        variant = None if stem == main else _variant(stem, main)
        if stem in single:
            sets.append(WeightSet(stem, variant, (single[stem],)))
        elif stem in index:
            sets.append(WeightSet(stem, variant, (), index[stem]))
        else:
            sets.append(WeightSet(stem, variant, tuple(sorted(shards[stem]))))
    return sets


def set_files(names: Iterable[str], found: WeightSet) -> tuple[str, ...]:
    """Return the weight files of a set; for one with an index, those that are named as its shards."""
    return found.files or tuple(sorted(_by_stem(names)[2].get(found.stem, ())))


def _by_stem(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    single: dict[str, str] = {}
    index: dict[str, str] = {}
    shards: dict[str, list[str]] = {}
    for name in sorted(names):
        if found := _INDEX.fullmatch(name):
            index[found[1] + (found[2] or "")] = name
        elif found := _SHARD.fullmatch(name):
            shards.setdefault(found[1] + (found[4] or ""), []).append(name)
        elif found := _SINGLE.fullmatch(name):
            single[found[1]] = name
    return single, index, shards


def _variant(stem: str, main: str | None) -> str:
    for base in (main, *MAIN_STEMS):
        if base is not None and stem.startswith(f"{base}."):
            return stem.removeprefix(f"{base}.")
    return stem


def check_complete(found: WeightSet, where: str) -> None:
    """Check that shards without an index are all there.

    Raises
    ------
    MissingShardError
        Some number between 1 and the count in the names is absent.
    """
    parts = [match for file in found.files if (match := _SHARD.fullmatch(file))]
    if not parts or len(parts) != len(found.files) or (len(parts) == 1 and found.stem == parts[0][0]):
        return
    total = {int(part[3]) for part in parts}
    have = {int(part[2]) for part in parts}
    missing = sorted(set(range(1, min(max(total), 10_000) + 1)) - have)
    if len(total) != 1 or missing:
        raise MissingShardError(
            f"{len(have)} of {max(total)} shards are there, number {missing[0] if missing else 0} is not",
            where=f"{where}: {found.files[0]}",
            hint="fetch the whole model",
        )


def choose(names: Iterable[str], variant: str | None, where: str) -> WeightSet:
    """Return the set a reference means.

    Raises
    ------
    AmbiguousModelError
        There are several and none is the usual one.
    ModelNotFoundError
        There is none, or no such variant.
    """
    names = list(names)
    sets = weight_sets(names)
    if variant is not None:
        for found in sets:
            if variant in (found.variant, found.stem, _variant(found.stem, None)):
                return found
        known = ", ".join(f"#{s.variant}" for s in sets if s.variant) or "none"
        raise ModelNotFoundError(f"no weight set called {variant!r}", where=where, hint=f"variants there: {known}")
    if sets and sets[0].variant is None:
        return sets[0]
    if sets:
        offers = ", ".join(f"{where}#{s.variant}" for s in sets[:20])
        more = "" if len(sets) <= 20 else f" and {len(sets) - 20} more"
        raise AmbiguousModelError(f"{len(sets)} models in one place", where=where, hint=f"name one: {offers}{more}")
    others = other_weights(names)
    if others:
        return WeightSet(others[0], None, (others[0],))
    raise ModelNotFoundError("no weight file", where=where, hint="a model has *.safetensors files")


def other_weights(names: Iterable[str]) -> list[str]:
    """Return the names that end like weight files of other formats, sorted."""
    return sorted(n for n in names if n.endswith(OTHER_ENDINGS) and not _NOT_WEIGHTS.fullmatch(n))
