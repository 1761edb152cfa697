"""`svg`: families drawn in layers, readable on paper, on a dark screen and by a screen reader."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lineage.export.contents import Contents
from lineage.export.drawing import Drawing, Line, drawing_of
from lineage.export.markup import escaped
from lineage.export.packing import NARROWEST, packed
from lineage.export.plan import (
    PAD,
    STACK,
    Box,
    Plan,
    Route,
    box_of,
    plan_of,
    text_width,
)
from lineage.export.sheet import STYLE, legend
from lineage.export.wording import counted, heading_of, summary_of, title_of
from lineage.names import safe

_MARGIN, _GAP, _INSET, _HEADING = 24.0, 16.0, 16.0, 38.0
_TITLE_SIZE, _HEADING_SIZE = 20.0, 13.0


@dataclass(frozen=True, slots=True)
class _Panel:
    """One family, or the models on their own, with its heading."""

    heading: str
    plan: Plan

    @property
    def size(self) -> tuple[float, float]:
        """Width and height with everything around."""
        width = max(self.plan.width, text_width(self.heading, _HEADING_SIZE)) + 2.0 * _INSET
        return width, self.plan.height + _HEADING + _INSET


def write(contents: Contents) -> str:
    """One picture of all families.

    Parameters
    ----------
    contents : Contents

    Returns
    -------
    str
        SVG of one fixed layout for one document, without scripts, links or outside fonts.

    Raises
    ------
    UndrawableError
        The lines of one family pass too many layers.
    """
    drawing = drawing_of(contents)
    panels = [_Panel(heading_of(f, n), plan_of(f, drawing.copies)) for n, f in enumerate(drawing.families, start=1)]
    if drawing.alone:
        words = "On its own" if len(drawing.alone) == 1 else f"On their own: {len(drawing.alone):,} models"
        panels.append(_Panel(words, _grid(drawing, max([NARROWEST, *(p.size[0] for p in panels)]))))
    return "".join(_page(contents, drawing, panels))


def _grid(drawing: Drawing, room: float) -> Plan:
    """Boxes without lines, in as many columns as there is room for, or rather more of them for many."""
    boxes = [box_of(m, drawing.copies) for m in drawing.alone]
    gap = 6.0 * STACK
    width = max(b.width for b in boxes) + gap
    height = max(b.height for b in boxes) + 4.0 * STACK
    columns = max((room - 2.0 * _INSET + gap) // width, round((len(boxes) * height * 1.5 / width) ** 0.5))
    n_rows = -(-len(boxes) // max(1, int(columns)))
    placed, x = [], 0.0
    for start in range(0, len(boxes), n_rows):
        column = boxes[start : start + n_rows]
        placed += [replace(b, x=x, y=i * height) for i, b in enumerate(column)]
        x += max(b.width for b in column) + gap
    return Plan(x - gap + 2.0 * STACK, n_rows * height - 2.0 * STACK, tuple(placed), ())


def _page(contents: Contents, drawing: Drawing, panels: Sequence[_Panel]) -> Iterator[str]:
    places, inner, height = packed([p.size for p in panels], _GAP)
    told = summary_of(contents, drawing)
    top = _MARGIN + 52.0
    swatches, below = legend(drawing, inner, _MARGIN, top + height + _GAP)
    width = inner + 2.0 * _MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(below + _MARGIN)}" '
        f'width="{_n(width)}" height="{_n(below + _MARGIN)}" role="img" aria-labelledby="lineage-title lineage-desc">\n'
        f'<title id="lineage-title">Family tree of {title_of(contents)}</title>\n'
        f'<desc id="lineage-desc">{escaped(told)}</desc>\n<style>{STYLE}</style>\n'
        f'<rect class="page" width="100%" height="100%"/>\n'
        f'<text class="title" x="{_n(_MARGIN)}" y="{_n(_MARGIN + 16.0)}">Family tree of {title_of(contents)}</text>\n'
        f'<text class="told" x="{_n(_MARGIN)}" y="{_n(_MARGIN + 36.0)}">{escaped(told)}</text>\n'
    )
    for panel, (x, y) in zip(panels, places, strict=True):
        yield from _panel(panel, x + _MARGIN, y + top, drawing)
    yield from swatches
    yield "</svg>\n"


def _panel(panel: _Panel, x: float, y: float, drawing: Drawing) -> Iterator[str]:
    width, height = panel.size
    yield (
        f'<g transform="translate({_n(x)} {_n(y)})">\n'
        f'<rect class="panel" width="{_n(width)}" height="{_n(height)}" rx="8"/>\n'
        f'<text class="heading" x="{_n(_INSET)}" y="24">{escaped(panel.heading)}</text>\n'
        f'<g transform="translate({_n(_INSET)} {_n(_HEADING)})">\n'
    )
    for route in panel.plan.routes:
        yield _route(route)
    for box in panel.plan.boxes:
        yield _box(box, drawing)
    yield "</g>\n</g>\n"


def _route(route: Route) -> str:
    (x, y), *steps = route.path
    d = f"M{_n(x)} {_n(y)}" + "".join(f"{'C' if len(s) > 2 else 'L'}{' '.join(map(_n, s))}" for s in steps)
    label = ""
    if route.label:
        label = f'<text class="label" x="{_n(route.label_x)}" y="{_n(route.label_y)}">{escaped(route.label)}</text>'
    title = f"<title>{escaped(_told(route.line))}</title>" if route.line.link else ""
    arrow = ""
    if route.line.style == "descent":
        end_x, end_y = steps[-1]
        arrow = f'<path class="tip" d="M{_n(end_x)} {_n(end_y)}l-8 -4v8z"/>'
    return f'<g class="line {route.line.style}">{title}<path d="{d}"/>{arrow}{label}</g>\n'


def _told(line: Line) -> str:
    """A link in words."""
    link = line.link
    if link is None:
        return ""
    between = "to" if link.is_directed else "and"
    numbers = "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in link.numbers.items())
    open_end = "" if link.is_directed else f", {safe(link.reason)}"
    return f"{safe(link.a)} {between} {safe(link.b)}: {safe(link.kind)}{open_end}, p 10^{link.log10_p:.1f}{numbers}"


def _box(box: Box, drawing: Drawing) -> str:
    if box.model is None:
        return _joint(box)
    names = drawing.copies.get(box.model.id, ())
    title = safe(box.model.id) + "".join(f"\nidentical: {safe(name)}" for name in names)
    marks = " root" if box.model.id in drawing.sure_roots else ""
    marks += " virtual" if box.model.virtual else ""
    sheets = "".join(
        f'<rect class="sheet" x="{_n(box.x + k * STACK)}" y="{_n(box.y + k * STACK)}" '
        f'width="{_n(box.width)}" height="{_n(box.height)}" rx="5"/>'
        for k in range(box.sheets, 0, -1)
    )
    middle = box.y + box.height / 2.0
    return (
        f'<g class="model{marks}"><title>{escaped(title)}</title>{sheets}'
        f'<rect class="box" x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}" rx="5"/>'
        f'<text class="name" x="{_n(box.x + PAD)}" y="{_n(middle - 2.0)}">{escaped(box.title)}</text>'
        f'<text class="detail" x="{_n(box.x + PAD)}" y="{_n(middle + 11.0)}">{escaped(box.detail)}</text></g>\n'
    )


def _joint(box: Box) -> str:
    joint = box.joint
    pairs = "" if joint is None else f": {counted(joint.n_pairs, 'pair')}"
    x, y = box.x + box.width, box.y + box.height / 2.0
    return (
        f'<g class="joint"><title>{escaped(box.title)}, no model here{pairs}</title>'
        f'<circle cx="{_n(x - 4.0)}" cy="{_n(y)}" r="4"/>'
        f'<text class="detail" x="{_n(x - PAD)}" y="{_n(y + 3.5)}" text-anchor="end">{escaped(box.title)}</text></g>\n'
    )


def _n(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
