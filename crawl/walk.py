"""Find the models below a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from crawl.errors import ModelNotFoundError
from crawl.refs import ModelRef
from crawl.weightsets import other_weights, weight_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPACK_FOLDERS = ("original",)  # the same weights in the trainer's own layout
_SKIPPED = (".git", ".cache", "__pycache__", "node_modules")


def find_models(folder: Path) -> list[ModelRef]:
    """Return every model below a folder.

    Parameters
    ----------
    folder : Path
        Links to folders are not followed. In a cache of the Hub client each snapshot is found once.

    Returns
    -------
    list of ModelRef
        Sorted by id. A folder's usual weight set is the folder; others in it are ``path#variant``. Folders that hold
        only formats that are not read are listed too, and folders that may not be looked into: opening them says
        why they cannot be read.

    Raises
    ------
    ModelNotFoundError
        `folder` is not a folder.
    """
    if not folder.is_dir():
        raise ModelNotFoundError("no such folder", where=str(folder), hint="check the path")
    return sorted(_walk(folder), key=lambda ref: ref.id)


def sets_in(folder: Path) -> list[ModelRef]:
    """Return the weight sets directly in a folder, the usual one first.

    Raises
    ------
    OSError
        The folder cannot be listed.
    """
    return _refs(str(folder), [entry.name for entry in folder.iterdir()])


def _refs(place: str, names: list[str]) -> list[ModelRef]:
    return [ModelRef("dir", place, None, found.variant) for found in weight_sets(names)]


def _walk(folder: Path) -> Iterator[ModelRef]:
    refused: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=refused.append, followlinks=False):
        sets = _refs(place, names)
        hidden = set(_SKIPPED) | (set(_REPACK_FOLDERS) if sets else set())
        folders[:] = sorted(f for f in folders if f not in hidden)
        if Path(place).name == "blobs" and Path(place).parent.name.startswith("models--"):
            continue
        yield from sets
        if not sets and other_weights(names):
            yield ModelRef("dir", place)
    for error in refused:
        yield ModelRef("dir", str(error.filename))
