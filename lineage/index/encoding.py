"""Signatures as bytes and back: a pair of stored ones is tested as if both models had just been read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from crawl import Architecture
from lineage.errors import MalformedDocumentError
from lineage.index.packing import Array, pack, unpack
from lineage.index.soundness import check_signature
from lineage.probing import folded
from lineage.signature import Block, Signature, Table, Values
from stats.arrays import Float64Array
from stats.result import Skipped

FORMAT = 1
"""Of the facts below; what is read of a model has a version of its own (`lineage.plan.SIGNATURE_VERSION`)."""

_KIND = "signature"
_FOLDED, _SAME = -1, -2
"""In place of the number of an array: rows with the gain folded in, the rows themselves."""


def encode(signature: Signature) -> bytes:
    """Bytes of a signature, without the names of the model: equal files give equal bytes.

    Parameters
    ----------
    signature : Signature

    Returns
    -------
    bytes
        What reading it cost is not kept, nor what follows from the rest.
    """
    arrays: list[Array] = []

    def keep(array: Array) -> int:
        arrays.append(array)
        return len(arrays) - 1

    s = signature
    facts = {
        "format": FORMAT,
        "version": s.version,
        "key": s.key_name,
        "architecture": None if s.architecture is None else asdict(s.architecture),
        "parameters": s.n_parameters,
        "dtype": s.dtype,
        "columns": [s.columns.start, s.columns.stop],
        "vectors": [[layer, kind, keep(v)] for (layer, kind), v in s.vectors.items()],
        "blocks": [_block_facts(b, keep) for b in s.blocks],
        "groups": list(s.block_groups),
        "tables": [
            [t.kind, t.n_rows, keep(t.rows), keep(t.values), keep(t.row_norms), t.fixed] for t in s.tables.values()
        ],
        "tokens": keep(s.tokens),
        "values": [[v.layer, v.n_units, keep(v.parts), keep(v.probes)] for v in s.values],
        "experts": [[v.layer, v.n_units, keep(v.parts), keep(v.probes)] for v in s.experts],
        "census": {role: keep(v) for role, v in sorted(s.census.items())},
        "samples": {name: keep(v) for name, v in sorted(s.samples.items())},
        "skipped": [[k.tensor, k.reason] for k in s.skipped],
        "header": s.header_digest,
        "slices": s.slices_digest,
    }
    return pack(_KIND, facts, arrays)


def decode(data: bytes, *, ref: str, name: str) -> Signature:
    """The signature behind some bytes.

    Parameters
    ----------
    data : bytes
        As `encode` made them, or as a stranger did.
    ref, name : str
        The model they stand for.

    Returns
    -------
    Signature
        Equal to the encoded one but for the names; its cost is 0.

    Raises
    ------
    MalformedDocumentError
        The bytes are damaged, of another version, or do not fit together.
    """
    facts, arrays = unpack(data, _KIND)
    try:
        found = _signature(facts, arrays, ref, name)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"its facts do not describe a signature ({type(error).__name__})"
        raise MalformedDocumentError(reason, where=name) from error
    check_signature(found)
    return found


def _block_facts(block: Block, keep: Any) -> dict[str, Any]:
    return {
        "layer": block.layer,
        "units": block.n_units,
        "gain": None if block.gain is None else keep(block.gain),
        "parts": {k: keep(v) for k, v in sorted(block.parts.items())},
        "probes": {k: keep(v) for k, v in sorted(block.probes.items())},
        "wide": {k: _wide_ref(block, k, v, keep) for k, v in sorted(block.wide.items())},
    }


def _wide_ref(block: Block, kind: str, values: Float64Array, keep: Any) -> int:
    part = block.parts.get(kind)
    if part is not None and part.shape == values.shape:
        if part.tobytes() == values.tobytes():
            return _SAME
        with np.errstate(over="ignore", invalid="ignore"):
            if folded(part, block.gain).tobytes() == values.tobytes():
                return _FOLDED
    return int(keep(values))


def _signature(facts: Mapping[str, Any], arrays: Sequence[Array], ref: str, name: str) -> Signature:
    if facts["format"] != FORMAT:
        raise MalformedDocumentError(
            f"of format {facts['format']!r}, this program reads {FORMAT}", where=name, hint="read the model again"
        )
    take = _Taker(arrays)
    arch = facts["architecture"]
    start, stop = facts["columns"]
    tables = [Table(kind, n, take(r), take(v), take(s), fixed) for kind, n, r, v, s, fixed in facts["tables"]]
    return Signature(
        ref=ref,
        id=name,
        version=facts["version"],
        key_name=facts["key"],
        architecture=None if arch is None else Architecture(**{**arch, "hints": tuple(arch["hints"])}),
        n_parameters=facts["parameters"],
        dtype=facts["dtype"],
        columns=slice(start, stop),
        vectors={(layer, kind): take(v) for layer, kind, v in facts["vectors"]},
        blocks=tuple(_block(b, take) for b in facts["blocks"]),
        block_groups=tuple(facts["groups"]),
        tables={t.kind: t for t in tables},
        tokens=take(facts["tokens"]),
        values=tuple(Values(layer, n, take(p), take(q)) for layer, n, p, q in facts["values"]),
        experts=tuple(Values(layer, n, take(p), take(q)) for layer, n, p, q in facts["experts"]),
        census={role: take(v) for role, v in facts["census"].items()},
        samples={key: take(v) for key, v in facts["samples"].items()},
        skipped=tuple(Skipped(tensor=tensor, reason=reason) for tensor, reason in facts["skipped"]),
        header_digest=facts["header"],
        slices_digest=facts["slices"],
        bytes_read=0,
        requests=0,
    )


class _Taker:
    """Arrays by their numbers, each once: a block cannot name one array a million times."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._left = dict(enumerate(arrays))

    def __call__(self, number: int) -> Array:
        return self._left.pop(number)


def _block(facts: Mapping[str, Any], take: _Taker) -> Block:
    gain = None if facts["gain"] is None else take(facts["gain"])
    parts = {k: take(v) for k, v in facts["parts"].items()}
    probes = {k: take(v) for k, v in facts["probes"].items()}
    wide = {}
    for kind, ref in facts["wide"].items():
        if ref >= 0:
            wide[kind] = take(ref)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                wide[kind] = parts[kind] if ref == _SAME else folded(parts[kind], gain)
    return Block(facts["layer"], facts["units"], parts, gain, probes, wide)
