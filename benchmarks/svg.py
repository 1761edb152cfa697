"""Log-log line charts as SVG text: panels side by side, a fixed layout, no dependency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

PANEL, HEIGHT, LEFT, TOP, BOTTOM, GAP = 270, 260, 62, 34, 48, 22
COLOURS = ("#1f5fa8", "#c05621", "#2f855a")


@dataclass(frozen=True)
class Line:
    """One curve: its label and its points, all above zero."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes
    ----------
    title, x_label : str
    lines : sequence of Line
    x_ticks : sequence of (float, str)
        Where the x axis is marked, and with what.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]


def chart(panels: Sequence[Panel]) -> str:
    """All panels in one picture."""
    width = len(panels) * (LEFT + PANEL + GAP)
    height = TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        '<g font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, panel in enumerate(panels):
        parts += _panel(panel, i * (LEFT + PANEL + GAP) + LEFT)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(panel: Panel, left: int) -> list[str]:
    xs = [x for line in panel.lines for x, _ in line.points]
    low, high = _decades([y for line in panel.lines for _, y in line.points])
    x_low, x_high = math.log10(min(xs)) - 0.2, math.log10(max(xs)) + 0.2

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + PANEL * (math.log10(x) - x_low) / (x_high - x_low)
        return round(across, 1), round(TOP + HEIGHT * (high - math.log10(y)) / (high - low), 1)

    made = [
        _text(left + PANEL / 2, TOP - 14, panel.title, "middle", 'font-weight="bold"'),
        _text(left + PANEL / 2, TOP + HEIGHT + 38, panel.x_label, "middle"),
    ]
    for power in range(low, high + 1):
        y = at(min(xs), 10.0**power)[1]
        made.append(f'<line x1="{left}" y1="{y}" x2="{left + PANEL}" y2="{y}" stroke="#dddddd"/>')
        made.append(_text(left - 6, y + 4, f"{10.0**power:g}", "end"))
    for x, label in panel.x_ticks:
        across = at(x, 1.0)[0]
        made.append(f'<line x1="{across}" y1="{TOP}" x2="{across}" y2="{TOP + HEIGHT}" stroke="#eeeeee"/>')
        made.append(_text(across, TOP + HEIGHT + 18, label, "middle"))
    made.append(f'<rect x="{left}" y="{TOP}" width="{PANEL}" height="{HEIGHT}" fill="none" stroke="#555555"/>')
    for i, line in enumerate(panel.lines):
        made += _curve(line, [at(x, y) for x, y in line.points], COLOURS[i % len(COLOURS)])
        made.append(_text(left + 10, TOP + 18 + 16 * i, line.label, "start", f'fill="{COLOURS[i % len(COLOURS)]}"'))
    return made


def _curve(line: Line, places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{x},{y}" for x, y in places)
    made = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for (x, y), (_, value) in zip(places, line.points, strict=True):
        told = f"<title>{escape(line.label)}: {value:.3g}</title>"
        made.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}">{told}</circle>')
    return made


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Whole powers of ten around all values, with room above for the labels."""
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 0.3)


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {more}>{escape(words)}</text>'
