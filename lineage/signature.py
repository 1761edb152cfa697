"""What the ladder knows of one model: a few rows of it, chosen before any value was seen.

A pair is tested from two signatures and nothing else, so a model is read once for all its pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from crawl import Architecture
from stats.arrays import Float64Array, IntVector
from stats.result import Skipped

TABLE_KINDS = ("embed", "unembed", "embed.position", "embed.patch")
"""Tables whose columns are residual dimensions."""

VectorKey: TypeAlias = tuple[int | None, str]
"""(layer, role kind): a gain or bias vector over the residual dimensions."""


@dataclass(frozen=True, slots=True)
class Block:
    """Hidden units of one MLP block.

    Attributes
    ----------
    layer : int
        Its depth.
    n_units : int
        Hidden units of the whole block.
    parts : mapping of str to (k, s) float64
        Features first, units second, for each matrix in which a unit is contiguous in the file.
    gain : (k,) float64 or None
        The norm gain in front of the block, over the same residual dimensions.
    probes : mapping of str to (t, s) float64
        For each matrix, what its units answer to the tokens read: rows times gain times embedding, over all residual
        dimensions, or (mlp.down) their outputs read by the head. Blind to any rotation of the residual stream.
    wide : mapping of str to (d, s) float64
        The matrices over all residual dimensions with the gain folded in, where those were read.
    """

    layer: int
    n_units: int
    parts: Mapping[str, Float64Array]
    gain: Float64Array | None
    probes: Mapping[str, Float64Array] = field(default_factory=dict)
    wide: Mapping[str, Float64Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Values:
    """Value dimensions of one layer, or the experts of its router.

    Attributes
    ----------
    layer : int
        Its depth.
    n_units : int
        Length of the whole axis.
    parts : (k, s) float64
        Features first, units second; the gain in front is folded in.
    probes : (t, s) float64
        Answers to the tokens read, as in `Block`.
    """

    layer: int
    n_units: int
    parts: Float64Array
    probes: Float64Array


@dataclass(frozen=True, slots=True)
class Table:
    """Some rows of a table whose columns are residual dimensions.

    Attributes
    ----------
    kind : str
        Role kind.
    n_rows : int
        Rows of the whole table.
    rows : (k,) int64
        Which rows were read.
    values : (k, d) float64
        Their values over the residual window.
    row_norms : (k,) float64
        Norms over the full width, to tell a learned table from a fixed one.
    fixed : bool
        For a position table: whether it came from sines, so that residual dimensions carry no labels.
    """

    kind: str
    n_rows: int
    rows: IntVector
    values: Float64Array
    row_norms: Float64Array
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything the ladder knows of one model.

    Attributes
    ----------
    ref, id : str
        As asked for, and as resolved.
    version : int
        `SIGNATURE_VERSION` at reading time.
    key_name : str
        Which row key placed the rows.
    architecture : Architecture or None
        What the tensor names and shapes show; None for an unknown architecture.
    n_parameters : int
        Stored elements.
    dtype : str
        Stored type of most bytes.
    columns : slice
        Residual dimensions read.
    vectors : mapping
        Norm gains and norm biases over all residual dimensions read, by (layer, kind).
    blocks : tuple of Block
        Hidden units of the chosen layers.
    block_groups : tuple of int
        For each block the position of the first block whose units carry the same labels: itself, or the block
        it is a copy of. Copied layers (depth up-scaling) share labels and must not be multiplied.
    tables : mapping of str to Table
        Embedding-like tables.
    tokens : (t,) int64
        Rows of the embedding behind every probe.
    values, experts : tuple of Values
        Value dimensions, and router rows, of some layers.
    census : mapping of str to float64 array
        A few rows of every matrix of the chosen layers, by role; only describes, never tests.
    samples : mapping of str to float64 array
        For an unknown architecture, a few rows of its tensors by name; never tested.
    skipped : tuple of Skipped
        What could not be read, and why.
    header_digest, slices_digest : str
        SHA-256 of the canonical header and of everything above.
    bytes_read, requests : int
        What reading it cost, the header included.
    """

    ref: str
    id: str
    version: int
    key_name: str
    architecture: Architecture | None
    n_parameters: int
    dtype: str
    columns: slice
    vectors: Mapping[VectorKey, Float64Array]
    blocks: tuple[Block, ...]
    block_groups: tuple[int, ...]
    tables: Mapping[str, Table]
    tokens: IntVector
    values: tuple[Values, ...]
    experts: tuple[Values, ...]
    census: Mapping[str, Float64Array]
    samples: Mapping[str, Float64Array]
    skipped: tuple[Skipped, ...]
    header_digest: str
    slices_digest: str
    bytes_read: int = field(compare=False)
    requests: int = field(compare=False)

    @property
    def width(self) -> int:
        """Residual width, 0 for an unknown architecture."""
        return self.architecture.width if self.architecture else 0

    @property
    def n_layers(self) -> int:
        """Depth, 0 for an unknown architecture."""
        return self.architecture.n_layers if self.architecture else 0
