"""The fields of models and links that go into graph formats, by name and type: one list for all of them."""

import json
from collections.abc import Mapping

from lineage.export.contents import Contents, Link, Model
from lineage.names import safe

Value = str | bool | int | float

MODEL_COLUMNS: dict[str, str] = {
    "label": "string",
    "ref": "string",
    "component": "int",
    "architecture": "string",
    "parameters": "long",
    "dtype": "string",
    "declared": "string",
    "duplicate_of": "string",
    "virtual": "boolean",
    "testable": "boolean",
    "root": "boolean",
    "root_probability": "double",
}
"""Column to its type, by the names that GraphML and GEXF share."""

LINK_COLUMNS: dict[str, str] = {
    "kind": "string",
    "directed": "boolean",
    "reason": "string",
    "log10_p": "double",
    "exactness": "string",
    "probability": "double",
    "direction_probability": "double",
    "probability_with_metadata": "double",
    "coefficient": "double",
}


def model_values(model: Model, contents: Contents, written: Mapping[str, str]) -> dict[str, Value]:
    """The columns that one model has; `written` gives the id under which a model stands in the file."""
    values: dict[str, Value | None] = {
        "label": safe(model.id),
        "ref": model.ref,
        "component": model.component,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "dtype": model.dtype,
        "declared": json.dumps(list(model.declared)) if model.declared else None,
        "duplicate_of": written[model.duplicate_of] if model.duplicate_of is not None else None,
        "virtual": model.virtual,
        "testable": model.testable,
        "root": model.id in contents.roots,
        "root_probability": contents.roots.get(model.id),
    }
    return {name: value for name, value in values.items() if value is not None}


def link_values(link: Link) -> dict[str, Value]:
    """The columns that one link has."""
    values: dict[str, Value] = {
        "kind": link.kind,
        "directed": link.is_directed,
        "reason": link.reason,
        "log10_p": link.log10_p,
        **link.numbers,
    }
    return values if link.exactness is None else {**values, "exactness": link.exactness}


def plain(value: Value) -> str:
    """A value as XML types write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
