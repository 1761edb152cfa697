"""The published statistics of a pair, beside the exact tests: whole up projections, approximate p-values, no verdict.

They are added to a finished document, so they cannot move its verdict, its p-value or its e-value.
"""

import hashlib
import hmac
import math
from typing import Any

import numpy as np

from crawl import Role, View, WeightSource
from lineage.documents import result_entry, skipped_entry
from lineage.errors import UsageError
from lineage.plan import RowKey, pick_layers
from stats.arrays import Float64Array
from stats.ordering import is_sorted_pair
from stats.published import assignment_spearman, fisher_over_blocks, load_assignment
from stats.result import Skipped, TestResult

MAX_MATRIX_BYTES = 512 << 20
"""Largest up projection read whole, as float32: 235 MB at 8B, 940 MB at 70B."""

MAX_COST_BYTES = 2 << 30
"""Largest matrix of cosines, 8 n^2 bytes: 16,384 units."""


def require_solver() -> None:
    """Fail before anything is read when the assignment solver is not installed.

    Raises
    ------
    UsageError
        scipy is missing.
    """
    try:
        load_assignment()
    except ImportError as error:
        raise UsageError(
            "the published statistics need scipy", where="--published", hint="install lineage-forensics[published]"
        ) from error


def add_published(
    document: dict[str, Any], a: WeightSource, b: WeightSource, *, key: RowKey, max_bytes: int | None
) -> None:
    """Add the published statistics to `tests` of a compare document, and what stood in their way to `skipped`.

    Parameters
    ----------
    document : dict
        Of `compare_signed`; verdict and combined numbers are already in it and stay.
    a, b : WeightSource
        The two models, open.
    key : RowKey
        Seeds the shuffle of the candidates.
    max_bytes : int or None
        Most bytes read of one model in all.
    """
    document["record"]["parameters"]["published"] = True
    if document["verdict"] == "untestable":
        document["skipped"].append(skipped_entry(Skipped(tensor="published-u", reason="no axis has random labels")))
        return
    results, skipped = published_tests(a, b, key=key, max_bytes=max_bytes)
    document["tests"] += [result_entry(r) for r in results]
    document["skipped"] += [skipped_entry(s) for s in skipped]


def published_tests(
    a: WeightSource, b: WeightSource, *, key: RowKey, max_bytes: int | None = None
) -> tuple[list[TestResult], list[Skipped]]:
    """One result per block read, the same layer of both models, and Fisher's combination of them.

    Parameters
    ----------
    a, b : WeightSource
        Opened models.
    key : RowKey
        Seeds the shuffle of the candidates.
    max_bytes : int, optional
        Most bytes read of one model in all.

    Returns
    -------
    (list of TestResult, list of Skipped)

    Raises
    ------
    CrawlError
        Bytes are missing, malformed or cannot be fetched.

    Notes
    -----
    Reads all rows of `mlp.up` of the layers of `pick_layers`: 90 MB a block of a 7B model in 16 bits, against 2.4 MB
    for everything the exact tests read of it.
    """
    results: list[TestResult] = []
    skipped: list[Skipped] = []
    shapes = a.architecture, b.architecture
    if shapes[0] is None or shapes[1] is None or shapes[0].n_layers != shapes[1].n_layers:
        reason = "the published statistic pairs the same layer of known architectures of one depth"
        return [], [Skipped(tensor="published-u", reason=reason)]
    for layer in pick_layers(shapes[0].n_layers):
        found = _block(layer, a, b, key, max_bytes)
        (results if isinstance(found, TestResult) else skipped).append(found)  # type: ignore[arg-type]
    if results:
        results.append(fisher_over_blocks(results, label_group="hidden", scope=f"{len(results)} blocks; approximate"))
    return results, skipped


def _block(layer: int, a: WeightSource, b: WeightSource, key: RowKey, max_bytes: int | None) -> TestResult | Skipped:
    what = f"published-u, layer {layer}"
    views = _up(a, layer), _up(b, layer)
    if views[0] is None or views[1] is None:
        return Skipped(tensor=what, reason="no up projection in one of the models")
    obstacle = _obstacle(views[0], views[1]) or _too_dear(a, views[0], max_bytes) or _too_dear(b, views[1], max_bytes)
    if obstacle:
        return Skipped(tensor=what, reason=obstacle)
    rows = _rows(a, views[0]), _rows(b, views[1])
    if not all(np.isfinite(values).all() for values in rows):
        return Skipped(tensor=what, reason="NaN or infinite values: untestable")
    if is_sorted_pair(*(np.sqrt(np.sum(values * values, axis=1)) for values in rows)):
        return Skipped(tensor=what, reason="sorted units: index and norm rise or fall together in both models")
    try:
        return assignment_spearman(
            *rows, rng=_generator(key, layer), label_group=f"hidden:{layer}", scope=f"layer {layer}; approximate"
        )
    except ValueError as error:
        return Skipped(tensor=what, reason=str(error))


def _up(source: WeightSource, layer: int) -> View | None:
    """The up projection of a layer, of expert 0 where there are experts."""
    dense = source.views.get(Role("mlp.up", layer, None))
    return dense if dense is not None else source.views.get(Role("mlp.up", layer, 0))


def _obstacle(left: View, right: View) -> str | None:
    n, width = left.shape
    if left.shape != right.shape:
        return f"shapes differ ({left.shape} and {right.shape})"
    if 4 * n * width > MAX_MATRIX_BYTES:
        return f"its up projection of {4 * n * width >> 20} MB exceeds the limit of {MAX_MATRIX_BYTES >> 20} MB"
    if 8 * n * n > MAX_COST_BYTES:
        return f"the cosines of {n} units need {8 * n * n >> 20} MB, the limit is {MAX_COST_BYTES >> 20} MB"
    return None


def _too_dear(source: WeightSource, view: View, max_bytes: int | None) -> str | None:
    stored = len(view.tensor.span) * math.prod(view.shape) // max(1, math.prod(view.tensor.shape))
    if max_bytes is None or source.bytes_read + stored <= max_bytes:
        return None
    return f"reading it would go beyond the limit of {max_bytes} bytes"


def _rows(source: WeightSource, view: View) -> Float64Array:
    return np.asarray(source.view_rows(view, np.arange(view.shape[0])), dtype=np.float64)


def _generator(key: RowKey, layer: int) -> np.random.Generator:
    """Shuffles from the row key, so that nothing in the weights can know the order."""
    digest = hmac.new(key.secret, f"published-u/{layer}".encode(), hashlib.sha256).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
