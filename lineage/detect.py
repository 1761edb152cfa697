"""The power of a non-finding: plants similarities in what was read and asks which the ladder would have seen."""

import math

import numpy as np

from lineage.align import common_rows, residual_obstacle
from lineage.blocks import paired_blocks
from lineage.evidence import LOG_DEEP, Evidence
from lineage.signature import Signature
from stats.eprocess import cosine_grid
from stats.features import WINDOW, balanced, unit_cosines
from stats.power import PlantedGroup, PlantedPart, detectable_cosine
from stats.residual import GROUP

_REWRITES = "a rewrite that permutes hidden units and value dimensions and also rotates or permutes the residual stream"
_COVERED = (
    "tensors and rows that were not read (attention projections, most rows of every matrix)",
    "a rewriter who knew the row key and treated exactly the rows read",
    "layers other than those read, where depths differ",
)
"""What the default ladder cannot see, printed with every non-finding."""


_SAMPLED = "a rewrite of everything in a model that also has other tokens, or in layers that were not sampled"


def not_covered(verdict: str, *, looked: bool | None) -> list[str]:
    """What an answer leaves open; a closer look that reads everything sees through rewrites of everything.

    Parameters
    ----------
    verdict : str
    looked : bool or None
        Whether a closer look read both models whole; None where none was made.
    """
    if verdict == "identical":
        return []
    if verdict in {"related", "resembles"}:
        return [_COVERED[1]] if looked else list(_COVERED[:2])
    if looked:
        return [_COVERED[1]]
    return [_REWRITES if looked is None else _SAMPLED, *_COVERED]


def detectable_similarity(a: Signature, b: Signature, evidence: Evidence, level: float, seed: int) -> float | None:
    """Row cosine that would have been found with power 0.95 at this level, undisguised, in what was read.

    Parameters
    ----------
    a, b : Signature
        The pair.
    evidence : Evidence
        Its tests, which tell what took part.
    level : float
        The level used.
    seed : int
        Of the generator that draws relabellings.

    Returns
    -------
    float or None
        None when nothing was tested or no similarity would have been seen.
    """
    groups = _block_groups(a, b, evidence)
    table = _table_group(a, b, evidence)
    if table is not None:
        groups.append(table)
    return detectable_cosine(groups, -math.log(level) - math.log1p(-math.exp(LOG_DEEP)), np.random.default_rng(seed))


def _block_groups(a: Signature, b: Signature, evidence: Evidence) -> list[PlantedGroup]:
    if not any(r.label_group.startswith("hidden") for r in evidence.results):
        return []
    ways = {r.method for r in evidence.results if r.label_group.startswith("hidden")}
    share = 2 * len(ways)  # one way of several, at half the prior weight of its layer, the others taken as silent
    groups = []
    for parts in paired_blocks(a, b):
        planted = []
        for part in parts:
            left, right = balanced(part.a, centre_units=False), balanced(part.b, centre_units=False)
            planted.append(PlantedPart(unit_cosines(left, right), unit_cosines(right, right), part.signed))
        groups.append(PlantedGroup(tuple(planted), cosine_grid(float(parts[0].a.shape[0])), share=share))
    return groups


def _table_group(a: Signature, b: Signature, evidence: Evidence) -> PlantedGroup | None:
    """The first window of the first common table; the windows left out would only add power."""
    share = sum(r.label_group == GROUP and r.method != "split" for r in evidence.results)
    if share == 0 or residual_obstacle(a, b) is not None:
        return None
    for kind in sorted(a.tables.keys() & b.tables.keys()):
        left, right = common_rows(a.tables[kind], b.tables[kind])
        if left.shape[0] < 4 or not (np.isfinite(left).all() and np.isfinite(right).all()):
            continue
        left, right = (np.ascontiguousarray(balanced(v, centre_units=True)[:, :WINDOW]) for v in (left, right))
        part = PlantedPart(unit_cosines(left, right), unit_cosines(right, right))
        return PlantedGroup((part,), cosine_grid(float(left.shape[0] - 1)), share=share)
    return None
