"""`dot`: the drawing in Graphviz' language, for its layouts."""

from collections.abc import Iterator

from lineage.export.contents import Contents, Model
from lineage.export.drawing import Drawing, Family, drawing_of
from lineage.export.wording import heading_of, name_of_joint, summary_of, weights_of, words_of
from lineage.names import safe

_STYLES = {"descent": "solid", "open": "dashed", "sibling": "dashed", "shared-init": "dotted"}


def write(contents: Contents) -> str:
    """One directed graph with a cluster for each family.

    Parameters
    ----------
    contents : Contents

    Returns
    -------
    str
        Nodes are n0, n1, ... in the order of their ids: quoted text of the language cannot hold every name. `label` is
        for the eye, `model` the id with backslashes and quotes escaped. What lines imply is left out, as in `svg`.
    """
    return "".join(_parts(contents, drawing_of(contents)))


def quoted(text: str) -> str:
    """A string of the language; `&` too, because labels are read as if they held entities."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") + '"'


def _parts(contents: Contents, drawing: Drawing) -> Iterator[str]:
    keys = {m.id: f"n{i}" for i, m in enumerate(contents.models)}
    yield "digraph lineage {\n"
    yield f"  graph [rankdir=LR, label={quoted(summary_of(contents, drawing))}, labelloc=t, tooltip=lineage];\n"
    yield '  node [shape=box, style=rounded, fontname="monospace", fontsize=11];\n'
    yield '  edge [fontname="monospace", fontsize=9];\n'
    for number, family in enumerate(drawing.families, start=1):
        yield f"  subgraph cluster_{number} {{\n    label={quoted(heading_of(family, number))};\n"
        yield from _family(family, number, drawing, keys)
        yield "  }\n"
    for model in drawing.alone:
        yield _node(model, drawing, keys, "  ")
    by_id = {m.id: m for m in contents.models}
    for original, names in drawing.copies.items():
        for name in names:
            yield _node(by_id[name], drawing, keys, "  ")
            yield f"  {keys[original]} -> {keys[name]} [dir=none, style=dotted, label=identical];\n"
    yield "}\n"


def _family(family: Family, number: int, drawing: Drawing, keys: dict[str, str]) -> Iterator[str]:
    places = {**keys, **{joint.key: f"j{number}_{i}" for i, joint in enumerate(family.joints)}}
    for joint in family.joints:
        yield f"    {places[joint.key]} [shape=point, xlabel={quoted(name_of_joint(joint))}];\n"
    for model in family.models:
        yield _node(model, drawing, keys, "    ")
    for line in family.lines:
        facts = {"style": _STYLES[line.style]}
        if line.style != "descent":
            facts["dir"] = "none"
        if line.link is not None:
            facts["label"] = quoted(words_of(line))
            facts["kind"] = quoted(safe(line.link.kind))
            facts["log10_p"] = f"{line.link.log10_p:.6g}"
            facts |= {name: f"{value:.6g}" for name, value in line.link.numbers.items()}
        told = ", ".join(f"{name}={value}" for name, value in facts.items())
        yield f"    {places[line.source]} -> {places[line.target]} [{told}];\n"


def _node(model: Model, drawing: Drawing, keys: dict[str, str], inset: str) -> str:
    name = quoted(safe(model.id))
    label = f"{name[:-1]}\\n{quoted(weights_of(model))[1:]}"
    more = ", penwidth=2" if model.id in drawing.sure_roots else ""
    more += ', style="rounded,dashed"' if model.virtual else ""
    return f"{inset}{keys[model.id]} [label={label}, model={name}{more}];\n"
