"""Colours and legend of the picture; both shades stand in the file, and the reader's setting picks one."""

from lineage.export.drawing import Drawing
from lineage.export.plan import SMALL_SIZE, text_width
from lineage.export.wording import TIMES

_SANS = "system-ui,'Segoe UI',Helvetica,Arial,sans-serif"
_MONO = "ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"

_LIGHT = {
    "page": "#ffffff",
    "panel": "#f6f8fa",
    "frame": "#d8dee4",
    "box": "#ffffff",
    "edge": "#57606a",
    "text": "#1f2328",
    "soft": "#59636e",
    "line": "#6e7781",
    "root": "#0550ae",
}
_DARK = {
    "page": "#0d1117",
    "panel": "#151b23",
    "frame": "#30363d",
    "box": "#0d1117",
    "edge": "#8b949e",
    "text": "#e6edf3",
    "soft": "#9da7b3",
    "line": "#7d8590",
    "root": "#79c0ff",
}


def _colours(shade: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in shade.items())


STYLE = f"""
svg{{{_colours(_LIGHT)}}}
@media (prefers-color-scheme:dark){{svg{{{_colours(_DARK)}}}}}
.page{{fill:var(--page)}}
.panel{{fill:var(--panel);stroke:var(--frame)}}
.title,.heading,.told{{font-family:{_SANS};fill:var(--text)}}
.title{{font-size:20px;font-weight:600}}
.heading{{font-size:13px;font-weight:600}}
.told{{font-size:12px;fill:var(--soft)}}
.name,.detail,.label{{font-family:{_MONO};white-space:pre}}
.name{{font-size:12px;fill:var(--text)}}
.detail,.label{{font-size:10px;fill:var(--soft)}}
.label{{text-anchor:end}}
.box,.sheet{{fill:var(--box);stroke:var(--edge)}}
.root .box{{stroke:var(--root);stroke-width:2}}
.root .name{{fill:var(--root)}}
.virtual .box{{fill:none;stroke-dasharray:4 3}}
.line path{{fill:none;stroke:var(--line);stroke-width:1.3}}
.line .tip{{fill:var(--line);stroke:none}}
.open path,.sibling path{{stroke-dasharray:6 4}}
.shared-init path{{stroke-dasharray:1.5 4;stroke-linecap:round}}
.joint circle{{fill:var(--panel);stroke:var(--line);stroke-width:1.3}}
"""

_LINE = '<g class="line {style}"><path d="M{x} {y}h34"/>{tip}</g>'
_BOX = '<g class="model {marks}">{sheets}<rect class="box" x="{x}" y="{top}" width="24" height="14" rx="3"/></g>'


def legend(drawing: Drawing, width: float, left: float, top: float) -> tuple[list[str], float]:
    """The legend of what a drawing holds, in rows.

    Parameters
    ----------
    drawing : Drawing
    width : float
        Room for one row.
    left, top : float
        Its upper left corner.

    Returns
    -------
    list of str, float
        Pieces of SVG, and where the legend ends.
    """
    made = []
    x, y = left, top + 8.0
    for mark, words in _entries(drawing):
        wide = 44.0 + text_width(words, SMALL_SIZE) + 20.0
        if x > left and x + wide > left + width:
            x, y = left, y + 22.0
        made.append(_swatch(mark, x, y))
        made.append(f'<text class="detail" x="{x + 42.0:.1f}" y="{y + 3.5:.1f}">{words}</text>\n')
        x += wide
    return made, y + 10.0


def _entries(drawing: Drawing) -> list[tuple[str, str]]:
    """(mark, words), for whatever is there."""
    styles = {line.style for family in drawing.families for line in family.lines}
    shared = any("coefficient" in k.link.numbers for f in drawing.families for k in f.lines if k.link)
    models = [m for f in drawing.families for m in f.models] + list(drawing.alone)
    entries: list[tuple[str, str]] = [
        ("descent", "parent to child: kind," + (f" {TIMES} share of a merge," if shared else "") + " probability"),
        ("open", "related, direction undetermined"),
        ("sibling", "children of one parent that is not here"),
        ("shared-init", "a common start, no evidence of descent"),
    ]
    made: list[tuple[str, str]] = [(style, words) for style, words in entries if style in styles]
    if any(m.id in drawing.sure_roots for f in drawing.families for m in f.models):
        made.append(("root", "most probable root"))
    if drawing.copies:
        made.append(("copies", "with identical copies"))
    if any(m.virtual for m in models):
        made.append(("virtual", "inferred ancestor, not among the inputs"))
    return made


def _swatch(mark: str, x: float, y: float) -> str:
    if mark in {"descent", "open", "sibling", "shared-init"}:
        tip = f'<path class="tip" d="M{x + 34.0:.1f} {y:.1f}l-8 -4v8z"/>' if mark == "descent" else ""
        return _LINE.format(style=mark, x=f"{x:.1f}", y=f"{y:.1f}", tip=tip)
    sheets = ""
    if mark == "copies":
        sheets = f'<rect class="sheet" x="{x + 8.0:.1f}" y="{y - 4.0:.1f}" width="24" height="14" rx="3"/>'
    return _BOX.format(marks=mark, sheets=sheets, x=f"{x + 5.0:.1f}", top=f"{y - 7.0:.1f}")
