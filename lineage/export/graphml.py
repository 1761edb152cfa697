"""`graphml`: every model and every link, for programs that work on graphs."""

from collections.abc import Iterator

from lineage.export.columns import LINK_COLUMNS, MODEL_COLUMNS, Value, link_values, model_values, plain
from lineage.export.contents import Contents
from lineage.export.markup import distinct, escaped

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"
         xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
         xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">
"""


def write(contents: Contents) -> str:
    """One directed graph.

    Parameters
    ----------
    contents : Contents

    Returns
    -------
    str
        GraphML. Node ids are model ids. Common readers refuse directed and undirected edges in one graph, so links
        without a direction are edges too, once each, with `directed` false.
    """
    return "".join(_parts(contents))


def _parts(contents: Contents) -> Iterator[str]:
    yield _HEAD
    for letter, place, columns in (("m", "node", MODEL_COLUMNS), ("k", "edge", LINK_COLUMNS)):
        for name, kind in columns.items():
            yield f'  <key id="{letter}_{name}" for="{place}" attr.name="{name}" attr.type="{kind}"/>\n'
    yield '  <graph id="lineage" edgedefault="directed">\n'
    written = distinct(m.id for m in contents.models)
    for model in contents.models:
        yield f'    <node id="{escaped(written[model.id])}">\n'
        yield from _data("m", model_values(model, contents, written))
        yield "    </node>\n"
    for i, link in enumerate(contents.links):
        ends = f'source="{escaped(written[link.a])}" target="{escaped(written[link.b])}"'
        yield f'    <edge id="e{i}" {ends}>\n'
        yield from _data("k", link_values(link))
        yield "    </edge>\n"
    yield "  </graph>\n</graphml>\n"


def _data(letter: str, values: dict[str, Value]) -> Iterator[str]:
    for name, value in values.items():
        yield f'      <data key="{letter}_{name}">{escaped(plain(value))}</data>\n'
