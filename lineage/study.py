"""The second reading of a model: larger slices, for members of a family that tests have already joined.

What a signature holds is enough to test a pair. How much of an update is low rank, whether rounding can be replayed,
what a merge is made of, and how far apart the members are need more values. They are read once per member, at places
fixed by shapes alone, and only of models that have kin among the inputs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from crawl import Role, View, WeightSource
from lineage.plan import RowKey, pick_columns, pick_layers, pick_run
from lineage.stored import Arrays, Values

ROWS = 192
"""Rows of each matrix of the chosen layers: a merged adapter of rank 64 shows in as many."""

MOST_EXPERTS = 256
"""Experts of a layer whose first rows are read."""

OTHER_ROWS = 8
"""Rows of each matrix of all other layers: where the parts of a stack came from."""

COLUMNS = 1024
TABLE_ROWS = 1024
TAIL_ROWS = 128
"""Rows of a table from its start and its end: reserved tokens, which training never touches, lie at both."""

_SMALLEST, _LARGEST = 1e-60, 1e60
"""Largest size in an array outside of which it is left out: no trained model comes near, and powers overflow."""

WHOLE = 1 << 21
"""Elements of a model up to which it is read whole."""

MATRICES = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down")
TABLES = ("embed", "unembed", "embed.position")


@dataclass(frozen=True, slots=True)
class Study:
    """Larger slices of one member.

    Attributes
    ----------
    id : str
    dtype : str
        Stored number format of most bytes.
    dtypes : mapping of str to str
        Stored number format of each slice.
    matrices : mapping of str to (m, n) float
        Matrices by layer and role, outputs first.
    tables : mapping of str to (m, n) float
        Rows of token and position tables.
    vectors : mapping of str to (n,) float
        Norm gains and biases, whole.
    n_layers : int
    bytes_read, requests : int
        What the reading cost.
    shapes : mapping of str to (int, int)
        Of the whole matrices and tables, where they are known.
    experts : mapping of str to (m, n) float
        A few rows of each expert of two layers, by layer, role and number: ``3.mlp.up.7``. Empty without experts.
    """

    id: str
    dtype: str
    dtypes: Mapping[str, str]
    matrices: Arrays
    tables: Arrays
    vectors: Arrays
    n_layers: int
    bytes_read: int
    requests: int
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    experts: Arrays = field(default_factory=dict)

    @property
    def slices(self) -> Arrays:
        """Matrices and tables together."""
        return {**self.matrices, **self.tables}

    @property
    def shape_class(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of all matrices and tables: equal for members that can be compared element by element."""
        return tuple(sorted((k, self.shapes.get(k, v.shape)) for k, v in {**self.slices, **self.experts}.items()))


def study(source: WeightSource, key: RowKey, *, name: str) -> Study | None:
    """Read the larger slices of an opened model; None for an unknown architecture.

    Parameters
    ----------
    source : WeightSource
    key : RowKey
        Places the rows.
    name : str
        Id of the member.

    Returns
    -------
    Study or None

    Raises
    ------
    CrawlError
        Bytes are missing, malformed or cannot be fetched.

    Notes
    -----
    Arrays that hold a value that is not finite, or only extreme ones, are left out. Models of up to two million parameters are read whole. Cost
    of others: at most 192 rows of seven matrices in four layers, eight in the others, 1,152 rows of three tables, 1,024
    columns of each.
    """
    arch = source.architecture
    if arch is None:
        return None
    before = source.bytes_read, source.requests
    plan = _Plan(key, whole=source.n_parameters <= WHOLE)
    dtypes: dict[str, str] = {}
    shapes: dict[str, tuple[int, int]] = {}
    found: dict[str, dict[str, Values]] = {"matrices": {}, "tables": {}, "vectors": {}}
    for group, label, view in _views(source):
        values = plan.read(source, view, group, label)
        if is_usable(values):
            found[group][label] = values
            dtypes[label] = view.tensor.dtype.name
            if len(view.shape) == 2:
                shapes[label] = (view.shape[0], view.shape[1])
    experts = {label: values for label, values in _experts(source, plan) if is_usable(values)}
    return Study(
        id=name,
        dtype=source.dtype,
        dtypes=dtypes,
        matrices=found["matrices"],
        tables=found["tables"],
        vectors=found["vectors"],
        n_layers=arch.n_layers,
        bytes_read=source.bytes_read - before[0],
        requests=source.requests - before[1],
        shapes=shapes,
        experts=experts,
    )


