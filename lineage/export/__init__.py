"""Families as files of other programs. One module a format, one row a module."""

from collections.abc import Callable, Mapping

from lineage.export import canonical, dot, gexf, graphml, mermaid, svg
from lineage.export.checking import contents_of as contents_of
from lineage.export.contents import Contents as Contents
from lineage.export.reading import name_of as name_of
from lineage.export.reading import read_document as read_document

EXPORTERS: Mapping[str, Callable[[Contents], str]] = {
    "dot": dot.write,
    "gexf": gexf.write,
    "graphml": graphml.write,
    "json": canonical.write,
    "mermaid": mermaid.write,
    "svg": svg.write,
}
"""Name of a format to its writer: a pure function of the contents, the same text every time."""
