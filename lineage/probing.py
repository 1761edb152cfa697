"""Answers of units to tokens: features that no rotation, permutation or rescaling of the residual stream can change.

A unit reads the residual stream through its row W; a token v enters it as its embedding E_v. Turn the stream by any
orthogonal R, with the norm gains g folded away, and W becomes W R, E becomes E R: the answer W diag(g) E_v stays.
"""

from dataclasses import dataclass, replace

import numpy as np

from lineage.signature import Block
from stats.arrays import Float64Array
from stats.features import products


@dataclass(frozen=True, slots=True)
class Probes:
    """The tokens of one model, as the residual stream knows them.

    Attributes
    ----------
    inner : (t, d) float64 or None
        Embedding rows over all residual dimensions.
    outer : (t, d) float64 or None
        Head rows of the same tokens times the final gain.
    """

    inner: Float64Array | None
    outer: Float64Array | None

    def answers(self, rows: Float64Array, *, writes: bool = False) -> Float64Array:
        """(t, s) answers of units (d, s) with their gain folded in; `writes`: what units write, read by the head.

        Empty where the tokens were not read. Tokens are centred first: their mean says nothing of a unit.
        """
        table = self.outer if writes else self.inner
        if table is None or table.shape[1] != rows.shape[0] or table.shape[0] < 2:
            return np.zeros((0, rows.shape[1]))
        return products(np.ascontiguousarray((table - table.mean(axis=0)).T), rows)

    def with_probes(self, block: Block) -> Block:
        """A block with the answers of its units."""
        found = {kind: self.answers(rows, writes=kind == "mlp.down") for kind, rows in block.wide.items()}
        return replace(block, probes={kind: values for kind, values in found.items() if values.size})


def folded(rows: Float64Array, gain: Float64Array | None) -> Float64Array:
    """Rows (d, s) with the gain in front of them folded in; unchanged where there is none that is finite."""
    if gain is None or not np.isfinite(gain).all():
        return rows
    return np.ascontiguousarray(rows * gain[:, None])