def _experts(source: WeightSource, plan: "_Plan") -> Iterator[tuple[str, Values]]:
    """A few rows of every expert's matrices in the first and the last layer, those that are read of a dense one."""
    last = source.architecture.n_layers - 1 if source.architecture is not None else 0
    for role in sorted(source.views):
        view = source.views[role]
        if role.expert is None or role.expert >= MOST_EXPERTS or role.layer not in (0, last):
            continue
        if role.kind in MATRICES and len(view.shape) == 2 and not view.transposed:
            rows, columns = view.shape
            index = np.arange(rows) if plan.whole else pick_run(f"study/{role.kind}", rows, ROWS, plan.key)
            part = slice(0, columns) if plan.whole else pick_columns(columns, COLUMNS, plan.key)
            values = source.view_rows(view, index[:OTHER_ROWS], columns=part)
            yield f"{role.layer}.{role.kind}.{role.expert}", values


def study_bytes(source: WeightSource) -> int:
    """Most bytes that `study` reads of a model, its header left out."""
    whole = source.n_parameters <= WHOLE
    total = 0
    for group, _, view in _views(source):
        n = math.prod(view.shape)
        if not whole and group == "tables":
            n = min(n, (TABLE_ROWS + TAIL_ROWS) * COLUMNS)
        elif not whole and group == "matrices":
            n = min(n, ROWS * COLUMNS)
        total += n * len(view.tensor.span) // max(1, math.prod(view.tensor.shape))
    return total


def is_usable(values: Values) -> bool:
    """Whether all values are finite, and neither so large nor so small that their fourth powers are not."""
    top = float(np.max(np.abs(values), initial=0.0))
    return top == 0.0 or _SMALLEST < top < _LARGEST


def _views(source: WeightSource) -> Iterator[tuple[str, str, View]]:
    """(group, label, view) of everything a study looks at, in a fixed order."""
    arch = source.architecture
    if arch is None:
        return
    for layer in range(arch.n_layers):
        for kind in MATRICES:
            view = source.views.get(Role(kind, layer, None)) or source.views.get(Role(kind, layer, 0))
            if view is not None and len(view.shape) == 2:
                yield "matrices", f"{layer}.{kind}", view
    for kind in TABLES:
        view = source.views.get(Role(kind, None, None))
        if view is not None and len(view.shape) == 2 and view.shape[1] == arch.width:
            yield "tables", kind, view
    for role in sorted(source.views):
        view = source.views[role]
        if len(view.shape) == 1 and role.expert is None and view.shape[0] <= _LONGEST_VECTOR:
            yield "vectors", role.kind if role.layer is None else f"{role.layer}.{role.kind}", view


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which part of each array is read."""

    key: RowKey
    whole: bool

    def read(self, source: WeightSource, view: View, group: str, label: str) -> Values:
        """The values of one array, or of its part."""
        if group == "vectors":
            return source.view_vector(view)
        rows, columns = view.shape
        if self.whole:
            return source.view_rows(view, np.arange(rows))
        if group == "tables":
            tail = max(TABLE_ROWS, rows - TAIL_ROWS)
            chosen = np.concatenate([np.arange(min(rows, TABLE_ROWS)), np.arange(tail, rows)])
            return source.view_rows(view, chosen, columns=pick_columns(columns, COLUMNS, self.key))
        layer, kind = label.split(".", 1)
        arch = source.architecture
        central = arch is not None and int(layer) in pick_layers(arch.n_layers)
        count, part = (ROWS if central else OTHER_ROWS), pick_columns(columns, COLUMNS, self.key)
        # The fewer rows lie among the more, so that a layer of one depth meets its like of another.
        if view.transposed:  # inputs are contiguous: a run of them costs one request
            inputs = pick_run(f"study/{kind}", columns, ROWS, self.key)[:count]
            return source.view_columns(view, inputs, rows=pick_columns(rows, COLUMNS, self.key))
        return source.view_rows(view, pick_run(f"study/{kind}", rows, ROWS, self.key)[:count], columns=part)


_LONGEST_VECTOR = 1 << 17
"""Elements of a gain or bias beyond which it is left out: nothing in use is longer."""
