"""Second readings as bytes and back, cut to a size that can be kept of every model.

Which part is kept depends on shapes alone, so that models of one shape keep the same part and can be compared value by
value. Of small models it is all that was read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lineage.errors import MalformedDocumentError
from lineage.index.packing import Array, pack, unpack
from lineage.stored import Arrays
from lineage.study import WHOLE, Study

FORMAT = 1
MOST = WHOLE
"""Values kept of one model: four megabytes in 16 bits, and models of up to as many parameters whole."""

_KIND = "study"
_LEAST_ROWS = 8
_GROUPS = ("matrices", "tables", "vectors")


def fitted(study: Study, most: int = MOST) -> Study:
    """A study with at most about `most` values: rows and columns of its slices are halved until they fit.

    Parameters
    ----------
    study : Study
    most : int
        Vectors, and eight rows of each slice, stay even beyond it.

    Returns
    -------
    Study
    """
    rows, columns = 1 << 20, 1 << 20
    longest = max((max(v.shape) for v in study.slices.values()), default=0)
    while rows > longest:
        rows //= 2
    matrices, tables = dict(study.matrices), dict(study.tables)
    while _size(matrices) + _size(tables) > most and rows > _LEAST_ROWS:
        rows //= 2
        columns = max(4 * rows, 256)
        matrices = {k: _cut(v, rows, columns) for k, v in study.matrices.items()}
        tables = {k: _cut(v, rows, columns) for k, v in study.tables.items()}
    return Study(
        id=study.id,
        dtype=study.dtype,
        dtypes=study.dtypes,
        matrices=matrices,
        tables=tables,
        vectors=study.vectors,
        n_layers=study.n_layers,
        bytes_read=study.bytes_read,
        requests=study.requests,
    )


def encode_study(study: Study) -> bytes:
    """Bytes of a study, without the name of the model."""
    arrays: list[Array] = []
    listed: dict[str, list[list[Any]]] = {}
    for group in _GROUPS:
        slices: Arrays = getattr(study, group)
        listed[group] = [[name, study.dtypes[name]] for name in sorted(slices)]
        arrays += [_held(slices[name]) for name in sorted(slices)]
    facts = {"format": FORMAT, "dtype": study.dtype, "layers": study.n_layers, "slices": listed}
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
        dtypes={label: dtype for _, label, dtype in listed},
        matrices=groups["matrices"],
        tables=groups["tables"],
        vectors=groups["vectors"],
        n_layers=facts["layers"],
        bytes_read=0,
        requests=0,
    )


def _is_sound(s: Study) -> bool:
    named = all(isinstance(t, str) for t in (s.dtype, *s.dtypes, *s.dtypes.values()))
    shaped = all(v.ndim == 2 for v in s.slices.values()) and all(v.ndim == 1 for v in s.vectors.values())
    floats = all(v.dtype.kind == "f" for v in (*s.slices.values(), *s.vectors.values()))
    return named and shaped and floats and type(s.n_layers) is int and 0 <= s.n_layers <= 100_000


def _size(slices: Arrays) -> int:
    return sum(v.size for v in slices.values())


def _cut(values: Array, rows: int, columns: int) -> Array:
    return np.ascontiguousarray(values[:rows, :columns])


def _held(values: Array) -> Array:
    return values if values.dtype in {np.dtype("<f4"), np.dtype("<f8")} else values.astype("<f8")
