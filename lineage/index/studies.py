"""Second readings as bytes and back, cut to a size that can be kept of every model.

Which part is kept depends on shapes alone, so that models keep the same part and can be compared value by value. Of small
models it is all that was read.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lineage.errors import MalformedDocumentError
from lineage.index.packing import Array, pack, unpack
from lineage.stored import Arrays, Values
from lineage.study import WHOLE, Study

FORMAT = 2
MOST = WHOLE
"""Values up to which all of a study is kept: four megabytes in 16 bits."""

ROWS, COLUMNS = 48, 256
"""Kept of each matrix of a larger one, of the start of what was read; of tables all rows that were."""

_KIND = "study"
_GROUPS = ("matrices", "tables", "vectors", "experts")


def fitted(study: Study, most: int = MOST) -> Study:
    """A study with at most `most` values, or with the start of each of its slices.

    Parameters
    ----------
    study : Study
    most : int

    Returns
    -------
    Study
        Rows of one matrix lie at one place in all models, and so do those that are kept.
    """
    if sum(v.size for v in (*study.slices.values(), *study.experts.values())) <= most:
        return study
    return replace(
        study,
        matrices={k: _cut(v, ROWS) for k, v in study.matrices.items()},
        tables={k: _cut(v, v.shape[0]) for k, v in study.tables.items()},
        experts={k: _cut(v, ROWS) for k, v in study.experts.items()},
    )


def encode_study(study: Study) -> bytes:
    """Bytes of a study, without the name of the model."""
    arrays: list[Array] = []
    listed: dict[str, list[list[Any]]] = {}
    for group in _GROUPS:
        slices: Arrays = getattr(study, group)
        listed[group] = [[name, study.dtypes.get(name, "")] for name in sorted(slices)]
        arrays += [_held(slices[name]) for name in sorted(slices)]
    shapes = {name: list(shape) for name, shape in study.shapes.items()}
    facts = {"format": FORMAT, "dtype": study.dtype, "layers": study.n_layers, "slices": listed, "shapes": shapes}
    return pack(_KIND, facts, arrays)


def decode_study(data: bytes, *, name: str) -> Study:
    """The study behind some bytes.

    Raises
    ------
    MalformedDocumentError
        The bytes are damaged, of another version, or do not fit together.
    """
    facts, arrays = unpack(data, _KIND)
    try:
        found = _study(facts, arrays, name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"its facts do not describe a study ({type(error).__name__})"
        raise MalformedDocumentError(reason, where=name) from error
    if not _is_sound(found):
        raise MalformedDocumentError("its parts do not fit together", where=name)
    return found


def _study(facts: Mapping[str, Any], arrays: list[Array], name: str) -> Study:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']!r}")
    listed = [(group, label, dtype) for group in _GROUPS for label, dtype in facts["slices"][group]]
    groups: dict[str, dict[str, Array]] = {group: {} for group in _GROUPS}
    for (group, label, _), array in zip(listed, arrays, strict=True):
        groups[group][label] = array
    return Study(
        id=name,
        dtype=facts["dtype"],
        dtypes={label: dtype for _, label, dtype in listed if dtype},
        matrices=groups["matrices"],
        tables=groups["tables"],
        vectors=groups["vectors"],
        n_layers=facts["layers"],
        bytes_read=0,
        requests=0,
        shapes={name: (rows, columns) for name, (rows, columns) in facts["shapes"].items()},
        experts=groups["experts"],
    )


def _is_sound(s: Study) -> bool:
    matrices = (*s.slices.values(), *s.experts.values())
    named = all(isinstance(t, str) for t in (s.dtype, *s.dtypes, *s.dtypes.values()))
    shaped = all(v.ndim == 2 for v in matrices) and all(v.ndim == 1 for v in s.vectors.values())
    floats = all(v.dtype.kind == "f" for v in (*matrices, *s.vectors.values()))
    known = {name: s.slices[name].shape for name in s.shapes if name in s.slices}
    whole = len(known) == len(s.shapes) and all(
        type(n) is int and held <= n < 1 << 40
        for name, shape in known.items()
        for n, held in zip(s.shapes[name], shape, strict=True)
    )
    return named and shaped and floats and whole and type(s.n_layers) is int and 0 <= s.n_layers <= 100_000


def _cut(values: Values, rows: int) -> Values:
    return np.ascontiguousarray(values[:rows, :COLUMNS])


def _held(values: Values) -> Values:
    return values if values.dtype in {np.dtype("<f4"), np.dtype("<f8")} else values.astype("<f8")
