"""`mermaid`: the drawing as a flowchart that documentation sites render."""

import re
from collections.abc import Iterator

from lineage.export.contents import Contents, Model
from lineage.export.drawing import Drawing, Family, drawing_of
from lineage.export.wording import heading_of, name_of_joint, summary_of, title_of, weights_of, words_of
from lineage.names import safe

_ODD = re.compile(r"(?<![A-Za-z0-9])[-.]|[-.](?![A-Za-z0-9])|(?<=[Ww][Ww][Ww])\.|[^A-Za-z0-9 ,/.-]")
_READ_LATER = re.compile(r"(?<=\$)(?=\$)|(?<=\\)(?=n)|(?<=:)(?=fa-)")
_JOINER = "\N{WORD JOINER}"
"""Formulas, line breaks and icons are looked for once numbers are letters again: a letter without width parts them."""

_ARROWS = {"descent": "-->", "open": "-.-", "sibling": "-.-", "shared-init": "-.-"}


def write(contents: Contents) -> str:
    """One flowchart with a subgraph for each family.

    Parameters
    ----------
    contents : Contents

    Returns
    -------
    str
        Nodes are n0, n1, ... in the order of their ids. In labels every letter that means something to Mermaid, to
        Markdown or to HTML is written by its number. What lines imply is left out, as in `svg`. Mermaid itself
        refuses more than 500 lines or 50,000 letters unless the page allows more.
    """
    return "".join(_parts(contents, drawing_of(contents)))


def quoted(text: str) -> str:
    """A label: letters outside a short list by number; a hyphen or a dot inside a word stays."""
    return '"' + _ODD.sub(lambda found: f"#{ord(found[0])};", _READ_LATER.sub(_JOINER, text)) + '"'


def _parts(contents: Contents, drawing: Drawing) -> Iterator[str]:
    keys = {m.id: f"n{i}" for i, m in enumerate(contents.models)}
    yield "flowchart LR\n"
    yield f"  accTitle: Family tree of {title_of(contents)}\n"
    yield f"  accDescr: {summary_of(contents, drawing)}\n"
    for number, family in enumerate(drawing.families, start=1):
        yield f"  subgraph f{number}[{quoted(heading_of(family, number))}]\n"
        yield from _family(family, number, drawing, keys)
        yield "  end\n"
    for model in drawing.alone:
        yield _node(model, drawing, keys, "  ")
    by_id = {m.id: m for m in contents.models}
    for original, names in drawing.copies.items():
        for name in names:
            yield _node(by_id[name], drawing, keys, "  ")
            yield f'  {keys[original]} -.-|"identical"| {keys[name]}\n'
    yield "  classDef root stroke-width:3px\n"
    yield "  classDef virtual fill:none,stroke-dasharray:4 3\n"
    yield "  classDef joint fill:none\n"


def _family(family: Family, number: int, drawing: Drawing, keys: dict[str, str]) -> Iterator[str]:
    places = {**keys, **{joint.key: f"j{number}x{i}" for i, joint in enumerate(family.joints)}}
    for joint in family.joints:
        yield f"    {places[joint.key]}([{quoted(name_of_joint(joint))}]):::joint\n"
    for model in family.models:
        yield _node(model, drawing, keys, "    ")
    for line in family.lines:
        words = f"|{quoted(words_of(line))}|" if line.link is not None else ""
        yield f"    {places[line.source]} {_ARROWS[line.style]}{words} {places[line.target]}\n"


def _node(model: Model, drawing: Drawing, keys: dict[str, str], inset: str) -> str:
    label = f"{quoted(safe(model.id))[:-1]}<br/>{quoted(weights_of(model))[1:]}"
    mark = ":::virtual" if model.virtual else ":::root" if model.id in drawing.sure_roots else ""
    return f"{inset}{keys[model.id]}[{label}]{mark}\n"
