"""The exchangeable-axis catalogue: on which axes of a network a label test is valid at all.

Every exact test here draws its null from relabelling the units along one axis. That law holds only when
training treats the units alike (arXiv 2502.12292, Theorem 1). On 25,974 axis pairs of independently trained
networks every excess of false positives came from an axis that is *not* exchangeable (frequency bins, tempo
classes, regression outputs); so the default is refusal, and an axis is testable only when a reader of the
architecture has named it as one of the kinds below.
"""

from enum import Enum


class Axis(Enum):
    """Kinds of axes a tensor can have."""

    HIDDEN = "hidden units of an MLP block"
    RESIDUAL = "residual dimensions"
    VALUE = "value dimensions inside one key-value head"
    HEAD = "attention heads"
    EXPERT = "routed experts"
    TOKEN = "vocabulary entries"  # noqa: S105 - a token of text
    POSITION = "positions"
    LAYER = "layers"
    ROTARY = "query or key dimensions under rotary positions"
    RESIDUAL_FIXED = "residual dimensions of a model with a fixed position table"
    HEAD_ALIBI = "attention heads with fixed slopes"
    STATE = "state dimensions of a recurrence"
    SHARED_EXPERT = "shared experts"
    OUTPUT = "classes, regression targets or reconstructed values"
    INPUT = "input channels, frequencies, time bins or pixels"
    UNKNOWN = "an axis no architecture reader has named"


_REFUSED: dict[Axis, str] = {
    Axis.TOKEN: "token identity is shared meaning, not a label",
    Axis.POSITION: "positions are ordered",
    Axis.LAYER: "depth is ordered",
    Axis.ROTARY: "rotary embedding ties the index to a frequency",
    Axis.RESIDUAL_FIXED: "a fixed position table ties each dimension to a frequency in every model that has it",
    Axis.HEAD_ALIBI: "fixed slopes tie the index to a range",
    Axis.STATE: "state dimensions start from a ramp over their index",
    Axis.SHARED_EXPERT: "shared experts are told apart from routed ones",
    Axis.OUTPUT: "outputs carry the meaning of the task",
    Axis.INPUT: "inputs carry the meaning of the data",
    Axis.UNKNOWN: "nobody has shown that training treats these units alike",
}


def is_exchangeable(axis: Axis) -> bool:
    """Whether training treats the units of this axis alike, so that their labels are random.

    Parameters
    ----------
    axis : Axis
        What an architecture reader has named the axis.

    Returns
    -------
    bool
    """
    return axis not in _REFUSED


def require_exchangeable(axis: Axis) -> None:
    """Refuse a label test on an axis whose labels mean something.

    Parameters
    ----------
    axis : Axis
        What an architecture reader has named the axis.

    Raises
    ------
    ValueError
        The axis is not exchangeable; the message says why.
    """
    if axis in _REFUSED:
        raise ValueError(f"no label test is valid on {axis.value}: {_REFUSED[axis]}")
