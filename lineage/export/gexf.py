"""`gexf`: every model and every link, for programs that draw large graphs."""

from collections.abc import Iterator

from lineage.export.columns import LINK_COLUMNS, MODEL_COLUMNS, Value, link_values, model_values, plain
from lineage.export.contents import Contents
from lineage.export.markup import distinct, escaped
from lineage.names import safe

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2">
  <graph mode="static" defaultedgetype="directed">
"""


def write(contents: Contents) -> str:
    """One directed graph.

    Parameters
    ----------
    contents : Contents

    Returns
    -------
    str
        GEXF 1.2. Node ids are model ids; links without a direction are edges with `directed` false, as in GraphML.
    """
    return "".join(_parts(contents))


def _parts(contents: Contents) -> Iterator[str]:
    yield _HEAD
    for place, columns in (("node", MODEL_COLUMNS), ("edge", LINK_COLUMNS)):
        yield f'    <attributes class="{place}">\n'
        for name, kind in columns.items():
            if name != "label":
                yield f'      <attribute id="{name}" title="{name}" type="{kind}"/>\n'
        yield "    </attributes>\n"
    written = distinct(m.id for m in contents.models)
    yield "    <nodes>\n"
    for model in contents.models:
        values = model_values(model, contents, written)
        yield f'      <node id="{escaped(written[model.id])}" label="{escaped(safe(model.id))}">\n'
        yield from _values(values)
        yield "      </node>\n"
    yield "    </nodes>\n    <edges>\n"
    for i, link in enumerate(contents.links):
        ends = f'source="{escaped(written[link.a])}" target="{escaped(written[link.b])}"'
        yield f'      <edge id="{i}" {ends} label="{escaped(safe(link.kind))}">\n'
        yield from _values(link_values(link))
        yield "      </edge>\n"
    yield "    </edges>\n  </graph>\n</gexf>\n"


def _values(values: dict[str, Value]) -> Iterator[str]:
    yield "        <attvalues>\n"
    for name, value in values.items():
        if name != "label":
            yield f'          <attvalue for="{name}" value="{escaped(plain(value))}"/>\n'
    yield "        </attvalues>\n"
