"""The workflow of `lineage mark sketch`: what will stand for an unmarked model when its marks are looked for."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crawl import ModelRef, Role, WeightSource, open_model
from lineage.body import Body
from lineage.errors import UsageError
from lineage.projecting import n_columns, picked_tokens, projected, token_columns, token_rows, widths
from lineage.record import SCHEMA_VERSION, RunRecord, run_entry
from stats.arrays import Float64Array
from weightmark import sketchfile
from weightmark.errors import UnfitModelError
from weightmark.files import model_digest, views_of
from weightmark.keys import Key
from weightmark.schemes import gram
from weightmark.sketchfile import KINDS, PAIRS, SIDE, Array16, Kind, Sketch, directions, stored

Tell = Callable[[str, int, int], None]

_WEIGHTS = 1 << 20
"""Weights read at once for the products of columns."""


def outline(
    source: WeightSource, kinds: Sequence[Kind] = KINDS, *, digest: str | None = None, tell: Tell | None = None
) -> Sketch:
    """A sketch of a model as it is before it is marked.

    Parameters
    ----------
    source : WeightSource
    kinds : sequence of {"perm", "rot", "gram"}
    digest : str, optional
        Of the model, where it is known already.
    tell : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    Sketch

    Raises
    ------
    UnfitModelError
        The architecture is not recognised, or nothing of it can be kept.

    Notes
    -----
    A function of the model alone. Cost: one pass over the matrices for each kind and one for the digest; memory of a piece
    of a matrix, of the sketch, and of 4,096 rows of tokens.
    """
    say = tell or (lambda _stage, _done, _total: None)
    arch = source.architecture
    if arch is None:
        raise UnfitModelError("its architecture is not recognised", where=str(source.ref))
    body = Body(source, arch)
    found = digest or model_digest(source, lambda done, n: say("reading", done, n))
    counts = {
        "width": arch.width,
        "layers": arch.n_layers,
        "vocabulary": body.vocabulary or 0,
        "heads": arch.n_heads or 0,
        "kv_heads": arch.n_kv or 0,
    }
    arrays: dict[str, Array16] = {}
    if "perm" in kinds:
        arrays |= {f"perm.{n}": stored(a) for n, a in _units(body, found, say)}
    if "rot" in kinds:
        arrays |= {f"rot.{n}": stored(a) for n, a in _basis(body)}
    if "gram" in kinds:
        arrays |= {f"gram.{n}": stored(a) for n, a in _products(source, say)}
    if not arrays:
        raise UnfitModelError("nothing of this model can be sketched", where=str(source.ref))
    kept = tuple(k for k in KINDS if any(n.startswith(f"{k}.") for n in arrays))
    return Sketch(found, kept, counts, arrays)


def _units(body: Body, digest: str, say: Tell) -> Iterator[tuple[str, Float64Array]]:
    width, depth = body.architecture.width, body.architecture.n_layers
    signs = directions(digest, "residual", width, SIDE)
    for layer in range(depth):
        seen = projected(body, layer, widths(body, layer), signs)
        for kind, rows in {**seen.reads, **seen.writes}.items():
            yield f"L{layer:04d}.{kind}", rows
        say("sketching units", layer + 1, depth)
    n = n_columns(body.vocabulary or 0)
    columns = token_columns(body, n, directions(digest, "tokens", n, SIDE))
    if columns is not None and n > 1:
        yield "residual", columns


def _basis(body: Body) -> Iterator[tuple[str, Float64Array]]:
    arch = body.architecture
    rows = token_rows(body, picked_tokens(body.vocabulary or 0, arch.width))
    if rows is None or not rows.size:
        return
    yield "tokens", rows
    for layer in range(arch.n_layers):
        for norm in sorted({n for n in (arch.attn_norm, arch.mlp_norm) if n is not None}):
            gain = body.gain(layer, norm)
            if gain is not None:
                yield str(Role(norm, layer)), gain


def _products(source: WeightSource, say: Tell) -> Iterator[tuple[str, Float64Array]]:
    """Correlations of the input columns of every group of matrices that `gram` marks, of dense layers."""
    views = views_of(source)
    groups = {n: r for n, r in gram.groups(views).items() if n[6:] in {k[0] for k in gram.READERS}}
    for done, (name, roles) in enumerate(groups.items(), start=1):
        sums: Any = 0.0
        for role in roles:
            n, width = views[role].shape
            step = max(1, _WEIGHTS // width)
            for start in range(0, n if width >= gram.BLOCK else 0, step):
                part = source.view_rows(views[role], np.arange(start, min(n, start + step)))
                sums = sums + gram.gram_sums(np.asarray(part, dtype=np.float64))
        if isinstance(sums, np.ndarray) and np.isfinite(sums).all():
            yield name, gram.correlations(sums)
        say("sketching columns", done, len(groups))


def expected_sizes(
    *, layers: int, width: int, hidden: int, gated: bool, vocabulary: int, queries: int, keys: int
) -> dict[str, int]:
    """Bytes of each kind for a dense model of these sizes: two a number, whatever the format of the weights.

    Parameters
    ----------
    layers, width, hidden, vocabulary : int
    gated : bool
    queries, keys : int
        Rows of the matrices of queries and of keys.
    """
    units = sum(
        sketchfile.WIDTHS[k][0 if gated else -1] for k in (("mlp.gate",) if gated else ()) + ("mlp.up", "mlp.down")
    )
    heads = sketchfile.WIDTHS["attn.q"][0] * queries + sketchfile.WIDTHS["attn.k"][0] * keys
    return {
        "perm": 2 * (layers * (units * hidden + heads) + SIDE * width),
        "rot": 2 * width * (min(vocabulary, width) + 2 * layers),
        "gram": 2 * layers * len(gram.READERS) * (width // SIDE) * PAIRS,
    }


@contextmanager
def sketched(
    source: WeightSource, key: Key, path: Path | None, digest: str, tell: Tell | None = None
) -> Iterator[dict[str, Any] | None]:
    """Write a sketch of a model for as long as it takes to mark it, and keep it if that goes well.

    Yields
    ------
    dict or None
        `path`, `sha256`, `kinds` and `bytes`; None without a path. Products of columns are kept for the scheme that uses
        them.
    """
    if path is None:
        yield None
        return
    kinds = KINDS if key.scheme == gram.Gram.name else KINDS[:2]
    written, fresh = _write(path, outline(source, kinds, digest=digest, tell=tell))
    try:
        yield {"path": str(path), **written}
    except BaseException:
        if fresh:
            path.unlink(missing_ok=True)
        raise


def _write(path: Path, sketch: Sketch) -> tuple[dict[str, Any], bool]:
    """Write a sketch; what is remembered of it, and whether the file is new."""
    data = sketchfile.to_bytes(sketch)
    fresh = sketchfile.write(path, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "kinds": list(sketch.kinds), "bytes": len(data)}, fresh


def sketch(ref: str, out: Path, kinds: Sequence[Kind] = KINDS, tell: Tell | None = None) -> dict[str, Any]:
    """Write the sketch of an unmarked model.

    Returns
    -------
    dict
        The document of `schemas/mark-sketch-1.json`.

    Raises
    ------
    UsageError
        No kind.
    WritingError
        There is another file of this name, or it cannot be written.
    """
    start = time.perf_counter()
    if not kinds:
        raise UsageError("no kind", where="--kind", hint=f"some of {', '.join(KINDS)}")
    with open_model(ModelRef.parse(ref)) as source:
        made = outline(source, kinds, tell=tell)
        written, _ = _write(out, made)
        record = RunRecord(
            command="mark sketch",
            seed=0,
            parameters={"kinds": list(kinds)},
            inputs=[{"id": source.ref.id, "header_digest": source.header_digest()}],
        )
        record.run.update(run_entry([source.ref.id], [source], time.perf_counter() - start))
    return {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "out": str(out),
        "unmarked_digest": made.digest,
        "sizes": _by_kind(made.sizes()),
        **written,
    }


def _by_kind(sizes: Mapping[str, int]) -> dict[str, int]:
    return {kind: sizes.get(kind, 0) for kind in KINDS}
