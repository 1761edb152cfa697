"""Plain words for numbers, and names made safe for a terminal."""

from collections.abc import Sequence
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 110
"""Columns of the plain text, fixed so that one document gives one text wherever it is shown."""


def safe(name: object) -> str:
    """A name without control characters: model names are hostile input, and terminals obey escape codes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(name))


def power_of_ten(log10_p: float) -> str:
    """A p-value as people read it; never 0."""
    if log10_p > -2.0:
        return f"{10.0**log10_p:.2g}"
    return f"10^{log10_p:.1f}"


def bytes_text(n: int) -> str:
    """A byte count in the unit that fits."""
    for unit, size in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} bytes"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()) -> Table:
    """A terminal table; columns whose numbers stand in `right` are right-aligned."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, header in enumerate(headers):
        made.add_column(header, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
    return made


def render(parts: Sequence[RenderableType], *, colour: bool = False) -> str:
    """Parts one after the other as text."""
    out = StringIO()
    console = Console(
        file=out,
        width=WIDTH,
        color_system="standard" if colour else None,
        force_terminal=colour,
        highlight=False,
        markup=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str) and len(part) < WIDTH)
    return out.getvalue()
