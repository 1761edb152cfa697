"""Plain words for numbers, and names made safe for a terminal."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lineage.names import safe

WIDTH = 110
"""Columns of the text of a pipe or a file, fixed so that one document gives one text."""

_NO_BREAK = "\N{NO-BREAK SPACE}"
_TRAILING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)


def unbroken(text: str) -> str:
    """Words that stay on one line of `render`; a name never holds such spaces, because `safe` shows them as escapes."""
    return text.replace(" ", _NO_BREAK)


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


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
    """A terminal table; columns whose numbers stand in `right` are right-aligned, and folded cells stay in theirs."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, header in enumerate(headers):
        made.add_column(header, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
    return made


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `fitted`.

    Attributes
    ----------
    header : str
    cells : tuple of str
    is_right : bool
        Right-aligned.
    rank : int
        Columns of the lowest rank above 0 are dropped first where space is short; 0 stays.
    narrowest : int
        Width of the text from which the column is shown at all.
    """

    header: str
    cells: tuple[str, ...]
    is_right: bool = False
    rank: int = 0
    narrowest: int = 0

    @property
    def width(self) -> int:
        """Columns of the terminal it takes, with the space behind it."""
        return max(map(len, (self.header, *self.cells))) + 2


def fitted(columns: Sequence[Column], width: int, *, room: int) -> tuple[Table, list[str]]:
    """A table of which only the last column folds.

    Parameters
    ----------
    columns : sequence of Column
    width : int
        Of the text.
    room : int
        Least width left for the last column; other columns are dropped until it has it.

    Returns
    -------
    Table, list of str
        The table, and the headers it shows.
    """
    shown = [c for c in columns if c.narrowest <= width]
    while sum(c.width for c in shown[:-1]) > width - room and any(c.rank for c in shown):
        shown.remove(min((c for c in shown if c.rank), key=lambda c: c.rank))
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in shown:
        is_last = column is shown[-1]
        justify: Literal["left", "right"] = "right" if column.is_right else "left"
        made.add_column(column.header, justify=justify, overflow="fold", no_wrap=not is_last)
    for row in zip(*(c.cells for c in shown), strict=True):
        made.add_row(*(Text(safe(cell)) for cell in row))
    return made, [c.header for c in shown]


def render(blocks: Sequence[Sequence[RenderableType]], *, colour: bool = False, width: int | None = None) -> str:
    """Blocks of lines, tables and drawings as text: one blank line between blocks, no spaces at the end of a line."""
    out = StringIO()
    console = Console(
        file=out,
        width=width or WIDTH,
        color_system="standard" if colour else None,
        force_terminal=colour,
        highlight=False,
        markup=False,
    )
    for number, block in enumerate(b for b in blocks if b):
        if number:
            out.write("\n")
        for part in block:
            if isinstance(part, str):
                out.write(_wrapped(part, console.width))
            else:
                console.print(part)
    return _TRAILING.sub(r"\1", out.getvalue()).replace(_NO_BREAK, " ")


def n_lines(blocks: Sequence[Sequence[RenderableType]], width: int) -> int:
    """Lines that `render` makes of strings, unbroken texts and tables whose cells do not fold."""
    full = [b for b in blocks if b]
    parts = [part for block in full for part in block]
    total = max(0, len(full) - 1)
    for part in parts:
        if isinstance(part, str):
            total += _wrapped(part, width).count("\n")
        else:
            total += part.row_count + 1 if isinstance(part, Table) else 1
    return total


def _wrapped(line: str, width: int) -> str:
    """A line broken at its spaces; what hangs below an item of a list is set in, and no name is cut."""
    inset = " " * (len(line) - len(line.lstrip(" ")))
    hanging = inset + "  " if inset else ""
    lines = textwrap.wrap(line, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{text}\n" for text in lines)
