"""The larger slices that a signature stands in for, where no second reading was stored."""

import numpy as np

from lineage.signature import Signature
from lineage.stored import Values
from lineage.study import Study, is_usable

_CENSUS = ("attn.q", "attn.k", "attn.v", "attn.o")


def lean_study(signature: Signature) -> Study | None:
    """A study made of a signature: hidden units and a few rows of attention in four layers, gains, rows of tables.

    Parameters
    ----------
    signature : Signature

    Returns
    -------
    Study or None
        None for an unknown architecture. Everything in it was read; what a second reading adds is not there: most
        rows, the ends of tables, the other layers.

    Notes
    -----
    Values are those stored, so what rounding leaves can be replayed on them.
    """
    arch = signature.architecture
    if arch is None:
        return None
    matrices: dict[str, Values] = {}
    for block in signature.blocks:
        for kind, values in block.parts.items():
            matrices[f"{block.layer}.{kind}"] = np.ascontiguousarray(values if kind == "mlp.down" else values.T)
    for role, values in signature.census.items():
        place, _, kind = role.removeprefix("L").partition(".")
        if kind in _CENSUS and place.isdecimal():
            matrices[f"{int(place)}.{kind}"] = values
    tables = {kind: t.values for kind, t in signature.tables.items() if kind != "embed.patch"}
    vectors = {kind if layer is None else f"{layer}.{kind}": v for (layer, kind), v in signature.vectors.items()}
    groups = [{k: v for k, v in group.items() if is_usable(v)} for group in (matrices, tables, vectors)]
    return Study(
        id=signature.id,
        dtype=signature.dtype,
        dtypes={name: signature.dtype for group in groups for name in group},
        matrices=groups[0],
        tables=groups[1],
        vectors=groups[2],
        n_layers=arch.n_layers,
        bytes_read=0,
        requests=0,
    )
